//! A client of HTTP/1, whose connection carries one exchange at a time.

use std::fmt::Write;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use super::answer::Framing;
use super::chunks::Chunks;
use super::client::{Client, Coming, Gone, Unread};
use super::request::{self, Whole};
use super::sending::chunk;
use super::stream::Stream;
use crate::listener::connection::Conn;
use crate::listener::refusal::Rule;
use crate::listener::tunnel;
use crate::shared::Shared;

/// The connection for the time of one exchange.
pub(super) struct Http1<'a> {
    conn: Box<Conn>,
    shared: &'a Shared,
    incoming: Incoming,
    version: Version,
    /// Whether the client waits for a word before it sends a body (RFC 9110 section 10.1.1).
    is_invited: bool,
    /// Whether the connection ends behind the answer.
    is_last: bool,
    /// Whether the client hopes for a tunnel: what follows its request may be meant for one.
    hopes: bool,
    ending: Ending,
    /// Whether the answer was sent to its end.
    is_ended: bool,
    /// What of the answer is written next, as it is framed.
    out: Bytes,
}

/// The body of the request as it comes.
enum Incoming {
    /// There is none, or it came with the head.
    Nothing,
    /// So many bytes are still to be given, the first of which came with the head.
    Sized { left: u64, early: BytesMut },
    /// Chunks, the first bytes of which came with the head. The connection has judged them.
    Chunked { chunks: Chunks, early: BytesMut },
}

/// How the end of the answer is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    Length,
    Chunks,
    /// With the connection: an old client knows no chunks.
    Close,
}

impl<'a> Http1<'a> {
    /// Of a request whose head has come, and perhaps a part of its body.
    pub(super) fn new(conn: Box<Conn>, shared: &'a Shared, whole: &mut Whole) -> Self {
        let incoming = if whole.is_chunked {
            let early = BytesMut::from(&std::mem::take(&mut whole.body)[..]);
            Incoming::Chunked { chunks: Chunks::new(), early }
        } else if conn.has_whole_request() {
            Incoming::Nothing
        } else {
            let early = BytesMut::from(&std::mem::take(&mut whole.body)[..]);
            Incoming::Sized { left: conn.left_bytes() + early.len() as u64, early }
        };
        let asks = whole.headers.contains_key(header::EXPECT) && whole.version == Version::HTTP_11;
        let has_begun = match &incoming {
            Incoming::Nothing => true,
            Incoming::Sized { early, .. } | Incoming::Chunked { early, .. } => !early.is_empty(),
        };
        Self {
            conn,
            shared,
            incoming,
            version: whole.version,
            is_invited: !asks || has_begun,
            is_last: whole.is_last,
            hopes: false,
            ending: Ending::Length,
            is_ended: false,
            out: Bytes::new(),
        }
    }

    /// Of a request that asks to leave HTTP behind; it has no body.
    pub(super) fn before_tunnel(conn: Box<Conn>, shared: &'a Shared, whole: &mut Whole) -> Self {
        Self { hopes: true, ..Self::new(conn, shared, whole) }
    }

    /// The connection, when another request may follow on it. One that must end does so here, in such
    /// a way that the client can read its answer.
    pub(super) async fn finish(mut self) -> Option<Box<Conn>> {
        if self.is_ended && !self.is_last {
            return Some(self.conn);
        }
        if self.is_ended && !self.conn.has_whole_request() {
            // Closing with unread bytes would reset the connection, and the answer with it.
            let _ = timeout(LINGER, Box::pin(self.linger())).await;
        }
        None
    }

    async fn linger(&mut self) {
        let mut sink = [0; 4096];
        let mut left = LINGER_BYTES_MAX;
        while let Ok(count @ 1..) = self.conn.read(&mut sink).await {
            left = left.saturating_sub(count);
            if left == 0 {
                return;
            }
        }
    }

    fn ends_here(&self) -> bool {
        self.is_last
            || self.ending == Ending::Close
            // What is still to come of the request would be read as the next one.
            || !self.conn.has_whole_request()
            // The client did not wait for the answer, so nobody knows for what this was meant.
            || self.hopes && self.conn.has_early()
            || self.conn.requests() >= self.shared.limits.requests_max
            || Instant::now() >= self.conn.ends().into_std()
            || self.shared.is_leaving.load(Ordering::Relaxed)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.conn.write_all(bytes).await.map_err(|_| Gone)
    }

    /// Tells a client that waits for it to go on.
    fn poll_invite(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unread>> {
        if self.is_invited {
            return Poll::Ready(Ok(()));
        }
        let conn = Pin::new(&mut *self.conn);
        // Nothing was written yet, so it has room for all of it.
        ready!(conn.poll_write(cx, CONTINUE)).map_err(|_| Unread::Gone)?;
        self.is_invited = true;
        Poll::Ready(Ok(()))
    }

    fn why(&self) -> Unread {
        // The rule that was broken, where one was.
        self.conn.facts.body_fault.rule().map_or(Unread::Gone, Unread::Broke)
    }
}

impl Client for Http1<'_> {
    const KEEPS_FIELDS: bool = false;
    const TAKES_TRAILERS: bool = false;

    fn coming(&self) -> Coming {
        match self.incoming {
            Incoming::Nothing => Coming::Nothing,
            Incoming::Sized { .. } => Coming::Length,
            Incoming::Chunked { .. } => Coming::Unknown,
        }
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Unread>> {
        loop {
            match &mut self.incoming {
                Incoming::Nothing | Incoming::Sized { left: 0, .. } => {
                    return Poll::Ready(Ok(None));
                }
                Incoming::Sized { left, early } => {
                    if !early.is_empty() {
                        let part = early.split().freeze();
                        *left = left.saturating_sub(part.len() as u64);
                        return Poll::Ready(Ok(Some(part)));
                    }
                }
                Incoming::Chunked { chunks, early } => match chunks.next(early) {
                    Ok(Some(part)) => return Poll::Ready(Ok(Some(part))),
                    Ok(None) if chunks.is_done() => return Poll::Ready(Ok(None)),
                    Ok(None) => {}
                    // The connection has judged them before.
                    Err(_) => return Poll::Ready(Err(Unread::Broke(Rule::ChunkSize))),
                },
            }
            ready!(self.poll_invite(cx))?;
            // What was written so far must not wait for what is to come.
            let conn = Pin::new(&mut *self.conn);
            if let Poll::Ready(Err(_)) = conn.poll_flush(cx) {
                return Poll::Ready(Err(Unread::Gone));
            }
            let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
            let mut read = ReadBuf::uninit(&mut space);
            let polled = ready!(Pin::new(&mut *self.conn).poll_read(cx, &mut read));
            if polled.is_err() || read.filled().is_empty() {
                return Poll::Ready(Err(self.why()));
            }
            match &mut self.incoming {
                Incoming::Nothing => {}
                Incoming::Sized { early, .. } | Incoming::Chunked { early, .. } => {
                    early.extend_from_slice(read.filled());
                }
            }
        }
    }

    async fn send_interim(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), Gone> {
        if self.version == Version::HTTP_10 {
            // It knows none (RFC 9110 section 15.2).
            return Ok(());
        }
        let mut out = BytesMut::new();
        request::write_answer(status, headers, &mut out);
        out.extend_from_slice(b"\r\n");
        self.write(&out).await?;
        self.flush().await
    }

    async fn send_head(
        &mut self,
        status: StatusCode,
        mut headers: HeaderMap,
        framing: Framing,
    ) -> Result<(), Gone> {
        self.ending = match (framing, self.version) {
            (Framing::Nothing | Framing::Length(_), _) => Ending::Length,
            (Framing::Chunked | Framing::Close, Version::HTTP_10) => Ending::Close,
            (Framing::Chunked | Framing::Close, _) => Ending::Chunks,
        };
        self.is_last = self.ends_here();
        if self.ending == Ending::Chunks {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if status == StatusCode::SWITCHING_PROTOCOLS {
            self.is_last = true;
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        } else if self.is_last {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        } else if self.version == Version::HTTP_10 {
            headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        }
        let mut out = BytesMut::with_capacity(request::HEAD_BYTES);
        request::write_answer(status, &headers, &mut out);
        if !headers.contains_key(header::DATE) {
            let date = httpdate::fmt_http_date(SystemTime::now());
            out.extend_from_slice(b"Date: ");
            out.extend_from_slice(date.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        self.write(&out).await
    }

    async fn send_part(&mut self, part: Bytes) -> Result<(), Gone> {
        if self.ending != Ending::Chunks {
            return self.write(&part).await;
        }
        let mut head = BytesMut::with_capacity(CHUNK_HEAD_BYTES);
        // Writing to a buffer cannot fail.
        let _ = write!(head, "{:x}\r\n", part.len());
        self.write(&head).await?;
        self.write(&part).await?;
        self.write(b"\r\n").await
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, part: &mut Bytes) -> Poll<Result<(), Gone>> {
        loop {
            if self.out.is_empty() {
                if part.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                let part = std::mem::take(part);
                self.out = if self.ending == Ending::Chunks { chunk(&part) } else { part };
            }
            match ready!(Pin::new(&mut *self.conn).poll_write(cx, &self.out)) {
                Ok(count @ 1..) => self.out.advance(count),
                Ok(0) | Err(_) => return Poll::Ready(Err(Gone)),
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        self.conn.flush().await.map_err(|_| Gone)
    }

    async fn end(&mut self) -> Result<(), Gone> {
        if self.ending == Ending::Chunks {
            self.write(LAST_CHUNK).await?;
        }
        self.flush().await?;
        self.is_ended = true;
        if self.is_last {
            // Over TLS this tells the client that nothing was cut off.
            let _ = self.conn.shutdown().await;
        }
        Ok(())
    }

    async fn cut(&mut self) {
        if self.ending == Ending::Close {
            // There is no framing, so the end of the connection must not look like that of the answer.
            self.conn.facts.is_cut.store(true, Ordering::Relaxed);
            return;
        }
        // What was written leaves before the end: a connection that ends without a byte looks
        // as if the request could be sent again. The framing tells that the answer is cut off.
        let _ = self.conn.shutdown().await;
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        let mut nothing = [0; 1];
        // Bytes of the next request are held back, so whatever is ready is the end.
        Pin::new(&mut *self.conn).poll_read(cx, &mut ReadBuf::new(&mut nothing)).map(|_| Gone)
    }

    async fn tunnel(&mut self, endpoint: Stream, idle: Duration) -> (u64, u64) {
        self.conn.facts.is_tunnel.store(true, Ordering::Relaxed);
        tunnel::copy_counted(&mut *self.conn, endpoint, idle).await
    }
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// 16 digits and the end of the line.
const CHUNK_HEAD_BYTES: usize = 18;
/// Bytes of a body that are read at once.
const READ_BYTES: usize = 8 * 1024;
/// How long a client may take to read its answer when it goes on sending.
const LINGER: Duration = Duration::from_secs(5);
/// How much it may send then.
const LINGER_BYTES_MAX: usize = 8 * 1024 * 1024;
