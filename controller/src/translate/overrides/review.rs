//! What is wrong with a RouteOverride beside others: told at itself, whoever leads there.

use std::sync::Arc;

use kubeng_config::layer::Scope;
use kubeng_config::merge::{Written, merge};
use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::patch::Patch;
use kubeng_config::problem::{OVERRIDE_CONFLICT, OVERRIDE_MISFIT, Problem, TARGET_MISSING};

use super::place::has_rule;
use super::{canary, defaults, fitting, misfit, prefix, written};
use crate::kind::Body;
use crate::kind::route_override::{RouteOverride, RuleRef, Target};
use crate::object::Object;
use crate::translate::refusal::Refused;
use crate::translate::upstream::routes as upstream_routes;
use crate::world::view::View;

/// Everything that is wrong with the RouteOverride of `key` beside others.
pub(crate) fn review(view: &mut View<'_>, key: &ObjectKey) -> Vec<Problem> {
    let Some(object) = view.object(key) else { return Vec::new() };
    let Some(wanted) = written(&object).filter(|wanted| wanted.is_in_force()) else {
        return Vec::new();
    };
    let Some(target) = &wanted.target else { return Vec::new() };
    let mut problems = Vec::new();
    let mut tell =
        |field: String, refused: &Refused| problems.push(refused.problem(&object, field));
    if let Some((field, refused)) = missing(view, target, wanted.rule.as_ref()) {
        tell(field.to_owned(), &refused);
    }
    for (pointer, refused) in conflicts(view, &object, wanted, target) {
        tell(format!("/spec/patch{pointer}"), &refused);
    }
    if let Ok(patch) =
        serde_json::from_value::<Patch>(Arc::unwrap_or_clone(Arc::clone(&wanted.patch)))
    {
        let mut faults = misfits(has_routes(view, target), target, &patch);
        faults.extend(unfinished(view, &object, target, &patch));
        faults.extend(canary::faults(view, key, &patch));
        faults.extend(prefix::faults(view, target, wanted.rule.as_ref(), &patch));
        for (pointer, refused) in faults {
            tell(format!("/spec/patch{pointer}"), &refused);
        }
    }
    problems
}

/// Whether it is for an Upstream that has routes of its own, or for something else.
fn has_routes(view: &mut View<'_>, target: &Target) -> bool {
    let Target::Object(key) = target else { return true };
    view.object(key).is_none_or(|object| match &object.body {
        Body::Upstream(upstream) => !upstream.routes.is_empty(),
        Body::Ingress(_)
        | Body::IngressClass(_)
        | Body::Service(_)
        | Body::EndpointSlice(_)
        | Body::Secret(_)
        | Body::ConfigMap(_)
        | Body::RouteOverride(_)
        | Body::Fleet(_) => true,
    })
}

/// What it is for and does not exist.
fn missing(
    view: &mut View<'_>,
    target: &Target,
    rule: Option<&RuleRef>,
) -> Option<(&'static str, Refused)> {
    let Target::Object(key) = target else { return None };
    let Some(object) = view.object(key) else {
        let message = format!("{key} does not exist");
        let remedy = format!("create the {}, or name another one", key.kind);
        return Some(("/spec/targetRef/name", Refused::new(TARGET_MISSING, message, remedy)));
    };
    let rule = rule?;
    let is_there = match &object.body {
        Body::Ingress(ingress) => has_rule(ingress, rule),
        Body::Upstream(upstream) => upstream_routes::has_rule(upstream, rule),
        Body::IngressClass(_)
        | Body::Service(_)
        | Body::EndpointSlice(_)
        | Body::Secret(_)
        | Body::ConfigMap(_)
        | Body::RouteOverride(_)
        | Body::Fleet(_) => false,
    };
    let message = format!("{key} has no rule {rule}");
    let remedy = "name one of its rules as it is written there";
    (!is_there).then(|| ("/spec/rule", Refused::new(TARGET_MISSING, message, remedy)))
}

/// What an older override of the same scope has set already.
fn conflicts(
    view: &mut View<'_>,
    object: &Object,
    wanted: &RouteOverride,
    target: &Target,
) -> Vec<(String, Refused)> {
    let beside = view.overrides(target);
    let rivals: Vec<(&Arc<Object>, &RouteOverride)> = beside
        .iter()
        .filter_map(|object| Some((object, written(object)?)))
        .filter(|(_, other)| {
            let is_same = other.layer == wanted.layer && other.rule == wanted.rule;
            is_same && other.is_in_force()
        })
        .collect();
    let written: Vec<Written<'_>> = rivals
        .iter()
        .map(|(object, other)| Written {
            layer: other.layer,
            scope: Scope::Rule,
            created: object.created,
            object: &object.key,
            patch: &other.patch,
        })
        .collect();
    let conflicts = merge(&written).conflicts;
    let mine = conflicts.into_iter().filter(|conflict| conflict.loser == object.key);
    mine.map(|conflict| {
        let message =
            format!("{} has it already, and is older or comes first by name", conflict.owner);
        let remedy = "remove it from one of the two";
        (conflict.pointer, Refused::new(OVERRIDE_CONFLICT, message, remedy))
    })
    .collect()
}

/// What cannot be carried out by itself. What another override for the same may complete is left to
/// the Routes, which tell where they are closed.
fn unfinished(
    view: &mut View<'_>,
    object: &Object,
    target: &Target,
    patch: &Patch,
) -> Vec<(&'static str, Refused)> {
    let mut faults = fitting::faults(view, &object.key, patch);
    if faults.iter().all(|(_, refused)| refused.code != OVERRIDE_MISFIT) {
        return faults;
    }
    let mut beside = view.overrides(target);
    if let Target::Object(key) = target {
        beside.extend(view.overrides(&Target::Namespace(Arc::clone(&key.namespace))));
    }
    let others: Vec<&RouteOverride> =
        beside.iter().filter(|other| other.key != object.key).filter_map(|o| written(o)).collect();
    faults.retain(|(pointer, refused)| {
        let completes = |other: &&RouteOverride| {
            other.is_in_force()
                && other.patch.pointer(pointer).is_some_and(|value| !value.is_null())
        };
        let is_completed = others.iter().any(completes)
            || defaults::completes(&view.settings().default_patch, pointer);
        refused.code != OVERRIDE_MISFIT || !is_completed
    });
    faults
}

/// Members that what it is for cannot have.
fn misfits(has_routes: bool, target: &Target, patch: &Patch) -> Vec<(&'static str, Refused)> {
    let mut faults = Vec::new();
    if let Target::Object(key) = target
        && key.kind == ObjectKind::Ingress
    {
        let message = "an endpoint is chosen by a backend, which other rules may share";
        let remedy = "let the override be for the Upstream or the Namespace";
        let belongs = || misfit(message, remedy);
        faults.extend(patch.balance.as_ref().map(|_| ("/balance", belongs())));
        faults.extend(patch.affinity.as_ref().map(|_| ("/affinity", belongs())));
    }
    if let Target::Object(key) = target
        && key.kind == ObjectKind::Upstream
        && !has_routes
    {
        let choice = Patch {
            balance: patch.balance.clone(),
            affinity: patch.affinity.clone(),
            ..Patch::default()
        };
        if *patch != choice {
            let message =
                "an Upstream has no routes of its own, so only balance and affinity count";
            faults.push((
                "",
                misfit(message, "let the override be for the Ingress that leads to it"),
            ));
        }
    }
    if let Some(redirect) = &patch.redirect
        && fitting::leads_nowhere(redirect)
    {
        let remedy = "write redirect.scheme, host, port or path";
        faults.push(("/redirect", misfit("it leads to where the client is already", remedy)));
    }
    faults
}
