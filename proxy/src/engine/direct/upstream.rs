//! A connection to an Endpoint for the time of one try: the request goes out while the answer comes in.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::Method;
use tokio::io::AsyncReadExt;
use tokio::time::timeout_at;

use super::answer::{self, Answer, Fault, Search};
use super::carry::Broken;
use super::client::{Client, Gone};
use super::open;
use super::pool::Key;
use super::sending::{Body, Sending};
use super::stream::Stream;
use crate::forward::tries::{Failure, Try};

/// A connection to an Endpoint with what was read from it.
pub(super) struct Upstream {
    pub(super) stream: Stream,
    pub(super) read: BytesMut,
    pub(super) sending: Sending,
    /// Silence that is borne.
    pub(super) silence: Duration,
    /// The longest that it may take nothing of what is sent.
    write: Duration,
    /// Bytes of the body that were given on.
    pub(super) relayed: u64,
    is_reused: bool,
    pub(super) key: Key,
}

/// A connection that was opened for a try.
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) to: Try,
    pub(super) key: Key,
    pub(super) is_reused: bool,
}

impl Connection {
    /// Begins the try with `head` and what is known of the body.
    pub(super) fn begin(self, head: &Bytes, body: Body) -> Upstream {
        let Self { stream, to, key, is_reused } = self;
        Upstream {
            stream,
            read: BytesMut::new(),
            sending: Sending::new(head, body),
            silence: to.read,
            write: to.write,
            relayed: 0,
            is_reused,
            key,
        }
    }
}

impl Upstream {
    /// Sends the request, until all was sent, the Endpoint takes no more, or it answers.
    ///
    /// The client sets the pace and has its own limits; the Endpoint must take what is there.
    pub(super) async fn send<C: Client>(
        &mut self,
        client: &mut C,
        ends: Option<Instant>,
    ) -> Result<(), Broken> {
        while !self.sending.is_over() && self.read.is_empty() {
            let written = self.sending.written();
            let patience = Instant::now() + self.write;
            let by = ends.map_or(patience, |ends| ends.min(patience));
            match timeout_at(by.into(), self.step(client)).await {
                Ok(Ok(Step::Sent)) => {}
                // It has nothing to say, but may still take what is sent.
                Ok(Ok(Step::Read(0))) => return Err(self.ended()),
                Ok(Ok(Step::Read(_))) => {}
                Ok(Err(broken)) => return Err(broken),
                Err(_) if is_past(ends) => return Err(Broken::Endpoint(Failure::Timeout)),
                Err(_) if self.sending.is_held_up() && self.sending.written() == written => {
                    return Err(Broken::Endpoint(Failure::Timeout));
                }
                // It waits for the client.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Reads the next head, interim or final.
    pub(super) async fn read_head<C: Client>(
        &mut self,
        client: &mut C,
        (by, ends): (Instant, Option<Instant>),
        method: &Method,
    ) -> Result<Answer, Broken> {
        let mut search = Search::default();
        loop {
            if let Some(end) = search.go_on(&self.read).map_err(bad)? {
                return answer::read(&take_head::<C>(&mut self.read, end), method).map_err(bad);
            }
            if self.fill(client, by, ends).await? == 0 {
                return Err(self.ended());
            }
        }
    }

    /// What it means that the connection has ended before the head of an answer.
    fn ended(&self) -> Broken {
        let is_stale = self.is_reused && self.read.is_empty();
        Broken::Endpoint(if is_stale { Failure::Stale } else { Failure::Reset })
    }

    /// Reads once, while the client is there, and goes on sending meanwhile. 0 is the end.
    ///
    /// As long as more of the request is sent, silence of the Endpoint is none, until `ends`.
    pub(super) async fn fill<C: Client>(
        &mut self,
        client: &mut C,
        mut by: Instant,
        ends: Option<Instant>,
    ) -> Result<usize, Broken> {
        loop {
            let written = self.sending.written();
            match timeout_at(by.into(), self.step(client)).await {
                Ok(Ok(Step::Read(count))) => return Ok(count),
                Ok(Ok(Step::Sent)) => {}
                Ok(Err(broken)) => return Err(broken),
                Err(_) if self.sending.written() != written && !is_past(ends) => {
                    let silent = Instant::now() + self.silence;
                    by = ends.map_or(silent, |ends| ends.min(silent));
                }
                Err(_) => return Err(Broken::Endpoint(Failure::Timeout)),
            }
        }
    }

    /// Reads once, behind the whole request.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.read.reserve(READ_BYTES);
        poll_read(&mut self.stream, &mut self.read, cx)
    }

    /// Sends what can be sent, and reads once.
    async fn step<C: Client>(&mut self, client: &mut C) -> Result<Step, Broken> {
        self.read.reserve(READ_BYTES);
        let Self { stream, read, sending, is_reused, .. } = self;
        let was_over = sending.is_over();
        let stepped = poll_fn(|cx| {
            if !sending.is_over()
                && let Poll::Ready(sent) = sending.poll(cx, client, stream)
            {
                sent?;
            }
            match poll_read(stream, read, cx) {
                Poll::Ready(Ok(count)) => return Poll::Ready(Ok(Step::Read(count))),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Wrong::Endpoint(error))),
                Poll::Pending => {}
            }
            if !was_over && sending.is_over() {
                return Poll::Ready(Ok(Step::Sent));
            }
            if sending.is_done() {
                return client.poll_gone(cx).map(|Gone| Err(Wrong::Broken(Broken::Client)));
            }
            Poll::Pending
        });
        match stepped.await {
            Ok(step) => Ok(step),
            Err(Wrong::Broken(broken)) => Err(broken),
            Err(Wrong::Endpoint(error)) if open::is_disbelief(&error) => {
                Err(Broken::Endpoint(Failure::Tls))
            }
            Err(Wrong::Endpoint(_)) => {
                let is_stale = *is_reused && read.is_empty();
                Err(Broken::Endpoint(if is_stale { Failure::Stale } else { Failure::Reset }))
            }
        }
    }
}

/// Takes the head of an answer, which ends at `end`, out of what was read.
fn take_head<C: Client>(read: &mut BytesMut, end: usize) -> Bytes {
    let head = read.split_to(end);
    // Of a copy, a client that keeps a field keeps no more than the head: else it is all the room that
    // there was for reading.
    if C::KEEPS_FIELDS { Bytes::copy_from_slice(&head) } else { head.freeze() }
}

/// What has come of waiting for either side.
enum Step {
    /// Nothing more is to be sent.
    Sent,
    /// So many bytes were read; 0 is the end.
    Read(usize),
}

enum Wrong {
    Broken(Broken),
    Endpoint(io::Error),
}

impl From<Broken> for Wrong {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

fn poll_read(
    stream: &mut Stream,
    read: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    // Nothing is lost when it is dropped: it has read, or it has not.
    pin!(stream.read_buf(read)).poll(cx)
}

fn is_past(ends: Option<Instant>) -> bool {
    ends.is_some_and(|ends| ends <= Instant::now())
}

fn bad(_: Fault) -> Broken {
    Broken::Endpoint(Failure::BadAnswer)
}

/// Room for each read from an Endpoint.
const READ_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::super::http1::Http1;
    use super::super::http2::Http2;
    use super::*;

    #[track_caller]
    fn check<C: Client>(keeps_all: bool) {
        let mut read = BytesMut::with_capacity(READ_BYTES);
        read.extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\nbody");
        let head = take_head::<C>(&mut read, 19);
        assert_eq!((&*head, &*read), (&b"HTTP/1.1 200 OK\r\n\r\n"[..], &b"body"[..]));
        // There is room for as much again only where nobody holds it.
        assert_eq!(read.try_reclaim(READ_BYTES - 4), !keeps_all);
    }

    #[test]
    fn what_an_http2_client_keeps_of_a_head_is_no_more_than_the_head() {
        check::<Http1<'_>>(true);
        check::<Http2>(false);
    }
}
