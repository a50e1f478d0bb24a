//! What Pingora asks in each phase, and what the pipeline answers.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use super::failure;
use crate::forward::{self, Failure, Next, Try};
use crate::listener::connection::ConnFacts;
use crate::metrics::WorkerMetrics;
use crate::observe::Over;
use crate::pipeline::{self, Begin};
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
        self.shared.observe.show(ctx, &mut ResponseFields(&mut header));
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
        let incoming = incoming(request);
        let now = (Instant::now(), SystemTime::now());
        let table = self.shared.table.load();
        let begin = pipeline::begin(&table, &incoming, &facts, now, ctx);
        self.shared.observe.begun(&table, &incoming, &facts, self.worker, &begin, ctx);
        drop(table);
        if request.version == Version::HTTP_2 {
            // On HTTP/1 the connection has it; here a stream without a window would wait for ever.
            session.set_write_timeout(Some(self.shared.limits.write_stall));
        } else if !ctx.is_upgrade && request.headers.contains_key(header::UPGRADE) {
            // Any upgrade makes the engine expect one.
            session.req_header_mut().remove_header(&header::UPGRADE);
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
        let now = Instant::now();
        ctx.seen.trying(now);
        match forward::choose(ctx, now, self.since_start()) {
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
        ctx.seen.connected(reused);
        forward::answered(ctx);
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let Some(facts) = &ctx.facts else { return Ok(()) };
        pipeline::request_edits(ctx, facts, &mut RequestFields(request));
        self.shared.observe.forward(ctx, &mut RequestFields(request));
        if let Some(host) = &ctx.forwarded_host {
            request.insert_header(header::HOST, host.as_str())?;
        }
        if let Some(path) = &ctx.path {
            request.set_uri(with_path(&request.uri, path)?);
        }
        Ok(())
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
            return Ok(());
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS && !ctx.is_upgrade {
            return Err(Error::new(ErrorType::HTTPStatus(StatusCode::BAD_GATEWAY.as_u16())));
        }
        ctx.answered = Some(response.status);
        ctx.seen.answered();
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
        self.shared.observe.show(ctx, &mut ResponseFields(response));
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
        ctx.seen.failed(failure);
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
        ctx.seen.failed(failure);
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
        ctx.seen.reason = ctx.seen.reason.or_else(|| Some(failure::reason_of(error, ctx, status)));
        if *error.esource() != ErrorSource::Downstream {
            self.metrics.backend_errors.add(1);
        }
        if let (Some(status), None) = (status, session.response_written()) {
            session.set_keepalive(None);
            // When this fails the client is gone.
            let _ = self.reply(session, ctx, &Reply::of(status)).await;
        }
        let error_code = status.map_or(0, |status| status.as_u16());
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut RequestContext) {
        let request = session.req_header();
        let incoming = incoming(request);
        let body_bytes = (session.body_bytes_read() as u64, session.body_bytes_sent() as u64);
        let over = Over { incoming, body_bytes };
        self.shared.observe.ended(self.worker, &self.metrics, ctx, &over);
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
    fn set_next(&self, error: &mut Error, next: Next) {
        if next == Next::Retry {
            self.metrics.retries.add(1);
        }
        error.set_retry(next == Next::Retry);
    }
}

fn incoming(request: &RequestHeader) -> Incoming<'_> {
    Incoming {
        method: &request.method,
        uri: &request.uri,
        version: request.version,
        headers: &request.headers,
    }
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

/// The longest that a Backend may take to answer a request for a tunnel: an hour.
const SWITCH_MILLIS_MAX: u64 = 3_600_000;
/// Streams that share one connection to an Endpoint.
const BACKEND_STREAMS_MAX: usize = 100;
