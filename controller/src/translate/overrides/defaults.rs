//! What the Fleet gives to all of its Routes and Backends that say nothing themselves.
//!
//! It is the lowest layer: what the Object of a Route says wins over it, and so does an override, which
//! may also take it back by `null`.

use kubeng_config::backend::Backend;
use kubeng_config::delta::AnyPart;
use kubeng_config::filter::Filter;
use kubeng_config::filter::body_limit::BodyLimit;
use kubeng_config::merge::Merged;
use kubeng_config::part::Part;
use kubeng_config::route::{Action, Route};

use super::guard;
use crate::kind::Body;
use crate::object::Object;
use crate::settings::TranslateSettings;
use crate::translate::backend::Target;

/// Puts `defaults` on `route` where it says nothing itself, and `merged` has not taken them back.
pub(super) fn put(defaults: &[Filter], route: &mut Route, merged: Option<&Merged>) {
    let is_answered = match route.action {
        Action::Forward(_) | Action::Answer => true,
        Action::Refuse { .. } => false,
    };
    if defaults.is_empty() || !is_answered {
        return;
    }
    let is_reset = |pointer: &str| merged.is_some_and(|merged| merged.resets(pointer));
    let mut put = Vec::new();
    for default in defaults {
        let pointer = guard::pointer(default);
        let own = route.filters.iter_mut().find(|own| guard::pointer(own) == pointer);
        match (default, own) {
            // Each of its limits is by itself.
            (Filter::BodyLimit(limit), own) => {
                let request = !is_reset("/limits/requestBody");
                let response = !is_reset("/limits/responseBody");
                let limit = BodyLimit {
                    request_bytes_max: limit.request_bytes_max.filter(|_| request),
                    response_bytes_max: limit.response_bytes_max.filter(|_| response),
                };
                match own {
                    Some(Filter::BodyLimit(own)) => {
                        own.request_bytes_max = own.request_bytes_max.or(limit.request_bytes_max);
                        own.response_bytes_max =
                            own.response_bytes_max.or(limit.response_bytes_max);
                    }
                    _ if limit == BodyLimit::default() => {}
                    _ => put.push(Filter::BodyLimit(limit)),
                }
            }
            // Edits of headers come before those of the Route, which so win.
            (Filter::RequestHeaders(_) | Filter::ResponseHeaders(_), _) if !is_reset(pointer) => {
                put.push(default.clone());
            }
            (_, None) if !is_reset(pointer) => put.push(default.clone()),
            (_, _) => {}
        }
    }
    if !put.is_empty() {
        put.append(&mut route.filters);
        put.sort_by_key(guard::order);
        route.filters = put;
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

#[cfg(test)]
mod tests;
