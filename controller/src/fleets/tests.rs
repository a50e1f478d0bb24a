use std::cell::RefCell;

use kubeng_config::problem::{CLASS_TAKEN, Code, FLEET_NOT_FOUND, FLEET_NOT_PERMITTED};
use kubeng_config::provenance::Provenance;
use serde_json::{Value, json};

use super::*;
use crate::decode::{Decoded, decode};
use crate::object::Author;

fn upsert(value: Value) -> Change {
    let decoded = decode(value, Provenance::Product, Author::Operator);
    let Decoded::Object(object) = decoded else { panic!("{decoded:?}") };
    Change::Upsert(Arc::new(*object))
}

fn fleet(name: &str, port: u16, classes: &[&str], namespaces: &[&str]) -> Change {
    upsert(json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "Fleet", "metadata": {"name": name},
        "spec": {
            "serves": {"ingressClasses": classes}, "namespaces": namespaces,
            "listeners": [{"name": "http", "port": port, "protocol": "HTTP"}],
        },
    }))
}

fn class(name: &str, fleet: Option<&str>) -> Change {
    let parameters =
        fleet.map(|name| json!({"apiGroup": "kubeng.io", "kind": "Fleet", "name": name}));
    upsert(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": name},
        "spec": {"controller": "kubeng.io/ingress-controller", "parameters": parameters},
    }))
}

fn ingress(namespace: &str, class: &str) -> Change {
    upsert(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"namespace": namespace, "name": class},
        "spec": {"ingressClassName": class, "rules": [{
            "host": format!("{class}.{namespace}.example"),
            "http": {"paths": [{
                "path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": "web", "port": {"number": 80}}},
            }]},
        }]},
    }))
}

fn upstream(namespace: &str, fleets: &[&str]) -> Change {
    upsert(json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "Upstream",
        "metadata": {"namespace": namespace, "name": "erp"},
        "spec": {
            "endpoints": [{"address": "10.0.0.1", "port": 80}], "fleets": fleets,
            "routes": [{"name": "all", "hostnames": [format!("erp.{namespace}.example")]}],
        },
    }))
}

/// What a loop does, without its channels.
struct Rig {
    fleets: Fleets,
    objects: RefCell<BTreeMap<ObjectKey, Arc<Object>>>,
}

impl Rig {
    fn new() -> Self {
        let common = TranslateSettings::new("common".parse().unwrap(), Vec::new());
        Self { fleets: Fleets::of_objects(common), objects: RefCell::default() }
    }

    fn of(changes: impl IntoIterator<Item = Change>) -> Self {
        let mut rig = Self::new();
        changes.into_iter().for_each(|change| rig.take(change));
        rig
    }

    fn take(&mut self, change: Change) {
        match &change {
            Change::Upsert(object) => {
                self.objects.borrow_mut().insert(object.key.clone(), Arc::clone(object));
            }
            Change::Remove(key) => drop(self.objects.borrow_mut().remove(key)),
        }
        let now = Instant::now();
        self.fleets.step(std::slice::from_ref(&change), now);
        if change.key().kind == kubeng_config::name::ObjectKind::Fleet {
            let all: Vec<_> = self.objects.borrow().values().cloned().collect();
            self.fleets.describe([change], || all.iter(), now);
        }
        let (endpoints, position) = Default::default();
        let beside = Beside { endpoints: &endpoints, position: &position, serving: None };
        self.fleets.publish(&beside);
    }

    /// The hosts that each fleet serves.
    fn hosts(&self) -> BTreeMap<String, Vec<String>> {
        let feeds = self.fleets.feeds();
        let feeds = Arc::clone(&feeds.borrow());
        let hosts = |feed: &FleetFeed| {
            let published = Arc::clone(&feed.newest.borrow());
            let routes = published.snapshot.routes().sorted().into_iter();
            let hosts = routes.flat_map(|(_, part)| part.value().attached.clone());
            let mut hosts: Vec<String> =
                hosts.flat_map(|at| at.hosts).map(|host| host.to_string()).collect();
            hosts.sort();
            hosts
        };
        feeds.iter().map(|(name, feed)| (name.to_string(), hosts(feed))).collect()
    }

    fn digests(&self) -> Vec<(FleetName, Digest)> {
        self.fleets.all.iter().map(|(name, served)| (name.clone(), served.digest())).collect()
    }

    fn codes(&self) -> Vec<(String, Code)> {
        let problems = self.fleets.worlds().flat_map(World::problems);
        // Of Services that are not there nothing is of interest here.
        let mut codes: Vec<_> = problems
            .filter(|problem| problem.code != kubeng_config::problem::BACKEND_NOT_FOUND)
            .map(|problem| (problem.subject.to_string(), problem.code))
            .collect();
        codes.sort();
        codes.dedup();
        codes
    }
}

#[track_caller]
fn check(rig: &Rig, expected: &[(&str, &[&str])]) {
    let expected = expected.iter().map(|(name, hosts)| {
        ((*name).to_owned(), hosts.iter().map(|host| (*host).to_owned()).collect())
    });
    assert_eq!(rig.hosts(), expected.collect());
}

#[test]
fn an_ingress_is_served_by_the_fleet_of_its_class_alone() {
    let mut rig = Rig::of([
        ingress("shop", "named"),
        ingress("shop", "listed"),
        ingress("shop", "nobodys"),
        class("named", Some("a")),
        class("listed", None),
        class("nobodys", None),
        fleet("a", 80, &[], &[]),
        fleet("b", 80, &["listed"], &[]),
    ]);
    check(&rig, &[("a", &["named.shop.example"]), ("b", &["listed.shop.example"])]);
    assert_eq!(rig.codes(), [("Ingress/shop/nobodys".to_owned(), FLEET_NOT_FOUND)]);
    // It goes with its fleet, and to no other one.
    let before = rig.digests();
    rig.take(Change::Remove(TranslateSettings::fleet_key("a")));
    check(&rig, &[("b", &["listed.shop.example"])]);
    assert_eq!(rig.digests(), before[1..]);
    assert!(rig.codes().contains(&("Ingress/shop/named".to_owned(), FLEET_NOT_FOUND)));
    rig.take(fleet("a", 80, &[], &[]));
    assert_eq!(rig.digests(), before);
}

#[test]
fn what_a_fleet_does_not_allow_is_told_and_served_nowhere() {
    let rig = Rig::of([
        fleet("a", 80, &["web"], &["fin"]),
        fleet("b", 80, &[], &[]),
        ingress("fin", "web"),
        ingress("shop", "web"),
        upstream("shop", &["a", "c"]),
    ]);
    check(&rig, &[("a", &["web.fin.example"]), ("b", &[])]);
    let of = |object: &str, code| (object.to_owned(), code);
    assert_eq!(
        rig.codes(),
        [
            of("Ingress/shop/web", FLEET_NOT_PERMITTED),
            of("Upstream/shop/erp", FLEET_NOT_PERMITTED),
            of("Upstream/shop/erp", FLEET_NOT_FOUND),
        ]
    );
}

#[test]
fn routes_of_an_upstream_are_in_the_fleets_that_it_names_or_in_all_that_allow_it() {
    let fleets = || [fleet("a", 80, &[], &["fin"]), fleet("b", 80, &[], &[])];
    let erp: &[&str] = &["erp.fin.example"];
    for (named, expected) in [
        (&[][..], [("a", erp), ("b", erp)]),
        (&["a"], [("a", erp), ("b", &[])]),
        (&["b"], [("a", &[]), ("b", erp)]),
        (&["a", "b"], [("a", erp), ("b", erp)]),
    ] {
        let mut rig = Rig::of(fleets());
        rig.take(upstream("fin", named));
        check(&rig, &expected);
    }
}

#[test]
fn of_two_fleets_that_list_a_class_one_has_it() {
    let rig = Rig::of([
        fleet("b", 80, &["web"], &[]),
        fleet("a", 80, &["web"], &[]),
        ingress("fin", "web"),
    ]);
    check(&rig, &[("a", &["web.fin.example"]), ("b", &[])]);
    assert_eq!(rig.codes(), [("Fleet/b".to_owned(), CLASS_TAKEN)]);
}

#[test]
fn a_fleet_that_changes_touches_no_other() {
    let mut rig = Rig::of([
        fleet("a", 80, &["one"], &[]),
        fleet("b", 80, &["two"], &[]),
        ingress("shop", "one"),
        ingress("shop", "two"),
    ]);
    let feeds = rig.fleets.feeds();
    let newest = |name: &str| {
        let feed = feeds.borrow().get(&name.parse().unwrap()).cloned().unwrap();
        let digest = feed.newest.borrow().snapshot.digest();
        (digest, feed.newest)
    };
    let (a, mut changes_of_a) = newest("a");
    let (b, mut changes_of_b) = newest("b");
    changes_of_a.mark_unchanged();
    changes_of_b.mark_unchanged();
    rig.take(fleet("a", 81, &["one"], &[]));
    assert_ne!(newest("a").0, a);
    assert_eq!(newest("b").0, b);
    assert!(changes_of_a.has_changed().unwrap(), "the feed goes on");
    assert!(!changes_of_b.has_changed().unwrap());
    check(&rig, &[("a", &["one.shop.example"]), ("b", &["two.shop.example"])]);
}

#[test]
fn the_order_in_which_controllers_read_does_not_count() {
    let changes = [
        fleet("a", 80, &["one"], &[]),
        class("two", Some("b")),
        ingress("shop", "one"),
        upstream("shop", &[]),
        fleet("b", 8080, &["one"], &["shop"]),
        ingress("shop", "two"),
        ingress("fin", "two"),
    ];
    let here = Rig::of(changes.clone());
    for turn in 0..changes.len() {
        let mut other = changes.clone();
        other.rotate_left(turn);
        let there = Rig::of(other.into_iter().rev());
        assert_eq!(here.digests(), there.digests(), "turned by {turn}");
        assert_eq!(here.codes(), there.codes(), "turned by {turn}");
    }
}

#[test]
fn each_listener_has_its_own_certificate_and_all_routes_the_defaults_of_the_fleet() {
    let rig = Rig::of([
        upsert(json!({
            "apiVersion": "kubeng.io/v1alpha1", "kind": "Fleet", "metadata": {"name": "a"},
            "spec": {
                "serves": {"ingressClasses": ["web"]},
                "listeners": [{
                    "name": "https", "port": 443, "protocol": "HTTPS",
                    "certificateRefs": [{"namespace": "shop", "name": "missing"}],
                }],
                "defaults": {"timeouts": {"request": "7s"}},
            },
        })),
        ingress("shop", "web"),
    ]);
    let secret = ObjectKey::new(kubeng_config::name::ObjectKind::Secret, "shop", "missing");
    assert_eq!(rig.fleets.referenced(), BTreeSet::from([secret]), "it is asked for");
    let told = rig.codes();
    assert_eq!(
        told,
        [("Secret/shop/missing".to_owned(), kubeng_config::problem::SECRET_NOT_FOUND)]
    );
    let snapshot = rig.fleets.worlds().next().unwrap().own_snapshot().clone();
    let (_, policy) = snapshot.policies().sorted()[0];
    assert_eq!(policy.value().timeouts.request, Some(std::time::Duration::from_secs(7)));
}

#[test]
fn a_listener_of_a_fleet_asks_clients_for_certificates_of_the_authorities_that_it_names() {
    let described = upsert(json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "Fleet", "metadata": {"name": "prod"},
        "spec": {"listeners": [{
            "name": "web", "port": 443, "protocol": "HTTPS",
            "clientCertificates": {
                "mode": "require", "authoritiesFrom": {"namespace": "infra", "name": "clients"},
            },
        }]},
    }));
    let mut rig = Rig::of([described]);
    let name = "prod".parse().unwrap();
    let asked = |rig: &Rig| {
        let world = &rig.fleets.all[&name].world;
        assert!(world.referenced().contains(&"ConfigMap/infra/clients".parse().unwrap()));
        let told = world.problems().any(|problem| problem.message.contains("Fleet/prod"));
        let listener = "web".parse().unwrap();
        let listener = world.own_snapshot().listeners().get(&listener).unwrap().value().clone();
        (listener.client_certificates.clone().map(|asked| asked.roots.len()), told)
    };
    assert_eq!(asked(&rig), (None, true));
    let pair = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
    rig.take(upsert(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "infra", "name": "clients"}, "data": {"ca.crt": pair.cert.pem()},
    })));
    assert_eq!(asked(&rig), (Some(1), false));
}

#[test]
fn care_that_changes_is_published_and_computes_nothing_anew() {
    let fleet = |every: &str| {
        upsert(json!({
            "apiVersion": "kubeng.io/v1alpha1", "kind": "Fleet",
            "metadata": {"name": "one"},
            "spec": {"drift": {"heartbeatEvery": every, "onDrift": "heal"}},
        }))
    };
    let mut rig = Rig::of([fleet("7s")]);
    let feed = |rig: &Rig| rig.fleets.feeds().borrow().values().next().unwrap().clone();
    let mut newest = feed(&rig).newest;
    let every = |published: &Published| published.pulse.unwrap().heartbeat_every.as_secs();
    assert_eq!(every(&newest.borrow_and_update()), 7);
    rig.take(fleet("9s"));
    assert!(newest.has_changed().unwrap(), "publishers hear of it");
    assert_eq!(every(&newest.borrow_and_update()), 9);
    assert_eq!(feed(&rig).facts.care.heartbeat_every.as_secs(), 9);
    rig.take(fleet("9s"));
    assert!(!newest.has_changed().unwrap());
}
