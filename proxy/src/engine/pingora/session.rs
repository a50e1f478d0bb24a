//! A stream of HTTP/2 as Pingora wants to see a client.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_error::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::engine::stream::{BodyEnd, Stream};
use crate::listener::alarm::Alarm;
use crate::pipeline::http2;

/// Messages beside the body, of which HTTP has none.
type Messages = Box<dyn futures::Stream<Item = Result<Bytes>> + Unpin + Send + Sync>;

/// A stream with what Pingora asks about it.
pub(super) struct StreamSession {
    head: RequestHeader,
    stream: Stream,
    written: Option<Box<ResponseHeader>>,
    /// What of the body has been read, for as long as all of it can be sent again.
    kept: Option<Kept>,
    /// The deadline of the request.
    alarm: Arc<Alarm>,
    /// Runs until then.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Carries the facts of the connection, and what the pipeline has said.
    digest: Digest,
}

#[derive(Debug)]
enum Kept {
    All(BytesMut),
    /// There was too much.
    Truncated,
}

impl StreamSession {
    pub(super) fn new(head: Parts, stream: Stream, alarm: Arc<Alarm>, digest: Digest) -> Self {
        let head = head.into();
        Self { head, stream, written: None, kept: None, alarm, deadline: None, digest }
    }

    /// Ready when the request has reached its deadline.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.alarm.get().map(Instant::from_std) else { return Poll::Pending };
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if deadline.deadline() != at {
            deadline.as_mut().reset(at);
        }
        deadline.as_mut().poll(cx)
    }

    /// The next part of the body, or, behind all of it, that nobody waits for the answer any more.
    fn poll_part_or_end(
        &mut self,
        is_whole: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, BodyEnd>> {
        if self.poll_deadline(cx).is_ready() {
            return Poll::Ready(Err(BodyEnd::Slow));
        }
        if is_whole {
            return self.stream.poll_gone(cx).map(|()| Err(BodyEnd::Gone));
        }
        self.stream.body.poll_part(cx)
    }

    fn keep(&mut self, part: &Bytes) {
        let Some(Kept::All(kept)) = &mut self.kept else { return };
        if kept.len() + part.len() > KEPT_BYTES_MAX {
            self.kept = Some(Kept::Truncated);
        } else {
            kept.extend_from_slice(part);
        }
    }

    /// Interim answers beside those that nobody waits for are passed over.
    fn write_interim(&mut self, head: &ResponseHeader) -> Result<()> {
        if !matches!(head.status, StatusCode::CONTINUE | StatusCode::EARLY_HINTS) {
            return Ok(());
        }
        self.stream.send_interim(head.status, head.headers.clone()).map_err(unsent)
    }

    fn write_head(&mut self, head: Box<ResponseHeader>, is_end: bool) -> Result<()> {
        if head.status.is_informational() {
            return self.write_interim(&head);
        }
        if self.written.is_some() {
            return Ok(());
        }
        let mut headers = head.headers.clone();
        // RFC 9113 section 8.2.2.
        for name in [header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE] {
            headers.remove(name);
        }
        for name in ["keep-alive", "proxy-connection"] {
            headers.remove(name);
        }
        let is_end = is_end || self.has_no_answer_body(head.status);
        self.stream.send_head(head.status, headers, is_end).map_err(unsent)?;
        self.written = Some(head);
        Ok(())
    }

    /// Whether no body follows whatever the head says (RFC 9110 section 6.4.1).
    fn has_no_answer_body(&self, status: StatusCode) -> bool {
        self.head.method == Method::HEAD
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }

    fn end(&mut self) -> Result<()> {
        self.stream.end().map_err(unsent)
    }

    async fn write_task(&mut self, task: HttpTask) -> Result<bool> {
        match task {
            HttpTask::Header(head, is_end) => {
                // Whether the body is wanted was answered by this side.
                if head.status != StatusCode::CONTINUE {
                    self.write_head(head, is_end)?;
                }
                Ok(is_end)
            }
            HttpTask::Body(part, is_end) => {
                if let Some(part) = part.filter(|part| !part.is_empty()) {
                    self.stream.send_part(part, is_end).await.map_err(unsent)?;
                }
                Ok(is_end)
            }
            HttpTask::UpgradedBody(..) => Err(Error::new(ErrorType::InternalError)),
            HttpTask::Trailer(trailers) => {
                if let Some(trailers) = trailers {
                    self.stream.send_trailers(*trailers).map_err(unsent)?;
                }
                Ok(true)
            }
            HttpTask::Done => Ok(true),
            HttpTask::Failed(error) => Err(error),
        }
    }
}

#[async_trait]
impl Session for StreamSession {
    fn req_header(&self) -> &RequestHeader {
        &self.head
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.head
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        let part = self.stream.body.part().await.map_err(unread)?;
        if let Some(part) = &part {
            self.keep(part);
        }
        Ok(part)
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        while self.stream.body.part().await.map_err(unread)?.is_some() {}
        Ok(())
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.write_head(head, end)
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.write_head(Box::new(head.clone()), end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.stream.send_part(data, end).await.map_err(unsent)
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.stream.send_trailers(trailers).map_err(unsent)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut is_end = false;
        for task in tasks {
            is_end |= self.write_task(task).await?;
        }
        if is_end {
            self.end()?;
        }
        Ok(is_end)
    }

    // The stream has limits of its own for both directions.
    fn set_read_timeout(&mut self, _: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, _: Option<Duration>) {}

    fn get_write_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_total_drain_timeout(&mut self, _: Option<Duration>) {}

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        None
    }

    fn request_summary(&self) -> String {
        format!("{} {}", self.head.method, self.head.uri.path())
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.written.as_deref()
    }

    async fn shutdown(&mut self, _: u32, _: &str) {
        self.stream.cut();
    }

    fn is_body_done(&mut self) -> bool {
        self.is_body_empty() || self.stream.body.is_done()
    }

    async fn finish(&mut self) -> Result<()> {
        self.end()
    }

    fn is_body_empty(&mut self) -> bool {
        let body = &self.stream.body;
        body.read() == 0 && (body.is_done() || http2::is_said_empty(&self.head.headers))
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        let is_whole = no_body_expected || self.is_body_done();
        let part = poll_fn(|cx| self.poll_part_or_end(is_whole, cx)).await.map_err(unread)?;
        if let Some(part) = &part {
            self.keep(part);
        }
        Ok(part)
    }

    fn body_bytes_sent(&self) -> usize {
        usize::try_from(self.stream.sent()).unwrap_or(usize::MAX)
    }

    fn body_bytes_read(&self) -> usize {
        usize::try_from(self.stream.body.read()).unwrap_or(usize::MAX)
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Some(&mut self.digest)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        // Whoever asks for addresses asks the facts.
        None
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        // Only requests within requests read it, and there are none.
        Bytes::new()
    }

    fn enable_retry_buffering(&mut self) {
        self.kept.get_or_insert_with(|| Kept::All(BytesMut::new()));
    }

    fn retry_buffer_truncated(&self) -> bool {
        matches!(self.kept, Some(Kept::Truncated))
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        match &self.kept {
            Some(Kept::All(kept)) if !kept.is_empty() => Some(Bytes::copy_from_slice(kept)),
            Some(Kept::All(_) | Kept::Truncated) | None => None,
        }
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<Messages> {
        None
    }

    fn restore_custom_message_reader(&mut self, _: Messages) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}

/// Why no more of a body comes, in the engine's words.
fn unread(end: BodyEnd) -> Box<Error> {
    let mut error = Error::new(match end {
        BodyEnd::Gone => ErrorType::ReadError,
        BodyEnd::Slow => ErrorType::ReadTimedout,
    });
    error.as_down();
    error
}

/// Why no more of an answer can be sent, in the engine's words.
fn unsent(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Box<Error> {
    let mut error = Error::because(ErrorType::WriteError, "writing to a stream", cause);
    error.esource = ErrorSource::Downstream;
    error
}

/// As much of a body as the engine keeps of others.
const KEPT_BYTES_MAX: usize = 64 * 1024;
