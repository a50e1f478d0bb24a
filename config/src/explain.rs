//! Which Route serves a request, and why each other candidate lost.
//!
//! The slow, obvious answer: it looks at every Route. The
//! [`Index`](crate::index::Index) gives the same answer fast; a property test
//! holds them equal.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeSet;

use serde::Serialize;

use crate::certificate::{ClientCertificateMode, ServerNameId};
use crate::filter::Filter;
use crate::index::listener_for;
use crate::listener::{Listener, Protocol};
use crate::matching::{HostMatch, Match, PathMatch};
use crate::name::{Hostname, ListenerId, RouteId};
use crate::request::{RequestHead, RequestKey, Scheme};
use crate::route::{Action, Route, TargetAction, precedence};
use crate::snapshot::Snapshot;

/// What would happen to a request, and why.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The Listener that takes it.
    pub listener: Option<ListenerId>,
    /// What the handshake asks of the client, if it asks for a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<ClientCertificateMode>,
    /// The host that was matched, most special first of all that are known.
    pub host: Option<HostMatch>,
    /// The Route that serves it.
    pub route: Option<RouteId>,
    /// The Match of the Route that it fits, as text.
    pub matched: Option<String>,
    /// What is done with it.
    pub outcome: Outcome,
    /// Every other Route that could have been meant, and why it lost.
    pub losers: Vec<Loser>,
}

/// What is done with a request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum Outcome {
    /// No Listener takes it: no port is open, or none for this host.
    NoListener,
    /// No Route fits: 404.
    NoRoute,
    /// The Route is refused in its place.
    Refused {
        /// The status of the answer.
        status: u16,
        /// The code of the Problem behind it.
        because: String,
    },
    /// A Filter answers.
    Answered,
    /// It goes to one of these.
    Forwarded {
        /// Backend and weight; a share that is refused is named as such.
        to: Vec<Share>,
    },
}

/// The share of one target.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// The Backend, or `refused with STATUS because of CODE`.
    pub backend: String,
    /// Its weight among all.
    pub weight: u32,
}

/// A Route that did not get the request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loser {
    /// The Route.
    pub route: RouteId,
    /// Why it lost, in a few words.
    pub why: String,
}

/// Says what would happen to `request`.
#[must_use]
pub fn explain(snapshot: &Snapshot, request: &RequestKey) -> Explanation {
    let host = request.host.as_deref();
    let listeners = on_socket(snapshot, request);
    match listener_for(listeners.into_iter(), host) {
        Some(listener) => explain_on(snapshot, listener, &request.head()),
        None => Explanation {
            listener: None,
            client_certificates: None,
            host: None,
            route: None,
            matched: None,
            outcome: Outcome::NoListener,
            losers: Vec::new(),
        },
    }
}

/// The Listeners of the socket that takes the request.
///
/// Where none has the port that was asked for, all of the protocol count:
/// people ask about the address that users see, and balancers change ports.
/// TLS that is passed on takes its names away from HTTPS on the same port.
fn on_socket<'a>(
    snapshot: &'a Snapshot,
    request: &RequestKey,
) -> Vec<(&'a ListenerId, &'a Listener)> {
    let protocol = match request.scheme {
        Scheme::Http => Protocol::Http,
        Scheme::Https => Protocol::Https,
    };
    let mut listeners: Vec<(&ListenerId, &Listener)> = snapshot
        .listeners()
        .sorted()
        .into_iter()
        .map(|(id, part)| (id, &**part.value()))
        .filter(|(_, listener)| listener.protocol.opening() == protocol.opening())
        .collect();
    if listeners.iter().any(|(_, listener)| listener.address.port() == request.port) {
        listeners.retain(|(_, listener)| listener.address.port() == request.port);
    } else {
        listeners.retain(|(_, listener)| listener.protocol == protocol);
    }
    listeners
}

/// Says what would happen to a request on `listener`.
#[must_use]
pub fn explain_on(
    snapshot: &Snapshot,
    listener: &ListenerId,
    request: &RequestHead<'_>,
) -> Explanation {
    let mut known = candidates(snapshot, listener);
    known.retain(|candidate| candidate.host.accepts(request.host));
    let host =
        known.iter().map(|candidate| candidate.host).max_by_key(|host| host.specificity()).cloned();
    let winner = known
        .iter()
        .filter(|candidate| Some(candidate.host) == host.as_ref())
        .filter(|candidate| candidate.fits(request))
        .min_by(|a, b| a.order(b))
        .cloned();
    let losers = losers(&known, winner.as_ref(), host.as_ref(), request);
    Explanation {
        listener: Some(listener.clone()),
        client_certificates: client_certificates(snapshot, listener, request.host),
        route: winner.as_ref().map(|winner| winner.id.clone()),
        matched: winner.as_ref().map(|winner| describe(winner.wanted)),
        outcome: winner
            .as_ref()
            .map_or(Outcome::NoRoute, |winner| outcome(winner.route, came_by(snapshot, listener))),
        losers,
        host,
    }
}

/// What is asked of clients under a server name that is the host of the request, as it should be.
fn client_certificates(
    snapshot: &Snapshot,
    listener: &ListenerId,
    host: Option<&str>,
) -> Option<ClientCertificateMode> {
    let named = |host| {
        let id = ServerNameId { listener: listener.clone(), host };
        snapshot.server_names().get(&id).map(|part| part.value())
    };
    let name: Option<Hostname> = host.and_then(|host| host.parse().ok());
    let parent = name.as_ref().and_then(|name| name.parent()?.parse::<Hostname>().ok());
    let below = || {
        let parent = parent?;
        let one = named(HostMatch::OneLabelBelow(parent.clone()));
        one.or_else(|| named(HostMatch::AnyLabelsBelow(parent)))
    };
    let found = name.and_then(|name| named(HostMatch::Exact(name))).or_else(below);
    let of_listener = || {
        let part = snapshot.listeners().get(listener)?;
        part.value().client_certificates.as_ref()
    };
    let asked = found.and_then(|named| named.client_certificates.as_ref()).or_else(of_listener);
    asked.map(|asked| asked.mode)
}

/// One Match of one Route under one host.
#[derive(Clone)]
struct Candidate<'a> {
    id: &'a RouteId,
    route: &'a Route,
    host: &'a HostMatch,
    at: usize,
    wanted: &'a Match,
}

impl Candidate<'_> {
    fn fits(&self, request: &RequestHead<'_>) -> bool {
        self.wanted.path.accepts(request.path) && request.fits(self.wanted)
    }

    /// Whether this one is tried before `other`: the better path, regular
    /// expressions of one length by their text, then who asks for more, then
    /// the precedence of the Routes.
    fn order(&self, other: &Self) -> Ordering {
        let path = |candidate: &Self| {
            let text = match &candidate.wanted.path {
                PathMatch::Regex(pattern) => pattern.as_str().to_owned(),
                PathMatch::Exact(_) | PathMatch::Prefix(_) | PathMatch::Otherwise => String::new(),
            };
            (Reverse(candidate.wanted.path.specificity()), text)
        };
        path(self)
            .cmp(&path(other))
            .then_with(|| other.wanted.demands().cmp(&self.wanted.demands()))
            .then_with(|| precedence((self.id, self.route), (other.id, other.route)))
            .then_with(|| self.at.cmp(&other.at))
    }
}

fn candidates<'a>(snapshot: &'a Snapshot, listener: &ListenerId) -> Vec<Candidate<'a>> {
    let mut all = Vec::new();
    for (id, part) in snapshot.routes().iter() {
        let route: &Route = part.value();
        for attachment in route.attached.iter().filter(|at| at.listener == *listener) {
            for host in &attachment.hosts {
                for (at, wanted) in route.matches.iter().enumerate() {
                    all.push(Candidate { id, route, host, at, wanted });
                }
            }
        }
    }
    all
}

/// Says why each other Route lost, once each, by its best candidate.
fn losers(
    known: &[Candidate<'_>],
    winner: Option<&Candidate<'_>>,
    host: Option<&HostMatch>,
    request: &RequestHead<'_>,
) -> Vec<Loser> {
    let mut sorted: Vec<&Candidate<'_>> = known.iter().collect();
    sorted.sort_by(|a, b| {
        let first = |candidate: &Candidate<'_>| {
            (Reverse(candidate.host.specificity()), !candidate.fits(request))
        };
        first(a).cmp(&first(b)).then_with(|| a.order(b))
    });
    let mut losers = Vec::new();
    let mut told: BTreeSet<&RouteId> = winner.iter().map(|winner| winner.id).collect();
    for candidate in sorted {
        if !told.insert(candidate.id) {
            continue;
        }
        let why = why_it_lost(candidate, winner, host, request);
        losers.push(Loser { route: candidate.id.clone(), why });
    }
    losers
}

fn why_it_lost(
    loser: &Candidate<'_>,
    winner: Option<&Candidate<'_>>,
    host: Option<&HostMatch>,
    request: &RequestHead<'_>,
) -> String {
    if let Some(host) = host.filter(|host| *host != loser.host) {
        return format!("host {} is less special than {host}", loser.host);
    }
    if !loser.wanted.path.accepts(request.path) {
        return format!("path {} does not take {}", loser.wanted.path, request.path);
    }
    if !request.fits(loser.wanted) {
        return format!("not all of it holds: {}", describe(loser.wanted));
    }
    let Some(winner) = winner else { return "it is not served".to_owned() };
    if loser.wanted.path.specificity() < winner.wanted.path.specificity() {
        format!("path {} is less special than {}", loser.wanted.path, winner.wanted.path)
    } else if loser.wanted.demands() < winner.wanted.demands() {
        "it asks for less beside the path".to_owned()
    } else if loser.route.rank.created > winner.route.rank.created {
        format!("same match, but {} is older", winner.id.object)
    } else {
        format!("same match and age, but {} comes first", winner.id)
    }
}

fn describe(wanted: &Match) -> String {
    let mut text = format!("path {}", wanted.path);
    if let Some(method) = &wanted.method {
        text.push_str(&format!(", method {method}"));
    }
    for header in &wanted.headers {
        text.push_str(&format!(", header {} {}", header.name, header.value));
    }
    for cookie in &wanted.cookies {
        text.push_str(&format!(", cookie {} {}", cookie.name, cookie.value));
    }
    for query in &wanted.query {
        text.push_str(&format!(", query {} {}", query.name, query.value));
    }
    text
}

/// How clients come who are connected to `listener` themselves.
fn came_by(snapshot: &Snapshot, listener: &ListenerId) -> Scheme {
    let protocol = snapshot.listeners().get(listener).map(|part| part.value().protocol);
    match protocol {
        Some(Protocol::Https) => Scheme::Https,
        Some(Protocol::Http | Protocol::Tcp | Protocol::TlsPassthrough) | None => Scheme::Http,
    }
}

fn outcome(route: &Route, came_by: Scheme) -> Outcome {
    let sends_on =
        |filter: &Filter| matches!(filter, Filter::Redirect(redirect) if redirect.is_for(came_by));
    if route.filters.iter().any(sends_on) {
        return Outcome::Answered;
    }
    let refused = |status: crate::route::Refusal, because: crate::problem::Code| Outcome::Refused {
        status: status.into(),
        because: because.to_string(),
    };
    match &route.action {
        Action::Refuse { status, because } => refused(*status, *because),
        Action::Answer => Outcome::Answered,
        Action::Forward(targets) => {
            let to = targets.iter().map(|target| Share {
                backend: match &target.to {
                    TargetAction::Backend(id) => id.to_string(),
                    TargetAction::Refuse { status, because } => {
                        format!("refused with {} because of {because}", u16::from(*status))
                    }
                },
                weight: target.weight,
            });
            Outcome::Forwarded { to: to.collect() }
        }
    }
}

/// In words, for people.
fn asked(mode: ClientCertificateMode) -> &'static str {
    match mode {
        ClientCertificateMode::Require => "must present a certificate in the handshake",
        ClientCertificateMode::Request => "may present a certificate in the handshake",
    }
}

/// One fact a line, the decision first; what `kubeng explain` prints.
impl std::fmt::Display for Explanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.outcome {
            Outcome::NoListener => writeln!(f, "answer    none: no listener takes it")?,
            Outcome::NoRoute => writeln!(f, "answer    404: no route fits")?,
            Outcome::Refused { status, because } => {
                writeln!(f, "answer    {status}: refused because of {because}")?;
            }
            Outcome::Answered => writeln!(f, "answer    by a filter of the route")?,
            Outcome::Forwarded { to } => {
                for share in to {
                    writeln!(f, "forward   to {} (weight {})", share.backend, share.weight)?;
                }
            }
        }
        let facts = [
            ("route", self.route.as_ref().map(ToString::to_string)),
            ("by", self.matched.clone()),
            ("host", self.host.as_ref().map(ToString::to_string)),
            ("listener", self.listener.as_ref().map(ToString::to_string)),
            ("clients", self.client_certificates.map(|mode| asked(mode).to_owned())),
        ];
        for (name, fact) in facts {
            if let Some(fact) = fact {
                writeln!(f, "{name:<9} {fact}")?;
            }
        }
        for loser in &self.losers {
            writeln!(f, "lost      {}: {}", loser.route, loser.why)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
