//! Small steps of the phases, and what they read from a session.

use std::time::Instant;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{StatusCode, Uri, Version, header};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::app::Handed;
use crate::forward;
use crate::forward::tries::Replay;
use crate::listener::alarm::Alarm;
use crate::request::{Incoming, RequestContext};

/// Whether the client has a part of an answer, interim ones left aside.
pub(super) fn is_begun(session: &Session) -> bool {
    session.response_written().is_some_and(|head| {
        !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS
    })
}

/// Whether the request can be sent once more, as things stand.
pub(super) fn replay_of(session: &Session) -> Replay {
    if session.as_ref().retry_buffer_truncated() || is_begun(session) {
        return Replay::Impossible;
    }
    Replay::of(&session.req_header().method)
}

/// The deadline of the request: that of its stream, or of the connection that it has to itself.
pub(super) fn alarm(ctx: &RequestContext) -> Option<&Alarm> {
    let of_connection = || ctx.facts.as_ref().map(|facts| &facts.alarm);
    ctx.alarm.as_deref().or_else(of_connection)
}

/// Sets the deadline of the request.
pub(super) fn set_alarm(ctx: &RequestContext, at: Option<Instant>) {
    if let Some(alarm) = alarm(ctx) {
        alarm.set(at);
    }
}

/// An error once the time of the current try is over.
pub(super) fn in_time(ctx: &RequestContext) -> Result<()> {
    match ctx.tries.ends {
        Some(ends) if ends <= Instant::now() => Err(Error::new_up(ErrorType::ReadTimedout)),
        Some(_) | None => Ok(()),
    }
}

pub(super) fn bad_answer() -> Box<Error> {
    Error::new(BAD_ANSWER)
}

/// The engine would write a last piece of no bytes as a last chunk, and then a second one.
pub(super) fn drop_empty_end(body: &mut Option<Bytes>, is_end: bool) {
    if is_end && body.as_ref().is_some_and(Bytes::is_empty) {
        *body = None;
    }
}

/// Answers the expectation of a client (RFC 9110 section 10.1.1); no Backend hears of it.
pub(super) async fn continue_body(session: &mut Session, is_forwarded: bool) -> Result<()> {
    let is_old = session.req_header().version == Version::HTTP_10;
    session.req_header_mut().remove_header(&header::EXPECT);
    if is_forwarded && !is_old {
        // Any answer before the end of the body makes the engine close; this one need not.
        let keepalive = session.get_keepalive();
        session.as_downstream_mut().write_continue_response().await?;
        session.set_keepalive(keepalive);
    }
    Ok(())
}

pub(super) fn incoming(request: &RequestHeader) -> Incoming<'_> {
    Incoming {
        method: &request.method,
        uri: &request.uri,
        version: request.version,
        headers: &request.headers,
    }
}

/// What travels with a stream of HTTP/2.
pub(super) fn handed_with_stream(session: &Session) -> Option<&Handed> {
    let digest = session.digest()?.proxy_digest.as_ref()?;
    digest.user_data.as_ref()?.downcast_ref::<Handed>()
}

/// Tells a Backend of HTTP/2 that the client takes trailers: the engine takes `TE` out of what came
/// by a stream, and gRPC wants it.
pub(super) fn tell_of_trailers(
    session: &Session,
    request: &mut RequestHeader,
    ctx: &RequestContext,
) {
    let is_http2 = ctx.backend.as_ref().is_some_and(|it| forward::is_http2(it.spec.protocol));
    let te = session.req_header().headers.get(header::TE);
    if let (true, Some(te)) = (is_http2, te.filter(|te| te.as_bytes() == b"trailers")) {
        // It fails only when there are more fields than any limit allows.
        let _ = request.insert_header(header::TE, te.clone());
    }
}

/// `uri` with another path; its query stays.
pub(super) fn with_path(uri: &Uri, path: &str) -> Result<Uri> {
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let invalid = |_| Error::new(ErrorType::InternalError);
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(invalid)?);
    Uri::from_parts(parts).map_err(|_| Error::new(ErrorType::InternalError))
}

/// An answer that may not be passed on.
pub(super) const BAD_ANSWER: ErrorType = ErrorType::new("BadAnswer");
