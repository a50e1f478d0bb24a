use super::*;
use crate::address::AddressRule;
use crate::backend::tls::{BackendTls, Roots};
use crate::backend::{Backend, BackendProtocol, EndpointSource};
use crate::certificate::{Certificate, ClientCertificateMode, ClientCertificates, Der, ServerName};
use crate::delta::AnyPart;
use crate::filter::Filter;
use crate::filter::headers::HeaderEdits;
use crate::listener::{Listener, ProxyProtocol};
use crate::part::Part;
use crate::policy::Policy;
use crate::route::{Attachment, Rank, Target};

fn listener(id: &str, port: u16, protocol: Protocol) -> (ListenerId, Listener) {
    (id.parse().unwrap(), Listener::new(([127, 0, 0, 1], port).into(), protocol))
}

fn put((id, listener): (ListenerId, Listener)) -> AnyPart {
    AnyPart::Listener(id, Part::new(listener))
}

fn backend(tls: bool) -> AnyPart {
    let tls = tls.then(|| BackendTls::new("b.example".parse().unwrap(), Roots::System));
    let value = Backend {
        protocol: BackendProtocol::Http1,
        tls,
        balance: Default::default(),
        endpoints: EndpointSource::Discovered,
        resolve: None,
        addresses: AddressRule::Tenant,
        proxy_protocol: None,
        affinity: None,
        resilience: None,
    };
    AnyPart::Backend("Service/a/b:80".parse().unwrap(), Part::new(value))
}

/// A Route that fits everywhere, on one Listener.
fn route(listener: &str) -> Route {
    Route {
        rank: Rank { created: 0, rule: 0 },
        attached: vec![Attachment {
            listener: listener.parse().unwrap(),
            hosts: vec![HostMatch::Any],
        }],
        matches: vec![Match::of_path(PathMatch::Otherwise)],
        filters: vec![],
        policy: "p".parse().unwrap(),
        action: Action::Forward(vec![Target {
            to: TargetAction::Backend("Service/a/b:80".parse().unwrap()),
            weight: 1,
        }]),
    }
}

fn put_route(route: Route) -> AnyPart {
    AnyPart::Route("Ingress/a/r#x".parse().unwrap(), Part::new(route))
}

fn base() -> Snapshot {
    let parts = [
        put(listener("http", 80, Protocol::Http)),
        put(listener("https", 443, Protocol::Https)),
        put(listener("tcp", 5432, Protocol::Tcp)),
        put(listener("pass", 8443, Protocol::TlsPassthrough)),
        AnyPart::Policy("p".parse().unwrap(), Part::new(Policy::default())),
        backend(false),
    ];
    Snapshot::default().edited(parts, []).unwrap()
}

#[track_caller]
fn check(before: &Snapshot, part: AnyPart, word: &str) {
    let key = part.key();
    match before.edited([part], []) {
        Ok(_) => assert!(word.is_empty(), "{key} was taken, not refused for {word:?}"),
        Err(SnapshotError::Misfit { why, .. }) => {
            assert!(!word.is_empty() && why.contains(word), "{key}: {why}");
        }
        Err(other) => panic!("{key}: {other}"),
    }
}

#[test]
fn what_needs_requests_does_not_fit_where_connections_are_passed_on() {
    let base = base();
    let headers = Filter::RequestHeaders(HeaderEdits::default());
    let at = |host: &str| vec![host.parse().unwrap()];
    for passes in ["tcp", "pass"] {
        check(&base, put_route(route(passes)), "");
        check(
            &base,
            put_route(Route { filters: vec![headers.clone()], ..route(passes) }),
            "filter",
        );
        check(&base, put_route(Route { action: Action::Answer, ..route(passes) }), "answer");
        let prefix = Match::of_path(PathMatch::Prefix("/".parse().unwrap()));
        check(&base, put_route(Route { matches: vec![prefix], ..route(passes) }), "match");
        let mut method = Match::of_path(PathMatch::Otherwise);
        method.method = Some("GET".parse().unwrap());
        check(&base, put_route(Route { matches: vec![method], ..route(passes) }), "match");
    }
    for (passes, word) in [("tcp", "host"), ("pass", ""), ("http", "")] {
        let mut named = route(passes);
        named.attached[0].hosts = at("a.example");
        check(&base, put_route(named), word);
    }
    check(&base, put_route(Route { filters: vec![headers], ..route("http") }), "");
}

#[test]
fn a_part_that_comes_later_does_not_slip_past() {
    let base = base();
    let prefix = Match::of_path(PathMatch::Prefix("/".parse().unwrap()));
    let http = put_route(Route { matches: vec![prefix], ..route("http") });
    let with_http = base.edited([http], []).unwrap();
    check(&with_http, put(listener("http", 80, Protocol::Tcp)), "match");
    let with_tcp = base.edited([put_route(route("tcp"))], []).unwrap();
    check(&with_tcp, backend(true), "TLS");
    check(&with_http, backend(true), "");
}

#[test]
fn listeners_of_one_socket_agree_about_it() {
    let base = base();
    check(&base, put(listener("more", 80, Protocol::Http)), "");
    check(&base, put(listener("more", 443, Protocol::TlsPassthrough)), "");
    check(&base, put(listener("more", 80, Protocol::Https)), "another listener");
    check(&base, put(listener("more", 443, Protocol::Tcp)), "another listener");
    let (id, mut other) = listener("more", 80, Protocol::Http);
    other.proxy_protocol = Some(ProxyProtocol { from: vec!["10.0.0.0/8".parse().unwrap()] });
    check(&base, put((id.clone(), other.clone())), "another listener");
    other.address.set_port(81);
    check(&base, put((id, other)), "");
}

#[test]
fn client_certificates_are_asked_for_where_a_name_can_be_told() {
    let certificate = Certificate {
        chain: vec![Der([1].into())],
        key: "k".parse().unwrap(),
        names: vec![],
        not_after: 0,
        ocsp: None,
    };
    let id: crate::name::CertificateId = "Secret/a/c".parse().unwrap();
    let base =
        base().edited([AnyPart::Certificate(id.clone(), Part::new(certificate))], []).unwrap();
    let name = |listener: &str, host: &str, roots: usize| {
        let client_certificates = Some(ClientCertificates {
            mode: ClientCertificateMode::Require,
            roots: vec![Der([1].into()); roots],
        });
        AnyPart::ServerName(
            format!("{listener}/{host}").parse().unwrap(),
            Part::new(ServerName { certificate: id.clone(), client_certificates }),
        )
    };
    check(&base, name("https", "a.example", 1), "");
    check(&base, name("https", "*.example", 1), "");
    check(&base, name("https", "**.example", 1), "one label");
    check(&base, name("https", "*", 1), "one label");
    check(&base, name("https", "a.example", 0), "authority");
    check(&base, name("http", "a.example", 1), "presents no");
    let named = base.edited([name("https", "a.example", 1)], []).unwrap();
    check(&named, put(listener("https", 443, Protocol::TlsPassthrough)), "server names");
}
