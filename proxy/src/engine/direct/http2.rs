//! A client of HTTP/2, whose stream carries one exchange.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};

use super::answer::Framing;
use super::client::{Client, Coming, Gone, Unread};
use crate::engine::stream::{BodyEnd, Stream};
use crate::listener::refusal::Rule;

/// A stream for the time of one exchange.
pub(super) struct Http2 {
    stream: Stream,
    coming: Coming,
    /// Whether the client waits for a word before it sends a body (RFC 9110 section 10.1.1).
    waits: bool,
    /// Bytes of the body of the request that are still to come, where that is known.
    rest: Option<u64>,
    /// The last of them, until the stream has ended well: they make a request whole for a Backend.
    last: Option<Bytes>,
    /// Bytes that are still to come, where that is known: the last ones end the stream.
    left: Option<u64>,
    /// Whether the client wants what comes behind its body to go on.
    has_trailers: bool,
}

impl Http2 {
    /// Of a request with these fields, of whose body nothing was read.
    pub(super) fn new(stream: Stream, headers: &HeaderMap, is_empty: bool) -> Self {
        let coming = if is_empty {
            Coming::Nothing
        } else if headers.contains_key(header::CONTENT_LENGTH) {
            // The library sees to it that it is true.
            Coming::Length
        } else {
            Coming::Unknown
        };
        let waits = coming != Coming::Nothing && headers.contains_key(header::EXPECT);
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let rest = length.and_then(|length| length.parse().ok());
        let has_trailers = says_trailers(headers);
        Self { stream, coming, waits, rest, last: None, left: None, has_trailers }
    }
}

impl Client for Http2 {
    const KEEPS_FIELDS: bool = true;
    const TAKES_TRAILERS: bool = true;

    fn coming(&self) -> Coming {
        self.coming
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Unread>> {
        if std::mem::take(&mut self.waits) {
            let sent = self.stream.send_interim(StatusCode::CONTINUE, HeaderMap::new());
            sent.map_err(|_| Unread::Gone)?;
        }
        loop {
            match ready!(self.stream.body.poll_part(cx)) {
                Ok(Some(part)) if part.is_empty() => {}
                Ok(Some(part)) => {
                    self.rest = self.rest.map(|rest| rest.saturating_sub(part.len() as u64));
                    if self.rest != Some(0) {
                        return Poll::Ready(Ok(Some(part)));
                    }
                    self.last = Some(part);
                }
                // Asked again behind its end, the stream says so again.
                Ok(None) => return Poll::Ready(Ok(self.last.take())),
                Err(BodyEnd::Gone) => return Poll::Ready(Err(Unread::Gone)),
                Err(BodyEnd::Slow) => return Poll::Ready(Err(Unread::Broke(Rule::SlowBody))),
            }
        }
    }

    async fn send_interim(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), Gone> {
        self.stream.send_interim(status, headers.clone()).map_err(|_| Gone)
    }

    async fn send_head(
        &mut self,
        status: StatusCode,
        headers: HeaderMap,
        framing: Framing,
    ) -> Result<(), Gone> {
        let is_end = match framing {
            Framing::Nothing | Framing::Length(0) => true,
            Framing::Length(length) => {
                self.left = Some(length);
                false
            }
            Framing::Chunked | Framing::Close => false,
        };
        self.stream.send_head(status, headers, is_end).map_err(|_| Gone)
    }

    async fn send_part(&mut self, part: Bytes) -> Result<(), Gone> {
        self.left = self.left.map(|left| left.saturating_sub(part.len() as u64));
        self.stream.send_part(part, self.left == Some(0)).await.map_err(gone)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, part: &mut Bytes) -> Poll<Result<(), Gone>> {
        self.stream.poll_send(cx, part, false).map_err(gone)
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        // The connection writes whenever its turn comes.
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Gone> {
        self.stream.end().map_err(gone)
    }

    async fn end_with(&mut self, trailers: HeaderMap) -> Result<(), Gone> {
        self.stream.send_trailers(trailers).map_err(gone)
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.stream.body.take_trailers().filter(|_| self.has_trailers)
    }

    async fn cut(&mut self) {
        self.stream.cut();
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        self.stream.poll_gone(cx).map(|()| Gone)
    }
}

/// Whether a request says that trailers are taken, and by that that some may come (RFC 9110 section
/// 6.5.1). Nothing else may stand there in HTTP/2 (RFC 9113 section 8.2.2).
pub(super) fn says_trailers(headers: &HeaderMap) -> bool {
    headers.get(header::TE).is_some_and(|te| te.as_bytes() == b"trailers")
}

fn gone(_: io::Error) -> Gone {
    Gone
}
