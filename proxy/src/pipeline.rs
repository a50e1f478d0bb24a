//! What happens to a request, as plain functions that know no engine.
//!
//! [`begin`] decides between forwarding and answering; [`request_edits`] and
//! [`response_edits`] say what is changed on the way. Where to and how often is
//! decided in [`forward`](crate::forward).

pub(crate) mod answer;
pub(crate) mod http2;

use std::borrow::Cow;
use std::time::{Instant, SystemTime};

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};
use kubeng_config::authority::{Authority, Host};
use kubeng_config::name::Hostname;
use kubeng_config::path::{PathRules, canonical};
use kubeng_config::request::RequestHead;
use kubeng_config::route::{Action, Refusal, TargetAction};

use crate::filter;
use crate::forward;
use crate::listener::connection::ConnFacts;
use crate::listener::refusal::Rule;
use crate::reply::{Form, Reply, SERVER_NAME};
use crate::request::{Fields, Incoming, RequestContext};
use crate::table::{CompiledRoute, Table};

/// How a request goes on.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Begin {
    /// To a Backend.
    Forward,
    /// With an answer of ours.
    Reply(Reply),
    /// Not at all: it broke a rule of input. On HTTP/1 the connection ends.
    Refuse(Rule),
}

impl From<StatusCode> for Begin {
    fn from(status: StatusCode) -> Self {
        Self::Reply(Reply::of(status))
    }
}

/// Finds what serves a request, and runs the Filters that can answer.
pub(crate) fn begin(
    table: &Table,
    incoming: &Incoming<'_>,
    facts: &ConnFacts,
    now: (Instant, SystemTime),
    ctx: &mut RequestContext,
) -> Begin {
    ctx.started = Some(now);
    ctx.form = Form::of(incoming.headers, incoming.version);
    ctx.is_upgrade = is_websocket(incoming);
    let authority = match authority(incoming) {
        Ok(authority) => authority,
        Err(rule) => return Begin::Refuse(rule),
    };
    ctx.authority = authority_as_written(incoming);
    if incoming.uri.path() == "*" && incoming.method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into();
    }
    let Ok(path) = canonical(incoming.uri.path(), PathRules::INGRESS) else {
        return Begin::Refuse(Rule::Path);
    };
    let host = authority.as_ref().and_then(|authority| authority.host.name());
    let Some(listener) = table.listener(facts.socket, host.map(|host| host.as_str())) else {
        return StatusCode::NOT_FOUND.into();
    };
    ctx.listener = Some(listener.metrics.clone());
    let request = RequestHead {
        method: incoming.method,
        host: host.map(|host| host.as_str()),
        path: &path,
        query: incoming.uri.query(),
        headers: incoming.headers,
    };
    let Some(found) = table.routes.find(&listener.id, &request) else {
        ctx.host = authority.and_then(name);
        return StatusCode::NOT_FOUND.into();
    };
    let target = filter::Target {
        authority: authority.as_ref(),
        path: &path,
        query: incoming.uri.query(),
        matched: found.prefix(),
        facts,
    };
    let (answer, rewrite) = filter::on_request(&found.value.route.filters, &target);
    let route = found.value.clone();
    ctx.forwarded_host = rewrite.host;
    ctx.path = rewrite.path.or(match path {
        Cow::Borrowed(_) => None,
        Cow::Owned(path) => Some(path),
    });
    let begin = match answer {
        Some(reply) => Begin::Reply(reply),
        None => target_of(table, &route, ctx),
    };
    ctx.host = authority.and_then(name);
    ctx.route = Some(route);
    begin
}

/// Chooses among the targets of `route` by weight.
fn target_of(table: &Table, route: &CompiledRoute, ctx: &mut RequestContext) -> Begin {
    let targets = match &route.route.action {
        Action::Forward(targets) => targets,
        Action::Answer => return StatusCode::INTERNAL_SERVER_ERROR.into(),
        Action::Refuse { status, because: _ } => return status_of(*status).into(),
    };
    let turn = if targets.len() == 1 { 0 } else { route.turn.next() };
    let chosen = route.schedule.from(turn).next().and_then(|at| targets.get(at));
    // No target has a share (Gateway API, `HTTPBackendRef.weight`).
    let Some(chosen) = chosen else { return StatusCode::INTERNAL_SERVER_ERROR.into() };
    match &chosen.to {
        TargetAction::Refuse { status, because: _ } => status_of(*status).into(),
        TargetAction::Backend(id) => {
            let backend = table.backends.get(id);
            let policy = table.policies.get(&route.route.policy);
            // A Snapshot has no dangling references, so both are there.
            let (Some(backend), Some(policy)) = (backend, policy) else {
                return StatusCode::INTERNAL_SERVER_ERROR.into();
            };
            ctx.backend = Some(backend.clone());
            ctx.policy = Some(policy.clone());
            Begin::Forward
        }
    }
}

fn status_of(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
        Refusal::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn name(authority: Authority) -> Option<Hostname> {
    match authority.host {
        Host::Name(name) => Some(name),
        Host::V4(_) | Host::V6(_) => None,
    }
}

/// The authority for headers: that of the target, which HTTP/2 clients send instead of Host.
fn authority_as_written(incoming: &Incoming<'_>) -> Option<HeaderValue> {
    match incoming.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => incoming.headers.get(header::HOST).cloned(),
    }
}

/// Whether the client asks for a WebSocket (RFC 6455 section 4.1). Other upgrades are not passed on.
fn is_websocket(incoming: &Incoming<'_>) -> bool {
    let headers = incoming.headers;
    let Some(upgrade) = headers.get(header::UPGRADE) else { return false };
    let asks_to_upgrade = || {
        let lines = headers.get_all(header::CONNECTION).iter();
        let mut tokens = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
        tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    };
    let has_body = || {
        let length = headers.get(header::CONTENT_LENGTH);
        headers.contains_key(header::TRANSFER_ENCODING)
            || length.is_some_and(|length| length.as_bytes() != b"0")
    };
    incoming.version == Version::HTTP_11
        && incoming.method == Method::GET
        && upgrade.as_bytes().eq_ignore_ascii_case(b"websocket")
        && asks_to_upgrade()
        && headers.contains_key(header::SEC_WEBSOCKET_KEY)
        && headers.contains_key(header::SEC_WEBSOCKET_VERSION)
        && !has_body()
}

/// What the request calls its server; None only on HTTP/1.0.
fn authority(incoming: &Incoming<'_>) -> Result<Option<Authority>, Rule> {
    let mut hosts = incoming.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Rule::Host),
        (Some(host), None) => {
            let text = host.to_str().map_err(|_| Rule::Authority)?;
            Some(Authority::parse(text).map_err(|_| Rule::Authority)?)
        }
        (None, None) => None,
    };
    let authority = match incoming.uri.authority() {
        Some(authority) => Some(Authority::parse(authority.as_str()).map_err(|_| Rule::Authority)?),
        None => None,
    };
    match (authority, host) {
        (Some(authority), Some(host)) if authority != host => Err(Rule::Host),
        (None, None) if incoming.version != Version::HTTP_10 => Err(Rule::Host),
        (authority, host) => Ok(authority.or(host)),
    }
}

/// Edits what is forwarded: forwarding headers first, then the Filters of the Route.
pub(crate) fn request_edits(ctx: &RequestContext, facts: &ConnFacts, to: &mut impl Fields) {
    forward::forwarding_headers(facts, ctx.authority.as_ref(), to);
    if let Some(route) = &ctx.route {
        filter::edit_request(&route.route.filters, to);
    }
}

/// Edits what the client gets from a Backend.
pub(crate) fn response_edits(ctx: &RequestContext, to: &mut impl Fields) {
    for name in &HOP_BY_HOP {
        to.remove(name);
    }
    if let Some(route) = &ctx.route {
        filter::edit_response(&route.route.filters, to);
    }
    if !to.fields().contains_key(header::SERVER) {
        to.set(&header::SERVER, HeaderValue::from_static(SERVER_NAME));
    }
}

/// Fields of an answer that concern the connection to the Backend only. `Connection`, `Upgrade`
/// and `Transfer-Encoding` belong to the engine, which frames the answer anew.
const HOP_BY_HOP: [HeaderName; 2] =
    [HeaderName::from_static("keep-alive"), HeaderName::from_static("proxy-connection")];

#[cfg(test)]
mod tests;
