//! After random deltas a Table answers as one compiled from nothing.

use std::collections::BTreeMap;

use http::{HeaderMap, Method};
use kubeng_config::address::AddressRule;
use kubeng_config::backend::balance::Balance;
use kubeng_config::backend::{Backend, BackendProtocol, EndpointSource};
use kubeng_config::certificate::Secret;
use kubeng_config::delta::{AnyPart, PartKey};
use kubeng_config::listener::Listener;
use kubeng_config::matching::{HostMatch, Match, PathMatch};
use kubeng_config::name::SecretId;
use kubeng_config::part::Part;
use kubeng_config::request::RequestHead;
use kubeng_config::route::{Action, Attachment, Rank, Target, TargetAction};
use proptest::prelude::*;

use super::*;
use crate::backend::resolve::Answers;
use crate::compile::{Compiler, KeyCache};
use crate::filter::state::Memory;
use crate::metrics::Metrics;
use crate::tls::config::TlsCache;

const HOSTS: [&str; 4] = ["*", "a.example", "*.example", "**.example"];
const PATHS: [&str; 4] = ["/", "/x", "/x/y", "/z"];

/// One Route: where it is served, and to which Backend it goes.
#[derive(Clone, Debug)]
struct Wanted {
    listener: usize,
    host: usize,
    path: usize,
    is_exact: bool,
    backend: u16,
}

fn wanted() -> impl Strategy<Value = Wanted> {
    (0..2_usize, 0..HOSTS.len(), 0..PATHS.len(), any::<bool>(), 0..4_u16).prop_map(
        |(listener, host, path, is_exact, backend)| Wanted {
            listener,
            host,
            path,
            is_exact,
            backend,
        },
    )
}

fn backend_id(number: u16) -> BackendId {
    format!("Service/test/b{number}:80").parse().unwrap()
}

fn parts(routes: &BTreeMap<u8, Wanted>) -> Vec<AnyPart> {
    let mut parts = Vec::new();
    for (number, host) in ["*", "**.example"].into_iter().enumerate() {
        let listener = Listener {
            host: host.parse().unwrap(),
            ..Listener::new(SocketAddr::from(([127, 0, 0, 1], 80)), Protocol::Http)
        };
        parts.push(AnyPart::Listener(format!("l{number}").parse().unwrap(), Part::new(listener)));
    }
    parts.push(AnyPart::Policy("default".parse().unwrap(), Part::new(Policy::default())));
    for (number, wanted) in routes {
        let id = backend_id(wanted.backend);
        let backend = Backend {
            protocol: BackendProtocol::Http1,
            tls: None,
            balance: Balance::RoundRobin,
            affinity: None,
            resilience: None,
            endpoints: EndpointSource::Discovered,
            resolve: None,
            addresses: AddressRule::Operator,
            proxy_protocol: None,
        };
        parts.push(AnyPart::Backend(id.clone(), Part::new(backend)));
        let path = PATHS[wanted.path];
        let path = if wanted.is_exact {
            PathMatch::Exact(path.parse().unwrap())
        } else {
            PathMatch::Prefix(path.parse().unwrap())
        };
        let route = Route {
            rank: Rank { created: 0, rule: 0 },
            attached: vec![Attachment {
                listener: format!("l{}", wanted.listener).parse().unwrap(),
                hosts: vec![HOSTS[wanted.host].parse::<HostMatch>().unwrap()],
            }],
            matches: vec![Match::of_path(path)],
            filters: vec![],
            policy: "default".parse().unwrap(),
            action: Action::Forward(vec![Target { to: TargetAction::Backend(id), weight: 1 }]),
        };
        let id = format!("Ingress/test/r{number}#default").parse().unwrap();
        parts.push(AnyPart::Route(id, Part::new(route)));
    }
    parts
}

fn snapshot(routes: &BTreeMap<u8, Wanted>) -> Snapshot {
    Snapshot::default().edited(parts(routes), Vec::<PartKey>::new()).unwrap()
}

fn compile(before: &Table, newer: &Snapshot, keys: &mut KeyCache, metrics: &Metrics) -> Table {
    let secrets = Map::<SecretId, Secret>::default();
    let answers = Answers::new();
    let mut compiler = Compiler {
        secrets: &secrets,
        keys,
        memory: &Memory::default(),
        answers: &answers,
        reserved: &kubeng_config::address::Reserved::default(),
        metrics,
        shared: &std::sync::Weak::new(),
        tls: &mut TlsCache::default(),
    };
    compiler.compile(before, &before.snapshot.delta_to(newer)).unwrap().table
}

/// The digest of what requests use.
fn walked(table: &Table) -> kubeng_config::canonical::Digest {
    let parts = crate::walk::parts_of(table);
    Snapshot::digest_of(parts.iter().map(|part| (part.key(), part.digest())))
}

/// Which Route and Backend serve each of some requests.
fn answers(table: &Table) -> Vec<Option<(String, bool)>> {
    let headers = HeaderMap::new();
    let mut answers = Vec::new();
    for host in [None, Some("a.example"), Some("b.example"), Some("a.b.example"), Some("other")] {
        for path in ["/", "/x", "/x/", "/x/y/z", "/z", "/w"] {
            let head =
                RequestHead { method: &Method::GET, host, path, query: None, headers: &headers };
            let listener = table.listener(SocketAddr::from(([127, 0, 0, 1], 80)), host);
            let found = listener.and_then(|listener| table.routes.find(&listener.id, &head));
            answers.push(found.map(|found| {
                let Action::Forward(targets) = &found.value.route.action else { unreachable!() };
                let TargetAction::Backend(id) = &targets[0].to else { unreachable!() };
                (format!("{} {id}", found.value.usage.id), table.backends.contains_key(id))
            }));
        }
    }
    answers
}

proptest! {
    #[test]
    fn after_random_deltas_a_table_answers_as_one_compiled_from_nothing(
        rounds in prop::collection::vec(prop::collection::btree_map(0..8_u8, wanted(), 0..8), 1..8)
    ) {
        let metrics = Metrics::new(1);
        let mut keys = KeyCache::default();
        let mut table = Table::empty();
        for routes in rounds {
            let newer = snapshot(&routes);
            table = compile(&table, &newer, &mut keys, &metrics);
            let fresh = compile(&Table::empty(), &newer, &mut keys, &metrics);
            prop_assert_eq!(table.digest(), newer.digest());
            prop_assert_eq!(walked(&table), newer.digest(), "written again from what is found");
            prop_assert_eq!(answers(&table), answers(&fresh));
            prop_assert_eq!(table.backends.len(), fresh.backends.len());
            prop_assert!(answers(&table).iter().flatten().all(|(_, is_known)| *is_known));
        }
    }
}

#[test]
fn a_backend_keeps_what_is_alive_of_it_when_its_configuration_changes() {
    let metrics = Metrics::new(1);
    let mut keys = KeyCache::default();
    let one = Wanted { listener: 0, host: 0, path: 0, is_exact: false, backend: 1 };
    let routes = BTreeMap::from([(1, one)]);
    let first = compile(&Table::empty(), &snapshot(&routes), &mut keys, &metrics);
    let mut backend = (*first.backends[&backend_id(1)].spec).clone();
    backend.protocol = BackendProtocol::Http2;
    let newer = first
        .snapshot
        .edited([AnyPart::Backend(backend_id(1), Part::new(backend))], Vec::<PartKey>::new())
        .unwrap();
    let second = compile(&first, &newer, &mut keys, &metrics);
    let (before, after) = (&first.backends[&backend_id(1)], &second.backends[&backend_id(1)]);
    assert!(Arc::ptr_eq(&before.state, &after.state));
    assert_ne!(before.connection_key, after.connection_key, "connections are not shared");
}
