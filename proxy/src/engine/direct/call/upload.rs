//! The request of a stream on its way: its body as it comes, as fast as the Endpoint takes it.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;

use crate::engine::direct::carry::Broken;
use crate::engine::direct::client::Client;
use crate::engine::direct::sending::Body;

/// One try to send a request whose head is on its way.
pub(super) struct Upload {
    /// None where the connection took nothing.
    stream: Option<SendStream<Bytes>>,
    body: Body,
    /// What is sent next.
    out: Bytes,
    state: State,
    /// Bytes that were sent.
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

impl Upload {
    /// Of a request whose head was all of it where it `is_empty`.
    pub(super) fn new(stream: Option<SendStream<Bytes>>, body: Body, is_empty: bool) -> Self {
        let state = match stream {
            None => State::Stopped,
            Some(_) if is_empty => State::Done,
            Some(_) => State::Going,
        };
        let out = Bytes::copy_from_slice(body.kept());
        Self { stream, body, out, state, written: 0 }
    }

    pub(super) fn body(&mut self) -> &mut Body {
        &mut self.body
    }

    pub(super) fn into_body(self) -> Body {
        self.body
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

    /// Bytes that were sent.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Sends what can be sent. Ready when it is over.
    ///
    /// An error is one of the client: what is wrong with the Endpoint shows where its answer is read.
    pub(super) fn poll<C: Client>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut C,
    ) -> Poll<Result<(), Broken>> {
        while self.state == State::Going {
            if self.out.is_empty() {
                if self.body.is_whole() {
                    self.end();
                } else {
                    self.out = ready!(self.body.poll_next(cx, client))?;
                }
                continue;
            }
            match ready!(self.poll_room(cx)) {
                Some(room) => self.put(room),
                None => self.state = State::Stopped,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// How many bytes may be sent now, at least one; None when the stream takes no more.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        stream.reserve_capacity(self.out.len());
        loop {
            let room = stream.capacity();
            if room > 0 {
                return Poll::Ready(Some(room));
            }
            // It tells of each change once; one that came to nothing is waited over.
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(None),
            }
        }
    }

    fn put(&mut self, room: usize) {
        let part = self.out.split_to(room.min(self.out.len()));
        self.written += part.len() as u64;
        let Some(stream) = &mut self.stream else { return };
        if stream.send_data(part, false).is_err() {
            self.state = State::Stopped;
        }
    }

    fn end(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let ended = match self.body.trailers() {
            Some(trailers) => stream.send_trailers(trailers.clone()),
            None => stream.send_data(Bytes::new(), true),
        };
        self.state = if ended.is_ok() { State::Done } else { State::Stopped };
    }
}
