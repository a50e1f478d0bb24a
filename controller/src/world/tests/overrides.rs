//! Overrides for the property of the World.

use std::sync::Arc;

use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::provenance::Provenance;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, json};

use crate::decode::{Decoded, decode};
use crate::object::{Author, Change, Object};

/// Overrides as they are decoded, so that broken ones are among them.
pub(super) fn route_override() -> BoxedStrategy<Change> {
    let target = prop_oneof![
        4 => Just(json!({"kind": "Ingress", "name": "i1"})),
        2 => Just(json!({"kind": "Ingress", "name": "i2"})),
        2 => Just(json!({"kind": "Namespace", "name": "a"})),
        2 => Just(json!({"kind": "Upstream", "name": "u1"})),
        2 => select(vec![json!({"name": "i1"}), json!({"kind": "Ingress"})]),
    ];
    let rule = select(
        &[None, None, Some(("h.example", "/")), Some(("h.example", "/a")), Some(("", "/b"))][..],
    );
    let to = || select(&["s1", "s2", "s3"][..]).prop_map(|name| json!({"name": name, "port": 80}));
    let member = prop_oneof![
        select(&["1s", "2s", "x"][..]).prop_map(|t| ("timeouts", json!({"request": t}))),
        Just(("timeouts", json!(null))),
        Just(("access", json!({"deny": ["10.0.0.0/8"]}))),
        Just(("access", json!({"deny": ["nowhere"]}))),
        Just(("acces", json!({}))),
        select(&["t1", "t2", "t3"][..])
            .prop_map(|name| ("auth", json!({"basic": {"secretRef": {"name": name}}}))),
        select(&["m1", "m2", "m3"][..]).prop_map(|name| {
            let keys = json!({"jwksConfigMapRef": {"name": name}});
            ("auth", json!({"jwt": {"issuer": "i", "algorithms": ["EdDSA"], "keys": keys}}))
        }),
        to().prop_map(|to| ("auth", json!({"external": {"backend": to}}))),
        to().prop_map(|to| ("mirror", json!({"backend": to}))),
        (to(), any::<bool>()).prop_map(|(to, is_signed)| {
            let sign = is_signed.then(|| json!({"name": "x-canary", "value": "1"}));
            ("canary", json!({"backend": to, "weight": "10%", "header": sign}))
        }),
        to().prop_map(|to| ("backends", json!([to]))),
        Just(("backends", json!([{"name": "s1", "port": 80, "disabled": true}]))),
        select(&["http", "https"][..]).prop_map(|to| ("redirect", json!({"scheme": to}))),
        Just(("balance", json!({"policy": "least-requests"}))),
        Just(("maintenance", json!({}))),
    ];
    let layer = select(&["tenant", "tenant", "emergency"][..]);
    let key = (select(&["a", "b"][..]), select(&["o1", "o2", "o3"][..]));
    let spec = (target, rule, layer, vec(member, 0..3), option::weighted(0.1, Just(true)));
    let upsert = (key.clone(), spec, 0..3_i64).prop_map(|((namespace, name), spec, created)| {
        let (target, rule, layer, members, suspended) = spec;
        let value = json!({
            "apiVersion": "kubeng.io/v1alpha1", "kind": "RouteOverride",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {
                "targetRef": target, "layer": layer, "suspended": suspended.unwrap_or(false),
                "rule": rule.map(|(host, path)| json!({"host": host, "path": path})),
                "patch": members.into_iter().map(|(n, v)| (n.to_owned(), v)).collect::<Map<_, _>>(),
                "reason": "test", "expiresAt": "2099-01-01T00:00:00Z",
            },
        });
        match decode(value, Provenance::Product, Author::Tenant) {
            Decoded::Object(object) => Change::Upsert(Arc::new(Object { created, ..*object })),
            Decoded::Ignored | Decoded::Undecodable(..) | Decoded::Closed(..) => {
                panic!("it is an object")
            }
        }
    });
    let remove = key.prop_map(|(namespace, name)| {
        Change::Remove(ObjectKey::new(ObjectKind::RouteOverride, namespace, name))
    });
    prop_oneof![4 => upsert, 1 => remove].boxed()
}
