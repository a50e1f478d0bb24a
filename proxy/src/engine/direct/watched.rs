//! The bytes of a connection that many requests share: whether any come, and why none do.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::open::disbelief;
use super::stream::Stream;

/// What is known of a connection, by its task and by all whose requests it carries.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Of its own among those of one worker.
    number: u64,
    /// Requests that are on their way.
    streams: AtomicUsize,
    /// Requests that ever were.
    begun: AtomicU64,
    /// How often something was read.
    reads: AtomicU64,
    /// Whether no further request may begin.
    is_retired: AtomicBool,
    /// How the Endpoint said that it does not believe who connects.
    disbelief: OnceLock<AlertDescription>,
}

impl Load {
    /// Of the connection with this number.
    pub(super) fn of(number: u64) -> Self {
        Self { number, ..Self::default() }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// A request begins.
    pub(super) fn begin(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is over.
    pub(super) fn end(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// No further request begins; those that have go on.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Relaxed)
    }

    /// How the Endpoint said that it does not believe who connects; None while it did not.
    pub(super) fn disbelief(&self) -> Option<AlertDescription> {
        self.disbelief.get().copied()
    }
}

/// A connection whose reads are noted: the library of HTTP/2 keeps neither their number nor the cause
/// of their end.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    load: Arc<Load>,
    /// Whether nothing can be written any more.
    is_mute: bool,
}

impl Watched {
    pub(super) fn new(stream: Stream, load: Arc<Load>) -> Self {
        Self { stream, load, is_mute: false }
    }

    /// Takes a failed write for one that was taken: what the Endpoint said before it left is read first,
    /// an answer, GOAWAY or whom it does not believe, and then the end.
    fn wrote<T>(&mut self, done: io::Result<T>, all: T) -> io::Result<T> {
        done.or_else(|_| {
            self.is_mute = true;
            Ok(all)
        })
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, out));
        self.load.reads.fetch_add(1, Ordering::Relaxed);
        if let Some(alert) = read.as_ref().err().and_then(disbelief) {
            // The first one counts.
            let _ = self.load.disbelief.set(alert);
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_mute {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        Poll::Ready(self.wrote(written, bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = parts.iter().map(|part| part.len()).sum();
        if self.is_mute {
            return Poll::Ready(Ok(all));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, parts));
        Poll::Ready(self.wrote(written, all))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_mute {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        Poll::Ready(self.wrote(flushed, ()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_mute {
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }
}
