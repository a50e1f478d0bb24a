use std::net::IpAddr;

use kubeng_config::provenance::Provenance;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::kind::endpoint_slice::SlicePort;
use crate::kind::ingress::PortName;
use crate::kind::service::{Service, ServicePort};
use crate::object::Author;

fn object(key: ObjectKey, body: Body) -> Change {
    Change::Upsert(Arc::new(Object {
        key,
        created: 0,
        uid: None,
        provenance: Provenance::Product,
        author: Author::Tenant,
        body,
        status_addresses: Box::default(),
        problems: Box::default(),
    }))
}

fn service_key(name: &str) -> ObjectKey {
    ObjectKey::new(ObjectKind::Service, "shop", name)
}

fn service(name: &str, ports: &[(Option<&str>, u16)]) -> Change {
    let ports = ports.iter().map(|(name, port)| ServicePort {
        name: name.map(str::to_owned),
        port: *port,
        target: PortName::Number(*port),
        app_protocol: None,
    });
    let body = Service { ports: ports.collect(), ..Service::default() };
    object(service_key(name), Body::Service(body))
}

/// A slice of Endpoints that are ready, by the last number of their address.
fn slice(name: &str, service: &str, port: (Option<&str>, u16), hosts: &[u8]) -> Change {
    let endpoints = hosts.iter().map(|host| SliceEndpoint {
        addresses: vec![IpAddr::from([10, 0, 0, *host])],
        is_ready: true,
        is_serving: true,
        is_terminating: false,
        zone: None,
    });
    let body = EndpointSlice {
        service: Some(service.into()),
        ports: vec![SlicePort { name: port.0.map(Into::into), port: port.1 }],
        endpoints: endpoints.collect(),
    };
    object(slice_key(name), Body::EndpointSlice(body))
}

fn slice_key(name: &str) -> ObjectKey {
    ObjectKey::new(ObjectKind::EndpointSlice, "shop", name)
}

fn id(service: &str, port: u16) -> BackendId {
    BackendId { object: service_key(service), port: Some(port) }
}

/// What changed, as `service:port` and its addresses.
#[track_caller]
fn check(book: &mut EndpointBook, change: &Change, expected: &[(&str, &[&str])]) {
    let changed = book.take(change);
    for (id, set) in &changed {
        assert_eq!(book.get(id), *set, "what is told is what is kept");
    }
    let got: Vec<(String, Vec<String>)> = changed
        .iter()
        .map(|(id, set)| {
            let addresses = set.as_slice().iter().map(|endpoint| endpoint.address.to_string());
            (format!("{}:{}", id.object.name, id.port.unwrap()), addresses.collect())
        })
        .collect();
    let expected: Vec<(String, Vec<String>)> = expected
        .iter()
        .map(|(id, all)| ((*id).to_owned(), all.iter().map(|a| (*a).to_owned()).collect()))
        .collect();
    assert_eq!(got, expected);
}

#[test]
fn only_sets_that_are_different_are_told() {
    let mut book = EndpointBook::default();
    check(&mut book, &slice("s-1", "web", (Some("http"), 8080), &[1, 2]), &[]);
    let ports = service("web", &[(Some("http"), 80), (Some("other"), 81)]);
    check(&mut book, &ports, &[("web:80", &["10.0.0.1:8080", "10.0.0.2:8080"])]);
    check(&mut book, &ports, &[]);
    check(&mut book, &slice("s-2", "web", (Some("http"), 8080), &[2]), &[]);
    let moved = slice("s-2", "web", (Some("other"), 9090), &[2]);
    check(&mut book, &moved, &[("web:81", &["10.0.0.2:9090"])]);
    check(&mut book, &Change::Remove(slice_key("s-1")), &[("web:80", &[])]);
    check(&mut book, &Change::Remove(service_key("web")), &[("web:81", &[])]);
    check(&mut book, &Change::Remove(slice_key("s-2")), &[]);
    assert_eq!(book.digest(), EndpointBook::default().digest());
    assert!(book.services.is_empty() && book.service_of.is_empty() && book.sets.is_empty());
}

#[test]
fn a_slice_can_move_to_another_service() {
    let mut book = EndpointBook::default();
    book.take(&service("a", &[(None, 80)]));
    book.take(&service("b", &[(None, 80)]));
    book.take(&slice("s", "a", (None, 8080), &[1]));
    let moved = slice("s", "b", (Some(""), 8080), &[1]);
    check(&mut book, &moved, &[("a:80", &[]), ("b:80", &["10.0.0.1:8080"])]);
}

fn change() -> impl Strategy<Value = Change> {
    let names = || select(&["a", "b"][..]);
    let port = || select(&[None, Some("http"), Some("other")][..]);
    prop_oneof![
        (names(), port()).prop_map(|(name, port)| service(name, &[(port, 80)])),
        names().prop_map(|name| Change::Remove(service_key(name))),
        (names(), names(), port(), vec(0..4_u8, 0..3))
            .prop_map(|(name, service, port, hosts)| slice(name, service, (port, 8080), &hosts)),
        names().prop_map(|name| Change::Remove(slice_key(name))),
    ]
}

proptest! {
    #[test]
    fn the_order_of_events_does_not_count(changes in vec(change(), 1..30)) {
        let mut book = EndpointBook::default();
        let mut told = BTreeMap::new();
        let mut last = BTreeMap::new();
        for change in &changes {
            told.extend(book.take(change));
            last.insert(change.key().clone(), change.clone());
        }
        let mut oracle = EndpointBook::default();
        for change in last.values() {
            oracle.take(change);
        }
        prop_assert_eq!(book.digest(), oracle.digest());
        for (id, set) in &told {
            prop_assert_eq!(set, &oracle.get(id));
        }
        for (id, set) in oracle.iter().filter(|(_, set)| !set.as_slice().is_empty()) {
            prop_assert_eq!(Some(set), told.get(id));
        }
        prop_assert_eq!(book.get(&id("a", 80)), oracle.get(&id("a", 80)));
    }
}

#[test]
fn tenants_cannot_lead_to_the_control_plane_by_a_slice() {
    let reserved = Reserved::new([([10, 0, 0, 1], 6443).into()]);
    let mut book = EndpointBook::new(reserved);
    book.take(&service("web", &[(None, 80)]));
    let slice = slice("s", "web", (None, 6443), &[1, 2]);
    check(&mut book, &slice, &[("web:80", &["10.0.0.2:6443"])]);
    let problems: Vec<_> = book.problems().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("10.0.0.1:6443 is a socket of the control plane"), "{problems:?}");
}
