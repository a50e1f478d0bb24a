//! One exchange: the tries, the answer, and what becomes of both connections.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout_at};

use super::answer::{Answer, Fault, Framing, Search};
use super::pool::Key;
use super::request::{self, Whole};
use super::{Direct, answer, strip, thaw};
use crate::backend::connect::{connect, is_want};
use crate::engine::Begun;
use crate::forward::tries::{self, Failure, Next, Replay, Try};
use crate::forward::wish;
use crate::listener::connection::Conn;
use crate::over::{self, Over};
use crate::pipeline::{self, Begin};
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

/// Where the connection of a try comes from.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// The pool, if it has one.
    Pool,
    /// It is opened.
    Anew,
}

/// Why an exchange does not go on.
#[derive(Debug)]
pub(super) enum Broken {
    /// The client is gone, so nobody waits for an answer.
    Client,
    /// The Endpoint is at fault, or gone.
    Endpoint(Failure),
}

impl Direct {
    /// Carries a request to an Endpoint, and its answer back.
    pub(super) async fn carry(
        &self,
        mut conn: Box<Conn>,
        bytes: Bytes,
        mut whole: Whole,
        mut ctx: RequestContext,
    ) -> Option<Box<Conn>> {
        let replay = Replay::of(&whole.method);
        // As it came: the head is edited in its place.
        let quoted = self.shared.observe.quote(&whole.headers);
        let head = self.head_for_backend(&mut whole, &ctx);
        let mut from = Origin::Pool;
        loop {
            let Some(mut upstream) = self.connection(&mut ctx, from).await else {
                return self.give_up(conn, bytes, (whole, quoted), ctx).await;
            };
            let asked = self.ask(&mut conn, &mut upstream, &head, &whole, &mut ctx).await;
            let failure = match asked {
                Ok(answer) => {
                    let status = answer.status;
                    let setting = self.shared.setting();
                    if tries::answered(&mut ctx, status, replay, setting) == Next::Retry {
                        self.metrics.retries.add(1);
                        ctx.tries.is_repeated = false;
                        continue;
                    }
                    let (is_kept, sent) =
                        self.pass_on(&mut conn, upstream, answer, &whole, &mut ctx).await;
                    self.tell(&whole, quoted, sent, &mut ctx);
                    return is_kept.then_some(conn);
                }
                Err(Broken::Client) => {
                    ctx.reason = Some(Reason::ClientGone);
                    self.tell(&whole, quoted, 0, &mut ctx);
                    return None;
                }
                Err(Broken::Endpoint(failure)) => failure,
            };
            if failure == Failure::Stale {
                // What idles beside it may have gone away at the same time.
                from = Origin::Anew;
            }
            if tries::failed(&mut ctx, failure, replay, self.shared.setting()) == Next::GiveUp {
                return self.give_up(conn, bytes, (whole, quoted), ctx).await;
            }
            self.metrics.retries.add(1);
        }
    }

    /// Lets the other engine answer that no Endpoint has: it knows all forms of answers.
    async fn give_up(
        &self,
        conn: Box<Conn>,
        bytes: Bytes,
        shared: (Whole, Quoted),
        ctx: RequestContext,
    ) -> Option<Box<Conn>> {
        self.metrics.backend_errors.add(1);
        let status = ctx.reason.map_or(StatusCode::BAD_GATEWAY, |reason| reason.status());
        // They refer to the bytes, which are then thawed without a copy.
        drop(shared);
        let begun = Begun { ctx, begin: Begin::Reply(Reply::of(status)) };
        self.other.go_on(conn, thaw(bytes), begun).await
    }

    /// Tells that the request is over, of whose answer the client got so many bytes of the body.
    fn tell(&self, whole: &Whole, quoted: Quoted, sent: u64, ctx: &mut RequestContext) {
        let over = Over {
            method: &whole.method,
            uri: &whole.uri,
            version: request::VERSION,
            quoted,
            body_bytes: (whole.body.len() as u64, sent),
        };
        over::tell(&self.shared, self.worker, ctx, over);
    }

    /// A connection for the next try; None when there is none, and the reason stands in `ctx`.
    async fn connection(&self, ctx: &mut RequestContext, from: Origin) -> Option<Upstream> {
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
            let idle = match from {
                Origin::Pool => self.pool.take(&key, now),
                Origin::Anew => None,
            };
            if let Some(stream) = idle {
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
    async fn ask(
        &self,
        conn: &mut Conn,
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
            let answer = upstream.read_head(conn, by, &whole.method).await?;
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
                let mut out = BytesMut::new();
                request::write_answer(answer.status, &answer.headers, &mut out);
                out.extend_from_slice(b"\r\n");
                to_client(conn, &out).await?;
                conn.flush().await.map_err(|_| Broken::Client)?;
            }
        }
    }

    /// Passes an answer on. Gives whether the connection of the client can go on, and how many bytes
    /// of the body it was sent.
    async fn pass_on(
        &self,
        conn: &mut Conn,
        mut upstream: Upstream,
        mut answer: Answer,
        whole: &Whole,
        ctx: &mut RequestContext,
    ) -> (bool, u64) {
        ctx.answered = Some(answer.status);
        ctx.seen.answered();
        let headers = &mut answer.headers;
        pipeline::response_edits(ctx, headers);
        wish::set_cookie(ctx, &self.shared.sticky_key, headers);
        self.shared.observe.show(ctx, headers);
        let is_last = whole.is_last
            || conn.requests() >= self.shared.limits.requests_max
            || Instant::now() >= conn.ends().into_std()
            || self.shared.is_leaving.load(Ordering::Relaxed);
        let out = head_for_client(&mut answer, is_last);
        let passed = async {
            to_client(conn, &out).await?;
            upstream.relay(conn, answer.framing, ctx.tries.ends).await?;
            conn.flush().await.map_err(|_| Broken::Client)
        };
        let passed = passed.await;
        let sent = upstream.relayed;
        let is_kept = match passed {
            Ok(()) => {
                if answer.can_be_kept && upstream.read.is_empty() {
                    self.pool.put(upstream.key, upstream.stream, Instant::now());
                }
                if is_last {
                    // Over TLS this tells the client that nothing was cut off.
                    let _ = conn.shutdown().await;
                }
                !is_last
            }
            Err(Broken::Client) => {
                ctx.reason = Some(Reason::ClientGone);
                false
            }
            Err(Broken::Endpoint(failure)) => {
                ctx.reason = Some(tries::cut_by(ctx, failure));
                // What was written leaves before the end: a connection that ends without a byte looks
                // as if the request could be sent again. The framing tells that the answer is cut off.
                let _ = conn.shutdown().await;
                false
            }
        };
        (is_kept, sent)
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
        let mut out = BytesMut::with_capacity(HEAD_BYTES + body.len());
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
    async fn read_head(
        &mut self,
        conn: &mut Conn,
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
            if self.fill(conn, by).await? == 0 {
                let failure = if had_some { Failure::Reset } else { gone(self.is_reused) };
                return Err(Broken::Endpoint(failure));
            }
        }
    }

    /// Reads once, while the client is there. 0 is the end.
    pub(super) async fn fill(&mut self, conn: &mut Conn, by: Instant) -> Result<usize, Broken> {
        self.read.reserve(READ_BYTES);
        let is_reused = self.is_reused && self.read.is_empty();
        let mut reading = pin!(self.stream.read_buf(&mut self.read));
        let read = poll_fn(|cx| {
            if let Poll::Ready(read) = reading.as_mut().poll(cx) {
                return Poll::Ready(read.map(Some));
            }
            let mut nothing = [0; 1];
            match Pin::new(&mut *conn).poll_read(cx, &mut ReadBuf::new(&mut nothing)) {
                // Bytes of the next request are held back, so this is its end.
                Poll::Ready(_) => Poll::Ready(Ok(None)),
                Poll::Pending => Poll::Pending,
            }
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

pub(super) async fn to_client(conn: &mut Conn, bytes: &[u8]) -> Result<(), Broken> {
    conn.write_all(bytes).await.map_err(|_| Broken::Client)
}

/// The head of an answer, framed as this side frames it.
fn head_for_client(answer: &mut Answer, is_last: bool) -> BytesMut {
    let headers = &mut answer.headers;
    match answer.framing {
        Framing::Nothing | Framing::Length(_) => {}
        // Both ends of an answer without a length are found by chunks here.
        Framing::Chunked | Framing::Close => {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    if is_last {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let mut out = BytesMut::with_capacity(HEAD_BYTES);
    request::write_answer(answer.status, headers, &mut out);
    if !headers.contains_key(header::DATE) {
        let date = httpdate::fmt_http_date(std::time::SystemTime::now());
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(date.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Room for a usual head.
const HEAD_BYTES: usize = 1024;
/// Room for each read from an Endpoint.
const READ_BYTES: usize = 8 * 1024;
