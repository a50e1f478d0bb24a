//! What is understood of a RouteOverride, and what becomes of the rest.

use kubeng_config::problem::{BAD_VALUE, OVERRIDE_NOT_PERMITTED, UNKNOWN_FIELD};
use kubeng_config::provenance::Provenance;
use serde_json::{Value, json};

use super::*;
use crate::decode::{Decoded, decode};
use crate::kind::Body;
use crate::object::{Author, Object};

fn document(spec: Value) -> Value {
    json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "RouteOverride",
        "metadata": {"namespace": "shop", "name": "o"}, "spec": spec,
    })
}

/// The spec of one that is right, with other members.
fn spec(members: Value) -> Value {
    let mut spec = json!({
        "targetRef": {"kind": "Ingress", "name": "web"}, "patch": {"access": {"deny": []}},
    });
    for (name, value) in members.as_object().unwrap() {
        spec[name] = value.clone();
    }
    spec
}

#[track_caller]
fn read(spec: Value) -> (RouteOverride, Object) {
    let provenance = Provenance::Cluster { version: "1".into() };
    match decode(document(spec.clone()), provenance, Author::Tenant) {
        Decoded::Object(object) => {
            let Body::RouteOverride(written) = &object.body else { panic!("{:?}", object.body) };
            (written.clone(), *object)
        }
        other @ (Decoded::Ignored | Decoded::Undecodable(..)) => panic!("{spec}: {other:?}"),
    }
}

/// Of an override that protects: which Problem it has, and that it closes what it is for.
#[track_caller]
fn closes(members: Value, field: &str, code: Code, part: &str) {
    let (written, object) = read(spec(members.clone()));
    assert!(written.closes.is_some(), "{members}");
    let told = object.problems.iter().find(|problem| problem.field == field);
    let problem = told.unwrap_or_else(|| panic!("{members}: {:?}", object.problems));
    assert_eq!(problem.code, code, "{problem}");
    assert!(problem.to_string().contains(part), "{problem}");
}

/// Of an override that only tunes: that it closes nothing, and what is left of it.
#[track_caller]
fn keeps(patch: Value, left: Value, part: &str) {
    let (written, object) = read(spec(json!({ "patch": patch })));
    assert_eq!((written.closes, &*written.patch), (None, &left), "{patch}");
    let told: Vec<String> = object.problems.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|problem| problem.contains(part)), "{patch}: {told:?}");
}

#[test]
fn what_is_right_is_understood() {
    let (written, object) = read(spec(json!({
        "rule": {"host": "a.example", "path": "/x"}, "layer": "emergency", "reason": "fire",
        "expiresAt": "2026-12-01T00:00:00Z", "suspended": true,
    })));
    assert_eq!(object.problems.len(), 0, "{:?}", object.problems);
    assert_eq!(written.layer, Layer::Emergency);
    assert_eq!(written.standing, Standing::Suspended);
    assert_eq!(written.expires, Some(1_796_083_200));
    assert_eq!(written.closes, None);
    assert_eq!(written.rule.unwrap().to_string(), "a.example/x");
}

#[test]
fn what_protects_and_is_not_whole_closes() {
    let bad = |member: Value, at: &str, part: &str| {
        closes(member, &format!("/spec/{at}"), BAD_VALUE, part);
    };
    bad(json!({"layer": "urgent"}), "layer", "tenant or emergency");
    bad(json!({"layer": "emergency", "expiresAt": "2026-12-01T00:00:00Z"}), "reason", "needs it");
    bad(json!({"layer": "emergency", "reason": "fire"}), "expiresAt", "needs it");
    bad(json!({"expiresAt": "tomorrow"}), "expiresAt", "RFC 3339");
    bad(json!({"suspended": "yes"}), "suspended", "true or false");
    bad(json!({"reason": "x".repeat(501)}), "reason", "500 bytes");
    bad(json!({"rule": {"name": "x"}}), "rule", "host");
    bad(json!({"rule": {"host": "a.example"}}), "rule", "names no rule");
    closes(json!({"rul": {"path": "/x"}}), "/spec/rul", UNKNOWN_FIELD, "did you mean \"rule\"");
    let patch = |patch: Value| json!({ "patch": patch });
    closes(patch(json!({"acces": {}})), "/spec/patch/acces", UNKNOWN_FIELD, "mean \"access\"");
    closes(patch(json!({"frobnicate": {}})), "/spec/patch/frobnicate", UNKNOWN_FIELD, "no field");
    let at = "/spec/patch/access/deny/0";
    closes(patch(json!({"access": {"deny": ["x"]}})), at, BAD_VALUE, "CIDRs");
    let at = "/spec/patch/access/dny";
    closes(patch(json!({"access": {"dny": []}})), at, UNKNOWN_FIELD, "did you mean \"deny\"");
    let at = "/spec/patch/auth/oidc";
    closes(patch(json!({"auth": {"oidc": {}}})), at, UNKNOWN_FIELD, "no field");
}

#[test]
fn what_tunes_and_is_wrong_is_left_out_and_the_rest_counts() {
    let good = json!({"requestId": {}});
    let beside = |name: &str, value: Value| {
        let mut patch = good.clone();
        patch[name] = value;
        patch
    };
    keeps(beside("timeout", json!({})), good.clone(), "did you mean \"timeouts\"");
    keeps(beside("timeouts", json!({"request": 5})), good.clone(), "/spec/patch/timeouts/request");
    keeps(beside("timeouts", json!({"requst": "5s"})), good.clone(), "did you mean \"request\"");
    keeps(beside("retry", json!({"attempts": 6})), good.clone(), "not between 0 and 5");
    keeps(beside("buffering", json!({"request": 1})), good.clone(), "did you mean \"requests\"");
    keeps(beside("protocol", json!("h2")), good.clone(), "write appProtocol");
    keeps(json!({}), json!({}), "at least one member");
    let (tuning, _) = read(spec(json!({"rule": {}, "patch": good})));
    assert_eq!((tuning.closes, &*tuning.patch), (None, &json!({})), "for nobody knows which rule");
}

#[test]
fn another_namespace_is_not_its_to_change() {
    for target in [
        json!({"kind": "Ingress", "name": "web", "namespace": "other"}),
        json!({"kind": "Namespace", "name": "other"}),
        json!({"kind": "Namespace", "name": "other", "namespace": "shop"}),
    ] {
        let (written, object) = read(spec(json!({ "targetRef": target })));
        assert_eq!(written.target, None, "{target}");
        assert_eq!(object.problems[0].code, OVERRIDE_NOT_PERMITTED);
    }
}

#[test]
fn what_is_for_nothing_that_has_routes_is_not_taken_at_all() {
    for (target, part) in [
        (json!({"kind": "Ingres", "name": "web"}), "did you mean Ingress"),
        (json!({"kind": "Service", "name": "web"}), "Ingress, Upstream or Namespace"),
        (json!({"kind": "Ingress", "group": "extensions", "name": "web"}), "networking.k8s.io"),
        (json!({"kind": "Ingress"}), "missing field `name`"),
    ] {
        let provenance = Provenance::Cluster { version: "1".into() };
        let value = document(spec(json!({ "targetRef": target })));
        let Decoded::Undecodable(Some(_), problem) = decode(value, provenance, Author::Tenant)
        else {
            panic!("{target}")
        };
        assert!(problem.to_string().contains(part), "{problem}");
    }
}
