//! Overrides: what RouteOverrides change in the Routes of an Object.
//!
//! Nothing fails open: where something that protects cannot be honoured, the Route is closed; where
//! something only tunes, what lower layers say stays. What is wrong is told at the override, by
//! [`review`]; here it is only told that a Route is closed.

pub(crate) mod balance;
mod canary;
pub(crate) mod defaults;
pub(crate) mod fitting;
mod guard;
pub(crate) mod place;
pub(crate) mod prefix;
pub(crate) mod review;
mod shape;

use std::sync::Arc;

use kubeng_config::canonical::{Digest, to_bytes};
use kubeng_config::delta::AnyPart;
use kubeng_config::layer::Scope;
use kubeng_config::merge::{Merged, Written, merge};
use kubeng_config::name::{ObjectKey, PolicyId, RouteId};
use kubeng_config::part::Part;
use kubeng_config::patch::Patch;
use kubeng_config::policy::Policy;
use kubeng_config::problem::{OVERRIDE_MISFIT, ROUTE_CLOSED};
use kubeng_config::route::{Action, Route};

use super::refusal::Refused;
use crate::kind::Body;
use crate::kind::route_override::{RouteOverride, Target};
use crate::object::Object;
use crate::world::view::View;
use place::Place;

/// The RouteOverrides in force for one Object and its namespace, the oldest first of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides(Vec<(Scope, Arc<Object>)>);

impl Overrides {
    /// Those for the Routes of `key`.
    pub(crate) fn of(view: &mut View<'_>, key: &ObjectKey) -> Self {
        Self::among(key, |target| view.overrides(target))
    }

    /// The same of what `members` gives for a target.
    pub(crate) fn among(
        key: &ObjectKey,
        mut members: impl FnMut(&Target) -> Vec<Arc<Object>>,
    ) -> Self {
        let namespace = Target::Namespace(Arc::clone(&key.namespace));
        let targets = [(Scope::Namespace, namespace), (Scope::Object, Target::Object(key.clone()))];
        let all = targets.iter().flat_map(|(scope, target)| {
            members(target).into_iter().map(|object| (*scope, object)).collect::<Vec<_>>()
        });
        Self(
            all.filter(|(_, object)| written(object).is_some_and(RouteOverride::is_in_force))
                .collect(),
        )
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those for the Rule at `place`, with the scope of each.
    fn at<'a>(
        &'a self,
        place: &'a Place<'_>,
    ) -> impl Iterator<Item = (Scope, &'a Object, &'a RouteOverride)> {
        self.0.iter().filter_map(|(scope, object)| {
            let wanted = written(object)?;
            let scope = match &wanted.rule {
                None => *scope,
                Some(rule) if place.is(rule) => Scope::Rule,
                Some(_) => return None,
            };
            Some((scope, &**object, wanted))
        })
    }

    /// What they say together for the Rule at `place`; none where nothing is for it.
    pub(crate) fn merged(&self, place: &Place<'_>) -> Option<Merged> {
        let written: Vec<Written<'_>> = self
            .at(place)
            .map(|(scope, object, wanted)| Written {
                layer: wanted.layer,
                scope,
                created: object.created,
                object: &object.key,
                patch: &wanted.patch,
            })
            .collect();
        (!written.is_empty()).then(|| merge(&written))
    }

    /// The first that closes the Rule at `place`, because it protects and cannot be understood.
    fn closing(&self, place: &Place<'_>) -> Option<Refused> {
        self.at(place).find_map(|(_, object, wanted)| {
            let because = wanted.closes?;
            let why = format!("what {} protects cannot be understood ({because})", object.key);
            Some(closed(&why, &object.key.to_string()))
        })
    }
}

/// The RouteOverride of `object`.
pub(crate) fn written(object: &Object) -> Option<&RouteOverride> {
    match &object.body {
        Body::RouteOverride(written) => Some(written),
        Body::Ingress(_)
        | Body::IngressClass(_)
        | Body::Service(_)
        | Body::EndpointSlice(_)
        | Body::Secret(_)
        | Body::Upstream(_)
        | Body::ConfigMap(_)
        | Body::Fleet(_) => None,
    }
}

/// A Route with what overrides change in it.
pub(crate) struct Dressed {
    /// The Route, and that which a canary needs beside it.
    pub(crate) routes: Vec<AnyPart>,
    /// The Policy that they name, if it is one of their own.
    pub(crate) policy: Option<AnyPart>,
    /// What their Object tells of them: why they are closed, or what an override of the namespace says
    /// that they cannot have.
    pub(crate) told: Option<Refused>,
}

/// Whether another Object takes the requests of a Rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Taken {
    /// Nobody does.
    Free,
    /// An older one does: then nothing may ask for more of a request, for it would take some back.
    ByAnother,
}

/// Puts on `route` what is written for it. `policy` is the one that it names.
pub(crate) fn dress(
    view: &mut View<'_>,
    overrides: &Overrides,
    place: &Place<'_>,
    (id, route, policy): (RouteId, Route, &Policy),
    taken: Taken,
) -> Dressed {
    let settings = view.settings();
    let Some(merged) = overrides.merged(place) else {
        let mut route = route;
        defaults::put(&settings.default_filters, &mut route);
        let routes = vec![AnyPart::Route(id, Part::new(route))];
        return Dressed { routes, policy: None, told: None };
    };
    let merged = defaults::under(&settings.default_patch, &route, merged);
    let closing = overrides.closing(place);
    let patch = closing.map_or_else(|| read(&merged), Err);
    let fitted = patch.and_then(|patch| {
        let filters = fitting::filters(view, &id.object, &patch, &merged)?;
        Ok((patch, filters))
    });
    match fitted {
        Ok((patch, mut filters)) => {
            let mut route = route;
            let told = prefix::leave_out(&route, &mut filters, &merged);
            let policy = own_policy(&id, &patch, &merged, policy);
            if let Some(AnyPart::Policy(name, _)) = &policy {
                route.policy = name.clone();
            }
            fitting::put(&mut route, filters, &merged);
            defaults::put_edits(&settings.default_patch, &mut route, &merged);
            canary::backends(view, &id.object, &patch, &mut route.action);
            let routes = shape::routes(view, (id, route), &patch, taken);
            Dressed { routes, policy, told }
        }
        Err(refused) => {
            let route = close(route, &refused);
            let routes = vec![AnyPart::Route(id, Part::new(route))];
            Dressed { routes, policy: None, told: Some(refused) }
        }
    }
}

/// What was merged, in its types.
fn read(merged: &Merged) -> Result<Patch, Refused> {
    serde_json::from_value(merged.values.clone()).map_err(|error| {
        let owners = owners(merged, "");
        closed(&format!("{owners} do not fit together: {error}"), &owners)
    })
}

/// The Route in its place, with nothing that could answer otherwise.
fn close(route: Route, refused: &Refused) -> Route {
    Route { filters: Vec::new(), action: refused.action(), ..route }
}

/// Why a Route is closed, in words for the Object that it belongs to.
fn closed(why: &str, owner: &str) -> Refused {
    Refused::new(ROUTE_CLOSED, format!("closed: {why}"), format!("mend {owner}"))
}

/// Why something cannot be carried out as it is written.
fn misfit(message: impl Into<String>, remedy: &str) -> Refused {
    Refused::new(OVERRIDE_MISFIT, message.into(), remedy)
}

/// The Objects that say something at `pointer`, for people.
fn owners(merged: &Merged, pointer: &str) -> String {
    let setters = merged.setters.iter().filter(|(set, _)| set.starts_with(pointer));
    let mut names: Vec<String> =
        setters.flat_map(|(_, all)| all).map(|setter| setter.object.to_string()).collect();
    names.sort();
    names.dedup();
    names.join(" and ")
}

/// The Policy with what overrides change in it; none where they change nothing.
fn own_policy(id: &RouteId, patch: &Patch, merged: &Merged, base: &Policy) -> Option<AnyPart> {
    if !merged.touches("/timeouts") && !merged.touches("/retry") {
        return None;
    }
    let reset = guard::policy_after_resets(base, merged);
    let timeouts = patch.timeouts.clone().unwrap_or_default();
    let retry = patch.retry.clone().unwrap_or_default();
    let policy = Policy { timeouts: timeouts.on(reset.timeouts), retry: retry.over(reset.retry) };
    if policy == *base {
        return None;
    }
    let name = policy_name(&id.object, &policy);
    Some(AnyPart::Policy(name, Part::new(policy)))
}

/// Named by its Object and its contents, so that equal ones of an Object are one.
fn policy_name(object: &ObjectKey, policy: &Policy) -> PolicyId {
    let digest = Digest::of([to_bytes(policy).as_slice()]);
    let name = format!("{object}#{}", digest.short());
    name.parse().expect("it holds signs of its own")
}

/// The Object whose Routes name the Policy of `id`; none for that of the fleet.
pub(crate) fn object_of_policy(id: &PolicyId) -> Option<ObjectKey> {
    id.as_str().split_once('#')?.0.parse().ok()
}

/// Whether a Route forwards requests, and so can share them out.
fn forwards(action: &Action) -> bool {
    match action {
        Action::Forward(_) => true,
        Action::Answer | Action::Refuse { .. } => false,
    }
}

#[cfg(test)]
mod tests;
