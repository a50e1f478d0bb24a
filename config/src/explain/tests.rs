//! The Index must answer as `explain` does, for random Routes and requests.

use std::sync::Arc;

use http::{HeaderMap, Method};
use proptest::prelude::*;

use super::*;
use crate::delta::AnyPart;
use crate::index::Index;
use crate::matching::{CookieMatch, FieldName, HeaderMatch, MethodName, QueryMatch, TextMatch};
use crate::part::Part;
use crate::policy::Policy;
use crate::route::{Attachment, Rank};

fn id(number: usize) -> RouteId {
    format!("Ingress/n{}/i{}#r{number}", number % 2, number % 3).parse().unwrap()
}

fn host_match() -> impl Strategy<Value = HostMatch> {
    const TEXTS: &[&str] = &["*", "a.b.c", "b.c", "c", "*.b.c", "*.c", "**.c", "**.b.c", "x.b.c"];
    prop::sample::select(TEXTS).prop_map(|text| text.parse().unwrap())
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    let path = prop::sample::select(&["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/b"][..]);
    prop_oneof![
        path.clone().prop_map(|text| PathMatch::Exact(text.parse().unwrap())),
        path.prop_map(|text| PathMatch::Prefix(text.parse().unwrap())),
        prop::sample::select(&["/a.*", "/.b", ".*", "/a/b"][..])
            .prop_map(|text| PathMatch::Regex(text.parse().unwrap())),
        Just(PathMatch::Otherwise),
    ]
}

fn wanted() -> impl Strategy<Value = Match> {
    let method = prop::option::weighted(0.3, prop::sample::select(&["GET", "POST"][..]));
    let text = || prop::sample::select(&["0", "1"][..]).prop_map(|t| TextMatch::Exact(t.into()));
    let header = (prop::sample::select(&["x", "y"][..]), text())
        .prop_map(|(name, value)| HeaderMatch { name: name.parse::<FieldName>().unwrap(), value });
    let query = (prop::sample::select(&["q", "r"][..]), text())
        .prop_map(|(name, value)| QueryMatch { name: name.into(), value });
    let cookie = (prop::sample::select(&["c", "d"][..]), text())
        .prop_map(|(name, value)| CookieMatch { name: name.into(), value });
    let few_headers = prop::collection::vec(header, 0..2);
    let few_cookies = prop::collection::vec(cookie, 0..2);
    let few_queries = prop::collection::vec(query, 0..2);
    (path_match(), method, few_headers, few_cookies, few_queries).prop_map(
        |(path, method, headers, cookies, query)| Match {
            path,
            method: method.map(|text| MethodName(text.parse().unwrap())),
            headers,
            cookies,
            query,
        },
    )
}

fn route() -> impl Strategy<Value = Route> {
    let listener = prop::sample::select(&["http", "https"][..]);
    let attachment = (listener, prop::collection::btree_set(host_match(), 1..3)).prop_map(
        |(listener, hosts)| Attachment {
            listener: listener.parse().unwrap(),
            hosts: hosts.into_iter().collect(),
        },
    );
    (0..3_i64, 0..2_u32, attachment, prop::collection::vec(wanted(), 1..3)).prop_map(
        |(created, rule, attachment, matches)| Route {
            rank: Rank { created, rule },
            attached: vec![attachment],
            matches,
            filters: Vec::new(),
            policy: "p".parse().unwrap(),
            action: Action::Answer,
        },
    )
}

fn request() -> impl Strategy<Value = RequestKey> {
    let host =
        prop::option::of(prop::sample::select(&["a.b.c", "b.c", "c", "z.b.c", "q.z.c", "d"][..]));
    let path = prop::sample::select(&["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/b/", "/z"][..]);
    let query = prop::option::of(prop::sample::select(&["q=0", "q=1&r=0", "r=1&r=0", "q"][..]));
    let header = prop::collection::vec(
        prop_oneof![
            (prop::sample::select(&["x", "y"][..]), prop::sample::select(&["0", "1"][..])),
            (Just("cookie"), prop::sample::select(&["c=0", "c=1; d=0", "d=1", "d=1; d=0"][..])),
        ],
        0..4,
    );
    (host, path, query, header, any::<bool>()).prop_map(|(host, path, query, fields, is_get)| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value.parse().unwrap());
        }
        RequestKey {
            scheme: Scheme::Http,
            port: 80,
            method: if is_get { Method::GET } else { Method::POST },
            host: host.map(Into::into),
            path: path.parse().unwrap(),
            query: query.map(Into::into),
            headers,
        }
    })
}

fn listener(protocol: Protocol, port: u16) -> Part<Listener> {
    Part::new(Listener::new(([127, 0, 0, 1], port).into(), protocol))
}

fn snapshot(routes: &[Route]) -> Snapshot {
    let http = AnyPart::Listener("http".parse().unwrap(), listener(Protocol::Http, 80));
    let https = AnyPart::Listener("https".parse().unwrap(), listener(Protocol::Https, 443));
    let policy = AnyPart::Policy("p".parse().unwrap(), Part::new(Policy::default()));
    let routes = routes
        .iter()
        .enumerate()
        .map(|(at, route)| AnyPart::Route(id(at), Part::new(route.clone())));
    let parts = [http, https, policy].into_iter().chain(routes);
    Snapshot::default().edited(parts, []).unwrap()
}

fn index(snapshot: &Snapshot) -> Index<RouteId> {
    let mut index = Index::default();
    for (id, part) in snapshot.routes().iter() {
        index.insert(id, part.value(), id);
    }
    index
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_index_answers_as_explain_does(
        routes in prop::collection::vec(route(), 0..12),
        gone in prop::collection::vec(0..12_usize, 0..6),
        requests in prop::collection::vec(request(), 20),
    ) {
        let snapshot = snapshot(&routes);
        let mut index = index(&snapshot);
        let present: std::collections::BTreeSet<usize> =
            gone.into_iter().filter(|at| *at < routes.len()).collect();
        for at in &present {
            index.remove(&id(*at), &routes[*at]);
        }
        let left = snapshot
            .edited([], present.iter().map(|at| crate::delta::PartKey::Route(id(*at))))
            .unwrap();
        let http: ListenerId = "http".parse().unwrap();
        for request in requests {
            let explained = explain(&left, &request);
            let found = index.find(&http, &request.head());
            prop_assert_eq!(
                found.as_ref().map(|found| found.value), explained.route.as_ref(), "{}", explained
            );
            prop_assert_eq!(
                found.map(|found| describe(found.by)), explained.matched, "{:?}", request
            );
        }
    }

    #[test]
    fn a_delta_leads_to_the_other_snapshot(
        old in prop::collection::vec(route(), 0..8),
        new in prop::collection::vec(route(), 0..8),
    ) {
        let (old, new) = (snapshot(&old), snapshot(&new));
        let delta = old.delta_to(&new);
        let walked = old.with(&delta).unwrap();
        prop_assert_eq!(walked.digest(), new.digest());
        prop_assert!(walked.delta_to(&new).is_empty());
        let policy = crate::delta::PartKey::Policy("p".parse().unwrap());
        prop_assert_eq!(walked.references_to(&policy), new.references_to(&policy));
        let wrong = delta.base != new.digest();
        prop_assert_eq!(new.with(&delta).is_err(), wrong);
    }
}

#[test]
fn a_part_that_is_pointed_at_cannot_go() {
    let route = Route {
        rank: Rank { created: 0, rule: 0 },
        attached: vec![Attachment {
            listener: "http".parse().unwrap(),
            hosts: vec![HostMatch::Any],
        }],
        matches: vec![Match::of_path(PathMatch::Otherwise)],
        filters: Vec::new(),
        policy: "p".parse().unwrap(),
        action: Action::Answer,
    };
    let snapshot = snapshot(std::slice::from_ref(&route));
    let policy = crate::delta::PartKey::Policy("p".parse().unwrap());
    assert!(snapshot.edited([], [policy.clone()]).is_err(), "the route needs it");
    let without = snapshot.edited([], [crate::delta::PartKey::Route(id(0))]).unwrap();
    assert!(without.edited([], [policy]).is_ok());
    let nowhere = Route { policy: "q".parse().unwrap(), ..route.clone() };
    let part = AnyPart::Route(id(1), Part::new(nowhere));
    assert!(snapshot.edited([part], []).is_err(), "it names a policy that does not exist");
    let unreachable = Route { matches: Vec::new(), ..route };
    let part = AnyPart::Route(id(1), Part::new(Arc::new(unreachable).as_ref().clone()));
    assert!(snapshot.edited([part], []).is_err(), "nobody could reach it");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_export_is_read_back_in_both_formats(
        routes in prop::collection::vec(route(), 0..6),
        others in prop::collection::vec(route(), 0..6),
    ) {
        let (snapshot, other) = (snapshot(&routes), snapshot(&others));
        let export = crate::export::Export::from(&snapshot);
        for text in [export.to_json(), export.to_yaml().unwrap()] {
            let read = crate::export::Export::read(&text).unwrap().into_snapshot().unwrap();
            prop_assert_eq!(read.digest(), snapshot.digest());
        }
        let differences = crate::difference::differences(&snapshot, &other);
        prop_assert_eq!(differences.is_empty(), snapshot.digest() == other.digest());
    }
}

#[test]
fn tls_that_is_passed_on_takes_its_names_away() {
    let mut passed_on = Listener::new(([127, 0, 0, 1], 443).into(), Protocol::TlsPassthrough);
    passed_on.host = "raw.c".parse().unwrap();
    let part = AnyPart::Listener("pass".parse().unwrap(), Part::new(passed_on));
    let snapshot = snapshot(&[]).edited([part], []).unwrap();
    for (url, listener) in [
        ("https://raw.c/", "pass"),
        ("https://b.c/", "https"),
        ("https://raw.c:8443/", "https"),
        ("http://raw.c/", "http"),
    ] {
        let request = RequestKey::parse(&format!("GET {url}"), HeaderMap::new()).unwrap();
        let found = explain(&snapshot, &request).listener;
        assert_eq!(found, Some(listener.parse().unwrap()), "{url}");
    }
}

#[test]
fn a_redirect_of_one_scheme_is_for_those_who_came_by_the_other_one() {
    let redirect = r#"{"redirect":{"scheme":"https","status":308,"sentOn":"otherScheme"}}"#;
    let attached = ["http", "https"].map(|listener| Attachment {
        listener: listener.parse().unwrap(),
        hosts: vec![HostMatch::Any],
    });
    let route = Route {
        rank: Rank { created: 0, rule: 0 },
        attached: attached.to_vec(),
        matches: vec![Match::of_path(PathMatch::Otherwise)],
        filters: vec![serde_json::from_str(redirect).unwrap()],
        policy: "p".parse().unwrap(),
        action: Action::Refuse {
            status: crate::route::Refusal::Forbidden,
            because: crate::problem::CLIENTS_OVER_TLS,
        },
    };
    let snapshot = snapshot(std::slice::from_ref(&route));
    let outcome = |request: &str| {
        explain(&snapshot, &RequestKey::parse(request, HeaderMap::new()).unwrap()).outcome
    };
    assert_eq!(outcome("GET http://a.example/"), Outcome::Answered);
    assert!(matches!(outcome("GET https://a.example/"), Outcome::Refused { status: 403, .. }));
    let text = crate::export::nginx::to_text(&snapshot, &|_| None, &|_| None);
    assert!(text.contains("if ($scheme = http) { return 308; }"), "{text}");
}
