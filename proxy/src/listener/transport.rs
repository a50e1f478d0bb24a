//! The bytes below a connection: plain, or TLS.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A TCP stream whose first bytes may have been read already: they are served first.
#[derive(Debug)]
pub(crate) struct Prefixed {
    pub(crate) before: BytesMut,
    pub(crate) tcp: TcpStream,
}

impl Prefixed {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { before: BytesMut::new(), tcp }
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.tcp).poll_read(cx, out);
        }
        let count = self.before.len().min(out.remaining());
        out.put_slice(&self.before.split_to(count));
        if self.before.is_empty() {
            self.before = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// What a connection is made of below HTTP.
#[derive(Debug)]
pub(crate) enum Transport {
    /// As it comes from the socket.
    Plain(Prefixed),
    /// Decrypted.
    Tls(Box<TlsStream<Prefixed>>),
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
        match self {
            Self::Plain(stream) => stream.tcp.as_raw_fd(),
            Self::Tls(stream) => stream.get_ref().0.tcp.as_raw_fd(),
        }
    }

    /// Puts bytes that were read back in front of what comes.
    pub(crate) fn unread(&mut self, bytes: BytesMut) {
        match self {
            Self::Plain(stream) => stream.before = bytes,
            // Only the preface of HTTP/2 is put back, and over TLS nobody looks for it.
            Self::Tls(_) => debug_assert!(bytes.is_empty(), "nothing is put back under TLS"),
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
