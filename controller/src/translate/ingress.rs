//! Ingresses in profile `standard`: rules, paths, backends, default backends.

use std::collections::HashSet;
use std::sync::Arc;

use kubeng_config::delta::AnyPart;
use kubeng_config::matching::{HostMatch, PathMatch};
use kubeng_config::name::{BackendId, ObjectKey, ObjectKind, RouteId};
use kubeng_config::path::CanonicalPath;
use kubeng_config::problem::{
    BACKEND_NOT_FOUND, BAD_PATH, BAD_VALUE, DUPLICATE, KIND_NOT_SERVED, PORT_NOT_FOUND, Problem,
    SHADOWED, TLS_NAME_MISSING,
};
use kubeng_config::route::{Action, Rank, Route};

use super::claims::{
    BadPath, bad_host, blocked_path, claim_text, host_match, path_match, rule_hosts,
};
use super::clients::guard::Guard;
use super::fragment::{Fragment, LAST, forward, route};
use super::ingress_class::{self, Claimed};
use super::ingress_tls;
use super::nginx::{self, Review};
use super::overrides::place::Place;
use super::overrides::{Dressed, Overrides, Taken, dress};
use super::refusal::Refused;
use crate::kind::ingress::{
    Blocked, BlockedPaths, Ingress, IngressBackend, IngressPath, IngressRule,
};
use crate::object::Object;
use crate::world::query::{Claim, DefaultOfIngress};
use crate::world::view::View;

/// What one Ingress became.
pub(crate) fn fragment(view: &mut View<'_>, object: &Object, ingress: &Ingress) -> Fragment {
    let Claimed { claim, problem } = ingress_class::claim(view, object, ingress);
    match claim {
        Claim::Ours => {}
        Claim::Foreign => {
            let field = || "/spec/ingressClassName".to_owned();
            let unclaimed = ingress_class::unclaimed(view, object, ingress);
            // A field that is not known may be the one that should name the class.
            let own = unclaimed.as_ref().map_or(&[][..], |_| &object.problems).iter().cloned();
            let told = problem.or(unclaimed).map(|refused| refused.problem(object, field()));
            return Fragment::foreign(own.chain(told));
        }
    }
    let mut problems = object.problems.to_vec();
    let guard = Guard::of_ingress(view, object, ingress, &mut problems);
    let nginx = nginx::review(ingress);
    for (field, refused) in &nginx.told {
        // What is asked of clients was told with it.
        if !problems.iter().any(|problem| problem.message == refused.message) {
            problems.push(refused.problem(object, field.clone()));
        }
    }
    let mut draft = Draft {
        object,
        ingress,
        routes: Vec::new(),
        problems,
        guard,
        nginx,
        known: HashSet::new(),
        ordinal: 0,
        overrides: Overrides::of(view, &object.key),
        policies: Vec::new(),
        taken: Taken::Free,
    };
    for (number, rule) in ingress.rules.iter().enumerate() {
        translate_rule(view, &mut draft, number, rule);
    }
    translate_default(view, &mut draft);
    block_doubtful(view, &mut draft);
    draft.problems.extend(ingress_tls::check(view, object, ingress));
    let Draft { routes, policies, problems, .. } = draft;
    let (routes, policies) = (routes.into(), policies.into());
    Fragment { claim, routes, policies, problems: problems.into() }
}

/// A Fragment in the making.
struct Draft<'a> {
    object: &'a Object,
    ingress: &'a Ingress,
    routes: Vec<AnyPart>,
    problems: Vec<Problem>,
    /// What is asked of the clients of its hosts.
    guard: Guard,
    /// What annotations of ingress-nginx close.
    nginx: Review,
    /// The claims and placeholders that stand already.
    known: HashSet<String>,
    /// How many paths came before.
    ordinal: u32,
    overrides: Overrides,
    /// Policies that overrides have made.
    policies: Vec<AnyPart>,
    /// Whether another Ingress takes the requests of the Rule that comes next.
    taken: Taken,
}

impl Draft<'_> {
    fn problem(&mut self, field: String, refused: &Refused) {
        self.problems.push(refused.problem(self.object, field));
    }

    fn push(
        &mut self,
        view: &mut View<'_>,
        key: &str,
        rank: Rank,
        (hosts, path): (&[HostMatch], PathMatch),
        action: Action,
    ) {
        let taken = std::mem::replace(&mut self.taken, Taken::Free);
        let id = RouteId::new(self.object.key.clone(), key);
        let closed = self.nginx.closed.as_ref();
        // No override opens it, nor answers in its place.
        let is_plain = closed.is_some()
            || self.overrides.is_empty() && view.settings().default_filters.is_empty();
        let action = closed.map_or(action, Refused::action);
        let made = route(view.settings(), id, rank, hosts, path.clone(), action);
        let Some(AnyPart::Route(id, part)) = made else { return };
        if is_plain {
            self.guard.put(view.settings(), AnyPart::Route(id, part), &mut self.routes);
            return;
        }
        let place = Place { name: None, hosts, path: &path };
        let route = Route::clone(part.value());
        let put = (id, route, &view.settings().defaults);
        let Dressed { routes, policy, told } = dress(view, &self.overrides, &place, put, taken);
        for part in routes {
            self.guard.put(view.settings(), part, &mut self.routes);
        }
        self.policies.extend(policy.filter(|policy| !self.policies.contains(policy)));
        let told = told.map(|refused| refused.problem(self.object, String::new()));
        self.problems.extend(told.filter(|problem| !self.problems.contains(problem)));
    }

    fn rank(&self) -> Rank {
        Rank { created: self.object.created, rule: self.ordinal }
    }

    /// Refuses what could have been meant, behind all other Routes, so that it
    /// takes nothing from anybody and nothing wider opens either.
    fn block(&mut self, view: &View<'_>, host: &HostMatch, path: PathMatch, refused: &Refused) {
        let key = match &path {
            PathMatch::Exact(exact) => format!("{host}!={exact}"),
            PathMatch::Prefix(_) | PathMatch::Regex(_) | PathMatch::Otherwise => {
                format!("{host}!{path}")
            }
        };
        if self.known.insert(key.clone()) {
            let rank = Rank { created: LAST, rule: self.ordinal };
            let id = RouteId::new(self.object.key.clone(), &key);
            let hosts = std::slice::from_ref(host);
            self.routes.extend(route(view.settings(), id, rank, hosts, path, refused.action()));
        }
    }
}

fn translate_rule(view: &mut View<'_>, draft: &mut Draft<'_>, number: usize, rule: &IngressRule) {
    let field = format!("/spec/rules/{number}");
    let host = match host_match(rule.host.as_deref()) {
        Ok(host) => host,
        Err(error) => {
            // No request can ask for it, so nothing wider opens.
            let refused = bad_host(rule.host.as_deref().unwrap_or_default(), &error);
            draft.problem(format!("{field}/host"), &refused);
            return;
        }
    };
    if rule.paths.is_empty() {
        translate_pathless(view, draft, &field, &host);
    }
    for (number, path) in rule.paths.iter().enumerate() {
        let field = format!("{field}/http/paths/{number}");
        translate_path(view, draft, field, &host, path);
        draft.ordinal += 1;
    }
}

fn translate_path(
    view: &mut View<'_>,
    draft: &mut Draft<'_>,
    field: String,
    host: &HostMatch,
    path: &IngressPath,
) {
    if let Some((refused, blocks)) = draft.nginx.set_aside(path) {
        for blocked in blocks {
            draft.block(view, host, blocked, &refused);
        }
        return;
    }
    let matched = match path_match(path) {
        Ok(matched) => matched,
        Err(BadPath { why, blocks }) => {
            let remedy = "write an absolute path and one of Exact, Prefix, ImplementationSpecific";
            let refused = Refused::new(BAD_PATH, why, remedy);
            draft.problem(field, &refused);
            draft.block(view, host, blocks, &refused);
            return;
        }
    };
    let claim = claim_text(host, &matched);
    if !draft.known.insert(claim.clone()) {
        let message = format!("{claim} stands there twice; the first one is served");
        draft.problem(field, &Refused::new(DUPLICATE, message, "remove one of the two"));
        return;
    }
    if let Some(winner) = shadowed_by(view, draft.object, host, &claim, &matched) {
        draft.problem(field.clone(), &shadowed(&claim, &winner));
        draft.taken = Taken::ByAnother;
    }
    let key = match (&matched, path.path_type.as_str()) {
        (PathMatch::Prefix(prefix), "ImplementationSpecific") => format!("{host}~{prefix}"),
        _ => claim,
    };
    let action = action(view, draft, &path.backend, &format!("{field}/backend"));
    draft.push(view, &key, draft.rank(), (std::slice::from_ref(host), matched), action);
}

/// A rule without paths gives all paths that no other rule takes to the default backend.
fn translate_pathless(view: &mut View<'_>, draft: &mut Draft<'_>, field: &str, host: &HostMatch) {
    let ingress = draft.ingress;
    if let Some(refused) = draft.nginx.canary() {
        draft.block(view, host, PathMatch::Otherwise, &refused);
        return;
    }
    let Some(backend) = &ingress.default_backend else {
        if view.settings().default_backend.is_some() {
            return;
        }
        let message = "the rule has no paths and the Ingress no default backend".to_owned();
        let remedy = "give the rule a path, or the Ingress a defaultBackend";
        let refused = Refused::new(BACKEND_NOT_FOUND, message, remedy);
        draft.problem(field.to_owned(), &refused);
        draft.block(view, host, PathMatch::Otherwise, &refused);
        return;
    };
    let claim = claim_text(host, &PathMatch::Otherwise);
    if !draft.known.insert(claim.clone()) {
        return;
    }
    if let Some(winner) = shadowed_by(view, draft.object, host, &claim, &PathMatch::Otherwise) {
        draft.problem(field.to_owned(), &shadowed(&format!("the rest of {host}"), &winner));
        draft.taken = Taken::ByAnother;
    }
    let action = match lead(view, &draft.object.key, backend) {
        Ok(backend) => forward(backend),
        // Told once, by the default backend itself.
        Err(refused) => refused.action(),
    };
    let place = (std::slice::from_ref(host), PathMatch::Otherwise);
    draft.push(view, &format!("{host}*"), draft.rank(), place, action);
    draft.ordinal += 1;
}

/// The default backend: of every host without rules, else of the hosts whose oldest Ingress it is.
fn translate_default(view: &mut View<'_>, draft: &mut Draft<'_>) {
    let field = "/spec/defaultBackend";
    let ingress = draft.ingress;
    let Some(backend) = &ingress.default_backend else {
        if ingress.rules.is_empty() && ingress.doubt.is_none() {
            let message = "the Ingress has neither rules nor a default backend".to_owned();
            let refused = Refused::new(BAD_VALUE, message, "write rules or a defaultBackend");
            draft.problem("/spec".to_owned(), &refused);
        }
        return;
    };
    if let Some(refused) = draft.nginx.canary() {
        if ingress.rules.is_empty() {
            draft.block(view, &HostMatch::Any, PathMatch::Otherwise, &refused);
        }
        return;
    }
    let action = action(view, draft, backend, field);
    let hosts = if ingress.rules.is_empty() {
        let claim = claim_text(&HostMatch::Any, &PathMatch::Otherwise);
        let winner =
            shadowed_by(view, draft.object, &HostMatch::Any, &claim, &PathMatch::Otherwise);
        if let Some(winner) = winner {
            draft.problem(field.to_owned(), &shadowed("every other host", &winner));
            draft.taken = Taken::ByAnother;
        }
        vec![HostMatch::Any]
    } else {
        default_hosts(view, draft, field)
    };
    let rank = Rank { created: draft.object.created, rule: u32::MAX };
    draft.push(view, "default", rank, (&hosts, PathMatch::Otherwise), action);
}

/// Refuses what it may have meant in what cannot be read. What is wrong was told when it was read.
fn block_doubtful(view: &View<'_>, draft: &mut Draft<'_>) {
    let blocked = draft.ingress.doubt.iter().flat_map(|doubt| &doubt.blocked);
    for Blocked { host, paths } in blocked {
        let Ok(host) = host_match(host.as_deref()) else { continue };
        let path = match paths {
            BlockedPaths::Rest => PathMatch::Otherwise,
            BlockedPaths::Below(path) => blocked_path(path),
            BlockedPaths::Only(path) => match CanonicalPath::of_rule(path) {
                Ok(path) => PathMatch::Exact(path),
                Err(_) => blocked_path(path),
            },
        };
        draft.block(view, &host, path, &unread());
    }
}

/// The hosts of which this Ingress is the oldest, and so decides what takes the rest.
fn default_hosts(view: &mut View<'_>, draft: &mut Draft<'_>, field: &str) -> Vec<HostMatch> {
    let mut hosts = Vec::new();
    for host in rule_hosts(draft.ingress) {
        if draft.known.contains(&claim_text(&host, &PathMatch::Otherwise)) {
            continue;
        }
        match view.oldest(&host) {
            Some(oldest) if oldest.ingress != draft.object.key => {
                let rest = format!("the rest of {host}");
                draft.problem(field.to_owned(), &shadowed(&rest, &oldest.ingress));
            }
            Some(_) | None => hosts.push(host),
        }
    }
    hosts
}

/// The Ingress that takes the requests of a claim instead of `object`.
fn shadowed_by(
    view: &mut View<'_>,
    object: &Object,
    host: &HostMatch,
    claim: &str,
    path: &PathMatch,
) -> Option<ObjectKey> {
    let claim: Arc<str> = claim.into();
    let mut winner = None;
    if view.is_contested(&claim) {
        winner = view.winner(claim).map(|winner| (*winner).clone());
    }
    if let PathMatch::Otherwise = path
        && let Some(oldest) = view.oldest(host)
        && oldest.default_backend == DefaultOfIngress::Given
    {
        winner = Some(oldest.ingress.clone());
    }
    winner.filter(|winner| *winner != object.key)
}

fn shadowed(what: &str, winner: &ObjectKey) -> Refused {
    let message = format!("{what} belongs to {winner}, which is older or comes first by name");
    let remedy = "remove one of the two, or give them different hosts or paths";
    Refused::new(SHADOWED, message, remedy)
}

/// Where `backend` leads, or a refusal and its Problem.
fn action(
    view: &mut View<'_>,
    draft: &mut Draft<'_>,
    backend: &IngressBackend,
    field: &str,
) -> Action {
    match lead(view, &draft.object.key, backend) {
        Ok(backend) => forward(backend),
        // Told when it was read.
        Err(refused) if *backend == IngressBackend::Unread => refused.action(),
        Err(refused) => {
            let below = match (backend, refused.code) {
                (IngressBackend::Service { .. }, PORT_NOT_FOUND | TLS_NAME_MISSING) => {
                    "/service/port"
                }
                (IngressBackend::Service { .. }, _) => "/service/name",
                (IngressBackend::Resource { .. }, _) => "/resource",
                (IngressBackend::Unusable { .. } | IngressBackend::Unread, _) => "",
            };
            draft.problem(format!("{field}{below}"), &refused);
            refused.action()
        }
    }
}

fn lead(
    view: &mut View<'_>,
    ingress: &ObjectKey,
    backend: &IngressBackend,
) -> Result<BackendId, Arc<Refused>> {
    let key = |kind, name: &str| ingress.beside(kind, name);
    match backend {
        IngressBackend::Service { name, port } => {
            view.service_port(&key(ObjectKind::Service, name), port)
        }
        IngressBackend::Resource { group, kind, name }
            if group == "kubeng.io" && kind == "Upstream" =>
        {
            view.backend(BackendId { object: key(ObjectKind::Upstream, name), port: None })
        }
        IngressBackend::Resource { group, kind, name } => {
            let group = if group.is_empty() { "the core group" } else { group };
            let message = format!("{kind} {name:?} of {group} cannot be served");
            let remedy = "name a Service, or an Upstream of group kubeng.io";
            Err(Arc::new(Refused::new(KIND_NOT_SERVED, message, remedy)))
        }
        IngressBackend::Unusable { why } => {
            let remedy = "write either service with name and port, or resource";
            Err(Arc::new(Refused::new(BAD_VALUE, why.clone(), remedy)))
        }
        IngressBackend::Unread => Err(Arc::new(unread())),
    }
}

/// Why something is refused that needs what could not be read.
fn unread() -> Refused {
    let message = "it needs what cannot be read".to_owned();
    Refused::new(BAD_VALUE, message, "mend the Ingress")
}
