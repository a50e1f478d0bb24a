//! A request on its way to an Endpoint: its head, then its body as it comes.

use std::fmt::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method};
use tokio::io::AsyncWrite;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::carry::Broken;
use super::client::{Client, Coming, Unread};
use super::stream::Stream;
use super::trailers;
use crate::filter::body_limit::Meter;
use crate::filter::mirror::Copy;
use crate::forward::tries::Replay;
use crate::reason::Reason;
use crate::request::Extra;

/// The body of a request, for all its tries.
#[derive(Debug)]
pub(super) struct Body {
    is_chunked: bool,
    /// Whether its end was read.
    is_whole: bool,
    /// What was read of it, framed for Endpoints, for as long as it is short enough to be sent again.
    kept: BytesMut,
    kept_bytes_max: usize,
    is_kept: bool,
    /// Bytes that were read, without framing.
    bytes: u64,
    meter: Meter,
    mirrors: Vec<Copy>,
    /// Its part of what may be held of bodies that are read whole.
    room: Option<OwnedSemaphorePermit>,
    /// What came behind its end, and may go on.
    trailers: Option<Box<HeaderMap>>,
}

impl Body {
    /// A body of which `early` came with the head, where nothing else is to come. Takes over what
    /// Filters noted about it.
    ///
    /// # Errors
    /// When it is larger than it may be.
    pub(super) fn new(
        early: &Bytes,
        coming: Coming,
        extra: Option<&mut Extra>,
    ) -> Result<Self, Reason> {
        let (meter, mirrors) = extra.map_or_else(Default::default, |extra| {
            (extra.bodies.request, std::mem::take(&mut extra.mirrors))
        });
        let mut body = Self {
            is_chunked: coming == Coming::Unknown,
            is_whole: coming == Coming::Nothing,
            kept: BytesMut::new(),
            kept_bytes_max: KEPT_BYTES_MAX,
            is_kept: true,
            bytes: 0,
            meter,
            mirrors,
            room: None,
            trailers: None,
        };
        if body.is_whole && !early.is_empty() {
            // It came with a head, so it is short.
            body.kept_bytes_max = KEPT_BYTES_MAX.max(early.len());
            body.take(early)?;
            body.keep(early);
        }
        Ok(body)
    }

    /// The same body for an Endpoint that is told its end otherwise.
    pub(super) fn without_chunks(self) -> Self {
        Self { is_chunked: false, ..self }
    }

    /// What was read so far, as long as it can be sent again.
    pub(super) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// What comes behind it.
    pub(super) fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_deref()
    }

    pub(super) fn is_chunked(&self) -> bool {
        self.is_chunked
    }

    /// Whether its end was read.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Bytes that were read, without framing.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The copies that are made of the request.
    pub(super) fn mirrors(&mut self) -> &mut Vec<Copy> {
        &mut self.mirrors
    }

    /// Whether a request with `method` and this body can be sent once more.
    pub(super) fn replay(&self, method: &Method) -> Replay {
        if self.is_kept { Replay::of(method) } else { Replay::Impossible }
    }

    /// Reads all of it, so that it can be sent as often as needed. Its limit is that of the request,
    /// and all that are read so share `room`, which is counted in KiB.
    pub(super) async fn read_whole<C: Client>(
        &mut self,
        client: &mut C,
        room: &Arc<Semaphore>,
    ) -> Result<(), Broken> {
        // Its length will be known, so it needs no chunks.
        self.is_chunked = false;
        self.kept_bytes_max = usize::MAX;
        let mut held: Option<OwnedSemaphorePermit> = None;
        while !self.is_whole {
            std::future::poll_fn(|cx| self.poll_next(cx, client)).await?;
            let wanted = self.kept.len().div_ceil(1024);
            let more = wanted.saturating_sub(held.as_ref().map_or(0, |held| held.num_permits()));
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            let more = room.clone().try_acquire_many_owned(more);
            let more = more.map_err(|_| Broken::Request(Reason::Overload))?;
            match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            }
        }
        self.room = held;
        Ok(())
    }

    /// The next bytes as they are sent to an Endpoint; none at all behind the end.
    pub(super) fn poll_next<C: Client>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut C,
    ) -> Poll<Result<Bytes, Broken>> {
        if self.is_whole {
            return Poll::Ready(Ok(Bytes::new()));
        }
        let part = match ready!(client.poll_part(cx)) {
            Ok(part) => part,
            Err(Unread::Gone) => return Poll::Ready(Err(Broken::Client)),
            Err(Unread::Broke(rule)) => return Poll::Ready(Err(Broken::Rule(rule))),
        };
        let framed = match part {
            Some(part) => {
                self.take(&part).map_err(Broken::Request)?;
                if self.is_chunked { chunk(&part) } else { part }
            }
            None => {
                self.is_whole = true;
                let trailers = client.take_trailers().and_then(trailers::allowed);
                self.trailers = trailers.map(Box::new);
                Bytes::from_static(if self.is_chunked { LAST_CHUNK } else { b"" })
            }
        };
        self.keep(&framed);
        Poll::Ready(Ok(framed))
    }

    /// Counts and copies what was read.
    fn take(&mut self, part: &[u8]) -> Result<(), Reason> {
        self.bytes += part.len() as u64;
        self.mirrors.iter_mut().for_each(|copy| copy.take(part));
        if self.meter.takes(part.len()) { Ok(()) } else { Err(Reason::BodyTooLarge) }
    }

    fn keep(&mut self, framed: &[u8]) {
        if !self.is_kept {
            return;
        }
        if self.kept.len() + framed.len() > self.kept_bytes_max {
            self.is_kept = false;
            self.kept = BytesMut::new();
        } else {
            self.kept.extend_from_slice(framed);
        }
    }
}

/// One chunk of a body (RFC 9112 section 7.1).
pub(super) fn chunk(part: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(part.len() + CHUNK_EXTRA_BYTES);
    // Writing to a buffer cannot fail.
    let _ = write!(out, "{:x}\r\n", part.len());
    out.extend_from_slice(part);
    out.extend_from_slice(b"\r\n");
    out.freeze()
}

/// One try to send a request.
#[derive(Debug)]
pub(super) struct Sending {
    body: Body,
    /// What is written next.
    out: Bytes,
    state: State,
    /// Bytes that were written.
    written: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// There is more to send.
    Going,
    /// All was sent.
    Done,
    /// The Endpoint takes no more. It may have answered.
    Stopped,
}

impl Sending {
    /// Begins with `head` and what is known of the body.
    pub(super) fn new(head: &Bytes, body: Body) -> Self {
        let out = if body.kept.is_empty() {
            head.clone()
        } else {
            // Both in one segment where they fit.
            let mut both = BytesMut::with_capacity(head.len() + body.kept.len());
            both.extend_from_slice(head);
            both.extend_from_slice(&body.kept);
            both.freeze()
        };
        Self { body, out, state: State::Going, written: 0 }
    }

    /// The body, for another try.
    pub(super) fn into_body(self) -> Body {
        self.body
    }

    pub(super) fn body(&mut self) -> &mut Body {
        &mut self.body
    }

    /// Whether all was sent.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether nothing more is sent.
    pub(super) fn is_over(&self) -> bool {
        self.state != State::Going
    }

    /// Whether the Endpoint takes nothing at this moment.
    pub(super) fn is_held_up(&self) -> bool {
        !self.is_over() && !self.out.is_empty()
    }

    /// Bytes that were written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Sends what can be sent. Ready when it is over.
    ///
    /// An error is one of the client: what is wrong with the Endpoint shows where it is read.
    pub(super) fn poll<C: Client>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut C,
        stream: &mut Stream,
    ) -> Poll<Result<(), Broken>> {
        while self.state == State::Going {
            if !self.out.is_empty() {
                match ready!(Pin::new(&mut *stream).poll_write(cx, &self.out)) {
                    Ok(count @ 1..) => {
                        self.out.advance(count);
                        self.written += count as u64;
                    }
                    Ok(0) | Err(_) => self.state = State::Stopped,
                }
                continue;
            }
            if self.body.is_whole() {
                let flushed = ready!(Pin::new(&mut *stream).poll_flush(cx));
                self.state = if flushed.is_ok() { State::Done } else { State::Stopped };
                continue;
            }
            match self.body.poll_next(cx, client) {
                Poll::Ready(next) => self.out = next?,
                Poll::Pending => {
                    // What was sent so far is not held back while the client makes up its mind.
                    if let Poll::Ready(Err(_)) = Pin::new(&mut *stream).poll_flush(cx) {
                        self.state = State::Stopped;
                        continue;
                    }
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A body up to so many bytes is kept, so that it can be sent again.
const KEPT_BYTES_MAX: usize = 64 * 1024;
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// 16 digits and the ends of both lines.
const CHUNK_EXTRA_BYTES: usize = 20;
