//! A client of HTTP/2, whose stream carries one exchange.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::answer::Framing;
use super::client::{Client, Gone};
use crate::engine::stream::Stream;

/// A stream for the time of one exchange.
pub(super) struct Http2 {
    pub(super) stream: Stream,
    /// Bytes that are still to come, where that is known: the last ones end the stream.
    left: Option<u64>,
}

impl Http2 {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, left: None }
    }
}

impl Client for Http2 {
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

    async fn flush(&mut self) -> Result<(), Gone> {
        // The connection writes whenever its turn comes.
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Gone> {
        self.stream.end().map_err(gone)
    }

    async fn cut(&mut self) {
        self.stream.cut();
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        self.stream.poll_gone(cx).map(|()| Gone)
    }
}

fn gone(_: io::Error) -> Gone {
    Gone
}
