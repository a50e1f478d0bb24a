//! Probes: requests made from the Routes of a Snapshot, and the Routes that should serve them.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use kubeng_config::drift::Divergence;
use kubeng_config::explain::explain_on;
use kubeng_config::matching::{HostMatch, Match, PathMatch, TextMatch};
use kubeng_config::name::{ListenerId, RouteId};
use kubeng_config::request::RequestHead;
use kubeng_config::route::Route;
use kubeng_config::snapshot::Snapshot;

use crate::distribution::ProbeRequest;

/// How many requests a replica is asked about at one time.
pub(crate) const REQUESTS_MAX: usize = 64;

/// A request, and the Route that should serve it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Probe {
    pub(crate) request: ProbeRequest,
    pub(crate) expected: Option<RouteId>,
}

/// Probes for Routes from number `start` on, in order of their names and around their end, at most
/// [`REQUESTS_MAX`]. Routes that ask for what only a regular expression says are left out.
///
/// What is expected is what [`explain_on`] says: another Route may be better.
pub(crate) fn probes(snapshot: &Snapshot, start: usize) -> Vec<Probe> {
    let routes = snapshot.routes().sorted();
    let start = start.checked_rem(routes.len()).unwrap_or(0);
    let (before, from) = routes.split_at(start);
    from.iter()
        .chain(before)
        .take(REQUESTS_MAX)
        .filter_map(|(_, part)| request(snapshot, part.value()))
        .map(|request| Probe { expected: expected(snapshot, &request), request })
        .collect()
}

/// In what `answers` differ from what was expected; none where they do not.
pub(crate) fn divergence(probes: &[Probe], answers: &[Option<RouteId>]) -> Option<Divergence> {
    let name =
        |route: Option<&RouteId>| route.map_or_else(|| "no route".to_owned(), ToString::to_string);
    let mut wrong = probes
        .iter()
        .enumerate()
        .map(|(at, probe)| (probe, answers.get(at).and_then(Option::as_ref)))
        .filter(|(probe, answer)| probe.expected.as_ref() != *answer);
    let (probe, answer) = wrong.next()?;
    let ProbeRequest { listener, method, host, target, headers: _ } = &probe.request;
    let host = host.as_deref().unwrap_or("-");
    Some(Divergence {
        request: format!("{method} {host}{target} on {listener}"),
        expected: name(probe.expected.as_ref()),
        answered: name(answer),
        count: 1 + wrong.count(),
    })
}

/// The first request that fits `route`, as far as one can be made.
fn request(snapshot: &Snapshot, route: &Route) -> Option<ProbeRequest> {
    let (listener, host) = place(snapshot, route)?;
    route.matches.iter().find_map(|wanted| fitting(wanted, listener, host))
}

/// A Listener that reads requests, and a host there.
fn place<'a>(snapshot: &Snapshot, route: &'a Route) -> Option<(&'a ListenerId, &'a HostMatch)> {
    route.attached.iter().find_map(|at| {
        let listener = snapshot.listeners().get(&at.listener)?;
        let host = at.hosts.first()?;
        listener.value().protocol.reads_requests().then_some((&at.listener, host))
    })
}

fn fitting(wanted: &Match, listener: &ListenerId, host: &HostMatch) -> Option<ProbeRequest> {
    let path = match &wanted.path {
        PathMatch::Exact(path) => path.as_str(),
        PathMatch::Prefix(prefix) if prefix.as_str().is_empty() => "/",
        PathMatch::Prefix(prefix) => prefix.as_str(),
        PathMatch::Otherwise => "/kubeng-probe",
        PathMatch::Regex(_) => return None,
    };
    let text = |wanted: &TextMatch| match wanted {
        TextMatch::Exact(text) => Some(text.to_string()),
        TextMatch::Regex(_) => None,
    };
    let mut headers = Vec::new();
    for header in &wanted.headers {
        headers.push((header.name.to_string(), text(&header.value)?));
    }
    for cookie in &wanted.cookies {
        headers.push(("cookie".to_owned(), format!("{}={}", cookie.name, text(&cookie.value)?)));
    }
    let mut target = path.to_owned();
    for (at, query) in wanted.query.iter().enumerate() {
        let (name, value) = (&query.name, text(&query.value)?);
        // What would have to be encoded is left out.
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_plain(name) || !is_plain(&value) {
            return None;
        }
        target.push(if at == 0 { '?' } else { '&' });
        target.push_str(&format!("{name}={value}"));
    }
    let method = wanted.method.as_ref().map_or("GET", |method| method.0.as_str());
    let host = match host {
        HostMatch::Any => None,
        HostMatch::Exact(name) => Some(name.to_string()),
        HostMatch::OneLabelBelow(name) | HostMatch::AnyLabelsBelow(name) => {
            Some(format!("kubeng-probe.{name}"))
        }
    };
    Some(ProbeRequest {
        listener: listener.clone(),
        method: method.to_owned(),
        host,
        target,
        headers,
    })
}

fn expected(snapshot: &Snapshot, request: &ProbeRequest) -> Option<RouteId> {
    let method: Method = request.method.parse().ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let name: HeaderName = name.parse().ok()?;
        headers.append(name, HeaderValue::from_str(value).ok()?);
    }
    let (path, query) = match request.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (request.target.as_str(), None),
    };
    let head = RequestHead {
        method: &method,
        host: request.host.as_deref(),
        path,
        query,
        headers: &headers,
    };
    explain_on(snapshot, &request.listener, &head).route
}

#[cfg(test)]
mod tests;
