use std::collections::BTreeMap;

use kubeng_config::delta::AnyPart;
use kubeng_config::listener::{Listener, Protocol};
use kubeng_config::part::Part;
use kubeng_config::policy::Policy;
use kubeng_config::route::{Action, Attachment, Rank};
use serde_json::{Value, json};

use super::*;

fn route(id: &str, host: &str, wanted: &[Value]) -> AnyPart {
    let matches = wanted.iter().map(|is| serde_json::from_value(is.clone()).unwrap()).collect();
    let route = Route {
        rank: Rank { created: 0, rule: 0 },
        attached: vec![Attachment {
            listener: "http".parse().unwrap(),
            hosts: vec![host.parse().unwrap()],
        }],
        matches,
        filters: Vec::new(),
        policy: "default".parse().unwrap(),
        action: Action::Answer,
    };
    AnyPart::Route(id.parse().unwrap(), Part::new(route))
}

fn snapshot(routes: Vec<AnyPart>) -> Snapshot {
    let listener = Listener::new(([127, 0, 0, 1], 80).into(), Protocol::Http);
    let beside = [
        AnyPart::Listener("http".parse().unwrap(), Part::new(listener)),
        AnyPart::Policy("default".parse().unwrap(), Part::new(Policy::default())),
    ];
    Snapshot::default().edited(beside.into_iter().chain(routes), []).unwrap()
}

/// What is asked for Routes of one host, and who should serve it.
fn asked(snapshot: &Snapshot) -> BTreeMap<String, Option<String>> {
    let shown = |probe: &Probe| {
        let ProbeRequest { listener: _, method, host, target, headers } = &probe.request;
        let host = host.as_deref().unwrap_or("-");
        let headers: String = headers.iter().map(|(name, is)| format!(" {name}={is}")).collect();
        format!("{method} {host}{target}{headers}")
    };
    let all = probes(snapshot, 0);
    let expected = |probe: &Probe| probe.expected.as_ref().map(ToString::to_string);
    all.iter().map(|probe| (shown(probe), expected(probe))).collect()
}

#[test]
fn requests_are_made_from_the_first_match_that_one_can_be_made_from() {
    let header = json!([{"name": "x-a", "value": {"exact": "1"}}]);
    let query = json!([{"name": "q", "value": {"exact": "2"}}]);
    let regex = json!({"path": {"regex": "/[a-z]+"}});
    let cookie = json!([{"name": "c", "value": {"exact": "3"}}]);
    let all = snapshot(vec![
        route("Ingress/s/a#1", "a.example", &[json!({"path": {"prefix": "/"}})]),
        route("Ingress/s/a#2", "a.example", &[regex.clone(), json!({"path": {"exact": "/b"}})]),
        route(
            "Ingress/s/a#3",
            "*.b.example",
            &[json!({"path": {"prefix": "/c"}, "headers": header})],
        ),
        route(
            "Ingress/s/a#4",
            "*",
            &[json!({"path": "otherwise", "query": query, "method": "PUT"})],
        ),
        route(
            "Ingress/s/a#5",
            "c.example",
            &[json!({"path": {"prefix": "/c"}, "cookies": cookie})],
        ),
        route("Ingress/s/a#6", "d.example", &[regex]),
    ]);
    let expected = [
        ("GET a.example/", 1),
        ("GET a.example/b", 2),
        ("GET c.example/c cookie=c=3", 5),
        ("GET kubeng-probe.b.example/c x-a=1", 3),
        ("PUT -/kubeng-probe?q=2", 4),
    ];
    let expected = expected.map(|(is, by)| (is.to_owned(), Some(format!("Ingress/s/a#{by}"))));
    assert_eq!(asked(&all), expected.into_iter().collect());
}

#[test]
fn what_another_route_takes_is_expected_from_that_one() {
    let prefix = |path: &str| json!({"path": {"prefix": path}});
    let all = snapshot(vec![
        route("Ingress/s/a#1", "a.example", &[prefix("/x")]),
        route("Ingress/s/b#1", "a.example", &[prefix("/x")]),
    ]);
    let expected = [("GET a.example/x".to_owned(), Some("Ingress/s/a#1".to_owned()))];
    assert_eq!(asked(&all), expected.into_iter().collect());
    assert_eq!(probes(&all, 0).len(), 2);
}

#[test]
fn samples_go_around_and_are_bounded() {
    let one = |number: usize| {
        let path = json!({"path": {"exact": format!("/{number:03}")}});
        route(&format!("Ingress/s/a#{number:03}"), "a.example", &[path])
    };
    let all = snapshot((0..100).map(one).collect());
    let targets = |start| -> Vec<String> {
        probes(&all, start).into_iter().map(|probe| probe.request.target).collect()
    };
    assert_eq!(targets(0).len(), REQUESTS_MAX);
    let second = targets(REQUESTS_MAX);
    assert_eq!((second[0].as_str(), second[36].as_str()), ("/064", "/000"));
    assert!(probes(&Snapshot::default(), 7).is_empty());
}

#[test]
fn answers_that_differ_are_counted_and_the_first_is_told() {
    let all = snapshot(vec![
        route("Ingress/s/a#1", "a.example", &[json!({"path": {"prefix": "/x"}})]),
        route("Ingress/s/a#2", "a.example", &[json!({"path": {"prefix": "/y"}})]),
    ]);
    let probes = probes(&all, 0);
    let right: Vec<_> = probes.iter().map(|probe| probe.expected.clone()).collect();
    assert_eq!(divergence(&probes, &right), None);
    let found = divergence(&probes, &[right[1].clone(), None]).unwrap();
    assert_eq!(found.count, 2);
    assert_eq!(found.request, "GET a.example/x on http");
    assert_eq!(
        (found.expected.as_str(), found.answered.as_str()),
        ("Ingress/s/a#1", "Ingress/s/a#2")
    );
    assert_eq!(divergence(&probes, &right[..1]).unwrap().answered, "no route");
}
