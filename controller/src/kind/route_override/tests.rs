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
        other @ (Decoded::Ignored | Decoded::Undecodable(..) | Decoded::Closed(..)) => {
            panic!("{spec}: {other:?}")
        }
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
    let at = "/spec/patch/access/allow/1";
    let nets = json!(["10.0.0.0/8", "10.1.2.3/33"]);
    closes(patch(json!({"access": {"allow": nets}})), at, BAD_VALUE, "\"10.1.2.3/33\": invalid");
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

/// Of an override whose target cannot be read: what it may be for, and where that is told.
#[track_caller]
fn is_among(target: Value, among: &[&str], field: &str, part: &str) {
    let (written, object) = read(spec(json!({ "targetRef": target })));
    let names: Vec<String> = written
        .targets()
        .map(|target| match target {
            Target::Namespace(namespace) => format!("all of {namespace}"),
            Target::Object(key) => key.to_string(),
        })
        .collect();
    assert_eq!(names, among, "{target}");
    assert_eq!((&written.target, &*written.patch), (&None, &json!({})), "{target}");
    assert_eq!(written.closes, Some(BAD_VALUE), "{target}");
    let told = object.problems.iter().find(|problem| problem.field == field);
    let problem = told.unwrap_or_else(|| panic!("{target}: {:?}", object.problems));
    assert!(problem.to_string().contains(part), "{problem}");
}

#[test]
fn what_cannot_be_told_closes_all_that_may_be_meant() {
    let by_name = ["Ingress/shop/web", "Upstream/shop/web"];
    let all = ["all of shop"];
    let at = "/spec/targetRef";
    let kind = "/spec/targetRef/kind";
    is_among(json!({"kind": "Ingres", "name": "web"}), &by_name, kind, "did you mean Ingress");
    is_among(json!({"kind": "Service", "name": "web"}), &by_name, kind, "Upstream or Namespace");
    is_among(json!({"name": "web"}), &by_name, at, "missing field `kind`");
    is_among(json!({"kind": 1, "name": "web"}), &by_name, kind, "expected a string");
    let extensions = json!({"kind": "Ingress", "group": "extensions", "name": "web"});
    is_among(extensions, &by_name[..1], "/spec/targetRef/group", "networking.k8s.io");
    is_among(json!({"kind": "Ingress"}), &all, at, "missing field `name`");
    is_among(json!({"kind": "Ingress", "name": 7}), &all, "/spec/targetRef/name", "a string");
    is_among(json!({"kind": "Ingress", "name": ""}), &all, "/spec/targetRef/name", "empty");
    is_among(json!({"kind": "Namespac", "name": "shop"}), &all, kind, "did you mean Namespace");
    is_among(json!("web"), &all, at, "kind and name");
    is_among(json!(null), &all, at, "missing");
}

#[test]
fn a_document_of_which_little_can_be_read_closes_what_it_may_protect() {
    let provenance = || Provenance::File { path: "a.yaml".into(), line: 1 };
    let check = |change: fn(&mut Value), field: &str, targets: &[Target]| {
        let mut value = document(spec(json!({})));
        change(&mut value);
        let Decoded::Object(object) = decode(value.clone(), provenance(), Author::Operator) else {
            panic!("{value}")
        };
        let Body::RouteOverride(written) = &object.body else { panic!("{:?}", object.body) };
        assert!(written.closes.is_some(), "{value}");
        assert_eq!(written.targets().cloned().collect::<Vec<_>>(), targets, "{value}");
        let told = object.problems.iter().any(|problem| problem.field == field);
        assert!(told, "{value}: {:?}", object.problems);
    };
    let web = [Target::Object("Ingress/shop/web".parse().unwrap())];
    let all = [Target::Namespace("shop".into())];
    check(|value| value["metadata"]["labels"] = json!("x"), "/metadata/labels", &web);
    check(|value| value["apiVersion"] = json!("kubeng.io/v1"), "/apiVersion", &web);
    check(|value| value["spec"] = json!([]), "/spec", &all);
    check(|value| value["spec"] = json!(null), "/spec", &all);
    check(|value| drop(value.as_object_mut().unwrap().remove("spec")), "/spec", &all);
}
