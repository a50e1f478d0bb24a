//! What Pingora asks in each phase, and what the pipeline answers.

use std::any::Any;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::Guard;
use async_trait::async_trait;
use bytes::Bytes;
use http::header;
use http::{HeaderMap, StatusCode, Version};
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use super::answer::{answer_part, broken, take_out};
use super::errand::Errands;
use super::failure;
use super::fields::{RequestFields, ResponseFields};
use super::peer::peer;
use super::steps::{
    BAD_ANSWER, alarm, bad_answer, continue_body, drop_empty_end, handed_with_stream, in_time,
    incoming, is_begun, replay_of, set_alarm, tell_of_trailers, with_path,
};
use crate::engine::Begun;
use crate::filter::compression::Asking;
use crate::forward::tries::{self, Next};
use crate::forward::wish;
use crate::listener::facts::ConnFacts;
use crate::metrics::WorkerMetrics;
use crate::nominated::nominated;
use crate::observe;
use crate::over::{self, Over};
use crate::pipeline::{self, Begin, answer, http2};
use crate::reason::Reason;
use crate::reply::Reply;
use crate::request::RequestContext;
use crate::shared::Shared;

/// What travels with a connection, or with a stream, to its request.
pub(super) struct Handed {
    facts: Arc<ConnFacts>,
    /// In a lock only because the engine shares what travels between threads.
    begun: Mutex<Option<Begun>>,
}

impl Handed {
    pub(super) fn new(facts: Arc<ConnFacts>, begun: Option<Begun>) -> Self {
        Self { facts, begun: Mutex::new(begun) }
    }

    /// Takes over what is known of the request.
    fn take(&self, ctx: &mut RequestContext) {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Begun { ctx: known, begin }) = begun {
            *ctx = known;
            ctx.begun = Some(begin);
        }
        ctx.facts = Some(self.facts.clone());
    }
}

/// The handle of one worker on what all share.
pub(super) struct App {
    pub(super) shared: Arc<Shared>,
    worker: usize,
    metrics: Arc<WorkerMetrics>,
    pub(super) errands: Arc<Errands>,
}

impl App {
    pub(super) fn new(shared: Arc<Shared>, worker: usize) -> Self {
        let metrics = shared.metrics.workers.get(worker).cloned().unwrap_or_default();
        let errands = Arc::new(Errands::new(shared.clone(), metrics.clone()));
        Self { shared, worker, metrics, errands }
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
        handed: Box<dyn Any + Send + Sync>,
    ) {
        if let Ok(handed) = handed.downcast::<Handed>() {
            handed.take(ctx);
        }
    }

    async fn request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<bool> {
        if let Some(handed) = handed_with_stream(session) {
            handed.take(ctx);
        }
        let Some(facts) = ctx.facts.clone() else {
            return Err(Error::new(ErrorType::InternalError));
        };
        let begin = self.begin(session, &facts, ctx).await;
        let request = session.req_header();
        if request.version != Version::HTTP_2
            && let Some(nominated) = nominated(&request.headers)
        {
            take_out(session, nominated);
        }
        let request = session.req_header();
        if !ctx.is_upgrade && request.headers.contains_key(header::UPGRADE) {
            // Any upgrade makes the engine expect one.
            session.req_header_mut().remove_header(&header::UPGRADE);
        }
        let is_forwarded = matches!(begin, Begin::Forward);
        if session.req_header().headers.contains_key(header::EXPECT) {
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
                self.reply(session, ctx, reply).await?;
                Ok(true)
            }
            // All questions were answered above.
            Begin::Ask(..) => Err(Error::new(ErrorType::InternalError)),
            Begin::Refuse(rule) => {
                self.metrics.refused(rule);
                session.set_keepalive(None);
                self.reply(session, ctx, Reply::of(rule.status())).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(
        &self,
        _: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<Box<HttpPeer>> {
        if let Some(extra) = &mut ctx.extra {
            extra.begin_try();
        }
        if let Some(pause) = tries::pause(ctx) {
            tokio::time::sleep(pause).await;
        }
        let now = Instant::now();
        ctx.seen.trying(now);
        match tries::choose(ctx, now, self.shared.setting()) {
            // It would leave out what it cannot do.
            Ok(to) if to.backend.tls.is_special() => {
                ctx.reason = Some(Reason::TlsUnusable);
                Err(Error::new(ErrorType::HTTPStatus(Reason::TlsUnusable.status().as_u16())))
            }
            Ok(to) => Ok(Box::new(peer(&self.shared.limits, &to, ctx.facts.as_deref()))),
            Err(reason) => {
                ctx.reason = Some(reason);
                Err(Error::new(ErrorType::HTTPStatus(reason.status().as_u16())))
            }
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
        tries::connected(ctx);
        set_alarm(ctx, ctx.tries.ends);
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let status = response.status;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            ctx.tries.interim = ctx.tries.interim.saturating_add(1);
            let is_flood = ctx.tries.interim > tries::INTERIM_MAX;
            return if is_flood { Err(bad_answer()) } else { in_time(ctx) };
        }
        if status == StatusCode::NO_CONTENT {
            // RFC 9110 section 8.6.
            response.remove_header(&header::CONTENT_LENGTH);
        }
        if !answer::is_well_formed(status, &response.headers) {
            return Err(bad_answer());
        }
        let replay = replay_of(session);
        if tries::answered(ctx, status, replay, self.shared.setting()) == Next::Retry {
            return Err(Error::new(ErrorType::HTTPStatus(status.as_u16())));
        }
        set_alarm(ctx, ctx.tries.ends);
        Ok(())
    }

    fn upstream_response_body_filter(
        &self,
        _: &mut Session,
        _: &mut Option<Bytes>,
        _: bool,
        ctx: &mut RequestContext,
    ) -> Result<Option<Duration>> {
        // What comes byte by byte is never silent for long.
        in_time(ctx).map(|()| None)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let Some(facts) = &ctx.facts else { return Ok(()) };
        if session.as_mut().is_body_empty() {
            // The engine does not always tell of the end of a body that is not there.
            set_alarm(ctx, tries::first_byte_by(ctx, Instant::now()));
        }
        if session.req_header().version == Version::HTTP_2 {
            http2::join_cookies(&mut RequestFields(request));
            tell_of_trailers(session, request, ctx);
        }
        pipeline::request_edits(ctx, facts, &mut RequestFields(request));
        self.shared.observe.forward(ctx, &mut RequestFields(request));
        if let Some(host) = &ctx.forwarded_host {
            request.insert_header(header::HOST, host.as_str())?;
        }
        if let Some(path) = &ctx.path {
            request.set_uri(with_path(&request.uri, path)?);
        }
        if let Some(extra) = &mut ctx.extra {
            for copy in &mut extra.mirrors {
                copy.head(&request.method, &request.uri, &request.headers);
            }
            // There is none to be told of.
            if !extra.mirrors.is_empty() && session.as_mut().is_body_empty() {
                std::mem::take(&mut extra.mirrors).into_iter().for_each(|copy| self.mirror(copy));
            }
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        is_end: bool,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        if is_end && !ctx.tries.is_answered {
            set_alarm(ctx, tries::first_byte_by(ctx, Instant::now()));
        }
        drop_empty_end(body, is_end);
        let Some(extra) = &mut ctx.extra else { return Ok(()) };
        if let Some(part) = body {
            if !extra.bodies.request.takes(part.len()) {
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                // The client's fault: on HTTP/2 the engine passes over all other errors here.
                return Err(Error::new_down(ErrorType::HTTPStatus(status.as_u16())));
            }
            extra.mirrors.iter_mut().for_each(|copy| copy.take(part));
        }
        if is_end {
            std::mem::take(&mut extra.mirrors).into_iter().for_each(|copy| self.mirror(copy));
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
            // Early hints are relayed, others are not.
            let is_relayed = response.status == StatusCode::EARLY_HINTS;
            session.as_downstream_mut().set_ignore_info_resp(!is_relayed);
            return Ok(());
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS
            && !(ctx.is_upgrade && answer::is_to_websocket(&response.headers))
        {
            return Err(bad_answer());
        }
        self.check_answer(session, response, ctx).await?;
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
        let (request, status) = (session.req_header(), response.status);
        let asking =
            Asking { method: &request.method, version: request.version, headers: &request.headers };
        let mut fields = ResponseFields(response);
        pipeline::response_edits(ctx, &mut fields);
        wish::set_cookie(ctx, &self.shared.sticky_key, &mut fields);
        pipeline::compress(ctx, asking, status, &mut fields);
        self.shared.observe.show(ctx, &mut fields);
        Ok(())
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        is_end: bool,
        ctx: &mut RequestContext,
    ) -> Result<Option<Duration>> {
        if let Some(extra) = &mut ctx.extra {
            answer_part(extra, body, is_end)?;
        }
        drop_empty_end(body, is_end);
        Ok(None)
    }

    async fn response_trailer_filter(
        &self,
        _: &mut Session,
        _: &mut HeaderMap,
        ctx: &mut RequestContext,
    ) -> Result<Option<Bytes>> {
        // Trailers end the body, so what the encoder still has goes out in their place.
        let encoder = ctx.extra.as_mut().and_then(|extra| extra.encoder.take());
        encoder.map(|encoder| encoder.finish().map_err(|_| broken())).transpose()
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _: &HttpPeer,
        ctx: &mut RequestContext,
        mut error: Box<Error>,
    ) -> Box<Error> {
        self.metrics.connect_failures.add(1);
        let failure = failure::of_connect(&error);
        let next = tries::failed(ctx, failure, replay_of(session), self.shared.setting());
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
        let rings = alarm(ctx).is_some_and(|alarm| alarm.rings(Instant::now()));
        set_alarm(ctx, None);
        let next = if std::mem::take(&mut ctx.tries.is_repeated) {
            Next::Retry
        } else {
            self.failed(session, &error, ctx, rings)
        };
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
        ctx.reason = ctx.reason.or_else(|| failure::reason_of(error, ctx, status));
        // The Backend did answer; only its page is not passed on.
        let is_replaced = ctx.extra.as_ref().is_some_and(|extra| extra.is_replaced);
        if *error.esource() != ErrorSource::Downstream && !is_replaced {
            self.metrics.backend_errors.add(1);
        }
        if let (Some(status), false) = (status, is_begun(session)) {
            session.set_keepalive(None);
            // When this fails the client is gone.
            let _ = self.reply(session, ctx, Reply::of(status)).await;
        } else if is_begun(session) {
            match session.req_header().version {
                // What was written leaves before the end: a connection that ends without a byte looks
                // as if the request could be sent again. The framing tells that the answer is cut off.
                Version::HTTP_11 => session.as_downstream_mut().shutdown().await,
                // There the end of the connection is that of the answer.
                Version::HTTP_10 => {
                    if let Some(facts) = &ctx.facts {
                        facts.is_cut.store(true, Ordering::Relaxed);
                    }
                }
                _ => {}
            }
        }
        let error_code = status.map_or(0, |status| status.as_u16());
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut RequestContext) {
        let request = session.req_header();
        let over = Over {
            method: &request.method,
            uri: &request.uri,
            version: request.version,
            quoted: self.shared.observe.quote(&request.headers),
            body_bytes: (session.body_bytes_read() as u64, session.body_bytes_sent() as u64),
        };
        over::tell(&self.shared, self.worker, ctx, over);
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
    /// What the pipeline says about a request, behind all questions.
    async fn begin(
        &self,
        session: &Session,
        facts: &Arc<ConnFacts>,
        ctx: &mut RequestContext,
    ) -> Begin {
        let incoming = incoming(session.req_header());
        let now = (Instant::now(), SystemTime::now());
        let table = self.shared.table.load();
        let begin = match ctx.begun.take() {
            Some(begin) => begin,
            None => {
                let begin = pipeline::begin(&table, &incoming, facts, now, ctx);
                self.shared.observe.begun(&table, &incoming, facts, self.worker, &begin, ctx);
                begin
            }
        };
        match begin {
            Begin::Ask(question, pending) => {
                // The answer may be long in coming, and the Table must be the same then.
                let table = Guard::into_inner(table);
                let asked = (question, pending);
                let begin = self.errands.ask(&table, &incoming, facts, now, asked, ctx).await;
                observe::decided(&begin, ctx);
                begin
            }
            Begin::Forward | Begin::Reply(_) | Begin::Refuse(_) => {
                drop(table);
                begin
            }
        }
    }

    /// What becomes of a request whose exchange with an Endpoint broke off.
    fn failed(
        &self,
        session: &Session,
        error: &Error,
        ctx: &mut RequestContext,
        rings: bool,
    ) -> Next {
        let Some(failure) = failure::of_exchange(error, ctx, rings) else {
            // Of a former try, if there was one; this one ended otherwise.
            ctx.reason = match error.etype() {
                kind if *kind == BAD_ANSWER => Some(Reason::BadAnswer),
                _ => None,
            };
            return Next::GiveUp;
        };
        if ctx.tries.is_answered {
            ctx.reason = Some(tries::cut_by(ctx, failure));
            return Next::GiveUp;
        }
        tries::failed(ctx, failure, replay_of(session), self.shared.setting())
    }

    fn set_next(&self, error: &mut Error, next: Next) {
        if next == Next::Retry {
            self.metrics.retries.add(1);
        }
        error.set_retry(next == Next::Retry);
    }
}

/// The longest that a Backend may take to answer a request for a tunnel: an hour.
const SWITCH_MILLIS_MAX: u64 = 3_600_000;
