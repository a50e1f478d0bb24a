//! What the client is sent: the answer of an Endpoint with what Filters make of it, or one of ours.

use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};

use super::Direct;
use super::ahead::Ahead;
use super::answer::{Answer, Framing};
use super::carry::{Broken, reason_of};
use super::client::{Client, Gone};
use super::endpoint::Endpoint;
use super::request::Whole;
use crate::filter::body_limit::Meter;
use crate::filter::compression::{Asking, Encoder};
use crate::filter::{self, error_pages};
use crate::forward::tries;
use crate::forward::wish;
use crate::pipeline;
use crate::pipeline::ours::{Ours, ours};
use crate::reason::Reason;
use crate::reply::{Page, Reply};
use crate::request::{Extra, RequestContext};

/// What of a request decides about its answer, as it came.
#[derive(Debug)]
pub(super) struct Asked {
    method: Method,
    version: Version,
    /// What Filters of the Route read; none where it has no such Filters.
    headers: HeaderMap,
    /// Path and query; present where pages may be asked for.
    target: Option<Box<str>>,
}

impl Asked {
    pub(super) fn of(whole: &Whole, ctx: &RequestContext) -> Self {
        let mut asked = Self {
            method: whole.method.clone(),
            version: whole.version,
            headers: HeaderMap::new(),
            target: None,
        };
        let filters = ctx.route.as_ref().map_or(&[][..], |route| &route.route.filters);
        if filters.iter().any(filter::touches_bodies) {
            for name in [header::ACCEPT, header::ACCEPT_ENCODING] {
                for value in whole.headers.get_all(&name) {
                    asked.headers.append(name.clone(), value.clone());
                }
            }
            asked.target = whole.uri.path_and_query().map(|target| target.as_str().into());
        }
        asked
    }
}

impl Direct {
    /// Passes an answer on. Gives how many bytes of the bodies were read and sent.
    pub(super) async fn deliver<C: Client, E: Endpoint>(
        &self,
        client: &mut C,
        mut endpoint: E,
        answer: Answer,
        asked: &Asked,
        ctx: &mut RequestContext,
    ) -> (u64, u64) {
        let status = answer.status;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            // In a box, as all that is rare: whatever is carried here has room for it else.
            return Box::pin(self.switch(client, endpoint, answer, ctx)).await;
        }
        if ctx.is_upgrade
            && let Some(policy) = &ctx.policy
        {
            endpoint.bear(policy.timeouts.read);
        }
        let limit = ctx.extra.as_ref().map(|extra| extra.bodies.response);
        let ahead_bytes_max = ctx.extra.as_ref().map_or(0, |extra| extra.ahead_bytes_max);
        let sent = if pipeline::error_page(ctx, status).is_some() {
            ctx.seen.answered();
            Box::pin(self.replace(client, answer, asked, ctx)).await
        } else if let Some(limit) = limit
            && asked.method != Method::HEAD
            && !limit.allows(&answer.headers)
        {
            ctx.reason = Some(Reason::BadAnswer);
            self.metrics.backend_errors.add(1);
            Box::pin(self.refuse(client, asked, StatusCode::BAD_GATEWAY, ctx)).await
        } else if ahead_bytes_max > 0 && endpoint.is_sent() {
            let ahead = Ahead::new(ahead_bytes_max, &self.buffers);
            return Box::pin(self.pass_ahead(client, endpoint, answer, asked, ahead, ctx)).await;
        } else {
            let sent = self.pass_on(client, &mut endpoint, answer, asked, ctx).await;
            self.send_copies(endpoint.body());
            self.drop_copies(endpoint.body());
            let read = endpoint.body().bytes();
            let (sent, can_be_kept) = sent;
            endpoint.release(self, can_be_kept);
            return (read, sent);
        };
        self.drop_copies(endpoint.body());
        (endpoint.body().bytes(), sent)
    }

    /// Relays an answer. Gives how many bytes of its body the client was sent, and whether the
    /// connection to the Endpoint can be used again.
    async fn pass_on<C: Client, E: Endpoint>(
        &self,
        client: &mut C,
        endpoint: &mut E,
        answer: Answer,
        asked: &Asked,
        ctx: &mut RequestContext,
    ) -> (u64, bool) {
        let Answer { status, mut headers, framing, can_be_kept } = answer;
        self.edit(status, &mut headers, asked, ctx);
        let ends = ctx.tries.ends;
        let Some(extra) = &mut ctx.extra else {
            let passed = relay(client, endpoint, (status, headers, framing), framing, ends).await;
            return self.passed(client, passed, endpoint.relayed(), can_be_kept, ctx).await;
        };
        let mut filtered = Filtered::new(client, extra);
        let shown = filtered.shown(framing);
        let passed = relay(&mut filtered, endpoint, (status, headers, shown), framing, ends).await;
        let (client, passed, sent) = filtered.result(passed);
        self.passed(client, passed, sent, can_be_kept, ctx).await
    }

    /// Relays an answer, and reads it ahead of the client. Gives how many bytes of the bodies were
    /// read and sent.
    async fn pass_ahead<C: Client, E: Endpoint>(
        &self,
        client: &mut C,
        mut endpoint: E,
        answer: Answer,
        asked: &Asked,
        ahead: Ahead,
        ctx: &mut RequestContext,
    ) -> (u64, u64) {
        let Answer { status, mut headers, framing, can_be_kept } = answer;
        self.send_copies(endpoint.body());
        let read = endpoint.body().bytes();
        self.edit(status, &mut headers, asked, ctx);
        let ends = ctx.tries.ends;
        let mut filtered = Filtered::new(client, ctx.extra.get_or_insert_default());
        let shown = filtered.shown(framing);
        let passed = async {
            filtered.send_head(status, headers, shown).await?;
            let release = |endpoint: E| endpoint.release(self, can_be_kept);
            let ending = endpoint.relay_ahead(&mut filtered, ahead, (framing, ends), release);
            let trailers = ending.await?;
            end(&mut filtered, trailers).await
        };
        let passed = passed.await;
        let (client, passed, sent) = filtered.result(passed);
        let (sent, _) = self.passed(client, passed, sent, can_be_kept, ctx).await;
        (read, sent)
    }

    /// Does to the head of an answer what the Route says.
    fn edit(
        &self,
        status: StatusCode,
        headers: &mut HeaderMap,
        asked: &Asked,
        ctx: &mut RequestContext,
    ) {
        ctx.answered = Some(status);
        ctx.seen.answered();
        pipeline::response_edits(ctx, headers);
        wish::set_cookie(ctx, &self.shared.sticky_key, headers);
        let asking =
            Asking { method: &asked.method, version: asked.version, headers: &asked.headers };
        pipeline::compress(ctx, asking, status, headers);
        self.shared.observe.show(ctx, headers);
    }

    /// Notes how an answer ended.
    async fn passed<C: Client>(
        &self,
        client: &mut C,
        passed: Result<(), Broken>,
        sent: u64,
        can_be_kept: bool,
        ctx: &mut RequestContext,
    ) -> (u64, bool) {
        match passed {
            Ok(()) => return (sent, can_be_kept),
            Err(Broken::Client) => ctx.reason = Some(Reason::ClientGone),
            Err(Broken::Request(reason)) => {
                ctx.reason = Some(reason);
                client.cut().await;
            }
            Err(Broken::Rule(rule)) => {
                self.metrics.refused(rule);
                ctx.reason = Some(reason_of(rule));
                client.cut().await;
            }
            Err(Broken::Endpoint(failure)) => {
                ctx.reason = Some(tries::cut_by(ctx, failure));
                client.cut().await;
            }
        }
        (sent, false)
    }

    /// Joins both sides once the Endpoint has agreed to leave HTTP behind.
    async fn switch<C: Client, E: Endpoint>(
        &self,
        client: &mut C,
        endpoint: E,
        answer: Answer,
        ctx: &mut RequestContext,
    ) -> (u64, u64) {
        let Answer { status, mut headers, .. } = answer;
        ctx.answered = Some(status);
        ctx.seen.answered();
        pipeline::response_edits(ctx, &mut headers);
        wish::set_cookie(ctx, &self.shared.sticky_key, &mut headers);
        self.shared.observe.show(ctx, &mut headers);
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let silence = endpoint.silence();
        let Some((stream, early)) = endpoint.into_tunnel() else {
            ctx.reason = Some(Reason::Internal);
            return (0, 0);
        };
        let said = early.len() as u64;
        let begun = async {
            client.send_head(status, headers, Framing::Nothing).await?;
            if !early.is_empty() {
                client.send_part(early).await?;
            }
            client.flush().await
        };
        if begun.await.is_err() {
            ctx.reason = Some(Reason::ClientGone);
            return (0, 0);
        }
        let (read, sent) = client.tunnel(stream, silence).await;
        (read, said + sent)
    }

    /// Puts the page of the Route in the place of an error of a Backend.
    async fn replace<C: Client>(
        &self,
        client: &mut C,
        answer: Answer,
        asked: &Asked,
        ctx: &mut RequestContext,
    ) -> u64 {
        let Answer { status, mut headers, .. } = answer;
        let page = self.page(asked, status, ctx).await.filter(|page| !page.bytes.is_empty());
        let Some(page) = page else {
            return self.reply(client, asked, Reply::of(status), ctx).await;
        };
        let bytes = error_pages::put_in(page, &mut headers);
        ctx.answered = Some(status);
        pipeline::response_edits(ctx, &mut headers);
        wish::set_cookie(ctx, &self.shared.sticky_key, &mut headers);
        self.shared.observe.show(ctx, &mut headers);
        let body = Some(bytes).filter(|_| asked.method != Method::HEAD);
        self.send(client, Ours { status, headers, body }, ctx).await
    }

    /// The page that the Route has for `status`.
    pub(super) async fn page(
        &self,
        asked: &Asked,
        status: StatusCode,
        ctx: &RequestContext,
    ) -> Option<Page> {
        let uri = asked.target.as_deref().unwrap_or("/");
        self.other.errands().page(ctx, status, (uri, asked.headers.get(header::ACCEPT))).await
    }

    /// Sends an answer of ours. Gives how many bytes of its body the client was sent.
    pub(super) async fn reply<C: Client>(
        &self,
        client: &mut C,
        asked: &Asked,
        reply: Reply,
        ctx: &mut RequestContext,
    ) -> u64 {
        let mut ours = ours(ctx, &asked.method, reply, None);
        self.shared.observe.show(ctx, &mut ours.headers);
        self.send(client, ours, ctx).await
    }

    async fn send<C: Client>(&self, client: &mut C, ours: Ours, ctx: &mut RequestContext) -> u64 {
        let Ours { status, headers, body } = ours;
        let length = body.as_ref().map_or(0, Bytes::len) as u64;
        let sent = async {
            client.send_head(status, headers, Framing::Length(length)).await?;
            if let Some(body) = body.filter(|body| !body.is_empty()) {
                client.send_part(body).await?;
            }
            client.end().await
        };
        if sent.await.is_err() {
            ctx.reason = ctx.reason.or(Some(Reason::ClientGone));
            return 0;
        }
        length
    }
}

/// Sends the head, then the body, which is framed by the Endpoint as `framing` says.
async fn relay<C: Client, E: Endpoint>(
    client: &mut C,
    endpoint: &mut E,
    (status, headers, shown): (StatusCode, HeaderMap, Framing),
    framing: Framing,
    ends: Option<Instant>,
) -> Result<(), Broken> {
    client.send_head(status, headers, shown).await?;
    let trailers = endpoint.relay(client, framing, ends).await?;
    end(client, trailers).await
}

async fn end<C: Client>(client: &mut C, trailers: Option<HeaderMap>) -> Result<(), Broken> {
    let ended = match trailers {
        Some(trailers) => client.end_with(trailers).await,
        None => client.end().await,
    };
    ended.map_err(Broken::from)
}

/// A client whose answer goes through the Filters that look at bodies.
struct Filtered<'a, C> {
    client: &'a mut C,
    meter: Meter,
    encoder: Option<Encoder>,
    /// Bytes that the client was sent.
    sent: u64,
    /// Whether the answer cannot go on: it is too large, or cannot be encoded.
    is_broken: bool,
}

impl<'a, C: Client> Filtered<'a, C> {
    fn new(client: &'a mut C, extra: &mut Extra) -> Self {
        let (meter, encoder) = (extra.bodies.response, extra.encoder.take());
        Self { client, meter, encoder, sent: 0, is_broken: false }
    }

    /// How the body is framed that comes out.
    fn shown(&self, framing: Framing) -> Framing {
        match (framing, &self.encoder) {
            (Framing::Nothing, _) | (_, None) => framing,
            (Framing::Length(_) | Framing::Chunked | Framing::Close, Some(_)) => Framing::Chunked,
        }
    }

    /// The client again, how the answer has ended, and how many bytes were sent of its body.
    fn result(self, passed: Result<(), Broken>) -> (&'a mut C, Result<(), Broken>, u64) {
        let broken = || Err(Broken::Endpoint(tries::Failure::BadAnswer));
        (self.client, if self.is_broken { broken() } else { passed }, self.sent)
    }

    fn broken(&mut self) -> Gone {
        self.is_broken = true;
        Gone
    }

    /// Sends what the encoder still has.
    async fn finish(&mut self) -> Result<(), Gone> {
        let Some(encoder) = self.encoder.take() else { return Ok(()) };
        let Ok(rest) = encoder.finish() else { return Err(self.broken()) };
        if rest.is_empty() {
            return Ok(());
        }
        self.sent += rest.len() as u64;
        self.client.send_part(rest).await
    }
}

impl<C: Client> Client for Filtered<'_, C> {
    const KEEPS_FIELDS: bool = C::KEEPS_FIELDS;
    const TAKES_TRAILERS: bool = C::TAKES_TRAILERS;

    fn coming(&self) -> super::client::Coming {
        self.client.coming()
    }

    fn poll_part(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, super::client::Unread>> {
        self.client.poll_part(cx)
    }

    async fn send_interim(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), Gone> {
        self.client.send_interim(status, headers).await
    }

    async fn send_head(
        &mut self,
        status: StatusCode,
        headers: HeaderMap,
        framing: Framing,
    ) -> Result<(), Gone> {
        self.client.send_head(status, headers, framing).await
    }

    async fn send_part(&mut self, part: Bytes) -> Result<(), Gone> {
        let part = self.shape(part)?;
        if part.is_empty() { Ok(()) } else { self.client.send_part(part).await }
    }

    fn shape(&mut self, part: Bytes) -> Result<Bytes, Gone> {
        if !self.meter.takes(part.len()) {
            return Err(self.broken());
        }
        let part = match &mut self.encoder {
            None => part,
            Some(encoder) => match encoder.encode(&part) {
                Ok(part) => part,
                Err(_) => return Err(self.broken()),
            },
        };
        self.sent += part.len() as u64;
        Ok(part)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, part: &mut Bytes) -> Poll<Result<(), Gone>> {
        self.client.poll_send(cx, part)
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        self.client.flush().await
    }

    async fn end(&mut self) -> Result<(), Gone> {
        self.finish().await?;
        self.client.end().await
    }

    async fn end_with(&mut self, trailers: HeaderMap) -> Result<(), Gone> {
        self.finish().await?;
        self.client.end_with(trailers).await
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.client.take_trailers()
    }

    async fn cut(&mut self) {
        self.client.cut().await;
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        self.client.poll_gone(cx)
    }
}
