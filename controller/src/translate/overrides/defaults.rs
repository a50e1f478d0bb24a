//! What the Fleet gives to all of its Routes and Backends that say nothing themselves.
//!
//! It is the lowest layer: what the Object of a Route says wins over it, and so does an override, which
//! may also take it back by `null`: member by member, as the layers above it merge.

use kubeng_config::backend::Backend;
use kubeng_config::delta::AnyPart;
use kubeng_config::filter::Filter;
use kubeng_config::merge::Merged;
use kubeng_config::part::Part;
use kubeng_config::patch::Patch;
use kubeng_config::route::{Action, Route};

use serde_json::{Value, json};

use super::fitting::{is_edit, of_fleet};
use super::guard;
use crate::kind::Body;
use crate::object::Object;
use crate::settings::TranslateSettings;
use crate::translate::backend::Target;

/// Puts `defaults` on `route`, for which there is no override, where it says nothing itself.
pub(super) fn put(defaults: &[Filter], route: &mut Route) {
    if !is_answered(route) {
        return;
    }
    let says_itself =
        |pointer: &str| route.filters.iter().any(|own| guard::pointer(own) == pointer);
    let missing = defaults.iter().filter(|default| {
        let pointer = guard::pointer(default);
        is_edit(pointer) || !says_itself(pointer)
    });
    put_before(missing.cloned().collect(), route);
}

/// What overrides say for `route` on top of `defaults`, member by member: what they do not write and
/// do not take back holds. Edits of headers are left to [`put_edits`].
pub(super) fn under(defaults: &Value, route: &Route, merged: Merged) -> Merged {
    let Some(members) = defaults.as_object().filter(|_| is_answered(route)) else { return merged };
    let rest = members.iter().filter(|(name, _)| *name != HEADERS);
    let rest = rest.map(|(name, value)| (name.clone(), value.clone())).collect();
    let values = merged.values_on(&Value::Object(rest));
    Merged { values, ..merged }
}

/// Puts those edits of headers of `defaults` on `route` that overrides do not take back: before those
/// of the Route, which so win.
pub(super) fn put_edits(defaults: &Value, route: &mut Route, merged: &Merged) {
    let Some(headers) = defaults.get(HEADERS).filter(|_| is_answered(route)) else { return };
    let left = merged.left_of(&json!({ HEADERS: headers }));
    // It was read as a whole when the Fleet came, and a part of it is no less right.
    let Ok(patch) = serde_json::from_value::<Patch>(left) else { return };
    put_before(of_fleet(&patch).unwrap_or_default(), route);
}

/// Whether `pointer` is completed by `defaults`.
pub(super) fn completes(defaults: &Value, pointer: &str) -> bool {
    defaults.pointer(pointer).is_some_and(|value| !value.is_null())
}

fn is_answered(route: &Route) -> bool {
    match route.action {
        Action::Forward(_) | Action::Answer => true,
        Action::Refuse { .. } => false,
    }
}

fn put_before(mut filters: Vec<Filter>, route: &mut Route) {
    if !filters.is_empty() {
        filters.append(&mut route.filters);
        filters.sort_by_key(guard::order);
        route.filters = filters;
    }
}

/// `target`, whose Object is `object`, with the way of choosing Endpoints that the fleet has.
pub(crate) fn balance(settings: &TranslateSettings, object: &Object, target: Target) -> Target {
    let says_itself = match &object.body {
        Body::Upstream(upstream) => upstream.balance.policy.is_some(),
        Body::Service(_)
        | Body::Ingress(_)
        | Body::IngressClass(_)
        | Body::EndpointSlice(_)
        | Body::Secret(_)
        | Body::ConfigMap(_)
        | Body::RouteOverride(_)
        | Body::Fleet(_) => false,
    };
    match target {
        Target::Usable { id, part: AnyPart::Backend(_, part), problems } if !says_itself => {
            let mut backend = Backend::clone(part.value());
            backend.balance.clone_from(&settings.default_balance);
            let part = AnyPart::Backend(id.clone(), Part::new(backend));
            Target::Usable { id, part, problems }
        }
        other @ (Target::Usable { .. } | Target::Refused { .. }) => other,
    }
}

const HEADERS: &str = "headers";

#[cfg(test)]
mod tests;
