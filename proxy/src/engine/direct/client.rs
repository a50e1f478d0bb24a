//! The client of an exchange, whatever it speaks.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::answer::Framing;
use super::stream::Stream;
use crate::listener::refusal::Rule;

/// What an exchange with a Backend does to the client that asked for it.
///
/// An implementation frames, and joins or delays what it sends as its protocol allows.
pub(super) trait Client: Send {
    /// Whether fields of answers may outlive the exchange: HPACK tables keep them as they are, and
    /// with them all that they are a part of.
    const KEEPS_FIELDS: bool;

    /// Whether an answer may end with trailers.
    const TAKES_TRAILERS: bool;

    /// What of the body of the request is still to come.
    fn coming(&self) -> Coming {
        Coming::Nothing
    }

    /// The next bytes of the body of the request, of which there are some; None behind its end. A
    /// client that waits to be invited is. Not asked again behind an error.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Unread>> {
        let _ = cx;
        Poll::Ready(Ok(None))
    }

    /// Sends the head of an interim answer, and does not hold it back.
    fn send_interim(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Sends the head of the answer. `framing` is how the Backend tells the end of its body.
    fn send_head(
        &mut self,
        status: StatusCode,
        headers: HeaderMap,
        framing: Framing,
    ) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Sends bytes of the body, of which there are some. They may be held back until [`flush`](Self::flush).
    fn send_part(&mut self, part: Bytes) -> impl Future<Output = Result<(), Gone>> + Send;

    /// What of the body comes out of bytes of it, of which there are some: perhaps nothing yet.
    ///
    /// # Errors
    /// When the answer cannot go on.
    fn shape(&mut self, part: Bytes) -> Result<Bytes, Gone> {
        Ok(part)
    }

    /// The same as [`send_part`](Self::send_part) for what was shaped, so that something else can be
    /// done meanwhile. Takes what is sent out of `part`; ready when that is empty.
    fn poll_send(&mut self, cx: &mut Context<'_>, part: &mut Bytes) -> Poll<Result<(), Gone>>;

    /// Lets go of what is held back: nothing follows for a while.
    fn flush(&mut self) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Ends an answer that is complete, and holds nothing back.
    fn end(&mut self) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Ends an answer that is complete but for `trailers`, and holds nothing back.
    fn end_with(&mut self, trailers: HeaderMap) -> impl Future<Output = Result<(), Gone>> + Send {
        let _ = trailers;
        self.end()
    }

    /// What came behind the body of the request, once that has ended.
    fn take_trailers(&mut self) -> Option<HeaderMap> {
        None
    }

    /// Ends an answer that has begun so that the client sees that it is incomplete.
    fn cut(&mut self) -> impl Future<Output = ()> + Send;

    /// Ready when the client waits for no answer any more. Asked only behind the whole request.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone>;

    /// Becomes a tunnel to `endpoint`, behind the head of an answer that says so, until both sides have
    /// ended or nothing has moved for `idle`. Gives how many bytes went to the Endpoint and to the
    /// client. Asked only where the client has asked for it.
    fn tunnel(
        &mut self,
        endpoint: Stream,
        idle: Duration,
    ) -> impl Future<Output = (u64, u64)> + Send {
        let _ = (endpoint, idle);
        async { (0, 0) }
    }
}

/// What of the body of a request is still to come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Coming {
    /// Nothing: all there is of it came with the head.
    Nothing,
    /// As much as `Content-Length` says.
    Length,
    /// Nobody knows how much.
    Unknown,
}

/// Why no more of a body comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unread {
    /// The client is gone.
    Gone,
    /// It broke a rule.
    Broke(Rule),
}

/// The client is gone, so nobody waits for an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Gone;
