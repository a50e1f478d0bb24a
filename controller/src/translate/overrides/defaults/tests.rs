use std::sync::Arc;

use kubeng_config::backend::balance::Balance;
use kubeng_config::filter::Filter;
use kubeng_config::listener::{Listener, Protocol};
use kubeng_config::provenance::Provenance;
use kubeng_config::snapshot::Snapshot;
use serde_json::{Value, json};

use super::*;
use crate::decode::{Decoded, decode};
use crate::object::{Author, Change};
use crate::world::World;

fn object(value: Value) -> Object {
    let Decoded::Object(object) = decode(value, Provenance::Product, Author::Operator) else {
        panic!("it is no object")
    };
    *object
}

fn upsert(value: Value) -> Change {
    Change::Upsert(Arc::new(object(value)))
}

fn about(name: &str) -> Value {
    json!({"namespace": "shop", "name": name})
}

/// What a fleet with these defaults serves of an Ingress, an Upstream, and this override for both.
fn served(defaults: &Value, upstream: &Value, patch: Option<&Value>) -> Snapshot {
    let fleet = object(json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "Fleet", "metadata": {"name": "one"},
        "spec": {"serves": {"ingressClasses": ["kubeng"]}, "defaults": defaults},
    }));
    let Body::Fleet(fleet_body) = &fleet.body else { panic!("{:?}", fleet.body) };
    let listener = Listener::new(([127, 0, 0, 1], 80).into(), Protocol::Http);
    let listeners = vec![("http".parse().unwrap(), listener)];
    let common = TranslateSettings::new("one".parse().unwrap(), Vec::new());
    let mut settings = common.of_fleet(&fleet.key, fleet_body);
    settings.listeners = listeners;
    let mut changes = vec![
        Change::Upsert(Arc::new(fleet)),
        upsert(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": about("web"),
            "spec": {"ports": [{"port": 80}]},
        })),
        upsert(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": about("web"),
            "spec": {"ingressClassName": "kubeng", "rules": [{
                "host": "web.example", "http": {"paths": [{
                    "path": "/", "pathType": "Prefix",
                    "backend": {"service": {"name": "web", "port": {"number": 80}}},
                }]},
            }]},
        })),
        upsert(json!({
            "apiVersion": "kubeng.io/v1alpha1", "kind": "Upstream", "metadata": about("erp"),
            "spec": upstream,
        })),
    ];
    changes.extend(patch.map(|patch| {
        upsert(json!({
            "apiVersion": "kubeng.io/v1alpha1", "kind": "RouteOverride", "metadata": about("all"),
            "spec": {"targetRef": {"kind": "Namespace", "name": "shop"}, "patch": patch},
        }))
    }));
    let world = World::new(settings).step(&changes).world;
    let problems: Vec<String> = world.problems().map(ToString::to_string).collect();
    assert!(problems.is_empty(), "{problems:?}");
    world.own_snapshot().clone()
}

fn plain_upstream() -> Value {
    json!({"endpoints": [{"address": "10.0.0.1", "port": 80}]})
}

/// The filters of the Route of the Ingress.
fn filters(defaults: &Value, patch: Option<&Value>) -> Vec<Filter> {
    let snapshot = served(defaults, &plain_upstream(), patch);
    let routes = snapshot.routes().sorted();
    let route = routes.iter().find(|(id, _)| id.to_string().starts_with("Ingress/shop/web"));
    route.expect("it is served").1.value().filters.clone()
}

fn body_limit(request: Option<u64>, response: Option<u64>) -> Filter {
    let written = json!({"bodyLimit": {"requestBytesMax": request, "responseBytesMax": response}});
    serde_json::from_value(written).unwrap()
}

const MIB: u64 = 1 << 20;

#[test]
fn a_default_is_on_every_route_that_says_nothing_and_an_override_wins() {
    let defaults = json!({"limits": {"requestBody": "8Mi"}});
    #[track_caller]
    fn check(defaults: &Value, patch: Value, expected: &[Filter]) {
        let patch = Some(&patch).filter(|patch| !patch.is_null());
        assert_eq!(filters(defaults, patch), expected);
    }
    let eight = body_limit(Some(8 * MIB), None);
    check(&json!({}), Value::Null, &[]);
    check(&defaults, Value::Null, std::slice::from_ref(&eight));
    check(&defaults, json!({"timeouts": {"request": "9s"}}), &[eight]);
    check(&defaults, json!({"limits": {"requestBody": "9Mi"}}), &[body_limit(Some(9 * MIB), None)]);
    let both = body_limit(Some(8 * MIB), Some(MIB));
    check(&defaults, json!({"limits": {"responseBody": "1Mi"}}), &[both]);
    check(&defaults, json!({"limits": {"requestBody": null}}), &[]);
    check(&defaults, json!({"limits": null}), &[]);
}

#[test]
fn members_of_a_default_hold_that_an_override_does_not_write() {
    #[track_caller]
    fn check(defaults: Value, patch: Value, expected: Value) {
        let filters = serde_json::to_value(filters(&defaults, Some(&patch))).unwrap();
        let Value::Array(filters) = filters else { panic!("{filters}") };
        let (kind, members) = expected.as_object().unwrap().iter().next().unwrap();
        let found = filters.iter().find_map(|filter| filter.get(kind));
        for (name, value) in members.as_object().unwrap() {
            assert_eq!(&found.unwrap()[name], value, "{patch} on {defaults}: {found:?}");
        }
        assert_eq!(found.is_none(), members == &json!({}), "{patch} on {defaults}: {found:?}");
    }
    let deny = json!({"access": {"deny": ["10.44.0.9/32"]}});
    let (closed, open) = (json!(["10.44.0.9/32"]), json!(["10.44.0.0/24"]));
    let allow = json!({"access": {"allow": ["10.44.0.0/24"]}});
    let both = json!({"clientAddress": {"allow": open, "deny": closed}});
    check(deny.clone(), allow.clone(), both.clone());
    check(allow.clone(), deny.clone(), both);
    check(deny.clone(), json!({"access": {}}), json!({"clientAddress": {"deny": closed}}));
    check(deny.clone(), json!({"access": {"deny": null}}), json!({"clientAddress": {}}));
    let taken = json!({"access": {"deny": null, "allow": ["10.44.0.0/24"]}});
    check(deny.clone(), taken, json!({"clientAddress": {"allow": open, "deny": []}}));
    let other = json!({"access": {"deny": ["10.1.0.0/16"]}});
    check(deny, other, json!({"clientAddress": {"deny": ["10.1.0.0/16"]}}));

    let limits = |name: &str, members: Value| json!({"limits": {name: members}});
    let rate = json!({"requests": 100, "per": "1m", "status": 503, "exempt": ["10.0.0.0/8"]});
    let rate = limits("rate", rate);
    let all = json!({"requests": 100, "perSeconds": 60, "status": 503, "exempt": ["10.0.0.0/8"]});
    let with = |name: &str, value: u64| {
        let mut all = all.clone();
        all[name] = value.into();
        json!({"rateLimit": all})
    };
    check(rate.clone(), limits("rate", json!({"requests": 7})), with("requests", 7));
    // What is needed may stand in the default alone.
    check(rate.clone(), limits("rate", json!({"burst": 5})), with("burst", 5));
    check(rate, json!({"limits": {"requestBody": "1Mi"}}), with("burst", 100));
    let concurrency = limits("concurrency", json!({"requests": 5, "by": "route"}));
    let expected = json!({"concurrencyLimit": {"requests": 5, "key": "route", "status": 503}});
    check(concurrency, limits("concurrency", json!({"status": 503})), expected);

    let compression = json!({"compression": {"codings": ["gzip"], "level": 9}});
    let expected = json!({"compression": {"codings": ["gzip"], "level": 1}});
    check(compression.clone(), json!({"compression": {"level": 1}}), expected);
    let expected = json!({"compression": {"codings": ["gzip"], "level": 9}});
    check(compression, json!({"compression": {}}), expected);
    let buffering = json!({"buffering": {"requests": "1Mi"}});
    let expected = json!({"buffering": {"requestBytesMax": MIB, "answerBytesMax": MIB}});
    check(buffering, json!({"buffering": {"answers": "1Mi"}}), expected);
    let expected = json!({"requestId": {"header": "x-trace"}});
    check(json!({"requestId": {"header": "x-trace"}}), json!({"requestId": {}}), expected);
}

#[test]
fn one_header_of_a_default_can_be_taken_back() {
    let defaults = json!({"headers": {"response": {"set": {"x-one": "1", "X-Two": "2"}}}});
    let patch = json!({"headers": {"response": {"set": {"x-two": null}}}});
    let put = serde_json::to_string(&filters(&defaults, Some(&patch))).unwrap();
    assert!(put.contains("x-one") && !put.contains("x-two"), "{put}");
}

#[test]
fn defaults_of_all_kinds_stand_in_the_order_in_which_filters_run() {
    let defaults = json!({
        "compression": {"codings": ["gzip"]},
        "headers": {"response": {"set": {"x-fleet": "one"}}},
        "access": {"allow": ["10.0.0.0/8"]},
        "limits": {"requestBody": "1Mi", "concurrency": {"requests": 5}},
        "requestId": {"header": "x-request-id"},
    });
    let kinds = |filters: Vec<Filter>| -> Vec<u8> { filters.iter().map(guard::order).collect() };
    assert_eq!(kinds(filters(&defaults, None)), [0, 1, 6, 10, 15, 16]);
    let patch = json!({"access": null, "headers": {"response": {"set": {"x-own": "1"}}}});
    let put = filters(&defaults, Some(&patch));
    let edits: Vec<String> = put
        .iter()
        .filter(|filter| matches!(filter, Filter::ResponseHeaders(_)))
        .map(|filter| serde_json::to_string(filter).unwrap())
        .collect();
    assert_eq!(kinds(put), [0, 6, 10, 15, 15, 16]);
    assert!(edits[0].contains("x-fleet") && edits[1].contains("x-own"), "its own come later");
}

#[test]
fn endpoints_are_chosen_as_the_fleet_says_unless_somebody_says_otherwise() {
    let defaults = json!({"balance": {"policy": "least-requests"}});
    let balances = |upstream: &Value, patch: Option<&Value>| -> Vec<Balance> {
        let mut upstream = upstream.clone();
        upstream["routes"] = json!([{"name": "all", "hostnames": ["erp.example"]}]);
        let snapshot = served(&defaults, &upstream, patch);
        let backends = snapshot.backends().sorted();
        backends.iter().map(|(_, part)| part.value().balance.clone()).collect()
    };
    // Of the Service, then of the Upstream.
    let (least, ewma, robin) = (Balance::LeastRequests, Balance::PeakEwma, Balance::RoundRobin);
    assert_eq!(balances(&plain_upstream(), None), [least.clone(), least.clone()]);
    let mut own = plain_upstream();
    own["balance"] = json!({"policy": "ewma"});
    assert_eq!(balances(&own, None), [least, ewma]);
    let reset = json!({"balance": null});
    assert_eq!(balances(&own, Some(&reset)), [robin.clone(), robin]);
}
