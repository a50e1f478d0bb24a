//! Routes beside a Route: for the requests of a canary.

use std::sync::Arc;

use kubeng_config::delta::AnyPart;
use kubeng_config::filter::Filter;
use kubeng_config::matching::{CookieMatch, HeaderMatch, Match, TextMatch};
use kubeng_config::name::{BackendId, RouteId};
use kubeng_config::part::Part;
use kubeng_config::patch::Patch;
use kubeng_config::patch::choice::Canary;
use kubeng_config::route::{Action, Route};

use super::Taken;
use super::canary::{canary_backend, signed};
use crate::translate::fragment::forward;
use crate::world::view::View;

/// `route`, and what stands beside it.
pub(super) fn routes(
    view: &mut View<'_>,
    (id, route): (RouteId, Route),
    patch: &Patch,
    taken: Taken,
) -> Vec<AnyPart> {
    let mut all = Vec::new();
    if taken == Taken::Free
        && let Some(canary) = signed(patch, &route.action)
        && let Ok(backend) = canary_backend(view, &id.object, canary)
    {
        all.push((beside(&id, "canary"), of_canary(&route, canary, backend)));
    }
    all.push((id, route));
    let parts = all.into_iter().map(|(id, route)| (id, with_its_end(route)));
    parts.map(|(id, route)| AnyPart::Route(id, Part::new(route))).collect()
}

/// Where a Filter answers everybody, nothing is forwarded: whoever explains the Route says so.
fn with_its_end(mut route: Route) -> Route {
    if route.filters.iter().any(Filter::answers_everybody) {
        route.action = Action::Answer;
    }
    route
}

/// The Route of those requests that carry a sign of the canary. It asks for more, so it comes first.
fn of_canary(route: &Route, canary: &Canary, backend: BackendId) -> Route {
    let exact = |text: &str| TextMatch::Exact(Arc::from(text));
    let mut matches = Vec::new();
    for wanted in &route.matches {
        if let Some(sign) = &canary.header {
            let value = exact(sign.value.as_str());
            let mut headers = wanted.headers.clone();
            headers.push(HeaderMatch { name: sign.name.clone(), value });
            matches.push(Match { headers, ..wanted.clone() });
        }
        if let Some(sign) = &canary.cookie {
            let (name, value) = (Arc::from(sign.name.as_str()), exact(sign.value.as_str()));
            let mut cookies = wanted.cookies.clone();
            cookies.push(CookieMatch { name, value });
            matches.push(Match { cookies, ..wanted.clone() });
        }
    }
    Route { matches, action: forward(backend), ..route.clone() }
}

/// The name of a Route that stands beside `id`: no host and no path holds such a sign.
fn beside(id: &RouteId, what: &str) -> RouteId {
    RouteId::new(id.object.clone(), &format!("{}!{what}", id.rule))
}
