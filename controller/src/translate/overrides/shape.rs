//! Routes beside a Route: for the requests of a canary, and for a redirect of one scheme.

use std::sync::Arc;

use kubeng_config::delta::AnyPart;
use kubeng_config::filter::Filter;
use kubeng_config::listener::Protocol;
use kubeng_config::matching::{CookieMatch, HeaderMatch, Match, TextMatch};
use kubeng_config::name::{BackendId, RouteId};
use kubeng_config::part::Part;
use kubeng_config::patch::Patch;
use kubeng_config::patch::choice::Canary;
use kubeng_config::request::Scheme;
use kubeng_config::route::{Action, Attachment, Route};

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
        let beside = beside(&id, "canary");
        all.extend(by_scheme(view, beside, of_canary(&route, canary, backend)));
    }
    all.extend(by_scheme(view, id, route));
    let parts = all.into_iter().map(|(id, route)| (id, with_its_end(route)));
    parts.map(|(id, route)| AnyPart::Route(id, Part::new(route))).collect()
}

/// Where a Filter answers, nothing is forwarded: whoever explains the Route says so.
fn with_its_end(mut route: Route) -> Route {
    let answers = |filter: &Filter| matches!(filter, Filter::Redirect(_) | Filter::Maintenance(_));
    if route.filters.iter().any(answers) {
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

/// A redirect that changes nothing but the scheme is for those who came by the other one only: all
/// others would be sent in a circle.
fn by_scheme(view: &View<'_>, id: RouteId, route: Route) -> Vec<(RouteId, Route)> {
    let only_scheme = |filter: &Filter| {
        let Filter::Redirect(to) = filter else { return None };
        let is_only = to.host.is_none() && to.port.is_none() && to.path.is_none();
        to.scheme.filter(|_| is_only)
    };
    let Some(scheme) = route.filters.iter().find_map(only_scheme) else { return vec![(id, route)] };
    let speaks = |at: &Attachment| {
        let mut listeners = view.settings().listeners.iter();
        let listener = listeners.find(|(id, _)| *id == at.listener);
        match listener.map(|(_, listener)| listener.protocol) {
            Some(Protocol::Https) => Scheme::Https,
            Some(Protocol::Http | Protocol::Tcp | Protocol::TlsPassthrough) | None => Scheme::Http,
        }
    };
    let (there, elsewhere): (Vec<_>, Vec<_>) =
        route.attached.iter().cloned().partition(|at| speaks(at) == scheme);
    let mut routes = Vec::new();
    if !elsewhere.is_empty() {
        let id = if there.is_empty() { id.clone() } else { beside(&id, "redirect") };
        routes.push((id, Route { attached: elsewhere, ..route.clone() }));
    }
    if !there.is_empty() {
        let mut route = Route { attached: there, ..route };
        route.filters.retain(|filter| only_scheme(filter).is_none());
        routes.push((id, route));
    }
    routes
}

/// The name of a Route that stands beside `id`: no host and no path holds such a sign.
fn beside(id: &RouteId, what: &str) -> RouteId {
    RouteId::new(id.object.clone(), &format!("{}!{what}", id.rule))
}
