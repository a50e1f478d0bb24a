//! `prefix` on Rules that match none.

use kubeng_config::problem::OVERRIDE_MISFIT;

use super::*;

const INGRESS: &str = "Ingress/shop/mixed";
const OVERRIDE: &str = "RouteOverride/shop/moved";

/// A shop with an Ingress that has a path of each kind, and an Upstream with routes.
fn mixed() -> World {
    let path = |path: &str, kind: &str| {
        json!({"path": path, "pathType": kind, "backend": {
            "service": {"name": "checkout", "port": {"number": 80}},
        }})
    };
    let paths = [path("/old", "Exact"), path("/all", "Prefix")];
    let ingress = upsert(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": about("mixed"),
        "spec": {"ingressClassName": "kubeng", "rules": [
            {"host": "mixed.example.com", "http": {"paths": paths}},
        ]},
    }));
    let route = |name: &str, kind: &str| {
        json!({
            "name": name, "hostnames": [format!("{name}.example.com")],
            "matches": [{"path": {"type": kind, "value": "/old"}}],
        })
    };
    let upstream = upsert(json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "Upstream", "metadata": about("routed"),
        "spec": {
            "endpoints": [{"address": "10.0.0.1", "port": 80}],
            "routes": [route("one", "Exact"), route("two", "PathPrefix")],
        },
    }));
    let world = shop().step(&[ingress, upstream]).world;
    let problems: Vec<String> = world.problems().map(ToString::to_string).collect();
    assert!(problems.is_empty(), "{problems:?}");
    world
}

fn moved(target: Value, rule: Option<Value>, patch: &Value) -> Change {
    let mut spec = json!({"targetRef": target, "patch": patch});
    if let Some(rule) = rule {
        spec["rule"] = rule;
    }
    upsert(json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "RouteOverride", "metadata": about("moved"),
        "spec": spec,
    }))
}

/// The Routes that rewrite or redirect.
fn moving(world: &World) -> Vec<String> {
    let snapshot = world.snapshot(&world.settings().fleet).unwrap();
    let moves = |filter: &Filter| matches!(filter, Filter::Redirect(_) | Filter::Rewrite(_));
    let routes = snapshot.routes().sorted().into_iter();
    let moving = routes.filter(|(_, part)| part.value().filters.iter().any(moves));
    moving.map(|(id, _)| id.to_string()).collect()
}

/// Who tells of what, as `SUBJECT FIELD`.
#[track_caller]
fn told(world: &World) -> Vec<String> {
    let told = world.problems().map(|problem| {
        assert_eq!(problem.code, OVERRIDE_MISFIT, "{problem}");
        assert!(problem.message.contains("/old"), "{problem}");
        format!("{} {}", problem.subject, problem.field)
    });
    told.collect()
}

#[test]
fn a_prefix_has_no_effect_where_none_is_matched_and_says_so() {
    let world = mixed();
    let ingress = || json!({"kind": "Ingress", "name": "mixed"});
    let rule = |path: &str| Some(json!({"host": "mixed.example.com", "path": path}));
    for (member, field) in
        [("redirect", "/spec/patch/redirect/path"), ("rewrite", "/spec/patch/rewrite/path")]
    {
        let patch = json!({member: {"path": {"prefix": "/n"}, "host": "new.example.com"}});
        let of_override = format!("{OVERRIDE} {field}");
        let check = |rule: Option<Value>, routes: &[&str], problems: &[&str]| {
            let step = world.step(&[moved(ingress(), rule, &patch)]).world;
            let routes: Vec<String> = routes.iter().map(|at| format!("{INGRESS}#{at}")).collect();
            assert_eq!(moving(&step), routes, "{patch}");
            assert_eq!(told(&step), problems, "{patch}");
            assert_eq!(closed_routes(&step), [""; 0], "it only tunes: {patch}");
        };
        let all = "mixed.example.com/all";
        check(None, &[all], &[&of_override]);
        check(rule("/old"), &[], &[&of_override]);
        check(rule("/all"), &[all], &[]);
    }
}

#[test]
fn other_edits_of_a_path_need_no_prefix() {
    let world = mixed();
    for path in [json!({"full": "/n"}), json!({"regex": "/(.*)", "substitution": "/n/$1"})] {
        let patch = json!({"rewrite": {"path": path}});
        let target = json!({"kind": "Ingress", "name": "mixed"});
        let step = world.step(&[moved(target, None, &patch)]).world;
        assert_eq!(moving(&step).len(), 2, "{patch}");
        assert_eq!(told(&step), [""; 0], "{patch}");
    }
}

#[test]
fn one_of_a_namespace_is_told_by_each_object_that_has_such_a_rule() {
    let patch = json!({"redirect": {"path": {"prefix": "/n"}}});
    let target = json!({"kind": "Namespace", "name": "shop"});
    let step = mixed().step(&[moved(target, None, &patch)]).world;
    let told: Vec<String> = told(&step).iter().map(|told| told.trim().to_owned()).collect();
    assert_eq!(told, [INGRESS, "Upstream/shop/routed"]);
    let is_left_out = |id: &String| id.ends_with("/old") || id.ends_with("#one");
    assert!(!moving(&step).iter().any(is_left_out), "{:?}", moving(&step));
    let message = step.problems().next().unwrap().message.clone();
    assert!(message.contains(OVERRIDE) && message.contains("/redirect/path"), "{message}");
}

#[test]
fn a_route_of_an_upstream_that_matches_otherwise_is_no_better() {
    let patch = json!({"rewrite": {"path": {"prefix": "/n"}}});
    let target = json!({"kind": "Upstream", "name": "routed"});
    let step = mixed().step(&[moved(target, None, &patch)]).world;
    assert_eq!(moving(&step), ["Upstream/shop/routed#two"]);
    let problems: Vec<&kubeng_config::problem::Problem> = step.problems().collect();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("route \"one\""), "{}", problems[0]);
}
