//! The bytes below a connection: plain, or TLS.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::stream::ClientStream;

/// What a connection is made of below HTTP.
#[derive(Debug)]
pub(crate) enum Transport {
    /// As it comes from the socket.
    Plain(ClientStream),
    /// Decrypted.
    Tls(Box<TlsStream<ClientStream>>),
}

/// Does the same to either kind.
macro_rules! each {
    ($transport:expr, $stream:ident => $do:expr) => {
        match $transport {
            Transport::Plain($stream) => {
                let $stream = Pin::new($stream);
                $do
            }
            Transport::Tls($stream) => {
                let $stream = Pin::new(&mut **$stream);
                $do
            }
        }
    };
}

impl Transport {
    /// The descriptor of the socket: unique among open connections.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.stream().as_raw_fd()
    }

    /// How many bytes the socket has taken: behind encryption, so buffered ones do not count.
    pub(crate) fn sent(&self) -> u64 {
        self.stream().sent()
    }

    /// Has the end of this connection look like a failure, also where no framing tells.
    pub(crate) fn end_as_reset(&self) {
        self.stream().end_as_reset();
    }

    fn stream(&self) -> &ClientStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read(cx, out))
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write(cx, bytes))
    }

    /// Writes from `first`, taking away what was written, then from `second`.
    ///
    /// Gives how many bytes of `second` were written: 0 when even `first` has some left.
    pub(crate) fn poll_write_both(
        &mut self,
        cx: &mut Context<'_>,
        first: &mut BytesMut,
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        let slices = [io::IoSlice::new(first), io::IoSlice::new(second)];
        let written =
            std::task::ready!(each!(self, stream => stream.poll_write_vectored(cx, &slices)))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_first = written.min(first.len());
        first.advance(of_first);
        Poll::Ready(Ok(written - of_first))
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_flush(cx))
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_shutdown(cx))
    }
}
