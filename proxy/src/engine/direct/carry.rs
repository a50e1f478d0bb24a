//! One exchange: the tries, and what becomes of the request.

use std::time::Instant;

use http::{HeaderValue, StatusCode, Uri, Version, header};
use tokio::time::sleep;

use super::answer::Answer;
use super::client::{Client, Gone};
use super::deliver::Asked;
use super::endpoint::{Endpoint, Origin, Outgoing, Wanted};
use super::http2::says_trailers;
use super::pool::Key;
use super::request::Whole;
use super::sending::Body;
use super::{Direct, open, strip};
use crate::backend::tls::failure::{self, TlsFailure};
use crate::forward::tries::{self, Failure, Next, Replay};
use crate::listener::refusal::Rule;
use crate::over::{self, Over};
use crate::pipeline;
use crate::reason::Reason;
use crate::record::Quoted;
use crate::reply::{Form, Reply};
use crate::request::RequestContext;

/// Why an exchange does not go on.
#[derive(Debug)]
pub(super) enum Broken {
    /// The client is gone, so nobody waits for an answer.
    Client,
    /// The request is at fault.
    Request(Reason),
    /// What the client sends behind the head breaks a rule.
    Rule(Rule),
    /// The Endpoint is at fault, or gone.
    Endpoint(Failure),
}

impl From<Gone> for Broken {
    fn from(_: Gone) -> Self {
        Self::Client
    }
}

impl Direct {
    /// Carries a request to an Endpoint, and its answer back; one of ours where no Endpoint answers.
    pub(super) async fn carry<C: Client, E: Endpoint>(
        &self,
        client: &mut C,
        mut whole: Whole,
        mut ctx: RequestContext,
    ) {
        // As it came: the head is edited in its place.
        let quoted = self.shared.observe.quote(&whole.headers);
        let asked = Asked::of(&whole, &ctx);
        let mut bytes = (0, 0);
        match Body::new(&whole.body, client.coming(), ctx.extra.as_deref_mut()) {
            Ok(body) => {
                let body = if E::HAS_CHUNKS { body } else { body.without_chunks() };
                bytes = self.tries::<C, E>(client, &mut whole, &asked, body, &mut ctx).await;
            }
            Err(reason) => {
                ctx.reason = Some(reason);
                bytes.1 = Box::pin(self.refuse(client, &asked, reason.status(), &mut ctx)).await;
            }
        }
        self.tell(&whole, quoted, bytes, &mut ctx);
    }

    /// Tells that the request is over, of whose bodies so many bytes were read and sent.
    fn tell(&self, whole: &Whole, quoted: Quoted, bytes: (u64, u64), ctx: &mut RequestContext) {
        let over = Over {
            method: &whole.method,
            uri: &whole.uri,
            version: whole.version,
            quoted,
            body_bytes: bytes,
        };
        over::tell(&self.shared, self.worker, ctx, over);
    }

    /// Tries until the client has an answer. Gives how many bytes of the bodies were read and sent.
    async fn tries<C: Client, E: Endpoint>(
        &self,
        client: &mut C,
        whole: &mut Whole,
        asked: &Asked,
        mut body: Body,
        ctx: &mut RequestContext,
    ) -> (u64, u64) {
        // A call may go on for long, and wait for parts of its answer.
        let is_buffered =
            ctx.form != Form::Grpc && ctx.extra.as_ref().is_some_and(|extra| extra.is_buffered);
        if is_buffered && let Err(broken) = body.read_whole(client, &self.buffers).await {
            return (body.bytes(), Box::pin(self.end_without(client, broken, asked, ctx)).await);
        }
        let head = self.head_for_backend::<E>(whole, &mut body, ctx);
        let mut from = Origin::Pool;
        loop {
            let Some(place) = self.place::<E>(ctx, from).await else {
                return (body.bytes(), Box::pin(self.give_up(client, asked, ctx)).await);
            };
            let mut endpoint = E::begin(place, &head, body);
            let answered = self.ask(client, &mut endpoint, whole, ctx).await;
            self.send_copies(endpoint.body());
            let replay = endpoint.body().replay(&whole.method);
            let next = match answered {
                Ok(answer) => {
                    let setting = self.shared.setting();
                    match tries::answered(ctx, answer.status, replay, setting) {
                        Next::Retry => Next::Retry,
                        Next::GiveUp => {
                            return self.deliver(client, endpoint, answer, asked, ctx).await;
                        }
                    }
                }
                Err(Broken::Endpoint(failure)) => {
                    from = origin_after(failure, &endpoint).unwrap_or(from);
                    tell_disbelief(failure, &endpoint, ctx);
                    tries::failed(ctx, failure, replay, self.shared.setting())
                }
                Err(broken) => {
                    let read = endpoint.body().bytes();
                    return (read, Box::pin(self.end_without(client, broken, asked, ctx)).await);
                }
            };
            body = endpoint.into_body();
            if next == Next::GiveUp {
                return (body.bytes(), Box::pin(self.give_up(client, asked, ctx)).await);
            }
            ctx.tries.is_repeated = false;
            self.metrics.retries.add(1);
        }
    }

    /// Answers that no Endpoint has.
    async fn give_up<C: Client>(
        &self,
        client: &mut C,
        asked: &Asked,
        ctx: &mut RequestContext,
    ) -> u64 {
        self.metrics.backend_errors.add(1);
        let status = ctx.reason.map_or(StatusCode::BAD_GATEWAY, |reason| reason.status());
        self.refuse(client, asked, status, ctx).await
    }

    /// Ends a request that broke before an Endpoint answered.
    async fn end_without<C: Client>(
        &self,
        client: &mut C,
        broken: Broken,
        asked: &Asked,
        ctx: &mut RequestContext,
    ) -> u64 {
        match broken {
            Broken::Client => {
                ctx.reason = Some(Reason::ClientGone);
                0
            }
            Broken::Request(reason) => {
                ctx.reason = Some(reason);
                self.refuse(client, asked, reason.status(), ctx).await
            }
            Broken::Rule(rule) => {
                self.metrics.refused(rule);
                ctx.reason = Some(reason_of(rule));
                self.refuse(client, asked, rule.status(), ctx).await
            }
            Broken::Endpoint(_) => self.give_up(client, asked, ctx).await,
        }
    }

    /// Sends an answer of ours. Gives how many bytes of its body the client was sent.
    pub(super) async fn refuse<C: Client>(
        &self,
        client: &mut C,
        asked: &Asked,
        status: StatusCode,
        ctx: &mut RequestContext,
    ) -> u64 {
        let page = self.page(asked, status, ctx).await;
        self.reply(client, asked, Reply { page, ..Reply::of(status) }, ctx).await
    }

    /// A connection for the next try; None when there is none, and the reason stands in `ctx`.
    async fn place<E: Endpoint>(&self, ctx: &mut RequestContext, from: Origin) -> Option<E::Place> {
        loop {
            if let Some(pause) = tries::pause(ctx) {
                sleep(pause).await;
            }
            let now = Instant::now();
            ctx.seen.trying(now);
            let to = match tries::choose(ctx, now, self.shared.setting()) {
                Ok(to) => to,
                Err(reason) => {
                    ctx.reason = Some(reason);
                    return None;
                }
            };
            let told = open::told(&to, ctx.facts.as_deref());
            let connection = open::connection_key(&to, told);
            let key = Key { address: to.address, connection };
            let ends = ctx.tries.ends;
            let wanted = Wanted { to, told, key, from, now, ends };
            match E::connect(self, wanted).await {
                Ok((place, is_reused)) => {
                    let found =
                        if is_reused { &self.metrics.pool_hits } else { &self.metrics.pool_misses };
                    found.add(1);
                    ctx.seen.connected(is_reused);
                    tries::connected(ctx);
                    return Some(place);
                }
                Err(failure) => {
                    self.metrics.connect_failures.add(1);
                    // Nothing was sent yet.
                    let setting = self.shared.setting();
                    match tries::failed(ctx, failure, Replay::Harmless, setting) {
                        Next::Retry => self.metrics.retries.add(1),
                        Next::GiveUp => return None,
                    }
                }
            }
        }
    }

    /// Sends the request, and reads the head of the answer, which may come before all was sent.
    async fn ask<C: Client, E: Endpoint>(
        &self,
        client: &mut C,
        endpoint: &mut E,
        whole: &Whole,
        ctx: &mut RequestContext,
    ) -> Result<Answer, Broken> {
        let silence = match (&ctx.policy, ctx.is_upgrade) {
            // It may be silent for long once it is a tunnel.
            (Some(policy), true) => policy.timeouts.read,
            (_, false) | (None, true) => endpoint.silence(),
        };
        loop {
            endpoint.send(client, ctx.tries.ends).await?;
            let now = Instant::now();
            let by = tries::first_byte_by(ctx, now);
            let by = by.into_iter().chain(now.checked_add(silence)).min().unwrap_or(now);
            let answer = endpoint.read_head(client, (by, ctx.tries.ends), &whole.method).await?;
            let is_switch = answer.status == StatusCode::SWITCHING_PROTOCOLS;
            if !answer.status.is_informational() || is_switch && ctx.is_upgrade {
                return Ok(answer);
            }
            ctx.tries.interim = ctx.tries.interim.saturating_add(1);
            let is_wanted = answer.status == StatusCode::EARLY_HINTS;
            // Else we asked for no other protocol.
            if is_switch || ctx.tries.interim > tries::INTERIM_MAX {
                return Err(Broken::Endpoint(Failure::BadAnswer));
            }
            if is_wanted {
                client.send_interim(answer.status, &answer.headers).await?;
            }
        }
    }

    /// The head that every try sends.
    fn head_for_backend<E: Endpoint>(
        &self,
        whole: &mut Whole,
        body: &mut Body,
        ctx: &RequestContext,
    ) -> E::Head {
        let Whole { method, uri, version, headers, .. } = whole;
        // No other client gets trailers, so nobody is told that it takes them.
        let takes_trailers =
            !E::HAS_CHUNKS && *version == Version::HTTP_2 && says_trailers(headers);
        strip(headers);
        if let Some(facts) = &ctx.facts {
            pipeline::request_edits(ctx, facts, headers);
        }
        self.shared.observe.forward(ctx, headers);
        if let Some(host) = &ctx.forwarded_host
            && let Ok(host) = HeaderValue::from_str(host.as_str())
        {
            headers.insert(header::HOST, host);
        }
        if !headers.contains_key(header::HOST) {
            // An old client may know none; an empty one says so (RFC 9112 section 3.2).
            let host = ctx.authority.clone();
            headers.insert(header::HOST, host.unwrap_or(const { HeaderValue::from_static("") }));
        }
        if !body.is_chunked() && body.is_whole() && body.bytes() > 0 {
            // It may have come without one.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.bytes()));
        }
        for copy in body.mirrors() {
            copy.head(method, &forwarded(uri, ctx.path.as_deref()), headers);
        }
        let joined;
        let target = match (&ctx.path, uri.query()) {
            (Some(path), Some(query)) => {
                joined = format!("{path}?{query}");
                joined.as_str()
            }
            (Some(path), None) => &**path,
            (None, _) => uri.path_and_query().map_or("/", |target| target.as_str()),
        };
        E::head(Outgoing {
            method,
            target,
            headers,
            body,
            is_upgrade: ctx.is_upgrade,
            takes_trailers,
            is_tls: ctx.backend.as_ref().is_some_and(|backend| backend.spec.tls.is_some()),
        })
    }

    /// Sends copies of a request on their way, of which all was read; others are only counted.
    pub(super) fn send_copies(&self, body: &mut Body) {
        if body.is_whole() {
            for copy in std::mem::take(body.mirrors()) {
                self.other.errands().clone().send(copy.finish());
            }
        }
    }

    /// Counts copies that were never whole.
    pub(super) fn drop_copies(&self, body: &mut Body) {
        for _ in std::mem::take(body.mirrors()) {
            self.other.errands().clone().send(None);
        }
    }
}

/// Where the connection of the next try comes from; None where that stays as it was.
fn origin_after<E: Endpoint>(failure: Failure, endpoint: &E) -> Option<Origin> {
    match failure {
        // What idles beside it may have gone away at the same time.
        Failure::Stale => Some(Origin::Anew),
        Failure::Refused => Some(endpoint.beside()),
        Failure::Connect
        | Failure::ConnectTimeout
        | Failure::Tls
        | Failure::Local
        | Failure::Full
        | Failure::Unseen
        | Failure::Reset
        | Failure::Timeout
        | Failure::BadAnswer => None,
    }
}

/// Tells it if the Endpoint of the current try does not believe who connects.
fn tell_disbelief<E: Endpoint>(failure: Failure, endpoint: &E, ctx: &RequestContext) {
    if let (Failure::Tls, Some(alert), Some(backend), Some(current)) =
        (failure, endpoint.disbelief(), &ctx.backend, &ctx.tries.current)
    {
        failure::tell(backend, current.0.address, &TlsFailure::Disbelieved(alert));
    }
}

/// Whose fault it is that a body breaks `rule`.
pub(super) fn reason_of(rule: Rule) -> Reason {
    if rule.status() == StatusCode::REQUEST_TIMEOUT {
        Reason::ClientSlow
    } else {
        Reason::ClientBroke
    }
}

/// `uri` as it is forwarded.
fn forwarded(uri: &Uri, path: Option<&str>) -> Uri {
    let Some(path) = path else { return uri.clone() };
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    target.parse().unwrap_or_else(|_| uri.clone())
}
