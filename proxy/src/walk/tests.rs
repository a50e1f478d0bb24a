//! What is changed in a running Table behind the digest's back shows in what is written again.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kubeng_config::address::AddressRule;
use kubeng_config::backend::{Backend, BackendProtocol};
use kubeng_config::certificate::{
    ClientCertificateMode, ClientCertificates, Secret, ServerName, ServerNameId,
};
use kubeng_config::listener::{Listener, ListenerTls, Protocol, TlsVersion};
use kubeng_config::matching::{Match, PathMatch};
use kubeng_config::name::RouteId;
use kubeng_config::policy::Policy;
use kubeng_config::route::{Action, Attachment, Rank, Route, Target, TargetAction};

use super::*;
use crate::proxy::{Proxy, ProxySettings};
use crate::table::writer::TableWriter;
use crate::table::{CompiledRoute, NamedTls};

/// A replica with every kind of Part.
struct Rig {
    proxy: Proxy,
    writer: TableWriter,
    /// What was acknowledged.
    digest: Digest,
}

fn certificate() -> (Certificate, Secret) {
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let certificate = Certificate {
        chain: vec![Der(Arc::from(made.cert.der().as_ref()))],
        key: "key-1".parse().unwrap(),
        names: vec!["a.example".to_owned()],
        not_after: 7,
        ocsp: None,
    };
    (certificate, Secret::new(made.signing_key.serialize_der()))
}

fn backend(number: u8) -> BackendId {
    format!("Service/test/b{number}:80").parse().unwrap()
}

fn https_id() -> kubeng_config::name::ListenerId {
    "https".parse().unwrap()
}

fn route_id() -> RouteId {
    "Ingress/test/r#default".parse().unwrap()
}

fn parts(certificate: &Certificate) -> Vec<AnyPart> {
    let id = |text: &str| text.parse::<CertificateId>().unwrap();
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let clients = ClientCertificates {
        mode: ClientCertificateMode::Request,
        roots: certificate.chain.clone(),
    };
    let https = Listener {
        default_certificate: Some(id("c")),
        tls: Some(ListenerTls { version_min: TlsVersion::V1_3, suites: vec![] }),
        client_certificates: Some(clients.clone()),
        connections_max: Some(9),
        ..Listener::new(address(0), Protocol::Https)
    };
    let mut parts = vec![
        AnyPart::Listener(
            "http".parse().unwrap(),
            Part::new(Listener::new(address(1), Protocol::Http)),
        ),
        AnyPart::Listener("https".parse().unwrap(), Part::new(https)),
        AnyPart::Policy("p".parse().unwrap(), Part::new(Policy::default())),
        AnyPart::Certificate(id("c"), Part::new(certificate.clone())),
    ];
    for (host, asked) in [("a.example", Some(clients)), ("*.b.example", None)] {
        let name = ServerNameId { listener: "https".parse().unwrap(), host: host.parse().unwrap() };
        let named = ServerName { certificate: id("c"), client_certificates: asked };
        parts.push(AnyPart::ServerName(name, Part::new(named)));
    }
    for number in [1, 2] {
        let spec = Backend {
            protocol: BackendProtocol::Http1,
            tls: None,
            balance: Default::default(),
            affinity: None,
            resilience: None,
            endpoints: EndpointSource::Discovered,
            resolve: None,
            addresses: AddressRule::Operator,
            proxy_protocol: None,
        };
        parts.push(AnyPart::Backend(backend(number), Part::new(spec)));
    }
    let target = |number, weight| Target { to: TargetAction::Backend(backend(number)), weight };
    let attach = |listener: &str, hosts: &[&str]| Attachment {
        listener: listener.parse().unwrap(),
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
    };
    let path = |text: &str| Match::of_path(PathMatch::Prefix(text.parse().unwrap()));
    let route = Route {
        rank: Rank { created: 0, rule: 0 },
        // In no order that sorting would give.
        attached: vec![attach("https", &["b.example", "a.example"]), attach("http", &["*"])],
        matches: vec![path("/z"), path("/a"), Match::of_path(PathMatch::Otherwise)],
        filters: vec![],
        policy: "p".parse().unwrap(),
        action: Action::Forward(vec![target(1, 3), target(2, 1)]),
    };
    parts.push(AnyPart::Route(route_id(), Part::new(route)));
    parts
}

impl Rig {
    fn new() -> Self {
        let settings = ProxySettings { workers: 1, ..ProxySettings::default() };
        let (proxy, mut writer) = Proxy::start(settings).unwrap();
        let (certificate, secret) = certificate();
        let snapshot = Snapshot::default().edited(parts(&certificate), []).unwrap();
        let mut delta = Snapshot::default().delta_to(&snapshot);
        delta.secrets.push((certificate.key.clone(), secret));
        writer.apply(&delta).unwrap();
        Self { proxy, writer, digest: snapshot.digest() }
    }

    fn walk(&self) -> Digest {
        let walked = self.proxy.facts().walk(|| ControlFlow::Continue(())).unwrap();
        assert_eq!(walked.meant, self.digest, "the digest beside the Table has not noticed");
        walked.digest
    }

    /// Changes the running Table, and gives the key of what differs then.
    #[track_caller]
    fn check(&mut self, change: impl FnOnce(&mut Table), expected: &[&str]) {
        assert_eq!(self.walk(), self.digest);
        let before = self.proxy.facts().parts().0;
        let shared = &self.proxy.facts().0;
        let mut table = Table::clone(&shared.table.load());
        change(&mut table);
        shared.table.store(Arc::new(table));
        assert_ne!(self.walk(), self.digest, "it shows");
        let digests = |parts: Vec<AnyPart>| -> BTreeMap<String, Digest> {
            parts.iter().map(|part| (part.key().to_string(), part.digest())).collect()
        };
        let (before, after) = (digests(before), digests(self.proxy.facts().parts().0));
        let keys = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key)));
        let differing: Vec<&String> =
            keys.filter(|key| before.get(*key) != after.get(*key)).collect();
        assert_eq!(differing, expected);
        self.writer.heal().unwrap();
        assert_eq!(self.walk(), self.digest, "healed");
    }
}

/// The Route with something else in its place.
fn exchange(table: &mut Table, change: impl Fn(&mut Route)) {
    let place = table.routes.places().next().unwrap();
    let before = place.placed.value.clone();
    let mut route = Route::clone(&before.route);
    change(&mut route);
    let compiled = CompiledRoute {
        route: Arc::new(route),
        states: Box::default(),
        rotation: None,
        usage: before.usage.clone(),
    };
    let original = before.route.clone();
    table.routes.remove(&route_id(), &original);
    table.routes.insert(&route_id(), &original, &Arc::new(compiled));
}

const ROUTE: &str = "route Ingress/test/r#default";

#[test]
fn what_routes_do_is_written_from_where_they_are_found() {
    let mut rig = Rig::new();
    rig.check(|table| exchange(table, |route| route.action = Action::Answer), &[ROUTE]);
    rig.check(|table| exchange(table, |route| route.policy = "q".parse().unwrap()), &[ROUTE]);
    // The same Route with other turns, as if weights had been changed where requests take them.
    rig.check(|table| exchange(table, |_| ()), &[ROUTE]);
    rig.check(
        |table| {
            let route = table.routes.places().next().unwrap().placed.route.clone();
            table.routes.remove(&route_id(), &route);
        },
        &[ROUTE],
    );
    rig.check(
        |table| {
            let place = table.routes.places().next().unwrap();
            let (route, value) = (place.placed.route.clone(), place.placed.value.clone());
            let mut other = Route::clone(&route);
            other.attached.truncate(1);
            table.routes.remove(&route_id(), &route);
            table.routes.insert(&route_id(), &Arc::new(other), &value);
        },
        &[ROUTE],
    );
    rig.check(
        |table| {
            let place = table.routes.places().next().unwrap();
            let (route, value) = (place.placed.route.clone(), place.placed.value.clone());
            let mut other = Route::clone(&route);
            other.matches.truncate(2);
            table.routes.insert(&"Ingress/test/more#x".parse().unwrap(), &Arc::new(other), &value);
        },
        &["route Ingress/test/more#x"],
    );
}

#[test]
fn what_is_not_a_route_is_written_from_what_requests_use() {
    let mut rig = Rig::new();
    rig.check(
        |table| {
            table.policies.insert("more".parse().unwrap(), Arc::new(Policy::default()));
        },
        &["policy more"],
    );
    rig.check(
        |table| {
            let id = backend(1);
            let before = table.backends.remove(&id).unwrap();
            let spec = Backend { protocol: BackendProtocol::Http2, ..Backend::clone(&before.spec) };
            let changed = crate::backend::CompiledBackend {
                id: id.clone(),
                spec: Arc::new(spec),
                connection_key: before.connection_key,
                tls: crate::backend::tls::CompiledTls::of(&id, &before.spec, None),
                state: before.state.clone(),
                traffic: before.traffic.clone(),
            };
            table.backends.insert(id, Arc::new(changed));
        },
        &["backend Service/test/b1:80"],
    );
    rig.check(
        |table| {
            let other = crate::tls::fallback_certificate().unwrap();
            table.certificates.insert("c".parse().unwrap(), other);
        },
        &["certificate c"],
    );
    let server_names = |table: &mut Table, change: &dyn Fn(&mut NamedTls)| {
        let mut names = table.server_names[&https_id()].clone();
        let inner = Arc::make_mut(&mut names);
        let mut named = inner.exact["a.example"].clone();
        change(&mut named);
        inner.exact.insert("a.example".into(), named);
        table.server_names.insert(https_id(), names);
    };
    let name = "server name https/a.example";
    rig.check(|t| server_names(t, &|named| named.policy = None), &[name]);
    rig.check(|t| server_names(t, &|named| named.certificate = "d".parse().unwrap()), &[name]);
    rig.check(
        |table| {
            let mut names = table.server_names[&https_id()].clone();
            let inner = Arc::make_mut(&mut names);
            let named = inner.one_label_below.remove("b.example").unwrap();
            inner.exact.insert("c.example".into(), named);
            table.server_names.insert(https_id(), names);
        },
        &["server name https/*.b.example", "server name https/c.example"],
    );
}

#[test]
fn listeners_are_written_from_their_sockets() {
    let mut rig = Rig::new();
    let change = |table: &mut Table, change: &dyn Fn(&mut crate::table::CompiledSocket)| {
        let mut sockets = std::collections::HashMap::clone(&table.sockets);
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        change(sockets.get_mut(&address).unwrap());
        table.sockets = Arc::new(sockets);
    };
    let https = &["listener https"];
    rig.check(|t| change(t, &|socket| socket.connections_max = None), https);
    rig.check(|t| change(t, &|socket| socket.listeners[0].protocol = Protocol::Http), https);
    rig.check(|t| change(t, &|socket| socket.proxy_from = Some(Arc::from([]))), https);
}

#[test]
fn a_heal_keeps_endpoints_and_ends_what_was_refused_on_the_machine() {
    let mut rig = Rig::new();
    let set = Arc::new(EndpointSet::new(vec![kubeng_config::endpoint::Endpoint::new(
        "10.0.0.1:80".parse().unwrap(),
    )]));
    rig.writer.set_endpoints(&[(backend(1), set.clone())]);
    let endpoints = rig.proxy.facts().endpoints_digest();
    assert!(rig.writer.refuse(&route_id()));
    assert!(!rig.writer.refuse(&"Ingress/test/none#x".parse().unwrap()));
    assert_ne!(rig.walk(), rig.digest);
    rig.writer.heal().unwrap();
    assert_eq!(rig.walk(), rig.digest);
    assert_eq!(rig.writer.endpoints(&backend(1)), Some(set));
    assert_eq!(rig.proxy.facts().endpoints_digest(), endpoints);
    assert_eq!(rig.writer.refused().count(), 0);
}

#[test]
fn a_route_that_is_refused_here_stays_so_through_changes_until_it_is_taken_back() {
    let mut rig = Rig::new();
    rig.writer.refuse(&route_id());
    let refused = rig.walk();
    let snapshot = rig.writer.snapshot();
    let part = snapshot.routes().get(&route_id()).unwrap();
    let mut route = Route::clone(part.value());
    route.rank.created = 5;
    let newer = snapshot.edited([AnyPart::Route(route_id(), Part::new(route))], []).unwrap();
    rig.writer.apply(&snapshot.delta_to(&newer)).unwrap();
    rig.digest = newer.digest();
    assert_ne!(rig.walk(), rig.digest);
    assert_ne!(rig.walk(), refused);
    rig.writer.serve_again();
    assert_eq!(rig.walk(), rig.digest);
}
