//! One connection: the stream that an engine reads and writes.
//!
//! [`Conn`] knows no engine. It holds back bytes of a request that came before
//! its turn, joins small writes, and keeps nothing while it is parked.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::body::{Chunks, Pace};
use super::cut::Cut;
use super::facts::ConnFacts;
use super::frames::{Course, ENHANCE_YOUR_CALM, Frames, NO_ERROR, PROTOCOL_ERROR, goaway};
use super::refusal::Rule;
use super::stall::Stall;
use super::transport::Transport;
use crate::limits::Limits;

/// What of the body of the current request is still to come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Left {
    /// So many bytes.
    Bytes(u64),
    /// Chunks.
    Chunked(Chunks),
    /// Its end is found by whoever reads it: a tunnel, or HTTP/2.
    Open,
}

/// A connection as an engine reads and writes it.
#[derive(Debug)]
pub(crate) struct Conn {
    transport: Transport,
    /// Writes not yet sent; empty and unallocated while parked.
    out: BytesMut,
    /// Bytes that were read before their turn: of the next request, or the preface of HTTP/2.
    held: BytesMut,
    left: Left,
    /// HTTP/2: what its client may do.
    frames: Option<Box<Frames>>,
    /// HTTP/2: present once it has done too much.
    cut: Option<Box<Cut>>,
    /// HTTP/2: `out` waits for the next turn of this connection.
    is_put_off: bool,
    /// TLS may hold bytes that the socket did not take.
    is_unflushed: bool,
    /// Runs while a write makes no progress.
    stall: Stall,
    /// Runs while a Backend decides whether this becomes a tunnel.
    switch: Option<Pin<Box<Sleep>>>,
    /// Runs until the deadline of the request in progress, where it has one.
    deadline: Option<Pin<Box<Sleep>>>,
    write_stall: Duration,
    /// In each such period some of a body has to arrive.
    body_period: Duration,
    pace: Pace,
    ends: Instant,
    /// Requests that were begun.
    requests: u32,
    pub(crate) facts: Arc<ConnFacts>,
}

impl Conn {
    pub(crate) fn new(transport: Transport, facts: Arc<ConnFacts>, limits: &Limits) -> Self {
        Self {
            transport,
            out: BytesMut::new(),
            held: BytesMut::new(),
            left: Left::Open,
            frames: None,
            cut: None,
            is_put_off: false,
            is_unflushed: false,
            stall: Stall::default(),
            switch: None,
            deadline: None,
            write_stall: limits.write_stall,
            body_period: limits.body_read,
            pace: Pace::default(),
            ends: Instant::now() + age(limits.age, facts.client.port()),
            requests: 0,
            facts,
        }
    }

    pub(crate) fn is_h2(&self) -> bool {
        self.frames.is_some()
    }

    /// HTTP/2: what its owner is told while the engine has it.
    pub(crate) fn course(&self) -> Option<Arc<Course>> {
        self.frames.as_ref().map(|frames| frames.course.clone())
    }

    /// When it has to end, however busy it is.
    pub(crate) fn ends(&self) -> Instant {
        self.ends
    }

    /// Whether nothing of the current request is still to come.
    pub(crate) fn has_whole_request(&self) -> bool {
        self.left == Left::Bytes(0)
    }

    /// How much of a body of known length is still to come.
    pub(crate) fn left_bytes(&self) -> u64 {
        match self.left {
            Left::Bytes(left) => left,
            Left::Chunked(_) | Left::Open => 0,
        }
    }

    /// Whether bytes came before their turn.
    pub(crate) fn has_early(&self) -> bool {
        !self.held.is_empty()
    }

    /// How many requests were begun on it.
    pub(crate) fn requests(&self) -> u32 {
        self.requests
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.transport.raw_fd()
    }

    /// From here on it carries HTTP/2; `before` was read already.
    pub(crate) fn become_h2(&mut self, before: BytesMut, streams_max: u32) {
        self.held = before;
        self.frames = Some(Box::new(Frames::new(streams_max)));
        self.left = Left::Open;
    }

    /// Gives all memory back that is not needed while waiting for a request.
    pub(crate) fn park(&mut self) {
        self.out = BytesMut::new();
        self.stall.end();
        self.switch = None;
        self.deadline = None;
        self.pace = Pace::default();
        self.left = Left::Open;
    }

    /// The bytes that came early.
    pub(crate) fn take_held(&mut self) -> BytesMut {
        std::mem::take(&mut self.held)
    }

    /// A request begins, of whose body `left` is to come; `early` belongs to the next one.
    pub(crate) fn begin(&mut self, left: Left, early: BytesMut) {
        self.left = left;
        self.held = early;
        // That of the request before.
        self.facts.alarm.set(None);
        self.requests = self.requests.saturating_add(1);
    }

    /// Reads once, whatever belongs to whom. Keeps no buffer while it waits.
    pub(crate) async fn fill(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        std::future::poll_fn(|cx| {
            let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(self.transport.poll_read(cx, &mut read))?;
            into.extend_from_slice(read.filled());
            Poll::Ready(Ok(read.filled().len()))
        })
        .await
    }

    /// Sends `out`; an error when the client takes nothing for too long.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            match self.transport.poll_write(cx, &self.out) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.out.advance(written);
                    self.is_unflushed = true;
                    self.stall.end();
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_stall(cx),
            }
        }
        if self.is_h2() {
            // It is never parked, so this is when its memory goes to whoever writes next.
            self.out = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Pending, until a write has made no progress for too long.
    fn poll_stall<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        ready!(self.stall.poll(self.transport.sent(), self.write_stall, cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends `out` and what TLS still holds of it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        match self.transport.poll_flush(cx) {
            Poll::Ready(flushed) => {
                self.is_unflushed = false;
                self.stall.end();
                Poll::Ready(flushed)
            }
            Poll::Pending => self.poll_stall(cx),
        }
    }

    /// Ready when the request in progress has reached its deadline.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.facts.alarm.get().map(Instant::from_std) else {
            return Poll::Pending;
        };
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if deadline.deadline() != at {
            deadline.as_mut().reset(at);
        }
        deadline.as_mut().poll(cx)
    }

    /// Reads whatever comes, first what is held.
    fn poll_open(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return self.transport.poll_read(cx, out);
        }
        let count = self.held.len().min(out.remaining());
        out.put_slice(&self.held.split_to(count));
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// The client of HTTP/2 did too much: it is told, where the engine is not within a frame.
    fn begin_cut(&mut self, rule: Rule) {
        let code = if rule == Rule::FirstFrame { PROTOCOL_ERROR } else { ENHANCE_YOUR_CALM };
        if self.frames.as_ref().is_some_and(|frames| frames.is_between_frames()) {
            self.out.extend_from_slice(&goaway(code));
        } else {
            self.out.clear();
        }
        self.cut = Some(Box::new(Cut::new()));
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.cut {
            Some(cut) => cut.poll(&mut self.transport, &mut self.out, cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// HTTP/2: counts what the engine wrote.
    fn wrote(&mut self, bytes: &[u8]) {
        if let Some(frames) = &mut self.frames {
            frames.wrote(bytes);
        }
    }

    /// Reads a part of a body of known length, of which `left` is to come.
    fn poll_sized(
        &mut self,
        left: u64,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = out.remaining().min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut part = ReadBuf::new(out.initialize_unfilled_to(most));
        ready!(self.poll_body(cx, &mut part))?;
        let count = part.filled().len();
        out.advance(count);
        self.left = Left::Bytes(left - count as u64);
        Poll::Ready(Ok(()))
    }

    /// Reads a part of a chunked body; what came behind its end is held.
    fn poll_chunked(
        &mut self,
        mut chunks: Chunks,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut part = ReadBuf::new(out.initialize_unfilled());
            ready!(self.poll_body(cx, &mut part))?;
            if part.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            let passed = match chunks.pass(part.filled_mut()) {
                Ok(passed) => passed,
                Err(rule) => return self.fault(rule, io::ErrorKind::InvalidData),
            };
            self.left = Left::Chunked(chunks);
            if passed.is_end {
                self.held.extend_from_slice(part.filled().get(passed.taken..).unwrap_or_default());
                self.left = Left::Bytes(0);
            }
            out.advance(passed.kept);
            // No bytes at all would be read as the end of the connection.
            if passed.kept > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads bytes of a body; an error when they come too slowly.
    fn poll_body(&mut self, cx: &mut Context<'_>, part: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.transport.poll_read(cx, part)?.is_ready() {
            self.pace.arrived(part.filled().len());
            return Poll::Ready(Ok(()));
        }
        if self.pace.is_too_slow(self.body_period, cx) {
            return self.fault(Rule::SlowBody, io::ErrorKind::TimedOut);
        }
        Poll::Pending
    }

    /// The body broke `rule`: nothing more of it is read.
    fn fault<T>(&mut self, rule: Rule, kind: io::ErrorKind) -> Poll<io::Result<T>> {
        self.facts.body_fault.set(rule);
        Poll::Ready(Err(kind.into()))
    }

    /// Reads what comes while nothing may: only the end of the stream is news.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The engine's limit of silence from a Backend is that of the tunnel already.
        let within = self.facts.switch_millis.load(Ordering::Relaxed);
        if within != 0 {
            let end = Instant::now() + Duration::from_millis(within);
            let switch = self.switch.get_or_insert_with(|| Box::pin(sleep_until(end)));
            if switch.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        loop {
            if self.held.len() >= HELD_BYTES_MAX {
                return Poll::Pending;
            }
            let mut space = [const { MaybeUninit::uninit() }; 1024];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(self.transport.poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(read.filled());
        }
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.cut.is_some() {
            return this.poll_cut(cx);
        }
        if this.poll_deadline(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if this.is_put_off {
            match this.poll_send(cx) {
                Poll::Ready(Ok(())) => this.is_put_off = false,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                // A full socket wakes this task when it has room.
                Poll::Pending => {}
            }
        }
        if this.facts.body_fault.rule().is_some() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        match this.left {
            Left::Open => {
                let before = out.filled().len();
                ready!(this.poll_open(cx, out))?;
                let Some(frames) = &mut this.frames else { return Poll::Ready(Ok(())) };
                let Err(rule) = frames.read(out.filled().get(before..).unwrap_or_default()) else {
                    return Poll::Ready(Ok(()));
                };
                out.set_filled(before);
                this.begin_cut(rule);
                this.poll_cut(cx)
            }
            Left::Bytes(0) if this.facts.is_tunnel.load(Ordering::Relaxed) => {
                this.left = Left::Open;
                self.poll_read(cx, out)
            }
            Left::Bytes(0) => this.poll_hold(cx),
            Left::Chunked(chunks) => this.poll_chunked(chunks, cx, out),
            Left::Bytes(left) => this.poll_sized(left, cx, out),
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.cut.is_some() {
            // The client is told nothing more.
            return Poll::Ready(Ok(bytes.len()));
        }
        loop {
            if this.out.len() + bytes.len() <= OUT_BYTES_MAX {
                if this.out.is_empty() && this.is_h2() {
                    // Frames of many streams follow within the same turn.
                    this.out.reserve(OUT_BYTES_MAX);
                }
                this.out.extend_from_slice(bytes);
                this.wrote(bytes);
                return Poll::Ready(Ok(bytes.len()));
            }
            match this.transport.poll_write_both(cx, &mut this.out, bytes) {
                Poll::Ready(Ok(0)) => this.stall.end(),
                Poll::Ready(written) => {
                    this.stall.end();
                    this.is_unflushed = true;
                    if let Ok(count) = written {
                        this.wrote(bytes.get(..count).unwrap_or_default());
                    }
                    return Poll::Ready(written);
                }
                Poll::Pending => return this.poll_stall(cx),
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.cut.is_some() {
            return Poll::Ready(Ok(()));
        }
        if this.frames.is_some() && this.out.len() < OUT_BYTES_MAX {
            // h2 flushes after every DATA frame over 256 bytes. Say yes, and write once, at the start
            // of this connection's next turn: frames of other ready streams join the record.
            if !this.is_put_off && (this.is_unflushed || !this.out.is_empty()) {
                this.is_put_off = true;
                cx.waker().wake_by_ref();
            }
            return Poll::Ready(Ok(()));
        }
        this.is_put_off = false;
        this.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_drain(cx))?;
        match this.transport.poll_shutdown(cx) {
            Poll::Ready(shut) => Poll::Ready(shut),
            // TLS has something to say at its end.
            Poll::Pending => this.poll_stall(cx),
        }
    }
}

impl Drop for Conn {
    /// Tells a client of HTTP/2 that the engine leaves, also where it does not do so itself, and one
    /// of HTTP/1.0 that its answer is not whole.
    fn drop(&mut self) {
        if self.facts.is_cut.load(Ordering::Relaxed) {
            self.transport.end_as_reset();
        }
        let Some(frames) = &self.frames else { return };
        if self.cut.is_none() && frames.is_begun() && frames.is_between_frames() {
            self.out.extend_from_slice(&goaway(NO_ERROR));
            // Nobody waits: what the socket does not take at once is lost with the connection.
            let _ = self.transport.poll_write(&mut Context::from_waker(Waker::noop()), &self.out);
        }
    }
}

/// `age`, shortened or prolonged by up to a tenth, so that connections of one moment do not end in one.
fn age(age: Duration, client_port: u16) -> Duration {
    age / 100 * (90 + u32::from(client_port % 21))
}

/// Bytes that are read at once before a request is known.
const READ_BYTES: usize = 4096;
/// Early bytes that are kept while a request is in progress.
const HELD_BYTES_MAX: usize = 16 * 1024;
/// Writes are joined up to one TLS record.
const OUT_BYTES_MAX: usize = 16 * 1024;
