//! The fast way against the slow one, on few names with many collisions.

mod clients;
mod fleets;
mod overrides;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use kubeng_config::delta::{AnyPart, PartKey};
use kubeng_config::listener::{Listener, Protocol};
use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::problem::Problem;
use kubeng_config::provenance::Provenance;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::World;
use crate::kind::Body;
use crate::kind::config_map::ConfigMap;
use crate::kind::ingress::{
    Ingress, IngressBackend, IngressPath, IngressRule, IngressTls, PortName,
};
use crate::kind::ingress_class::{ClassParameters, IngressClass};
use crate::kind::secret::{Access, TlsSecret};
use crate::kind::service::{Service, ServicePort};
use crate::kind::upstream::route::{
    RouteBackend, RouteFilter, RouteMatch, RouteMirror, RoutePath, RouteTimeouts, UpstreamRoute,
};
use crate::kind::upstream::{
    ConfigMapRef, Standing, Upstream, UpstreamClientCertificate, UpstreamEndpoint, UpstreamRoots,
    UpstreamTls,
};
use crate::object::{Author, Change, Object};
use crate::settings::{
    CONTROLLER, DefaultBackend, DescribedBy, ExternalNames, Forward, TranslateSettings,
    WithoutClass,
};
use clients::{asked_by_hosts, asked_by_listener};
use fleets::fleet;

fn settings() -> impl Strategy<Value = TranslateSettings> {
    let home = select(&["main", "", "other"][..]);
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), home, asked_by_listener())
        .prop_map(|(https, default, certificate, open, home, clients)| {
            let listener =
                |port: u16, protocol| Listener::new(([127, 0, 0, 1], port).into(), protocol);
            let mut listeners = vec![("http".parse().unwrap(), listener(80, Protocol::Http))];
            if https {
                listeners.push(("https".parse().unwrap(), listener(443, Protocol::Https)));
            }
            if open {
                listeners.push(("raw".parse().unwrap(), listener(5432, Protocol::Tcp)));
                listeners.push(("pass".parse().unwrap(), listener(444, Protocol::TlsPassthrough)));
            }
            let mut settings = TranslateSettings::new("main".parse().unwrap(), listeners);
            settings.default_backend = default.then(|| DefaultBackend {
                namespace: "a".to_owned(),
                service: "s1".to_owned(),
                port: PortName::Name("http".to_owned()),
            });
            settings.default_certificate =
                certificate.then(|| ObjectKey::new(ObjectKind::Secret, "a", "t1"));
            settings.clients = clients;
            if open {
                settings.without_class = WithoutClass::Serve;
                settings.external_names = ExternalNames::Allow;
                let forward = |listener: &str, host: &str, to: &str| Forward {
                    listener: listener.parse().unwrap(),
                    host: host.parse().unwrap(),
                    to: to.parse().unwrap(),
                };
                settings.forwards = vec![
                    forward("raw", "*", "Upstream/a/u1"),
                    forward("pass", "h.example", "Upstream/a/u1"),
                    forward("pass", "g.example", "Service/a/s1:80"),
                ];
            }
            // Described by a Fleet, beside one that settings describe, or beside none.
            if home != "main" {
                settings.described_by = DescribedBy::Object(TranslateSettings::fleet_key("main"));
                settings.home = home.parse().ok();
                settings.allowed = vec!["a".to_owned()];
            }
            settings
        })
}

fn text(choices: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(choices).prop_map(str::to_owned)
}

const HOSTS: &[&str] = &["h.example", "g.example", "*.example", "H.example.", "bad host"];

fn host() -> impl Strategy<Value = Option<String>> {
    option::weighted(0.85, text(HOSTS))
}

fn backend() -> impl Strategy<Value = IngressBackend> {
    let port = prop_oneof![
        select(&[80_u16, 81][..]).prop_map(PortName::Number),
        text(&["http", "nope"]).prop_map(PortName::Name),
    ];
    prop_oneof![
        8 => (text(&["s1", "s2", "s3"]), port)
            .prop_map(|(name, port)| IngressBackend::Service { name, port }),
        2 => text(&["Upstream", "Bucket"]).prop_map(|kind| IngressBackend::Resource {
            group: "kubeng.io".to_owned(),
            kind,
            name: "u1".to_owned(),
        }),
        1 => Just(IngressBackend::Unusable { why: "both".to_owned() }),
        1 => Just(IngressBackend::Unread),
    ]
}

fn path(paths: &'static [&'static str]) -> impl Strategy<Value = IngressPath> {
    let kinds = &["Exact", "Prefix", "Prefix", "ImplementationSpecific"];
    (option::weighted(0.9, text(paths)), text(kinds), backend())
        .prop_map(|(path, path_type, backend)| IngressPath { path, path_type, backend })
}

const PATHS: &[&str] = &["/", "/a", "/a/", "/b", "a", "/%zz"];

fn ingress() -> impl Strategy<Value = Body> {
    let rule =
        (host(), vec(path(PATHS), 0..3)).prop_map(|(host, paths)| IngressRule { host, paths });
    let tls = (vec(text(HOSTS), 0..2), option::weighted(0.9, text(&["t1", "t2"])))
        .prop_map(|(hosts, secret)| IngressTls { hosts, secret });
    let class = option::weighted(0.8, text(&["kubeng", "kubeng", "c1", "c2"]));
    (class, option::of(backend()), vec(tls, 0..2), vec(rule, 0..3), asked_by_hosts()).prop_map(
        |(class, default_backend, tls, rules, annotations)| {
            let class_annotation = None;
            Body::Ingress(Ingress {
                class: class.map(Into::into),
                class_annotation,
                default_backend: default_backend.map(Box::new),
                tls,
                rules,
                annotations,
                doubt: None,
            })
        },
    )
}

fn class() -> impl Strategy<Value = Body> {
    let parameters = prop_oneof![
        6 => Just(ClassParameters::Absent),
        2 => select(&["main", "f1", "f2"][..]).prop_map(|name| ClassParameters::Fleet(name.into())),
        1 => Just(ClassParameters::Unknown("a bucket".into())),
    ];
    (select(&[CONTROLLER, CONTROLLER, "other"][..]), any::<bool>(), parameters).prop_map(
        |(controller, is_default, parameters)| {
            let controller = controller.to_owned();
            Body::IngressClass(IngressClass { controller, is_default, parameters })
        },
    )
}

fn service() -> impl Strategy<Value = Body> {
    let port = |name: Option<String>, port, app_protocol| ServicePort {
        name,
        port,
        target: PortName::Number(port),
        app_protocol,
    };
    let protocols = &["https", "kubernetes.io/h2c", "grpc"];
    (
        option::of(Just("http".to_owned())),
        select(&[80_u16, 81][..]),
        option::weighted(0.3, text(protocols)),
        option::weighted(0.1, text(&["out.example", "localhost"])),
    )
        .prop_map(move |(name, number, app_protocol, external_name)| {
            let ports = vec![port(name, number, app_protocol)];
            Body::Service(Service { external_name, ports, addresses: Vec::new() })
        })
}

/// Chain and key in PEM, for `h.example` and for `*.example`.
fn pairs() -> &'static [(String, String); 2] {
    static PAIRS: OnceLock<[(String, String); 2]> = OnceLock::new();
    PAIRS.get_or_init(|| {
        ["h.example", "*.example"].map(|name| {
            let pair = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            (pair.cert.pem(), pair.signing_key.serialize_pem())
        })
    })
}

fn secret() -> impl Strategy<Value = Body> {
    (0..2_usize, 0..2_usize, option::weighted(0.9, Just(()))).prop_map(
        |(chain_at, key_at, whole)| {
            let chain = whole.map(|()| Arc::from(pairs()[chain_at].0.as_bytes()));
            let key =
                Some(kubeng_config::certificate::Secret::new(pairs()[key_at].1.clone().into()));
            let credentials =
                kubeng_config::certificate::Secret::new(vec![b'0' + u8::try_from(key_at).unwrap()]);
            let credentials =
                [("auth", credentials)].into_iter().filter(|_| chain_at == 0).collect();
            let authorities = chain.clone().filter(|_| key_at == 0);
            let staple = None;
            Body::Secret(TlsSecret {
                chain,
                key,
                staple,
                authorities,
                credentials,
                access: Access::Granted,
            })
        },
    )
}

fn upstream() -> impl Strategy<Value = Body> {
    let endpoint = (text(&["10.0.0.1", "127.0.0.1", "out.example", "junk:"]), 0..3_u16).prop_map(
        |(address, weight)| UpstreamEndpoint {
            address,
            port: 80,
            weight,
            zone: None,
            state: "active".to_owned(),
            priority: 0,
        },
    );
    let roots = (select(&["a", "b"][..]), select(&["m1", "m2"][..])).prop_map(|(space, name)| {
        let namespace = Some(space.to_owned());
        UpstreamRoots::ConfigMap(ConfigMapRef { namespace, name: name.to_owned() })
    });
    (
        text(&["http", "https", "https", "junk"]),
        vec(endpoint, 0..3),
        option::weighted(0.5, roots),
        option::weighted(0.4, text(&["t1", "t2"])),
        vec(upstream_route(), 0..3),
        option::weighted(0.3, text(&["main", "f1"])),
    )
        .prop_map(|(protocol, endpoints, roots, presented, routes, fleets)| {
            let client_certificate = presented.map(|name| UpstreamClientCertificate { name });
            let server_name = Some("out.example".to_owned());
            Body::Upstream(Box::new(Upstream {
                display_name: None,
                protocol,
                endpoints,
                tls: UpstreamTls { server_name, roots, client_certificate, ..Default::default() },
                balance: Default::default(),
                health: None,
                proxy_protocol: None,
                resolve: None,
                care: Default::default(),
                routes: routes.into(),
                fleets: fleets.into_iter().collect(),
                standing: Standing::Served,
            }))
        })
}

fn upstream_route() -> impl Strategy<Value = UpstreamRoute> {
    let matches = text(&["/", "/a", "/b", "b"]).prop_map(|path| RouteMatch {
        path: Some(RoutePath { kind: None, value: Some(path) }),
        ..RouteMatch::default()
    });
    let filter = prop_oneof![
        Just(RouteFilter { kind: "Junk".to_owned(), ..RouteFilter::default() }),
        text(&["s1", "u1"]).prop_map(|name| {
            let (group, kind) = match name.as_str() {
                "u1" => ("kubeng.io", "Upstream"),
                _ => ("", "Service"),
            };
            let backend_ref = RouteBackend {
                group: Some(group.to_owned()),
                kind: Some(kind.to_owned()),
                name,
                namespace: None,
                port: Some(80),
            };
            let mirror = RouteMirror { backend_ref, ..RouteMirror::default() };
            RouteFilter {
                kind: "RequestMirror".to_owned(),
                request_mirror: Some(mirror),
                ..RouteFilter::default()
            }
        }),
    ];
    let timeouts = text(&["5s", "7s", "junk"])
        .prop_map(|request| RouteTimeouts { request: Some(request), backend_request: None });
    (
        text(&["r1", "r2", "Bad"]),
        vec(text(&["h.example", "g.example", "*.example", "bad host"]), 0..3),
        vec(matches, 0..2),
        vec(filter, 0..2),
        option::of(timeouts),
    )
        .prop_map(|(name, hostnames, matches, filters, timeouts)| UpstreamRoute {
            name,
            hostnames,
            matches,
            filters,
            timeouts,
            retry: None,
        })
}

fn config_map() -> impl Strategy<Value = Body> {
    option::weighted(0.8, 0..3_usize).prop_map(|at| {
        let pem = |at: usize| pairs().get(at).map_or("junk", |pair| pair.0.as_str());
        let key_set = at.map(|at| if at == 0 { r#"{"keys": []}"# } else { PUBLIC }.into());
        let authorities = at.map(|at| pem(at).into());
        Body::ConfigMap(ConfigMap { authorities, key_set, access: Access::Granted })
    })
}

const PUBLIC: &str = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn object(
    kind: ObjectKind,
    names: &'static [&'static str],
    body: BoxedStrategy<Body>,
) -> BoxedStrategy<Change> {
    let key = (select(&["a", "b"][..]), select(names))
        .prop_map(move |(namespace, name)| ObjectKey::new(kind, namespace, name));
    let author = select(&[Author::Operator, Author::Tenant][..]);
    let upsert = (key.clone(), body, 0..3_i64, author, 1..3_u32).prop_map(
        |(key, body, created, author, line)| {
            Change::Upsert(Arc::new(object_of(key, body, created, author, line)))
        },
    );
    prop_oneof![4 => upsert, 1 => key.prop_map(Change::Remove)].boxed()
}

fn object_of(key: ObjectKey, body: Body, created: i64, author: Author, line: u32) -> Object {
    Object {
        key,
        created,
        uid: None,
        provenance: Provenance::File { path: "all.yaml".into(), line },
        author,
        body,
        status_addresses: Box::default(),
        problems: Box::default(),
    }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => object(ObjectKind::Ingress, &["i1", "i2", "i3"], ingress().boxed()),
        1 => object(ObjectKind::IngressClass, &["c1", "c2", "kubeng"], class().boxed()),
        3 => object(ObjectKind::Service, &["s1", "s2"], service().boxed()),
        2 => object(ObjectKind::Secret, &["t1", "t2"], secret().boxed()),
        3 => object(ObjectKind::Upstream, &["u1", "u2"], upstream().boxed()),
        1 => object(ObjectKind::ConfigMap, &["m1", "m2"], config_map().boxed()),
        5 => overrides::route_override(),
        1 => fleet(),
    ]
}

fn sorted_problems(world: &World) -> Vec<Problem> {
    let mut problems: Vec<Problem> = world.problems().cloned().collect();
    problems.sort();
    problems
}

fn verdicts(world: &World) -> Vec<String> {
    world.verdicts().map(|(key, verdict)| format!("{key} {verdict:?}")).collect()
}

fn keys_between(before: &World, after: &World) -> BTreeSet<PartKey> {
    let delta = before.snapshot.delta_to(&after.snapshot);
    delta.upserts.iter().map(AnyPart::key).chain(delta.removed).collect()
}

/// What must have been reported: Objects whose Problems or standing are different.
fn judged_between(before: &World, after: &World) -> BTreeSet<ObjectKey> {
    let of = |world: &World| -> BTreeSet<String> {
        let problems = world.problems().map(|problem| format!("{}\n{problem:?}", problem.subject));
        let standing = world.verdicts().map(|(key, verdict)| match verdict {
            super::Verdict::Foreign => format!("{key}\nforeign"),
            super::Verdict::Ours { .. } => format!("{key}\nours"),
        });
        problems.chain(standing).collect()
    };
    let (before, after) = (of(before), of(after));
    let keys = before.symmetric_difference(&after).filter_map(|text| text.split('\n').next());
    keys.map(|key| key.parse().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_step_gives_what_a_rebuild_gives(
        settings in settings(),
        rounds in vec(vec(change(), 1..6), 1..15),
    ) {
        let mut world = World::new(settings.clone());
        for round in rounds {
            let step = world.step(&round);
            let oracle = World::rebuild(settings.clone(), step.world.objects().cloned());
            prop_assert_eq!(step.world.snapshot.digest(), oracle.snapshot.digest());
            prop_assert_eq!(sorted_problems(&step.world), sorted_problems(&oracle));
            prop_assert_eq!(verdicts(&step.world), verdicts(&oracle));
            prop_assert_eq!(step.world.referenced(), oracle.referenced());
            prop_assert_eq!(step.world.memo.contents(), oracle.memo.contents());
            prop_assert_eq!(&step.changed, &keys_between(&world, &step.world));
            let missed: Vec<_> = judged_between(&world, &step.world)
                .into_iter()
                .filter(|key| !step.judged.contains(key) && !is_of_settings(&settings, key))
                .collect();
            prop_assert_eq!(missed, Vec::<ObjectKey>::new());
            let differ = sorted_problems(&world) != sorted_problems(&step.world);
            prop_assert_eq!(step.problems_differ, differ);
            prop_assert!(step.world.left_out.is_empty());
            world = step.world;
        }
    }

    #[test]
    fn the_order_of_events_does_not_count(
        settings in settings(),
        changes in vec(change(), 1..30),
    ) {
        let together = World::new(settings.clone()).step(&changes).world;
        let mut alone = World::new(settings);
        for change in &changes {
            alone = alone.step(std::slice::from_ref(change)).world;
        }
        prop_assert_eq!(together.snapshot.digest(), alone.snapshot.digest());
        prop_assert_eq!(sorted_problems(&together), sorted_problems(&alone));
    }

    #[test]
    fn a_bad_ingress_changes_no_part_of_another(
        settings in settings(),
        changes in vec(change(), 1..30),
        hosts in vec(host(), 1..4),
        bad in vec(path(&["a", "/%zz", "/../x", "b c"]), 1..3),
        created in 0..4_i64,
    ) {
        let before = World::new(settings).step(&changes).world;
        let rules = hosts.into_iter().map(|host| IngressRule { host, paths: bad.clone() });
        let body = Body::Ingress(Ingress {
            class: Some("kubeng".into()),
            rules: rules.filter(|rule| rule.paths.iter().all(|path| path.path.is_some())).collect(),
            ..Ingress::default()
        });
        let key = ObjectKey::new(ObjectKind::Ingress, "a", "0-bad");
        let bad = object_of(key.clone(), body, created, Author::Tenant, 1);
        let step = before.step(&[Change::Upsert(Arc::new(bad))]);
        for changed in &step.changed {
            let is_its_own = match changed {
                PartKey::Route(id) => id.object == key,
                // The first Route of all brings the Policy of the fleet.
                PartKey::Policy(_) => true,
                PartKey::Listener(_) | PartKey::Backend(_) | PartKey::Certificate(_)
                | PartKey::ServerName(_) => false,
            };
            prop_assert!(is_its_own, "{} changed", changed);
        }
        let gone = step.world.step(&[Change::Remove(key)]);
        prop_assert_eq!(gone.world.snapshot.digest(), before.snapshot.digest());
    }
}

/// Problems about what the settings name are found by nobody's Verdict.
fn is_of_settings(settings: &TranslateSettings, key: &ObjectKey) -> bool {
    // Of every Fleet the fleet of the settings may tell that it does not serve it.
    key.kind == ObjectKind::Fleet
        || settings.default_certificate.as_ref() == Some(key)
        || settings.clients.iter().any(|(_, asked)| asked.authorities == *key)
        || settings.forwards.iter().any(|forward| forward.to.object == *key)
        || settings.default_backend.as_ref().is_some_and(|default| {
            *key == ObjectKey::new(ObjectKind::Service, &default.namespace, &default.service)
        })
}
