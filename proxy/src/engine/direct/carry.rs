//! One exchange: the tries, the answer, and what becomes of both connections.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout_at};

use super::answer::{Answer, Fault, Search};
use super::client::{Client, Gone};
use super::pool::Key;
use super::request::{self, Whole};
use super::{Direct, answer, strip};
use crate::backend::connect::{connect, is_want};
use crate::forward::tries::{self, Failure, Next, Replay, Try};
use crate::forward::wish;
use crate::over::{self, Over};
use crate::pipeline;
use crate::reason::Reason;
use crate::record::Quoted;
use crate::reply::Reply;
use crate::request::RequestContext;

/// A connection to an Endpoint with what was read from it.
pub(super) struct Upstream {
    pub(super) stream: TcpStream,
    pub(super) read: BytesMut,
    /// Silence that is borne.
    pub(super) silence: Duration,
    /// Bytes of the body that the client was sent.
    pub(super) relayed: u64,
    is_reused: bool,
    key: Key,
}

/// Why an exchange does not go on.
#[derive(Debug)]
pub(super) enum Broken {
    /// The client is gone, so nobody waits for an answer.
    Client,
    /// The Endpoint is at fault, or gone.
    Endpoint(Failure),
}

impl From<Gone> for Broken {
    fn from(_: Gone) -> Self {
        Self::Client
    }
}

/// How an exchange ended.
#[derive(Debug)]
pub(super) enum Carried {
    /// The client has its answer, or a part of it, or is gone. All is told.
    Over,
    /// No Endpoint has answered: the client waits for another answer.
    GivenUp(Box<GivenUp>),
}

/// A request that no Endpoint has answered.
#[derive(Debug)]
pub(super) struct GivenUp {
    /// Says why.
    pub(super) ctx: RequestContext,
    /// Its head is edited as for a Backend.
    pub(super) whole: Whole,
    pub(super) quoted: Quoted,
}

impl GivenUp {
    /// What the client is answered.
    pub(super) fn reply(&self) -> Reply {
        Reply::of(self.ctx.reason.map_or(StatusCode::BAD_GATEWAY, |reason| reason.status()))
    }
}

impl Direct {
    /// Carries a request to an Endpoint, and its answer back.
    pub(super) async fn carry<C: Client>(
        &self,
        client: &mut C,
        mut whole: Whole,
        mut ctx: RequestContext,
    ) -> Carried {
        let replay = Replay::of(&whole.method);
        // As it came: the head is edited in its place.
        let quoted = self.shared.observe.quote(&whole.headers);
        let head = self.head_for_backend(&mut whole, &ctx);
        loop {
            let Some(mut upstream) = self.connection(&mut ctx).await else {
                return self.give_up(GivenUp { ctx, whole, quoted });
            };
            let asked = self.ask(client, &mut upstream, &head, &whole, &mut ctx).await;
            let failure = match asked {
                Ok(answer) => {
                    let status = answer.status;
                    let setting = self.shared.setting();
                    if tries::answered(&mut ctx, status, replay, setting) == Next::Retry {
                        self.metrics.retries.add(1);
                        ctx.tries.is_repeated = false;
                        continue;
                    }
                    let sent = self.pass_on(client, upstream, answer, &mut ctx).await;
                    self.tell(&whole, quoted, sent, &mut ctx);
                    return Carried::Over;
                }
                Err(Broken::Client) => {
                    ctx.reason = Some(Reason::ClientGone);
                    self.tell(&whole, quoted, 0, &mut ctx);
                    return Carried::Over;
                }
                Err(Broken::Endpoint(failure)) => failure,
            };
            if tries::failed(&mut ctx, failure, replay, self.shared.setting()) == Next::GiveUp {
                return self.give_up(GivenUp { ctx, whole, quoted });
            }
            self.metrics.retries.add(1);
        }
    }

    /// Counts a request that no Endpoint has answered.
    fn give_up(&self, given_up: GivenUp) -> Carried {
        self.metrics.backend_errors.add(1);
        Carried::GivenUp(Box::new(given_up))
    }

    /// Tells that the request is over, of whose answer the client got so many bytes of the body.
    pub(super) fn tell(&self, whole: &Whole, quoted: Quoted, sent: u64, ctx: &mut RequestContext) {
        let over = Over {
            method: &whole.method,
            uri: &whole.uri,
            version: whole.version,
            quoted,
            body_bytes: (whole.body.len() as u64, sent),
        };
        over::tell(&self.shared, self.worker, ctx, over);
    }

    /// A connection for the next try; None when there is none, and the reason stands in `ctx`.
    async fn connection(&self, ctx: &mut RequestContext) -> Option<Upstream> {
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
            let key = Key { address: to.address, connection: to.connection_key };
            if let Some(stream) = self.pool.take(&key, now) {
                self.metrics.pool_hits.add(1);
                ctx.seen.connected(true);
                tries::connected(ctx);
                return Some(upstream(stream, &to, key, true));
            }
            match connect(to.address, to.connect, None).await {
                Ok(stream) => {
                    self.metrics.pool_misses.add(1);
                    ctx.seen.connected(false);
                    tries::connected(ctx);
                    return Some(upstream(stream, &to, key, false));
                }
                Err(error) => {
                    self.metrics.connect_failures.add(1);
                    // Nothing was sent yet.
                    let failure = failure_of_connect(&error);
                    let setting = self.shared.setting();
                    match tries::failed(ctx, failure, Replay::Harmless, setting) {
                        Next::Retry => self.metrics.retries.add(1),
                        Next::GiveUp => return None,
                    }
                }
            }
        }
    }

    /// Sends the request, and reads the head of the answer.
    async fn ask<C: Client>(
        &self,
        client: &mut C,
        upstream: &mut Upstream,
        head: &Bytes,
        whole: &Whole,
        ctx: &mut RequestContext,
    ) -> Result<Answer, Broken> {
        upstream.send(head, &whole.body).await?;
        let now = Instant::now();
        let silent_until = now + upstream.silence;
        let by = tries::first_byte_by(ctx, now).map_or(silent_until, |by| by.min(silent_until));
        loop {
            let answer = upstream.read_head(client, by, &whole.method).await?;
            if !answer.status.is_informational() {
                return Ok(answer);
            }
            ctx.tries.interim = ctx.tries.interim.saturating_add(1);
            let is_wanted = answer.status == StatusCode::EARLY_HINTS;
            // We asked for no other protocol.
            let is_switch = answer.status == StatusCode::SWITCHING_PROTOCOLS;
            if is_switch || ctx.tries.interim > tries::INTERIM_MAX {
                return Err(Broken::Endpoint(Failure::BadAnswer));
            }
            if is_wanted {
                client.send_interim(answer.status, &answer.headers).await?;
            }
        }
    }

    /// Passes an answer on. Gives how many bytes of the body the client was sent.
    async fn pass_on<C: Client>(
        &self,
        client: &mut C,
        mut upstream: Upstream,
        answer: Answer,
        ctx: &mut RequestContext,
    ) -> u64 {
        let Answer { status, mut headers, framing, can_be_kept } = answer;
        ctx.answered = Some(status);
        ctx.seen.answered();
        pipeline::response_edits(ctx, &mut headers);
        wish::set_cookie(ctx, &self.shared.sticky_key, &mut headers);
        self.shared.observe.show(ctx, &mut headers);
        let passed = async {
            client.send_head(status, headers, framing).await?;
            upstream.relay(client, framing, ctx.tries.ends).await?;
            client.end().await.map_err(Broken::from)
        };
        let passed = passed.await;
        let sent = upstream.relayed;
        match passed {
            Ok(()) => {
                if can_be_kept && upstream.read.is_empty() {
                    self.pool.put(upstream.key, upstream.stream, Instant::now());
                }
            }
            Err(Broken::Client) => ctx.reason = Some(Reason::ClientGone),
            Err(Broken::Endpoint(failure)) => {
                ctx.reason = Some(tries::cut_by(ctx, failure));
                client.cut().await;
            }
        }
        sent
    }

    /// The head that every try sends.
    fn head_for_backend(&self, whole: &mut Whole, ctx: &RequestContext) -> Bytes {
        let Whole { method, uri, headers, body, .. } = whole;
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
        let mut out = BytesMut::with_capacity(request::HEAD_BYTES + body.len());
        match (&ctx.path, uri.query()) {
            (Some(path), Some(query)) => {
                request::write(method, &format!("{path}?{query}"), headers, &mut out);
            }
            (Some(path), None) => request::write(method, path, headers, &mut out),
            (None, _) => {
                let target = uri.path_and_query().map_or("/", |target| target.as_str());
                request::write(method, target, headers, &mut out);
            }
        }
        out.freeze()
    }
}

impl Upstream {
    async fn send(&mut self, head: &Bytes, body: &Bytes) -> Result<(), Broken> {
        let is_reused = self.is_reused;
        let sent = async {
            if body.is_empty() {
                self.stream.write_all(head).await
            } else {
                // Both in one segment where they fit.
                let mut both = BytesMut::with_capacity(head.len() + body.len());
                both.extend_from_slice(head);
                both.extend_from_slice(body);
                self.stream.write_all(&both).await
            }
        };
        let deadline = Instant::now() + self.silence;
        match timeout_at(deadline.into(), sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Broken::Endpoint(gone(is_reused))),
            Err(_) => Err(Broken::Endpoint(Failure::Timeout)),
        }
    }

    /// Reads the next head, interim or final.
    async fn read_head<C: Client>(
        &mut self,
        client: &mut C,
        by: Instant,
        method: &Method,
    ) -> Result<Answer, Broken> {
        let mut search = Search::default();
        loop {
            if let Some(end) = search.go_on(&self.read).map_err(bad)? {
                let head = self.read.split_to(end);
                return answer::read(head, method).map_err(bad);
            }
            let had_some = !self.read.is_empty();
            if self.fill(client, by).await? == 0 {
                let failure = if had_some { Failure::Reset } else { gone(self.is_reused) };
                return Err(Broken::Endpoint(failure));
            }
        }
    }

    /// Reads once, while the client is there. 0 is the end.
    pub(super) async fn fill<C: Client>(
        &mut self,
        client: &mut C,
        by: Instant,
    ) -> Result<usize, Broken> {
        self.read.reserve(READ_BYTES);
        let is_reused = self.is_reused && self.read.is_empty();
        let mut reading = pin!(self.stream.read_buf(&mut self.read));
        let read = poll_fn(|cx| {
            if let Poll::Ready(read) = reading.as_mut().poll(cx) {
                return Poll::Ready(read.map(Some));
            }
            client.poll_gone(cx).map(|Gone| Ok(None))
        });
        match timeout_at(by.into(), read).await {
            Ok(Ok(Some(count))) => Ok(count),
            Ok(Ok(None)) => Err(Broken::Client),
            Ok(Err(_)) => Err(Broken::Endpoint(gone(is_reused))),
            Err(_) => Err(Broken::Endpoint(Failure::Timeout)),
        }
    }
}

fn upstream(stream: TcpStream, to: &Try, key: Key, is_reused: bool) -> Upstream {
    Upstream { stream, read: BytesMut::new(), silence: to.read, relayed: 0, is_reused, key }
}

/// What it means that a connection ends before a byte of an answer.
fn gone(is_reused: bool) -> Failure {
    if is_reused { Failure::Stale } else { Failure::Reset }
}

fn bad(_: Fault) -> Broken {
    Broken::Endpoint(Failure::BadAnswer)
}

fn failure_of_connect(error: &io::Error) -> Failure {
    if is_want(error) {
        Failure::Local
    } else if error.kind() == io::ErrorKind::TimedOut {
        Failure::ConnectTimeout
    } else {
        Failure::Connect
    }
}

/// Room for each read from an Endpoint.
const READ_BYTES: usize = 8 * 1024;
