use super::*;
use crate::endpoint::Endpoint;
use crate::listener::{Listener, Protocol};
use crate::part::Part;

fn listener(name: &str, port: u16, connections_max: Option<u32>) -> AnyPart {
    let mut listener = Listener::new(([127, 0, 0, 1], port).into(), Protocol::Http);
    listener.connections_max = connections_max;
    AnyPart::Listener(name.parse().unwrap(), Part::new(listener))
}

fn side(name: &str, parts: Vec<AnyPart>) -> Side {
    Side { name: name.into(), parts, endpoints: None }
}

#[test]
fn replicas_are_grouped_by_what_they_run_the_largest_group_first() {
    let (a, b) = (Digest::of([&b"a"[..]]), Digest::of([&b"b"[..]]));
    let running = [("r1", Some(b)), ("r4", Some(a)), ("r2", Some(a)), ("r3", None)]
        .map(|(name, digest)| (name.to_owned(), digest));
    let groups = groups(running);
    assert_eq!(groups[0], Group { digest: Some(a), replicas: vec!["r2".into(), "r4".into()] });
    assert_eq!(groups.len(), 3);
    let text = summary(&groups);
    assert!(text.starts_with(&format!("2 run {}, 1 runs ", a.short())), "{text}");
    assert!(text.contains(&format!("1 runs {}", b.short())), "{text}");
    assert_eq!(summary(&[]), "no replicas");
}

#[test]
fn only_what_differs_is_told_field_by_field() {
    let left = side("a", vec![listener("http", 80, None), listener("old", 81, None)]);
    let right = side("b", vec![listener("new", 82, None), listener("http", 80, Some(7))]);
    let found = compare(&left, &right);
    assert_eq!(found.only_left, ["listener old"]);
    assert_eq!(found.only_right, ["listener new"]);
    let field = Field {
        key: "listener http".into(),
        pointer: "/connectionsMax".into(),
        left: Value::Null,
        right: 7.into(),
    };
    assert_eq!((found.differences.as_slice(), found.equal), (&[field][..], false));
    assert_eq!((found.places(), found.endpoints), (3, None));

    let same = compare(&left, &left.clone());
    assert!(same.equal && same.places() == 0);
    assert_eq!(text(&left, &left), "--- a\n+++ a\n");
    let text = text(&left, &right);
    assert!(text.contains("@@ listener http @@\n"), "{text}");
    assert!(text.contains("\n+connectionsMax: 7\n"), "{text}");
    assert!(text.contains("\n-address: 127.0.0.1:81\n"), "{text}");
}

#[test]
fn endpoints_are_compared_beside_and_do_not_count() {
    let of = |sets: &[(&str, &str)]| {
        let set = |(id, last): &(&str, &str)| {
            let endpoint = Endpoint::new(format!("10.0.0.{last}:80").parse().unwrap());
            let set = Arc::new(EndpointSet::new(vec![endpoint]));
            (format!("Service/shop/{id}:80").parse().unwrap(), set)
        };
        Some(sets.iter().map(set).collect())
    };
    let left = Side { endpoints: of(&[("a", "1"), ("b", "1")]), ..side("a", Vec::new()) };
    let right = Side { endpoints: of(&[("a", "2"), ("c", "1")]), ..side("b", Vec::new()) };
    let found = compare(&left, &right);
    assert_eq!(found.endpoints, Some(EndpointComparison { equal: false, differences: 3 }));
    assert!(found.equal, "the Parts are");
    assert_eq!(compare(&left, &side("c", Vec::new())).endpoints, None);
}
