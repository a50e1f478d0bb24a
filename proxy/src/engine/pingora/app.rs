//! What Pingora asks in each phase, and what the pipeline answers.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use super::failure;
use crate::access_log::AccessRecord;
use crate::forward::{self, Failure, Next, Try};
use crate::listener::connection::ConnFacts;
use crate::metrics::WorkerMetrics;
use crate::pipeline::{self, Begin, answer, http2};
use crate::reply::{self, Form, Reply, SERVER_NAME};
use crate::request::{Fields, Incoming, RequestContext};
use crate::shared::Shared;

/// The handle of one worker on what all share.
pub(super) struct App {
    shared: Arc<Shared>,
    worker: usize,
    metrics: Arc<WorkerMetrics>,
}

impl App {
    pub(super) fn new(shared: Arc<Shared>, worker: usize) -> Self {
        let metrics = shared.metrics.workers.get(worker).cloned().unwrap_or_default();
        Self { shared, worker, metrics }
    }

    fn since_start(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Sends an answer of ours.
    async fn reply(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        reply: &Reply,
    ) -> Result<()> {
        let is_grpc = ctx.form == Form::Grpc;
        // gRPC carries its own status, over an HTTP status that says that it is gRPC.
        let status = if is_grpc { StatusCode::OK } else { reply.status };
        let mut header = ResponseHeader::build(status, Some(6))?;
        header.insert_header(header::SERVER, SERVER_NAME)?;
        if let Some(location) = &reply.location {
            header.insert_header(header::LOCATION, location.clone())?;
        }
        let body = reply::body(status, ctx.form);
        if is_grpc {
            header.insert_header(header::CONTENT_TYPE, "application/grpc")?;
            header.insert_header("grpc-status", reply::grpc_status(reply.status))?;
        }
        if let Some(body) = &body {
            header.insert_header(header::CONTENT_TYPE, body.kind)?;
            header.insert_header(header::CONTENT_LENGTH, body.bytes.len())?;
        } else if status != StatusCode::NO_CONTENT {
            header.insert_header(header::CONTENT_LENGTH, 0)?;
        }
        ctx.answered = Some(reply.status);
        let is_head = session.req_header().method == Method::HEAD;
        let bytes = body.filter(|_| !is_head).map(|body| body.bytes);
        session.write_response_header(Box::new(header), bytes.is_none()).await?;
        session.write_response_body(bytes, true).await
    }

    fn peer(&self, to: &Try) -> HttpPeer {
        let limits = &self.shared.limits;
        let server_name = to.backend.spec.tls.as_ref().map(|tls| tls.server_name.as_str());
        // An empty name would switch verification off; the type of the name has no empty value.
        let mut peer = HttpPeer::new(
            to.address,
            server_name.is_some(),
            server_name.unwrap_or_default().to_owned(),
        );
        peer.group_key = to.connection_key;
        let options = &mut peer.options;
        options.connection_timeout = Some(to.connect);
        options.total_connection_timeout = Some(match server_name {
            Some(_) => to.connect + limits.backend_handshake,
            None => to.connect,
        });
        options.read_timeout = Some(to.read);
        options.write_timeout = Some(to.write);
        options.idle_timeout = Some(limits.pool_idle);
        if forward::is_http2(to.backend.spec.protocol) {
            options.set_http_version(2, 2);
            options.max_h2_streams = BACKEND_STREAMS_MAX;
        }
        peer
    }

    fn record(&self, session: &Session, ctx: &RequestContext) {
        let (Some(facts), Some((started, at))) = (&ctx.facts, ctx.started) else { return };
        let request = session.req_header();
        self.shared.access_log.push(AccessRecord {
            at,
            client: facts.client.ip(),
            method: request.method.clone(),
            host: ctx.host.as_ref().map(ToString::to_string).unwrap_or_default(),
            path: request.uri.path().to_owned(),
            status: ctx.answered.map_or(0, |status| status.as_u16()),
            duration: started.elapsed(),
            route: ctx.route.as_ref().map(|route| route.id.clone()),
            backend: ctx.backend.as_ref().map(|backend| backend.id.clone()),
            endpoint: ctx.tries.current.as_ref().map(|current| current.0.address),
            tries: ctx.tries.count,
        });
    }
}

#[async_trait]
impl ProxyHttp for App {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        RequestContext::default()
    }

    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    /// On HTTP/1 the facts travel as the memory of the connection.
    fn on_connection_reuse(
        &self,
        _: &mut Session,
        ctx: &mut RequestContext,
        facts: Box<dyn Any + Send + Sync>,
    ) {
        ctx.facts = facts.downcast::<Arc<ConnFacts>>().ok().map(|facts| *facts);
    }

    async fn request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<bool> {
        if ctx.facts.is_none() {
            ctx.facts = facts_of_h2(session);
        }
        let Some(facts) = ctx.facts.clone() else {
            return Err(Error::new(ErrorType::InternalError));
        };
        let request = session.req_header();
        let incoming = Incoming {
            method: &request.method,
            uri: &request.uri,
            version: request.version,
            headers: &request.headers,
        };
        let now = (Instant::now(), SystemTime::now());
        let begin = match http2::check(&incoming, &self.shared.limits) {
            Ok(()) => pipeline::begin(&self.shared.table.load(), &incoming, &facts, now, ctx),
            Err(rule) => Begin::Refuse(rule),
        };
        if request.version == Version::HTTP_2 {
            // On HTTP/1 the connection has it; here a stream without a window would wait for ever.
            session.set_write_timeout(Some(self.shared.limits.write_stall));
        } else if !ctx.is_upgrade && request.headers.contains_key(header::UPGRADE) {
            // Any upgrade makes the engine expect one.
            session.req_header_mut().remove_header(&header::UPGRADE);
        }
        if begin == Begin::Forward && session.req_header().version == Version::HTTP_2 {
            self.check_end(session).await?;
        }
        if session.req_header().headers.contains_key(header::EXPECT) {
            let is_forwarded = begin == Begin::Forward;
            continue_body(session, is_forwarded).await?;
        }
        if facts.is_last.load(Ordering::Relaxed) {
            session.set_keepalive(None);
        }
        match begin {
            Begin::Forward => {
                if let (true, Some(policy)) = (ctx.is_upgrade, &ctx.policy) {
                    let within = policy.timeouts.read.as_millis();
                    let within = u64::try_from(within).unwrap_or(u64::MAX).min(SWITCH_MILLIS_MAX);
                    facts.switch_millis.store(within, Ordering::Relaxed);
                }
                Ok(false)
            }
            Begin::Reply(reply) => {
                self.reply(session, ctx, &reply).await?;
                Ok(true)
            }
            Begin::Refuse(rule) => {
                self.metrics.refused(rule);
                session.set_keepalive(None);
                self.reply(session, ctx, &Reply::of(rule.status())).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(
        &self,
        _: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<Box<HttpPeer>> {
        match forward::choose(ctx, Instant::now(), self.since_start()) {
            Ok(to) => Ok(Box::new(self.peer(&to))),
            Err(status) => Err(Error::new(ErrorType::HTTPStatus(status.as_u16()))),
        }
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        _: &HttpPeer,
        _: std::os::unix::io::RawFd,
        _: Option<&pingora_core::protocols::Digest>,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        if reused {
            self.metrics.pool_hits.add(1);
        } else {
            self.metrics.pool_misses.add(1);
        }
        forward::answered(ctx);
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let Some(facts) = &ctx.facts else { return Ok(()) };
        if session.req_header().version == Version::HTTP_2 {
            http2::join_cookies(&mut RequestFields(request));
        }
        pipeline::request_edits(ctx, facts, &mut RequestFields(request));
        if let Some(host) = &ctx.forwarded_host {
            request.insert_header(header::HOST, host.as_str())?;
        }
        if let Some(path) = &ctx.path {
            request.set_uri(with_path(&request.uri, path)?);
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        _: &mut RequestContext,
    ) -> Result<()> {
        if response.status == StatusCode::NO_CONTENT {
            // RFC 9110 section 8.6.
            response.remove_header(&header::CONTENT_LENGTH);
        }
        if answer::is_well_formed(response.status, &response.headers) {
            return Ok(());
        }
        Err(Error::new(ErrorType::HTTPStatus(StatusCode::BAD_GATEWAY.as_u16())).into_up())
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        is_end: bool,
        _: &mut RequestContext,
    ) -> Result<()> {
        drop_empty_end(body, is_end);
        Ok(())
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        is_end: bool,
        _: &mut RequestContext,
    ) -> Result<Option<Duration>> {
        drop_empty_end(body, is_end);
        Ok(None)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        if self.shared.is_leaving.load(Ordering::Relaxed) {
            session.set_keepalive(None);
        }
        if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS
        {
            return interim(session, response.status, ctx);
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS && !ctx.is_upgrade {
            return Err(Error::new(ErrorType::HTTPStatus(StatusCode::BAD_GATEWAY.as_u16())));
        }
        ctx.answered = Some(response.status);
        if let (true, Some(facts)) = (ctx.is_upgrade, &ctx.facts) {
            facts.switch_millis.store(0, Ordering::Relaxed);
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS
            && let (Some(facts), Some(policy)) = (&ctx.facts, &ctx.policy)
        {
            facts.is_tunnel.store(true, Ordering::Relaxed);
            session.set_read_timeout(Some(policy.timeouts.tunnel));
        }
        pipeline::response_edits(ctx, &mut ResponseFields(response));
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        ctx: &mut RequestContext,
        mut error: Box<Error>,
    ) -> Box<Error> {
        self.metrics.connect_failures.add(1);
        let failure = failure::of_connect(&error);
        let next = forward::failed(ctx, failure, self.since_start());
        self.set_next(&mut error, next);
        error
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut RequestContext,
        reused: bool,
    ) -> Box<Error> {
        // Only what Pingora itself marks as a pooled connection that had gone away.
        error.retry.decide_reuse(reused);
        let is_repeatable = forward::is_repeatable(&session.req_header().method)
            && !session.as_ref().retry_buffer_truncated()
            && session.response_written().is_none();
        let failure = if error.retry() && is_repeatable { Failure::Stale } else { Failure::Other };
        let next = forward::failed(ctx, failure, self.since_start());
        self.set_next(&mut error, next);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestContext,
    ) -> FailToProxy {
        let status = failure::status_of(error, ctx);
        if let Some(rule) = ctx.body_fault() {
            self.metrics.refused(rule);
        }
        if *error.esource() != ErrorSource::Downstream {
            self.metrics.backend_errors.add(1);
        }
        // An interim answer is not yet the answer.
        let written = session.response_written().map(|written| written.status);
        let is_begun = written.is_some_and(|status| {
            !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
        });
        if let (Some(status), false) = (status, is_begun) {
            session.set_keepalive(None);
            // When this fails the client is gone.
            let _ = self.reply(session, ctx, &Reply::of(status)).await;
        }
        let error_code = status.map_or(0, |status| status.as_u16());
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut RequestContext) {
        if let (Some(listener), Some(status)) = (&ctx.listener, ctx.answered) {
            listener.answered(self.worker, status);
        }
        if self.shared.access_log.is_on() {
            self.record(session, ctx);
        }
    }

    fn suppress_error_log(&self, _: &Session, _: &RequestContext, _: &Error) -> bool {
        // The access record tells it.
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &RequestContext,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

impl App {
    /// Waits for the end of a request of HTTP/2 that says that it has no body, and asks how a request
    /// ended that has ended: one that was reset, also by the engine for its faults, looks complete.
    async fn check_end(&self, session: &mut Session) -> Result<()> {
        let is_said_empty = http2::is_said_empty(&session.req_header().headers);
        if !is_said_empty && !session.as_downstream_mut().is_body_done() {
            return Ok(());
        }
        let read = session.as_downstream_mut().read_request_body();
        match tokio::time::timeout(self.shared.limits.body_read, read).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(bytes))) if bytes.is_empty() => Ok(()),
            Ok(Ok(Some(_))) => Err(Error::new(ErrorType::HTTPStatus(400))),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::new(ErrorType::HTTPStatus(408))),
        }
    }

    fn set_next(&self, error: &mut Error, next: Next) {
        if next == Next::Retry {
            self.metrics.retries.add(1);
        }
        error.set_retry(next == Next::Retry);
    }
}

/// The engine would write a last piece of no bytes as a last chunk, and then a second one.
fn drop_empty_end(body: &mut Option<Bytes>, is_end: bool) {
    if is_end && body.as_ref().is_some_and(Bytes::is_empty) {
        *body = None;
    }
}

/// An interim answer of a Backend: early hints are relayed, others are not; too many are an error.
fn interim(session: &mut Session, status: StatusCode, ctx: &mut RequestContext) -> Result<()> {
    ctx.interim_answers = ctx.interim_answers.saturating_add(1);
    if ctx.interim_answers > INTERIM_ANSWERS_MAX {
        return Err(Error::new(ErrorType::HTTPStatus(StatusCode::BAD_GATEWAY.as_u16())));
    }
    let is_relayed = status == StatusCode::EARLY_HINTS;
    session.as_downstream_mut().set_ignore_info_resp(!is_relayed);
    Ok(())
}

/// Answers the expectation of a client (RFC 9110 section 10.1.1); no Backend hears of it.
async fn continue_body(session: &mut Session, is_forwarded: bool) -> Result<()> {
    let is_old = session.req_header().version == Version::HTTP_10;
    session.req_header_mut().remove_header(&header::EXPECT);
    // On HTTP/2 the engine sends no interim answer; clients go on after a moment without.
    if is_forwarded && !is_old {
        // Any answer before the end of the body makes the engine close; this one need not.
        let keepalive = session.get_keepalive();
        session.as_downstream_mut().write_continue_response().await?;
        session.set_keepalive(keepalive);
    }
    Ok(())
}

/// On HTTP/2 the facts travel with the connection.
fn facts_of_h2(session: &Session) -> Option<Arc<ConnFacts>> {
    let digest = session.digest()?.proxy_digest.as_ref()?;
    digest.user_data.as_ref()?.downcast_ref::<Arc<ConnFacts>>().cloned()
}

/// `uri` with another path; its query stays.
fn with_path(uri: &Uri, path: &str) -> Result<Uri> {
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let invalid = |_| Error::new(ErrorType::InternalError);
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(invalid)?);
    Uri::from_parts(parts).map_err(|_| Error::new(ErrorType::InternalError))
}

/// Pingora keeps a second map for the case of names, so only its own methods may edit.
macro_rules! fields {
    ($name:ident, $header:ident) => {
        struct $name<'a>(&'a mut $header);

        impl Fields for $name<'_> {
            fn fields(&self) -> &HeaderMap {
                &self.0.headers
            }

            fn set(&mut self, name: &HeaderName, value: HeaderValue) {
                // It fails only when there are more fields than any limit allows.
                let _ = self.0.insert_header(name, value);
            }

            fn add(&mut self, name: &HeaderName, value: HeaderValue) {
                let _ = self.0.append_header(name, value);
            }

            fn remove(&mut self, name: &HeaderName) {
                self.0.remove_header(name);
            }
        }
    };
}

fields!(RequestFields, RequestHeader);
fields!(ResponseFields, ResponseHeader);

/// Interim answers of a Backend to one request.
const INTERIM_ANSWERS_MAX: u8 = 8;
/// The longest that a Backend may take to answer a request for a tunnel: an hour.
const SWITCH_MILLIS_MAX: u64 = 3_600_000;
/// Streams that share one connection to an Endpoint.
const BACKEND_STREAMS_MAX: usize = 100;
