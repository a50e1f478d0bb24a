//! Refuses Routes where clients cannot be asked for certificates as they should be.

use std::collections::BTreeMap;
use std::sync::Arc;

use kubeng_config::certificate::ClientCertificateMode;
use kubeng_config::delta::AnyPart;
use kubeng_config::filter::Filter;
use kubeng_config::listener::Protocol;
use kubeng_config::matching::{HostMatch, PathMatch, PathPrefix};
use kubeng_config::name::{ListenerId, ObjectKey, RouteId};
use kubeng_config::part::Part;
use kubeng_config::path::CanonicalPath;
use kubeng_config::problem::{
    CLIENTS_CLOSED, CLIENTS_CONFLICT, CLIENTS_OVER_TLS, Code, NO_LISTENER, Problem,
};
use kubeng_config::request::Scheme;
use kubeng_config::route::{Action, Attachment, Refusal, Route};

use super::HostClients;
use super::written::{self, AUTHORITIES, MODE};
use crate::kind::ingress::Ingress;
use crate::object::Object;
use crate::settings::TranslateSettings;
use crate::translate::claims::rule_hosts;
use crate::translate::host::HostSettings;
use crate::translate::refusal::Refused;
use crate::world::view::View;

/// What is asked under the hosts of some Routes.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// Only hosts under which something is asked.
    hosts: Vec<(HostMatch, Arc<HostSettings>)>,
    /// Hosts under which something else was to be asked, so that nothing is opened.
    conflicts: Vec<(HostMatch, Refused)>,
}

impl Guard {
    /// For Routes of these hosts.
    pub(crate) fn of(view: &mut View<'_>, hosts: &[HostMatch]) -> Self {
        let is_asked = |view: &View<'_>, host: &HostMatch| {
            !view.settings().clients.is_empty() || view.asks_clients(host)
        };
        let mut asked = Vec::new();
        for host in hosts {
            if is_asked(view, host) {
                asked.push((host.clone(), view.host(host)));
            }
        }
        Self { hosts: asked, conflicts: Vec::new() }
    }

    /// For the Routes of `ingress`, and what is wrong with what it asks.
    pub(crate) fn of_ingress(
        view: &mut View<'_>,
        object: &Object,
        ingress: &Ingress,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut guard = Self::of(view, &rule_hosts(ingress));
        match written::of(&object.key, ingress) {
            None => problems.extend(guard.closed(object)),
            Some(written) => {
                let asks_everybody = rule_hosts(ingress).contains(&HostMatch::Any);
                if asks_everybody {
                    let message = "client certificates cannot be asked for under every host";
                    let remedy = "name hosts in the rules";
                    let refused = Refused::new(CLIENTS_CLOSED, message.to_owned(), remedy);
                    put(problems, refused.problem(object, written::field(MODE)));
                    guard.conflicts.push((HostMatch::Any, refused));
                }
                guard.review(view, object, &written, problems);
            }
        }
        guard
    }

    /// That Routes are closed, for an Object that asks for nothing itself.
    pub(crate) fn closed(&self, object: &Object) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (host, settings) in &self.hosts {
            let clients = &settings.clients;
            let by = clients.decided.as_ref().map(|decided| decided.by.to_string());
            let by = by.unwrap_or_else(|| "the listener".to_owned());
            for (_, refused) in reportable(clients) {
                let message = format!("closed under {host}: {}", refused.message);
                let remedy = format!("mend what {by} asks of clients");
                let refused = Refused::new(CLIENTS_CLOSED, message, remedy);
                put(&mut problems, refused.problem(object, String::new()));
            }
        }
        problems
    }

    /// What is wrong with what `object` asks; where others decide, its Rules are not opened.
    fn review(
        &mut self,
        view: &mut View<'_>,
        object: &Object,
        written: &Result<written::Written, written::Fault>,
        problems: &mut Vec<Problem>,
    ) {
        let asked = match written {
            Err(fault) => {
                put(problems, fault.problem(object));
                Err(fault.refused.clone())
            }
            Ok(written) => {
                super::read(view, written.mode, &written.authorities).inspect_err(|refused| {
                    put(problems, refused.problem(object, written::field(AUTHORITIES)));
                })
            }
        };
        if asked.is_ok() && !view.settings().has_https() {
            let message = "the fleet has no HTTPS listener, so no client can present a certificate";
            let remedy = "start Kubeng with --https, or remove the annotations";
            let refused = Refused::new(NO_LISTENER, message.to_owned(), remedy);
            put(problems, refused.problem(object, written::field(MODE)));
        }
        for (host, settings) in self.hosts.iter().filter(|(host, _)| *host != HostMatch::Any) {
            let decided = settings.clients.decided.as_ref();
            if decided.is_some_and(|decided| decided.by == object.key) {
                if asked.is_ok() {
                    for (_, refused) in reportable(&settings.clients) {
                        put(problems, refused.problem(object, written::field(MODE)));
                    }
                }
                continue;
            }
            if decided.is_some_and(|decided| asked.is_ok() && decided.asked == asked) {
                continue;
            }
            let refused = overruled(view, host, decided.map(|decided| &decided.by));
            put(problems, refused.problem(object, written::field(MODE)));
            let only_tells =
                asked.as_ref().is_ok_and(|asked| asked.mode == ClientCertificateMode::Request);
            if !only_tells {
                self.conflicts.push((host.clone(), refused));
            }
        }
    }

    /// Puts `part` into `routes`, with a Route beside it that refuses what is closed.
    pub(crate) fn put(
        &self,
        settings: &TranslateSettings,
        part: AnyPart,
        routes: &mut Vec<AnyPart>,
    ) {
        if self.hosts.is_empty() && self.conflicts.is_empty() {
            routes.push(part);
            return;
        }
        let why = |route: &Route, listener: &ListenerId, host: &HostMatch| {
            let conflict = self.conflicts.iter().find(|(of, _)| of == host);
            let conflict = conflict.filter(|_| reads_requests(settings, listener));
            let of_host = || {
                let (_, settings) = self.hosts.iter().find(|(of, _)| of == host)?;
                because(&settings.clients, route, listener)
            };
            conflict.map(|(_, refused)| refused.code).or_else(of_host)
        };
        split(part, why, routes);
    }
}

/// As [`Guard::put`] for a Route of one host, where only the host itself is known.
pub(crate) fn put_of_host(clients: &HostClients, part: AnyPart, routes: &mut Vec<AnyPart>) {
    split(part, |route, listener, _| because(clients, route, listener), routes);
}

/// What is wrong, but for what is meant to be so.
fn reportable(clients: &HostClients) -> impl Iterator<Item = (&ListenerId, &Refused)> {
    clients.closed().filter(|(_, refused)| refused.code != CLIENTS_OVER_TLS)
}

/// One mistake is told once, on however many hosts and Listeners it has an effect.
fn put(problems: &mut Vec<Problem>, problem: Problem) {
    if !problems.contains(&problem) {
        problems.push(problem);
    }
}

/// Why `listener` serves nothing of a Route.
fn because(clients: &HostClients, route: &Route, listener: &ListenerId) -> Option<Code> {
    let code = clients.closed_on(listener)?.code;
    let leads_nowhere = match route.action {
        Action::Forward(_) => false,
        // A redirect sends clients to where they can present a certificate.
        Action::Answer | Action::Refuse { .. } => true,
    };
    let is_open = code == CLIENTS_OVER_TLS && (leads_nowhere || is_challenge(route));
    (!is_open).then_some(code)
}

/// Whether a Route is there for nothing but the challenge by which an authority verifies a host,
/// over plain HTTP (RFC 8555 section 8.3).
fn is_challenge(route: &Route) -> bool {
    let Ok(place) = CanonicalPath::of_rule(CHALLENGES) else { return false };
    let place = PathPrefix::new(&place);
    route.matches.iter().all(|wanted| match &wanted.path {
        PathMatch::Exact(path) => place.accepts(path.as_str()),
        PathMatch::Prefix(prefix) => place.accepts(prefix.as_str()),
        PathMatch::Regex(_) | PathMatch::Otherwise => false,
    })
}

fn reads_requests(settings: &TranslateSettings, listener: &ListenerId) -> bool {
    settings.listeners.iter().any(|(id, listening)| match listening.protocol {
        Protocol::Http | Protocol::Https => id == listener,
        Protocol::Tcp | Protocol::TlsPassthrough => false,
    })
}

fn overruled(view: &mut View<'_>, host: &HostMatch, by: Option<&ObjectKey>) -> Refused {
    let (message, remedy) = match (by, view.oldest(host)) {
        (Some(by), _) => (
            format!("{by} decides what is asked of clients of {host}"),
            "write the same in both, or remove it here",
        ),
        (None, Some(oldest)) => (
            format!(
                "{host} belongs to namespace {:?}, for {} is its oldest Ingress; it asks for nothing",
                oldest.ingress.namespace, oldest.ingress
            ),
            "let that Ingress ask, or name a host of your own",
        ),
        (None, None) => (
            format!("nobody decides what is asked of clients of {host}"),
            "name the host in a rule",
        ),
    };
    Refused::new(CLIENTS_CONFLICT, message, remedy)
}

/// Puts the open part of a Route into `routes`, and what is refused beside it.
fn split(
    part: AnyPart,
    why: impl Fn(&Route, &ListenerId, &HostMatch) -> Option<Code>,
    routes: &mut Vec<AnyPart>,
) {
    let AnyPart::Route(id, made) = part else {
        routes.push(part);
        return;
    };
    let route = made.value();
    if matches!(route.action, Action::Refuse { .. }) {
        routes.push(AnyPart::Route(id, made));
        return;
    }
    let mut open: Vec<Attachment> = Vec::new();
    let mut closed: BTreeMap<Code, Vec<Attachment>> = BTreeMap::new();
    for Attachment { listener, hosts } in &route.attached {
        for host in hosts {
            let to = match why(route, listener, host) {
                None => &mut open,
                Some(code) => closed.entry(code).or_default(),
            };
            match to.last_mut().filter(|last| last.listener == *listener) {
                Some(last) => last.hosts.push(host.clone()),
                None => {
                    to.push(Attachment { listener: listener.clone(), hosts: vec![host.clone()] });
                }
            }
        }
    }
    if closed.is_empty() {
        routes.push(AnyPart::Route(id, made));
        return;
    }
    let is_all_closed = open.is_empty();
    if !is_all_closed {
        let open = Route { attached: open, ..Route::clone(route) };
        routes.push(AnyPart::Route(id.clone(), Part::new(open)));
    }
    for (number, (code, attached)) in closed.into_iter().enumerate() {
        // The first one keeps the name if nothing else has it.
        let id = if is_all_closed && number == 0 {
            id.clone()
        } else {
            RouteId::new(id.object.clone(), &format!("{}!{code}", id.rule))
        };
        let refused = Route {
            attached,
            filters: in_front(route, code),
            action: Action::Refuse { status: status(code), because: code },
            ..Route::clone(route)
        };
        routes.push(AnyPart::Route(id, Part::new(refused)));
    }
}

/// What runs in front of a refusal: over plain HTTP, all up to a redirect that sends clients to where
/// they can present a certificate. Who comes by TLS that somebody else has ended gets the refusal.
fn in_front(route: &Route, code: Code) -> Vec<Filter> {
    let sends_on = |filter: &Filter| {
        let redirects = matches!(filter, Filter::Redirect(to) if to.is_for(Scheme::Http));
        redirects || filter.answers_everybody()
    };
    match route.filters.iter().position(sends_on) {
        Some(at) if code == CLIENTS_OVER_TLS => {
            route.filters.iter().take(at + 1).cloned().collect()
        }
        Some(_) | None => Vec::new(),
    }
}

fn status(code: Code) -> Refusal {
    if code == CLIENTS_OVER_TLS { Refusal::Forbidden } else { Refusal::ServiceUnavailable }
}

/// Where the answers to challenges lie.
const CHALLENGES: &str = "/.well-known/acme-challenge";
