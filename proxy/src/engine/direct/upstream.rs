//! A try over HTTP/1.1, which has a connection to itself: the request goes out while the answer comes in.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::Method;
use http::header::{self, HeaderMap, HeaderValue};
use rustls::AlertDescription;
use tokio::io::AsyncReadExt;
use tokio::time::timeout_at;

use super::Direct;
use super::ahead::Ahead;
use super::answer::{self, Answer, Fault, Framing, Search};
use super::carry::Broken;
use super::client::{Client, Gone};
use super::endpoint::{Endpoint, Origin, Outgoing, Wanted};
use super::open;
use super::pool::Key;
use super::request;
use super::sending::{Body, Sending};
use super::stream::Stream;
use crate::forward::tries::Failure;

/// A connection to an Endpoint with what was read from it.
pub(super) struct Upstream {
    stream: Stream,
    pub(super) read: BytesMut,
    sending: Sending,
    /// Silence that is borne.
    pub(super) silence: Duration,
    /// The longest that it may take nothing of what is sent.
    write: Duration,
    /// Bytes of the body that were given on.
    pub(super) relayed: u64,
    is_reused: bool,
    /// How the Endpoint said that it does not believe who connects.
    disbelief: Option<AlertDescription>,
    key: Key,
}

/// A connection for a try, and how long its steps may take.
pub(super) struct Place {
    stream: Stream,
    read: Duration,
    write: Duration,
    key: Key,
    is_reused: bool,
}

impl Endpoint for Upstream {
    const HAS_CHUNKS: bool = true;
    type Head = Bytes;
    type Place = Place;

    fn head(outgoing: Outgoing<'_>) -> Bytes {
        let Outgoing { method, target, headers, body, is_upgrade, .. } = outgoing;
        if is_upgrade {
            headers.insert(header::CONNECTION, const { HeaderValue::from_static("Upgrade") });
            headers.insert(header::UPGRADE, const { HeaderValue::from_static("websocket") });
        }
        if body.is_chunked() {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let mut out = BytesMut::with_capacity(request::HEAD_BYTES);
        request::write(method, target, headers, &mut out);
        out.freeze()
    }

    async fn connect(direct: &Direct, wanted: Wanted) -> Result<(Place, bool), Failure> {
        let Wanted { to, told, key, from, now, ends } = wanted;
        let idle = match from {
            Origin::Pool => direct.pool.take(&key, now),
            Origin::Anew | Origin::Beside(_) => None,
        };
        let is_reused = idle.is_some();
        let stream = match idle {
            Some(stream) => stream,
            None => open::open(&to, told, direct.shared.limits.backend_handshake, ends).await?,
        };
        let (read, write) = (to.read, to.write);
        Ok((Place { stream, read, write, key, is_reused }, is_reused))
    }

    fn begin(place: Place, head: &Bytes, body: Body) -> Self {
        let Place { stream, read, write, key, is_reused } = place;
        Self {
            stream,
            read: BytesMut::new(),
            sending: Sending::new(head, body),
            silence: read,
            write,
            relayed: 0,
            is_reused,
            disbelief: None,
            key,
        }
    }

    async fn send<C: Client>(
        &mut self,
        client: &mut C,
        ends: Option<Instant>,
    ) -> Result<(), Broken> {
        while !self.sending.is_over() && self.read.is_empty() {
            let written = self.sending.written();
            let patience = Instant::now() + self.write;
            let by = ends.map_or(patience, |ends| ends.min(patience));
            match timeout_at(by.into(), self.step(client)).await {
                Ok(Ok(Step::Sent)) => {}
                // It has nothing to say, but may still take what is sent.
                Ok(Ok(Step::Read(0))) => return Err(self.ended()),
                Ok(Ok(Step::Read(_))) => {}
                Ok(Err(broken)) => return Err(broken),
                Err(_) if is_past(ends) => return Err(Broken::Endpoint(Failure::Timeout)),
                Err(_) if self.sending.is_held_up() && self.sending.written() == written => {
                    return Err(Broken::Endpoint(Failure::Timeout));
                }
                // It waits for the client.
                Err(_) => {}
            }
        }
        Ok(())
    }

    async fn read_head<C: Client>(
        &mut self,
        client: &mut C,
        (by, ends): (Instant, Option<Instant>),
        method: &Method,
    ) -> Result<Answer, Broken> {
        let mut search = Search::default();
        loop {
            if let Some(end) = search.go_on(&self.read).map_err(bad)? {
                return answer::read(&take_head::<C>(&mut self.read, end), method).map_err(bad);
            }
            if self.fill(client, by, ends).await? == 0 {
                return Err(self.ended());
            }
        }
    }

    async fn relay<C: Client>(
        &mut self,
        client: &mut C,
        framing: Framing,
        ends: Option<Instant>,
    ) -> Result<Option<HeaderMap>, Broken> {
        // What comes behind chunks goes no further.
        self.relay_body(client, framing, ends).await.map(|()| None)
    }

    async fn relay_ahead<C: Client>(
        self,
        client: &mut C,
        ahead: Ahead,
        framing: (Framing, Option<Instant>),
        release: impl FnOnce(Self) + Send,
    ) -> Result<Option<HeaderMap>, Broken> {
        ahead.relay(client, self, framing, release).await.map(|()| None)
    }

    fn body(&mut self) -> &mut Body {
        self.sending.body()
    }

    fn into_body(self) -> Body {
        self.sending.into_body()
    }

    fn is_sent(&self) -> bool {
        self.sending.is_done()
    }

    fn disbelief(&self) -> Option<AlertDescription> {
        self.disbelief
    }

    fn silence(&self) -> Duration {
        self.silence
    }

    fn bear(&mut self, silence: Duration) {
        self.silence = silence;
    }

    fn relayed(&self) -> u64 {
        self.relayed
    }

    fn release(self, direct: &Direct, can_be_kept: bool) {
        if can_be_kept && self.read.is_empty() && self.sending.is_done() {
            direct.pool.put(self.key, self.stream, Instant::now());
        }
    }

    fn into_tunnel(self) -> Option<(Stream, Bytes)> {
        Some((self.stream, self.read.freeze()))
    }
}

impl Upstream {
    /// What it means that the connection has ended before the head of an answer.
    fn ended(&self) -> Broken {
        let is_stale = self.is_reused && self.read.is_empty();
        Broken::Endpoint(if is_stale { Failure::Stale } else { Failure::Reset })
    }

    /// Reads once, while the client is there, and goes on sending meanwhile. 0 is the end.
    ///
    /// As long as more of the request is sent, silence of the Endpoint is none, until `ends`.
    pub(super) async fn fill<C: Client>(
        &mut self,
        client: &mut C,
        mut by: Instant,
        ends: Option<Instant>,
    ) -> Result<usize, Broken> {
        loop {
            let written = self.sending.written();
            match timeout_at(by.into(), self.step(client)).await {
                Ok(Ok(Step::Read(count))) => return Ok(count),
                Ok(Ok(Step::Sent)) => {}
                Ok(Err(broken)) => return Err(broken),
                Err(_) if self.sending.written() != written && !is_past(ends) => {
                    let silent = Instant::now() + self.silence;
                    by = ends.map_or(silent, |ends| ends.min(silent));
                }
                Err(_) => return Err(Broken::Endpoint(Failure::Timeout)),
            }
        }
    }

    /// Reads once, behind the whole request.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.read.reserve(READ_BYTES);
        poll_read(&mut self.stream, &mut self.read, cx)
    }

    /// Sends what can be sent, and reads once.
    async fn step<C: Client>(&mut self, client: &mut C) -> Result<Step, Broken> {
        self.read.reserve(READ_BYTES);
        let Self { stream, read, sending, is_reused, disbelief, .. } = self;
        let was_over = sending.is_over();
        let stepped = poll_fn(|cx| {
            if !sending.is_over()
                && let Poll::Ready(sent) = sending.poll(cx, client, stream)
            {
                sent?;
            }
            match poll_read(stream, read, cx) {
                Poll::Ready(Ok(count)) => return Poll::Ready(Ok(Step::Read(count))),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Wrong::Endpoint(error))),
                Poll::Pending => {}
            }
            if !was_over && sending.is_over() {
                return Poll::Ready(Ok(Step::Sent));
            }
            if sending.is_done() {
                return client.poll_gone(cx).map(|Gone| Err(Wrong::Broken(Broken::Client)));
            }
            Poll::Pending
        });
        match stepped.await {
            Ok(step) => Ok(step),
            Err(Wrong::Broken(broken)) => Err(broken),
            Err(Wrong::Endpoint(error)) => {
                *disbelief = open::disbelief(&error);
                if disbelief.is_some() {
                    return Err(Broken::Endpoint(Failure::Tls));
                }
                let is_stale = *is_reused && read.is_empty();
                Err(Broken::Endpoint(if is_stale { Failure::Stale } else { Failure::Reset }))
            }
        }
    }
}

/// Takes the head of an answer, which ends at `end`, out of what was read.
fn take_head<C: Client>(read: &mut BytesMut, end: usize) -> Bytes {
    let head = read.split_to(end);
    // Of a copy, a client that keeps a field keeps no more than the head: else it is all the room that
    // there was for reading.
    if C::KEEPS_FIELDS { Bytes::copy_from_slice(&head) } else { head.freeze() }
}

/// What has come of waiting for either side.
enum Step {
    /// Nothing more is to be sent.
    Sent,
    /// So many bytes were read; 0 is the end.
    Read(usize),
}

enum Wrong {
    Broken(Broken),
    Endpoint(io::Error),
}

impl From<Broken> for Wrong {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

fn poll_read(
    stream: &mut Stream,
    read: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    // Nothing is lost when it is dropped: it has read, or it has not.
    pin!(stream.read_buf(read)).poll(cx)
}

fn is_past(ends: Option<Instant>) -> bool {
    ends.is_some_and(|ends| ends <= Instant::now())
}

fn bad(_: Fault) -> Broken {
    Broken::Endpoint(Failure::BadAnswer)
}

/// Room for each read from an Endpoint.
const READ_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::super::http1::Http1;
    use super::super::http2::Http2;
    use super::*;

    #[track_caller]
    fn check<C: Client>(keeps_all: bool) {
        let mut read = BytesMut::with_capacity(READ_BYTES);
        read.extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\nbody");
        let head = take_head::<C>(&mut read, 19);
        assert_eq!((&*head, &*read), (&b"HTTP/1.1 200 OK\r\n\r\n"[..], &b"body"[..]));
        // There is room for as much again only where nobody holds it.
        assert_eq!(read.try_reclaim(READ_BYTES - 4), !keeps_all);
    }

    #[test]
    fn what_an_http2_client_keeps_of_a_head_is_no_more_than_the_head() {
        check::<Http1<'_>>(true);
        check::<Http2>(false);
    }
}
