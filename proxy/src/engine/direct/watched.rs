//! The bytes of a connection that many requests share: whether any come, and why none do.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::open::is_disbelief;
use super::stream::Stream;

/// What is known of a connection, by its task and by all whose requests it carries.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Requests that are on their way.
    streams: AtomicUsize,
    /// Requests that ever were.
    begun: AtomicU64,
    /// How often something was read.
    reads: AtomicU64,
    /// Whether no further request may begin.
    is_retired: AtomicBool,
    /// Whether the Endpoint did not believe who connects.
    is_disbelieved: AtomicBool,
}

impl Load {
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

    pub(super) fn is_disbelieved(&self) -> bool {
        self.is_disbelieved.load(Ordering::Relaxed)
    }
}

/// A connection whose reads are noted: the library of HTTP/2 keeps neither their number nor the cause
/// of their end.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    load: Arc<Load>,
}

impl Watched {
    pub(super) fn new(stream: Stream, load: Arc<Load>) -> Self {
        Self { stream, load }
    }

    /// Looks for the reason why nothing can be written: what the Endpoint said before it left.
    fn look(&mut self, cx: &mut Context<'_>) {
        let mut space = [0; 256];
        for _ in 0..LOOKS_MAX {
            let mut read = ReadBuf::new(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {}
                Poll::Ready(Err(error)) => return self.note(&error),
                Poll::Ready(Ok(())) | Poll::Pending => return,
            }
        }
    }

    fn note(&self, error: &io::Error) {
        if is_disbelief(error) {
            self.load.is_disbelieved.store(true, Ordering::Relaxed);
        }
    }

    fn wrote<T>(&mut self, done: io::Result<T>, cx: &mut Context<'_>) -> io::Result<T> {
        if done.is_err() {
            self.look(cx);
        }
        done
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
        if let Err(error) = &read {
            self.note(error);
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
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        Poll::Ready(self.wrote(written, cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, parts));
        Poll::Ready(self.wrote(written, cx))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        Poll::Ready(self.wrote(flushed, cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What is looked at at most, in reads.
const LOOKS_MAX: usize = 64;
