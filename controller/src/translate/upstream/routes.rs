//! Routes of an Upstream: rules in the shape of a Gateway API HTTPRoute, whose backend it is itself.
//!
//! What cannot be honoured is refused in its place, so that nothing wider takes its requests.

pub(crate) mod filters;
mod matches;
mod policy;

use std::collections::BTreeSet;
use std::sync::Arc;

use kubeng_config::backend::HostOrIp;
use kubeng_config::delta::AnyPart;
use kubeng_config::filter::Filter;
use kubeng_config::matching::{HostMatch, Match, PathMatch};
use kubeng_config::name::{BackendId, Hostname, NameError, RouteId};
use kubeng_config::part::Part;
use kubeng_config::policy::Policy;
use kubeng_config::problem::{BAD_VALUE, Problem, SHADOWED};
use kubeng_config::route::{Action, Rank, Refusal, Route};

use super::fields::bad;
use crate::kind::route_override::RuleRef;
use crate::kind::upstream::route::UpstreamRoute;
use crate::kind::upstream::{Standing, Upstream};
use crate::object::Object;
use crate::translate::claims::{bad_host, claim_text};
use crate::translate::clients::guard::Guard;
use crate::translate::fragment::{Fragment, LAST, attachments, forward};
use crate::translate::ingress_class;
use crate::translate::overrides::place::Place;
use crate::translate::overrides::prefix::has_prefix;
use crate::translate::overrides::{Dressed, Overrides, Taken, dress};
use crate::translate::refusal::Refused;
use crate::world::query::Claim;
use crate::world::view::View;
use matches::{Matches, Unreadable};

/// What the routes of one Upstream became.
pub(crate) fn fragment(view: &mut View<'_>, object: &Object, upstream: &Upstream) -> Fragment {
    if upstream.routes.is_empty() {
        return Fragment::foreign(None);
    }
    let misplaced = misplaced(view, object, upstream);
    match ingress_class::claim_of_routes(view.settings(), object, upstream) {
        Claim::Ours => {}
        Claim::Foreign => return Fragment::foreign(misplaced),
    }
    let backend = BackendId { object: object.key.clone(), port: None };
    let action = match view.backend(backend) {
        Ok(backend) => forward(backend),
        // Its Problems are told by the Backend.
        Err(refused) => refused.action(),
    };
    let overrides = Overrides::of(view, &object.key);
    let mut draft =
        Draft { object, action, overrides, routes: vec![], policies: vec![], problems: misplaced };
    let mut names = BTreeSet::new();
    for (number, route) in (0_u32..).zip(&upstream.routes) {
        let is_new = is_label(&route.name) && names.insert(route.name.as_str());
        match upstream.standing {
            Standing::Served => translate(view, &mut draft, number, route, is_new),
            Standing::Closed => close(view, &mut draft, number, route),
        }
    }
    if upstream.standing == Standing::Closed {
        // The one mistake because of which it is closed is told by its source.
        draft.problems.clear();
    }
    let Draft { routes, policies, problems, .. } = draft;
    Fragment {
        claim: Claim::Ours,
        routes: routes.into(),
        policies: policies.into(),
        problems: problems.into(),
    }
}

/// What is wrong with the fleets that the Upstream names.
fn misplaced(view: &mut View<'_>, object: &Object, upstream: &Upstream) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (at, name) in upstream.fleets.iter().enumerate() {
        if let Some(refused) = ingress_class::misplaced(view, &object.key.namespace, name) {
            problems.push(refused.problem(object, format!("/spec/fleets/{at}")));
        }
    }
    problems
}

/// What routes lay claim to that look at host and path only, read from the Upstream alone.
pub(crate) fn claims(upstream: &Upstream) -> BTreeSet<Arc<str>> {
    let mut claims = BTreeSet::new();
    if upstream.standing == Standing::Closed {
        return claims;
    }
    for route in &upstream.routes {
        let Matches { usable, .. } = matches::of(&route.matches);
        for host in route.hostnames.iter().filter_map(|host| host_match(host).ok()) {
            claims.extend(usable.iter().filter_map(|wanted| claim(&host, wanted)));
        }
    }
    claims
}

/// Whether `upstream` has a route that `rule` means.
pub(crate) fn has_rule(upstream: &Upstream, rule: &RuleRef) -> bool {
    upstream.routes.iter().any(|route| is(route, rule))
}

fn is(route: &UpstreamRoute, rule: &RuleRef) -> bool {
    let hosts = route.hostnames.iter().filter_map(|host| host_match(host).ok());
    let hosts: Vec<HostMatch> = hosts.collect();
    let Matches { usable, .. } = matches::of(&route.matches);
    let path = usable.first().map_or(PathMatch::Otherwise, |first| first.path.clone());
    Place { name: Some(&route.name), hosts: &hosts, path: &path }.is(rule)
}

/// The routes of `upstream` that `rule` means and that match by something else than prefixes.
pub(crate) fn without_prefix(upstream: &Upstream, rule: Option<&RuleRef>) -> Vec<String> {
    let routes = upstream.routes.iter().filter(|route| {
        let is_meant = rule.is_none_or(|rule| is(route, rule));
        is_meant && !matches::of(&route.matches).usable.iter().all(has_prefix)
    });
    routes.map(|route| format!("route {:?}", route.name)).collect()
}

/// The first host of its routes that is no wildcard: what health checks ask for.
pub(super) fn first_host(upstream: &Upstream) -> Option<Hostname> {
    let hosts = upstream.routes.iter().flat_map(|route| &route.hostnames);
    hosts.into_iter().find_map(|host| match host_match(host) {
        Ok(HostMatch::Exact(name)) => Some(name),
        Ok(HostMatch::Any | HostMatch::OneLabelBelow(_) | HostMatch::AnyLabelsBelow(_))
        | Err(_) => None,
    })
}

/// A Fragment in the making.
struct Draft<'a> {
    object: &'a Object,
    /// Where its requests go.
    action: Action,
    overrides: Overrides,
    routes: Vec<AnyPart>,
    policies: Vec<AnyPart>,
    problems: Vec<Problem>,
}

impl Draft<'_> {
    fn bad(&mut self, field: &str, message: String, remedy: &str) {
        bad(self.object, field, message, remedy, &mut self.problems);
    }

    /// What `made` is with the word of the fleet; none where no Listener serves the hosts.
    fn route(
        &self,
        view: &View<'_>,
        key: &str,
        hosts: &[HostMatch],
        made: Made,
    ) -> Option<(RouteId, Route)> {
        let settings = view.settings();
        let attached = attachments(settings, hosts);
        if attached.is_empty() || made.matches.is_empty() {
            return None;
        }
        let Made { rank, matches, filters, action } = made;
        let policy = settings.policy().clone();
        let route = Route { rank, attached, matches, filters, policy, action };
        Some((RouteId::new(self.object.key.clone(), key), route))
    }

    /// What refuses requests, whatever overrides say.
    fn push_refusal(&mut self, view: &View<'_>, key: &str, hosts: &[HostMatch], made: Made) {
        let refusal = self.route(view, key, hosts, made);
        self.routes.extend(refusal.map(|(id, route)| AnyPart::Route(id, Part::new(route))));
    }

    /// A route, with what overrides change in it.
    fn push(
        &mut self,
        view: &mut View<'_>,
        name: &str,
        hosts: &[HostMatch],
        (made, own): (Made, Option<Policy>),
        taken: Taken,
    ) {
        let Some((id, mut route)) = self.route(view, name, hosts, made) else { return };
        let own = own.map(|policy| {
            // A Policy of its own has the name of its Route.
            let name = id.to_string().parse().expect("the text of a Route is not empty");
            AnyPart::Policy(name, Part::new(policy))
        });
        let mut base = view.settings().defaults.clone();
        if let Some(AnyPart::Policy(name, policy)) = &own {
            route.policy = name.clone();
            base = Policy::clone(policy.value());
        }
        let path = route.matches.first().map_or(PathMatch::Otherwise, |first| first.path.clone());
        let place = Place { name: Some(name), hosts, path: &path };
        let put = (id, route, &base);
        let Dressed { routes, policy, told } = dress(view, &self.overrides, &place, put, taken);
        for part in own.into_iter().chain(policy) {
            let is_named = routes.iter().any(|route| names(route, &part));
            if is_named && !self.policies.contains(&part) {
                self.policies.push(part);
            }
        }
        let guard = Guard::of(view, hosts);
        for part in routes {
            guard.put(view.settings(), part, &mut self.routes);
        }
        let of_clients = guard.closed(self.object);
        self.problems.extend(
            of_clients.into_iter().filter(|told| !self.problems.contains(told)).collect::<Vec<_>>(),
        );
        let told = told.map(|refused| refused.problem(self.object, String::new()));
        self.problems.extend(told.filter(|problem| !self.problems.contains(problem)));
    }
}

/// What makes a Route beside its hosts.
struct Made {
    rank: Rank,
    matches: Vec<Match>,
    filters: Vec<Filter>,
    action: Action,
}

fn translate(
    view: &mut View<'_>,
    draft: &mut Draft<'_>,
    number: u32,
    route: &UpstreamRoute,
    is_new: bool,
) {
    let place = format!("/spec/routes/{number}");
    // What has no name of its own has its number, which no name can be.
    let key = if is_new { route.name.clone() } else { format!("#{number}") };
    if !is_new {
        let message = format!("{:.80?} is no name, or stands there twice", route.name);
        let remedy = "write a name of its own of a-z, 0-9 and -, at most 63 characters";
        draft.bad(&format!("{place}/name"), message, remedy);
    }
    let hosts = hosts(draft, &place, route);
    if hosts.is_empty() {
        return;
    }
    for host in &hosts {
        // Its default backend and its certificate are those of all who serve it.
        view.host(host);
    }
    let Matches { usable, unreadable } = matches::of(&route.matches);
    block(view, draft, (number, &key, &place), &hosts, unreadable);
    let taken = tell_shadowed(view, draft, &place, &hosts, &usable);
    let filters = filters::of(view, draft, &place, route, &usable);
    let own = policy::of(view.settings(), draft, &place, route);
    let rank = Rank { created: draft.object.created, rule: number };
    match filters.filter(|_| is_new) {
        Some(filters) => {
            let answers = filters.iter().any(Filter::answers_everybody);
            let action = if answers { Action::Answer } else { draft.action.clone() };
            let made = Made { rank, matches: usable, filters, action };
            draft.push(view, &key, &hosts, (made, own), taken);
        }
        None => {
            let made = Made { rank, matches: usable, filters: Vec::new(), action: REFUSED };
            draft.push_refusal(view, &key, &hosts, made);
        }
    }
}

/// Refuses what `route` would serve, behind all other Routes, so that it takes nothing from anybody.
fn close(view: &mut View<'_>, draft: &mut Draft<'_>, number: u32, route: &UpstreamRoute) {
    let place = format!("/spec/routes/{number}");
    let hosts = hosts(draft, &place, route);
    let key = format!("#{number}");
    let Matches { usable, unreadable } = matches::of(&route.matches);
    block(view, draft, (number, &key, &place), &hosts, unreadable);
    let rank = Rank { created: LAST, rule: number };
    let made = Made { rank, matches: usable, filters: Vec::new(), action: REFUSED };
    draft.push_refusal(view, &key, &hosts, made);
}

/// Whether a Route names a Policy.
fn names(route: &AnyPart, policy: &AnyPart) -> bool {
    let (AnyPart::Route(_, route), AnyPart::Policy(name, _)) = (route, policy) else {
        return false;
    };
    route.value().policy == *name
}

/// The hosts that can be read. Under one that cannot no request comes, so nothing wider opens.
fn hosts(draft: &mut Draft<'_>, place: &str, route: &UpstreamRoute) -> Vec<HostMatch> {
    if route.hostnames.is_empty() {
        let message = "the route names no host, so it is not served".to_owned();
        draft.bad(&format!("{place}/hostnames"), message, "name at least one host");
    }
    let mut hosts = Vec::new();
    for (at, written) in route.hostnames.iter().enumerate() {
        match host_match(written) {
            Ok(host) if hosts.contains(&host) => {}
            Ok(host) => hosts.push(host),
            Err(error) => {
                let field = format!("{place}/hostnames/{at}");
                draft.problems.push(bad_host(written, &error).problem(draft.object, field));
            }
        }
    }
    hosts
}

/// Refuses what could have been meant by matches that cannot be read, behind all other Routes.
fn block(
    view: &View<'_>,
    draft: &mut Draft<'_>,
    (number, key, place): (u32, &str, &str),
    hosts: &[HostMatch],
    unreadable: Vec<Unreadable>,
) {
    for Unreadable { at, field, refused, blocks } in unreadable {
        let field = format!("{place}/matches/{at}{field}");
        draft.problems.push(refused.problem(draft.object, field));
        let rank = Rank { created: LAST, rule: number };
        let matches = vec![Match::of_path(blocks)];
        let made = Made { rank, matches, filters: Vec::new(), action: REFUSED };
        draft.push_refusal(view, &format!("{key}!{at}"), hosts, made);
    }
}

/// Tells of hosts and paths that belong to somebody older.
fn tell_shadowed(
    view: &mut View<'_>,
    draft: &mut Draft<'_>,
    place: &str,
    hosts: &[HostMatch],
    usable: &[Match],
) -> Taken {
    let mut taken = Taken::Free;
    for host in hosts {
        for claim in usable.iter().filter_map(|wanted| claim(host, wanted)) {
            if !view.is_contested(&claim) {
                continue;
            }
            let winner = view.winner(Arc::clone(&claim));
            let Some(winner) = winner.filter(|winner| **winner != draft.object.key) else {
                continue;
            };
            let message =
                format!("{claim} belongs to {winner}, which is older or comes first by name");
            let remedy = "remove one of the two, or give them different hosts or paths";
            let refused = Refused::new(SHADOWED, message, remedy);
            draft.problems.push(refused.problem(draft.object, place.to_owned()));
            taken = Taken::ByAnother;
        }
    }
    taken
}

/// What must be unique: a match that looks at host and path only.
fn claim(host: &HostMatch, wanted: &Match) -> Option<Arc<str>> {
    let is_plain = *wanted == Match::of_path(wanted.path.clone());
    let is_everything = wanted.path == PathMatch::Otherwise;
    (is_plain && !is_everything).then(|| claim_text(host, &wanted.path).into())
}

/// As an HTTPRoute means it: `*.example.com` is one or more labels below.
fn host_match(written: &str) -> Result<HostMatch, NameError> {
    if let Some(name) = written.strip_prefix("*.") {
        return name.parse().map(HostMatch::AnyLabelsBelow);
    }
    match written.parse()? {
        HostOrIp::Name(name) => Ok(HostMatch::Exact(name)),
        HostOrIp::Ip(_) => {
            let form = "a DNS name; a request for an address has no host";
            Err(NameError::Form { text: written.to_owned(), form })
        }
    }
}

/// RFC 1123.
fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Of a route that cannot be honoured (Gateway API: 500).
const REFUSED: Action = Action::Refuse { status: Refusal::InternalServerError, because: BAD_VALUE };
