//! What happens to a request, as plain functions that know no engine.
//!
//! [`begin`] decides between forwarding and answering; [`request_edits`] and
//! [`response_edits`] say what is changed on the way. Where to and how often is
//! decided in [`forward`](crate::forward).

pub(crate) mod answer;
pub(crate) mod http2;
pub(crate) mod ours;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};
use kubeng_config::authority::{Authority, Host};
use kubeng_config::filter::Filter;
use kubeng_config::filter::error_pages::PageSource;
use kubeng_config::matching::PathPrefix;
use kubeng_config::name::Hostname;
use kubeng_config::path::{PathRules, canonical};
use kubeng_config::request::RequestHead;
use kubeng_config::route::{Action, Refusal, TargetAction};

use crate::filter::compression::{self, Asking};
use crate::filter::request_id::RequestId;
use crate::filter::{self, Progress, Question, Step, Target, Told, cors, error_pages};
use crate::forward;
use crate::listener::facts::ConnFacts;
use crate::listener::refusal::Rule;
use crate::reason::Reason;
use crate::reply::{Form, Reply, SERVER_NAME};
use crate::request::{Fields, Incoming, RequestContext, RequestEdit};
use crate::table::{CompiledRoute, Table};

/// How a request goes on.
#[derive(Debug)]
pub(crate) enum Begin {
    /// To a Backend.
    Forward,
    /// With an answer of ours.
    Reply(Reply),
    /// Not at all: it broke a rule of input. On HTTP/1 the connection ends.
    Refuse(Rule),
    /// With [`resume`], once the engine has found out about the question.
    Ask(Question, Box<Pending>),
}

/// A request that waits for the answer to a question.
#[derive(Debug)]
pub(crate) struct Pending {
    route: Arc<CompiledRoute>,
    progress: Progress,
    authority: Option<Authority>,
    /// In canonical form.
    path: String,
    matched: Option<PathPrefix>,
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
    ctx.scheme = Some(forward::scheme(facts, incoming.headers));
    ctx.is_upgrade = is_websocket(incoming);
    let authority = match authority(incoming) {
        Ok(authority) => authority,
        Err(rule) => return Begin::Refuse(rule),
    };
    ctx.authority = authority_as_written(incoming);
    if incoming.version == Version::HTTP_2 && is_refused(incoming.method) {
        return Begin::Refuse(Rule::MethodRefused);
    }
    if incoming.uri.path() == "*" && incoming.method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into();
    }
    let Ok(path) = canonical(incoming.uri.path(), PathRules::INGRESS) else {
        return Begin::Refuse(Rule::Path);
    };
    let host = authority.as_ref().and_then(|authority| authority.host.name());
    if let Some(tls) = &facts.tls
        && table.is_misdirected(facts.socket, tls, host.map(|host| host.as_str()))
    {
        return Begin::Refuse(Rule::Misdirected);
    }
    let Some(listener) = table.listener(facts.socket, host.map(|host| host.as_str())) else {
        return StatusCode::NOT_FOUND.into();
    };
    if !listener.protocol.reads_requests() {
        // Whoever wants it must come by a connection that is passed on.
        return Begin::Refuse(Rule::Misdirected);
    }
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
    let route = found.value.clone();
    let mut progress = Progress::default();
    let target = Target {
        authority: authority.as_ref(),
        host: ctx.authority.as_ref(),
        path: &path,
        matched: found.prefix(),
        is_upgrade: ctx.is_upgrade,
        ..target(incoming, facts, now)
    };
    let step = filter::on_request(&route, &mut progress, &target, table, &mut ctx.extra);
    match step {
        Step::Ask(question) => {
            let matched = found.prefix().cloned();
            ctx.route = Some(route.clone());
            let path = path.into_owned();
            let pending = Pending { route, progress, authority, path, matched };
            Begin::Ask(question, Box::new(pending))
        }
        Step::Pass | Step::Reply(_) => {
            let path = match path {
                Cow::Borrowed(_) => None,
                Cow::Owned(path) => Some(path),
            };
            go_on(table, (incoming, facts), step, (route, progress, authority, path), ctx)
        }
    }
}

/// Goes on with a request whose question was answered. `table` is the one that it began with.
pub(crate) fn resume(
    table: &Table,
    incoming: &Incoming<'_>,
    facts: &ConnFacts,
    now: (Instant, SystemTime),
    (mut pending, told): (Box<Pending>, Told),
    ctx: &mut RequestContext,
) -> Begin {
    let Pending { route, progress, authority, path, matched } = &mut *pending;
    let target = Target {
        authority: authority.as_ref(),
        host: ctx.authority.as_ref(),
        path,
        matched: matched.as_ref(),
        is_upgrade: ctx.is_upgrade,
        ..target(incoming, facts, now)
    };
    match filter::resume(route, progress, told, &target, table, &mut ctx.extra) {
        Step::Ask(question) => Begin::Ask(question, pending),
        step @ (Step::Pass | Step::Reply(_)) => {
            let Pending { route, progress, authority, path, matched: _ } = *pending;
            let path = (path != incoming.uri.path()).then_some(path);
            go_on(table, (incoming, facts), step, (route, progress, authority, path), ctx)
        }
    }
}

/// What is known of a request without a look at the Table.
fn target<'a>(
    incoming: &Incoming<'a>,
    facts: &'a ConnFacts,
    (now, at): (Instant, SystemTime),
) -> Target<'a> {
    Target {
        authority: None,
        host: None,
        method: incoming.method,
        path: incoming.uri.path(),
        query: incoming.uri.query(),
        headers: incoming.headers,
        matched: None,
        is_upgrade: false,
        scheme: forward::scheme(facts, incoming.headers),
        facts,
        now,
        at,
    }
}

/// Goes on behind the last Filter. The path is given where it is not the one that came.
fn go_on(
    table: &Table,
    (incoming, facts): (&Incoming<'_>, &ConnFacts),
    step: Step,
    (route, progress, authority, path): (
        Arc<CompiledRoute>,
        Progress,
        Option<Authority>,
        Option<String>,
    ),
    ctx: &mut RequestContext,
) -> Begin {
    ctx.forwarded_host = progress.rewritten.host;
    ctx.path = progress.rewritten.path.or(path);
    let begin = match step {
        Step::Reply(reply) => Begin::Reply(reply),
        Step::Pass => target_of(table, &route, ctx),
        // Who calls has taken questions out.
        Step::Ask(_) => StatusCode::INTERNAL_SERVER_ERROR.into(),
    };
    let begin = refuse_tunnel(begin, ctx);
    if let Some(backend) = &ctx.backend {
        let path = ctx.path.as_deref().unwrap_or(incoming.uri.path());
        ctx.wish = forward::wish::of(&backend.spec, incoming.headers, path, facts);
    }
    ctx.host = authority.and_then(name);
    ctx.route = Some(route);
    begin
}

/// Refuses a WebSocket to a Backend over HTTP/2, where it is asked for by an extended CONNECT
/// (RFC 8441), which is not spoken here. Asked without, the Backend would answer what no such client
/// can read.
fn refuse_tunnel(begin: Begin, ctx: &mut RequestContext) -> Begin {
    let is_http2 = |ctx: &RequestContext| {
        ctx.backend.as_ref().is_some_and(|backend| forward::is_http2(backend.spec.protocol))
    };
    match begin {
        Begin::Forward if ctx.is_upgrade && is_http2(ctx) => {
            ctx.is_upgrade = false;
            ctx.reason = Some(Reason::UpgradeUnsupported);
            Reason::UpgradeUnsupported.status().into()
        }
        Begin::Forward | Begin::Reply(_) | Begin::Refuse(_) | Begin::Ask(..) => begin,
    }
}

/// What the head gate refuses on HTTP/1.
fn is_refused(method: &Method) -> bool {
    matches!(method.as_str(), "CONNECT" | "TRACE" | "TRACK")
}

/// Chooses among the targets of `route` by weight.
pub(crate) fn target_of(table: &Table, route: &CompiledRoute, ctx: &mut RequestContext) -> Begin {
    let targets = match &route.route.action {
        Action::Forward(targets) => targets,
        Action::Answer => return StatusCode::INTERNAL_SERVER_ERROR.into(),
        Action::Refuse { status, because: _ } => {
            ctx.reason = Some(Reason::RouteRefused);
            return status_of(*status).into();
        }
    };
    let at = route.rotation.as_ref().map_or(Some(0), |rotation| rotation.next());
    let chosen = at.and_then(|at| targets.get(at));
    // No target has a share (Gateway API, `HTTPBackendRef.weight`).
    let Some(chosen) = chosen else { return StatusCode::INTERNAL_SERVER_ERROR.into() };
    match &chosen.to {
        TargetAction::Refuse { status, because: _ } => {
            ctx.reason = Some(Reason::RouteRefused);
            status_of(*status).into()
        }
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
        Refusal::Forbidden => StatusCode::FORBIDDEN,
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
    if let Some(extra) = ctx.extra.as_ref().filter(|extra| !extra.edits.is_empty()) {
        RequestEdit::apply_all(&extra.edits, to);
    }
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
    answer_edits(ctx, to);
    if !to.fields().contains_key(header::SERVER) {
        to.set(&header::SERVER, HeaderValue::from_static(SERVER_NAME));
    }
}

/// Says on an answer, of a Backend or of ours, what Filters noted for every answer.
pub(crate) fn answer_edits(ctx: &RequestContext, to: &mut impl Fields) {
    let Some(extra) = &ctx.extra else { return };
    if let Some(answer) = &extra.cors {
        cors::on_response(answer, to);
    }
    if let Some(RequestId { header, value }) = &extra.request_id {
        to.set(header, value.clone());
    }
}

/// Begins to compress the answer of a Backend where a Filter says so.
pub(crate) fn compress(
    ctx: &mut RequestContext,
    asking: Asking<'_>,
    status: StatusCode,
    to: &mut impl Fields,
) {
    let Some(route) = &ctx.route else { return };
    for filter in &route.route.filters {
        if let Filter::Compression(config) = filter {
            if let Some(encoder) = compression::on_response(config, asking, status, to) {
                ctx.extra.get_or_insert_default().encoder = Some(encoder);
            }
            return;
        }
    }
}

/// Where the page for an answer with `status` comes from, if the Route has one for it.
pub(crate) fn error_page(ctx: &RequestContext, status: StatusCode) -> Option<&PageSource> {
    if ctx.form == Form::Grpc || status.as_u16() < 400 {
        return None;
    }
    let filters = &ctx.route.as_ref()?.route.filters;
    filters.iter().find_map(|filter| {
        if let Filter::ErrorPages(errors) = filter {
            error_pages::source(errors, status)
        } else {
            None
        }
    })
}

/// Fields of an answer that concern the connection to the Backend only. `Connection`, `Upgrade`
/// and `Transfer-Encoding` belong to the engine, which frames the answer anew.
const HOP_BY_HOP: [HeaderName; 2] =
    [HeaderName::from_static("keep-alive"), HeaderName::from_static("proxy-connection")];

#[cfg(test)]
mod tests;
