//! The body of an answer, read ahead of a client that is slow to take it (the Filter `buffering`).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Framing;
use super::carry::Broken;
use super::chunks::Chunks;
use super::client::Client;
use super::upstream::Upstream;
use crate::forward::tries::Failure;

/// What was read and not yet sent, in blocks, so that what is held is what is counted.
pub(super) struct Ahead {
    blocks: VecDeque<Block>,
    bytes: usize,
    bytes_max: usize,
    /// KiB that may be held of all bodies of the worker.
    room: Arc<Semaphore>,
    /// Of the next block.
    place: Option<OwnedSemaphorePermit>,
}

struct Block {
    bytes: BytesMut,
    _place: Option<OwnedSemaphorePermit>,
}

impl Ahead {
    /// Holds about `bytes_max` at most, and less where `room` has no place for it.
    pub(super) fn new(bytes_max: u64, room: &Arc<Semaphore>) -> Self {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        Self { blocks: VecDeque::new(), bytes: 0, bytes_max, room: room.clone(), place: None }
    }

    /// Relays a body to its end. `release` gets the connection as soon as all of the body has come
    /// whose end shows, and the request has to be sent by then.
    pub(super) async fn relay<C: Client>(
        mut self,
        client: &mut C,
        upstream: Upstream,
        (framing, ends): (Framing, Option<Instant>),
        release: impl FnOnce(Upstream) + Send,
    ) -> Result<(), Broken> {
        let mut source = Source::new(upstream, framing, release);
        source.take_in(&mut self);
        loop {
            let Some(part) = self.pop() else {
                match source.state {
                    State::Going => source.wait(client, ends).await?,
                    State::Whole => return Ok(()),
                    State::Broken(failure) => return Err(Broken::Endpoint(failure)),
                }
                source.take_in(&mut self);
                continue;
            };
            let sending = async {
                client.send_part(part).await?;
                client.flush().await
            };
            let mut sending = pin!(sending);
            let sent = poll_fn(|cx| {
                let sent = sending.as_mut().poll(cx);
                if sent.is_pending() {
                    source.read_ahead(&mut self, cx);
                }
                sent
            });
            sent.await?;
        }
    }

    /// Whether more may be read.
    pub(super) fn takes_more(&mut self) -> bool {
        if self.place.is_none() {
            self.place = self.room.clone().try_acquire_many_owned(BLOCK_KIB).ok();
        }
        self.bytes < self.bytes_max && self.place.is_some()
    }

    /// Keeps what was read, whatever there is room for.
    pub(super) fn push(&mut self, mut part: &[u8]) {
        self.bytes += part.len();
        while !part.is_empty() {
            let block = match self.blocks.back_mut() {
                Some(block) if block.bytes.len() < BLOCK_BYTES => block,
                Some(_) | None => {
                    let bytes = BytesMut::with_capacity(BLOCK_BYTES);
                    self.blocks.push_back(Block { bytes, _place: self.place.take() });
                    continue;
                }
            };
            let fits = part.len().min(BLOCK_BYTES - block.bytes.len());
            let (now, later) = part.split_at(fits);
            block.bytes.extend_from_slice(now);
            part = later;
        }
    }

    /// What is sent next.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let block = self.blocks.pop_front()?;
        self.bytes -= block.bytes.len();
        Some(block.bytes.freeze())
    }
}

/// Where the body comes from.
struct Source<R> {
    /// None once it is released.
    upstream: Option<(Upstream, R)>,
    rest: Rest,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Going,
    Whole,
    /// What has come before is sent all the same.
    Broken(Failure),
}

/// What of a body is still to come.
enum Rest {
    Length(u64),
    Chunked(Chunks),
    Close,
}

impl<R: FnOnce(Upstream)> Source<R> {
    fn new(upstream: Upstream, framing: Framing, release: R) -> Self {
        let rest = match framing {
            Framing::Nothing => Rest::Length(0),
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(Chunks::new()),
            Framing::Close => Rest::Close,
        };
        Self { upstream: Some((upstream, release)), rest, state: State::Going }
    }

    /// Takes what was read out of its framing.
    fn take_in(&mut self, ahead: &mut Ahead) {
        let Some((upstream, _)) = &mut self.upstream else { return };
        let read = &mut upstream.read;
        let is_whole = match &mut self.rest {
            Rest::Length(left) => {
                let count = usize::try_from(*left).map_or(read.len(), |left| left.min(read.len()));
                ahead.push(&read.split_to(count));
                *left -= count as u64;
                *left == 0
            }
            Rest::Chunked(chunks) => loop {
                match chunks.next(read) {
                    Ok(Some(part)) => ahead.push(&part),
                    Ok(None) => break chunks.is_done(),
                    Err(_) => {
                        self.state = State::Broken(Failure::BadAnswer);
                        return;
                    }
                }
            },
            Rest::Close => {
                ahead.push(&read.split());
                false
            }
        };
        if is_whole {
            self.state = State::Whole;
            if let Some((upstream, release)) = self.upstream.take() {
                release(upstream);
            }
        }
    }

    /// The Endpoint has closed the connection.
    fn ended(&mut self) {
        self.state = match self.rest {
            Rest::Close => State::Whole,
            Rest::Length(_) | Rest::Chunked(_) => State::Broken(Failure::Reset),
        };
        self.upstream = None;
    }

    /// Reads what is there, as far as there is room for it.
    fn read_ahead(&mut self, ahead: &mut Ahead, cx: &mut Context<'_>) {
        while self.state == State::Going
            && let Some((upstream, _)) = &mut self.upstream
            && ahead.takes_more()
        {
            match upstream.poll_more(cx) {
                Poll::Ready(Ok(0)) => self.ended(),
                Poll::Ready(Ok(_)) => self.take_in(ahead),
                Poll::Ready(Err(_)) => {
                    self.state = State::Broken(Failure::Reset);
                    self.upstream = None;
                }
                Poll::Pending => return,
            }
        }
    }

    /// Waits for more: nothing is left to be sent.
    async fn wait<C: Client>(
        &mut self,
        client: &mut C,
        ends: Option<Instant>,
    ) -> Result<(), Broken> {
        let Some((upstream, _)) = &mut self.upstream else { return Ok(()) };
        // The head may still be held back.
        client.flush().await?;
        let by = upstream.by(ends)?;
        if upstream.fill(client, by, ends).await? == 0 {
            self.ended();
        }
        Ok(())
    }
}

/// What is sent at once: as much as is joined to one write.
const BLOCK_BYTES: usize = 16 * 1024;
const BLOCK_KIB: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_ahead_is_bounded_by_its_limit_and_by_the_room_for_all() {
        let room = Arc::new(Semaphore::new(64));
        let mut one = Ahead::new(40_000, &room);
        while one.takes_more() {
            one.push(&[b'x'; 8192]);
        }
        assert_eq!((one.bytes, one.blocks.len()), (40_960, 3));
        let mut other = Ahead::new(40_000, &room);
        assert!(!other.takes_more(), "three blocks and the place of a fourth are all there is");
        other.push(b"passes on");
        assert_eq!(other.pop().unwrap(), "passes on");
        let mut sent = 0;
        while let Some(part) = one.pop() {
            sent += part.len();
        }
        assert_eq!((sent, one.bytes), (40_960, 0));
        assert!(other.takes_more());
        drop((one, other));
        assert_eq!(room.available_permits(), 64);
    }
}
