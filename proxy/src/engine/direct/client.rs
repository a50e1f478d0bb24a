//! The client of an exchange, whatever it speaks.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::answer::Framing;

/// What an exchange with a Backend does to the client that asked for it.
///
/// An implementation frames, and joins or delays what it sends as its protocol allows.
pub(super) trait Client: Send {
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

    /// Lets go of what is held back: nothing follows for a while.
    fn flush(&mut self) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Ends an answer that is complete, and holds nothing back.
    fn end(&mut self) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Ends an answer that has begun so that the client sees that it is incomplete.
    fn cut(&mut self) -> impl Future<Output = ()> + Send;

    /// Ready when the client waits for no answer any more. Asked only behind the whole request.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone>;
}

/// The client is gone, so nobody waits for an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Gone;
