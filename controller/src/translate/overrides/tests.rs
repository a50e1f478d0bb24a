//! The examples of the reference, and how Secrets travel.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use kubeng_config::filter::Filter;
use kubeng_config::listener::{Listener, Protocol};
use kubeng_config::name::SecretId;
use kubeng_config::patch::member::MEMBERS;
use kubeng_config::provenance::Provenance;
use kubeng_config::route::Action;
use serde_json::{Value, json};

use crate::control::ControlState;
use crate::decode::{Decoded, decode};
use crate::object::{Author, Change, Object};
use crate::settings::TranslateSettings;
use crate::world::World;

mod prefix;
mod users;

const ANN: &str = "ann:$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";
const BEN: &str = "ben:$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";

#[track_caller]
fn object(value: Value) -> Arc<Object> {
    let provenance = Provenance::File { path: "a.yaml".into(), line: 1 };
    match decode(value.clone(), provenance, Author::Operator) {
        Decoded::Object(object) => Arc::from(object),
        other @ (Decoded::Ignored | Decoded::Undecodable(..) | Decoded::Closed(..)) => {
            panic!("{value}: {other:?}")
        }
    }
}

fn upsert(value: Value) -> Change {
    Change::Upsert(object(value))
}

fn about(name: &str) -> Value {
    json!({"namespace": "shop", "name": name})
}

fn service(name: &str) -> Change {
    upsert(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": about(name),
        "spec": {"ports": [{"port": 80}]},
    }))
}

fn secret(name: &str, entries: Value) -> Change {
    upsert(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": about(name), "type": "Opaque",
        "stringData": entries,
    }))
}

fn key_set(name: &str, text: &str) -> Change {
    upsert(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": about(name),
        "data": {"jwks.json": text, "other": "not looked at"},
    }))
}

fn over(name: &str, patch: Value) -> Change {
    upsert(json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "RouteOverride", "metadata": about(name),
        "spec": {"targetRef": {"kind": "Ingress", "name": "checkout"}, "patch": patch},
    }))
}

/// What the examples are for.
fn shop() -> World {
    let path = |path: &str| {
        json!({"path": path, "pathType": "Prefix", "backend": {
            "service": {"name": "checkout", "port": {"number": 80}},
        }})
    };
    let mut changes: Vec<Change> =
        ["checkout", "checkout-next", "login", "shadow"].map(service).into();
    changes.push(secret("users", json!({"auth": ANN})));
    changes.push(secret("tokens", json!({"key": "0123456789abcdef0123456789abcdef"})));
    let key = json!({
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    });
    changes.push(key_set("login-keys", &json!({"keys": [key]}).to_string()));
    changes.push(upsert(json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "Upstream", "metadata": about("erp"),
        "spec": {"endpoints": [{"address": "10.0.0.1", "port": 80}]},
    })));
    changes.push(upsert(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": about("checkout"),
        "spec": {"ingressClassName": "kubeng", "rules": [
            {"host": "shop.example.com", "http": {"paths": [path("/"), path("/report")]}},
            {"host": "erp.example.com", "http": {"paths": [{
                "path": "/", "pathType": "Prefix",
                "backend": {"resource": {"apiGroup": "kubeng.io", "kind": "Upstream", "name": "erp"}},
            }]}},
        ]},
    })));
    let listener = |port: u16, protocol| Listener::new(([127, 0, 0, 1], port).into(), protocol);
    let listeners = vec![
        ("http".parse().unwrap(), listener(80, Protocol::Http)),
        ("https".parse().unwrap(), listener(443, Protocol::Https)),
    ];
    let settings = TranslateSettings::new("main".parse().unwrap(), listeners);
    let step = World::new(settings).step(&changes);
    assert_eq!(step.world.problems().count(), 0);
    step.world
}

/// The YAML examples of the reference.
fn examples() -> Vec<Value> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/route-override.md");
    let page = std::fs::read_to_string(page).unwrap();
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(|block| serde_saphyr::from_str(block).unwrap()).collect()
}

#[test]
fn every_example_of_the_reference_is_carried_out() {
    let shop = shop();
    let mut members = BTreeSet::new();
    for example in examples() {
        let patch = example["spec"]["patch"].as_object().unwrap();
        members.extend(patch.keys().cloned());
        let step = shop.step(&[upsert(example.clone())]);
        let problems: Vec<String> = step.world.problems().map(ToString::to_string).collect();
        assert!(problems.is_empty(), "{example}\n{}", problems.join("\n"));
        assert!(!step.changed.is_empty(), "it changes nothing: {example}");
        let name = format!("RouteOverride/shop/{}", example["metadata"]["name"].as_str().unwrap());
        let gone = step.world.step(&[Change::Remove(name.parse().unwrap())]);
        assert_eq!(gone.changed, step.changed, "{name}");
        let fleet = "main".parse().unwrap();
        let digest = |world: &World| world.snapshot(&fleet).unwrap().digest();
        assert_eq!(digest(&gone.world), digest(&shop), "removal restores what was: {name}");
    }
    let all: BTreeSet<String> = MEMBERS.iter().map(|member| member.name.to_owned()).collect();
    assert_eq!(members, all, "every member has an example");
}

fn secrets_on_routes(world: &World) -> Vec<SecretId> {
    let snapshot = world.snapshot(&world.settings().fleet).unwrap();
    let routes = snapshot.routes().sorted().into_iter();
    let ids = routes.flat_map(|(_, part)| {
        part.value().filters.iter().filter_map(Filter::secret).cloned().collect::<Vec<_>>()
    });
    ids.collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn the_secret_of_a_filter_travels_with_its_route_and_another_content_is_another_one() {
    let before = shop();
    let patch = json!({"auth": {"basic": {"secretRef": {"name": "users"}}}});
    let fleet = "main".parse().unwrap();
    let sent = |from: &World, to: &World| {
        let delta = from.snapshot(&fleet).unwrap().delta_to(to.snapshot(&fleet).unwrap());
        to.secrets_of(&delta)
    };
    let guarded = before.step(&[over("login", patch)]).world;
    let first = secrets_on_routes(&guarded);
    assert_eq!(first.len(), 1, "all Routes name the same one");
    let travelled = sent(&before, &guarded);
    assert_eq!(travelled.iter().map(|(id, _)| id).collect::<Vec<_>>(), [&first[0]]);
    assert_eq!(travelled[0].1.expose(), ANN.as_bytes());
    assert!(guarded.referenced().iter().any(|key| &*key.name == "users"));

    let other = guarded.step(&[secret("users", json!({"auth": BEN}))]).world;
    let second = secrets_on_routes(&other);
    assert_ne!(first, second);
    let travelled = sent(&guarded, &other);
    assert_eq!(travelled[0].1.expose(), BEN.as_bytes());

    let gone = other.step(&[Change::Remove("Secret/shop/users".parse().unwrap())]).world;
    let snapshot = gone.snapshot(&fleet).unwrap();
    for (id, part) in snapshot.routes().sorted() {
        assert!(matches!(part.value().action, Action::Refuse { .. }), "{id} fails closed");
        assert!(part.value().filters.is_empty(), "{id}");
    }
    assert!(gone.problems().any(|p| p.subject.to_string() == "RouteOverride/shop/login"));
}

#[test]
fn what_a_patch_leaves_out_is_as_its_filter_has_it_by_default() {
    let patch = json!({
        "limits": {"rate": {"requests": 7}, "concurrency": {"requests": 7}},
        "auth": {
            "jwt": {"issuer": "i", "algorithms": ["EdDSA"], "keys": {"jwksConfigMapRef": {"name": "login-keys"}}},
            "external": {"backend": {"name": "login", "port": 80}},
        },
        "cors": {"origins": ["https://a.example"]},
        "mirror": {"backend": {"name": "shadow", "port": 80}},
        "compression": {},
        "requestId": {},
    });
    let world = shop().step(&[over("least", patch)]).world;
    assert_eq!(world.problems().count(), 0);
    let snapshot = world.snapshot(&world.settings().fleet).unwrap();
    let id = "Ingress/shop/checkout#shop.example.com/".parse().unwrap();
    let (_, route) = snapshot.routes().iter().find(|(found, _)| **found == id).unwrap();
    let mut seen = 0;
    for filter in &route.value().filters {
        let whole = serde_json::to_value(filter).unwrap();
        let (kind, said) = whole.as_object().unwrap().iter().next().unwrap();
        // Only what must be said; all else is left to the filter.
        let needed: &[&str] = match kind.as_str() {
            "rateLimit" => &["key", "requests", "perSeconds", "burst"],
            "concurrencyLimit" => &["key", "requests"],
            "jwt" => &["issuer", "keys", "algorithms"],
            "externalAuth" => &["backend", "path"],
            "cors" => &["allowOrigins"],
            "mirror" => &["backend"],
            "compression" | "requestId" => &[],
            other => panic!("{other} is not asked for"),
        };
        let of_needed = said.as_object().unwrap().iter();
        let least: serde_json::Map<String, Value> = of_needed
            .filter(|(name, _)| needed.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let least: Filter = serde_json::from_value(json!({kind.as_str(): least})).unwrap();
        if kind == "mirror" {
            let [Filter::Mirror(least), Filter::Mirror(said)] = [&least, filter] else { panic!() };
            assert_eq!(least.body_bytes_max, said.body_bytes_max);
            assert_eq!(least.timeout_millis, said.timeout_millis);
        } else {
            assert_eq!(&least, filter);
        }
        seen += 1;
    }
    assert_eq!(seen, 8);
}

#[track_caller]
fn closed_routes(world: &World) -> Vec<String> {
    let snapshot = world.snapshot(&world.settings().fleet).unwrap();
    let routes = snapshot.routes().sorted().into_iter();
    let closed = routes.filter(|(_, part)| matches!(part.value().action, Action::Refuse { .. }));
    closed.map(|(id, _)| id.to_string()).collect()
}

#[test]
fn the_keys_of_a_config_map_are_followed_and_their_lack_closes() {
    let shop = shop();
    let patch = json!({"auth": {"jwt": {
        "issuer": "i", "algorithms": ["EdDSA"], "keys": {"jwksConfigMapRef": {"name": "login-keys"}},
    }}});
    let guarded = shop.step(&[over("login", patch)]).world;
    assert_eq!(guarded.problems().count(), 0);
    assert_eq!(closed_routes(&guarded), [""; 0]);
    assert!(
        guarded.referenced().iter().any(|key| &*key.to_string() == "ConfigMap/shop/login-keys")
    );

    let told = |world: &World, part: &str| {
        let problems: Vec<String> = world.problems().map(ToString::to_string).collect();
        assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:?}");
        let own = world.problems().find(|p| p.subject.to_string() == "RouteOverride/shop/login");
        assert_eq!(own.unwrap().field, "/spec/patch/auth/jwt");
        assert_eq!(closed_routes(world).len(), 3, "{part}");
    };
    let gone = guarded.step(&[Change::Remove("ConfigMap/shop/login-keys".parse().unwrap())]).world;
    told(&gone, "ConfigMap \"login-keys\" does not exist");
    told(&guarded.step(&[key_set("login-keys", "junk")]).world, "it is no JSON of a key set");
    told(&guarded.step(&[key_set("login-keys", r#"{"keys": []}"#)]).world, "holds no key");
    let back = gone.step(&[key_set(
        "login-keys",
        &json!({"keys": [{
            "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        }]})
        .to_string(),
    )]);
    assert_eq!(closed_routes(&back.world), [""; 0]);
    assert_eq!(back.world.problems().count(), 0);
}

/// An override with these members of `spec`, and nothing else.
fn broken(spec: Value) -> Change {
    upsert(json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "RouteOverride", "metadata": about("guard"),
        "spec": spec,
    }))
}

#[test]
fn what_protects_and_does_not_say_what_closes_all_that_it_may_be_for() {
    let other = upsert(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": about("other"),
        "spec": {"ingressClassName": "kubeng", "rules": [
            {"host": "other.example.com", "http": {"paths": [{
                "path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": "checkout", "port": {"number": 80}}},
            }]}},
        ]},
    }));
    let elsewhere = upsert(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"namespace": "fin", "name": "checkout"},
        "spec": {"ingressClassName": "kubeng", "rules": [
            {"host": "fin.example.com", "http": {"paths": [{
                "path": "/", "pathType": "Prefix",
                "backend": {"resource": {"apiGroup": "kubeng.io", "kind": "Upstream", "name": "erp"}},
            }]}},
        ]},
    }));
    let erp = upsert(json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "Upstream",
        "metadata": {"namespace": "fin", "name": "erp"},
        "spec": {"endpoints": [{"address": "10.0.0.1", "port": 80}]},
    }));
    let shop = shop().step(&[other, erp, elsewhere]).world;
    assert_eq!(closed_routes(&shop), [""; 0]);
    let access = json!({"access": {"deny": ["10.0.0.0/8"]}});
    let check = |spec: Value, count: usize| {
        let closed = shop.step(&[broken(spec.clone())]).world;
        let routes = closed_routes(&closed);
        assert_eq!(routes.len(), count, "{spec}: {routes:?}");
        assert!(routes.iter().all(|id| id.starts_with("Ingress/shop/")), "{spec}: {routes:?}");
        let is_told =
            closed.problems().any(|p| p.subject.to_string() == "RouteOverride/shop/guard");
        assert!(is_told, "{spec}");
        let anew = World::rebuild(closed.settings().clone(), closed.objects().cloned());
        assert_eq!(closed_routes(&anew), routes, "a restart changes nothing: {spec}");
        let gone = closed.step(&[Change::Remove("RouteOverride/shop/guard".parse().unwrap())]);
        assert_eq!(closed_routes(&gone.world), [""; 0], "{spec}");
    };
    let guard = |target: Value| json!({"targetRef": target, "patch": access});
    // What has its name.
    check(guard(json!({"kind": "Ingres", "name": "checkout"})), 3);
    check(guard(json!({"name": "checkout"})), 3);
    check(guard(json!({"kind": "Ingress", "group": "extensions", "name": "checkout"})), 3);
    check(guard(json!({"kind": "Ingres", "name": "nobody"})), 0);
    // Its namespace.
    check(guard(json!({"kind": "Ingress"})), 4);
    check(guard(json!({"kind": "Namespac", "name": "shop"})), 4);
    check(guard(json!("checkout")), 4);
    check(guard(json!(null)), 4);
    check(json!({"patch": access}), 4);
    check(json!({}), 0);
    check(json!("access"), 4);
    check(json!(null), 4);
    // What does not protect, and what is for another namespace.
    check(json!({"targetRef": {"kind": "Ingress"}, "patch": {"timeouts": {"request": "1s"}}}), 0);
    check(guard(json!({"kind": "Ingres", "namespace": "fin", "name": "checkout"})), 0);
    check(json!({"targetRef": {"kind": "Ingress"}, "patch": access, "suspended": true}), 0);
    // Another form or name of the patch.
    let of_checkout = json!({"kind": "Ingress", "name": "checkout"});
    check(json!({"targetRef": of_checkout, "patch": "access"}), 3);
    check(json!({"targetRef": of_checkout, "pach": access}), 3);
    check(json!({"targetRef": of_checkout, "patch": {}}), 0);
}

#[test]
fn what_is_too_large_closes_what_it_protects_and_tunes_nothing() {
    let shop = shop();
    let page = "x".repeat(40 * 1024);
    let pages = json!([{"statuses": [500], "body": page}, {"statuses": [501], "body": page}]);
    let tuning = shop.step(&[over("big", json!({"errorPages": pages}))]);
    assert!(tuning.changed.is_empty());
    assert!(tuning.world.problems().any(|problem| problem.field == "/spec/patch"));
    let patch = json!({"errorPages": pages, "access": {"deny": ["10.0.0.0/8"]}});
    let guarding = shop.step(&[over("big", patch)]).world;
    let snapshot = guarding.snapshot(&guarding.settings().fleet).unwrap();
    let is_closed = |action: &Action| matches!(action, Action::Refuse { .. });
    assert!(snapshot.routes().iter().all(|(_, part)| is_closed(&part.value().action)));
}

#[test]
fn each_value_says_who_has_set_it() {
    let shop = shop();
    let of_all = upsert(json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "RouteOverride", "metadata": about("all"),
        "spec": {
            "targetRef": {"kind": "Namespace", "name": "shop"}, "layer": "emergency",
            "reason": "an attack", "expiresAt": "2099-01-01T00:00:00Z",
            "patch": {"timeouts": {"request": "1s"}},
        },
    }));
    let patch = json!({"timeouts": {"request": "2s"}, "requestId": {"header": "x-id"}});
    let world = shop.step(&[of_all, over("own", patch)]).world;
    let state = ControlState::new(world);
    let id = "Ingress/shop/checkout#shop.example.com/report".parse().unwrap();
    let told: Vec<String> = state.overrides_of(&id).iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "/requestId/header = \"x-id\" by RouteOverride/shop/own (tenant, object)",
            "/timeouts/request = \"1s\" by RouteOverride/shop/all (emergency, namespace, until \
             2099-01-01T00:00:00Z)",
        ]
    );
    let layered = state.overrides_of(&id);
    assert_eq!(layered[1].losers[0].object.to_string(), "RouteOverride/shop/own");
    assert_eq!(layered[1].winner.reason.as_deref(), Some("an attack"));
}
