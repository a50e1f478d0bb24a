//! A client of HTTP/1.1, whose connection carries one exchange at a time.

use std::fmt::Write;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use super::answer::Framing;
use super::client::{Client, Gone};
use super::request;
use crate::listener::connection::Conn;
use crate::shared::Shared;

/// The connection for the time of one exchange.
pub(super) struct Http1<'a> {
    conn: Box<Conn>,
    shared: &'a Shared,
    /// Whether the connection ends behind the answer.
    is_last: bool,
    /// Whether the end of the answer is found by chunks.
    is_chunked: bool,
    /// Whether the answer was sent to its end.
    is_ended: bool,
}

impl<'a> Http1<'a> {
    /// `is_last`: the client wants the connection to end.
    pub(super) fn new(conn: Box<Conn>, shared: &'a Shared, is_last: bool) -> Self {
        Self { conn, shared, is_last, is_chunked: false, is_ended: false }
    }

    /// The connection, when another request may follow on it.
    pub(super) fn kept(self) -> Option<Box<Conn>> {
        (self.is_ended && !self.is_last).then_some(self.conn)
    }

    /// The connection of a client that was sent no answer.
    pub(super) fn unanswered(self) -> Box<Conn> {
        self.conn
    }

    fn ends_here(&self) -> bool {
        self.is_last
            || self.conn.requests() >= self.shared.limits.requests_max
            || Instant::now() >= self.conn.ends().into_std()
            || self.shared.is_leaving.load(Ordering::Relaxed)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.conn.write_all(bytes).await.map_err(|_| Gone)
    }
}

impl Client for Http1<'_> {
    async fn send_interim(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), Gone> {
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
        self.is_last = self.ends_here();
        // Both ends of an answer without a length are found by chunks here.
        self.is_chunked = matches!(framing, Framing::Chunked | Framing::Close);
        if self.is_chunked {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if self.is_last {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
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
        if !self.is_chunked {
            return self.write(&part).await;
        }
        let mut head = BytesMut::with_capacity(CHUNK_HEAD_BYTES);
        // Writing to a buffer cannot fail.
        let _ = write!(head, "{:x}\r\n", part.len());
        self.write(&head).await?;
        self.write(&part).await?;
        self.write(b"\r\n").await
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        self.conn.flush().await.map_err(|_| Gone)
    }

    async fn end(&mut self) -> Result<(), Gone> {
        if self.is_chunked {
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
        // What was written leaves before the end: a connection that ends without a byte looks
        // as if the request could be sent again. The framing tells that the answer is cut off.
        let _ = self.conn.shutdown().await;
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        let mut nothing = [0; 1];
        // Bytes of the next request are held back, so whatever is ready is the end.
        Pin::new(&mut *self.conn).poll_read(cx, &mut ReadBuf::new(&mut nothing)).map(|_| Gone)
    }
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// 16 digits and the end of the line.
const CHUNK_HEAD_BYTES: usize = 18;
