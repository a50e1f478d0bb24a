//! A socket of a client, some of whose bytes were read before their turn.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes are read into a buffer, looked at, and given again to whoever reads next.
#[derive(Debug)]
pub(crate) struct ClientStream {
    /// Read, and not yet given.
    early: BytesMut,
    /// Bytes that the socket has taken.
    sent: u64,
    tcp: TcpStream,
}

impl ClientStream {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { early: BytesMut::new(), sent: 0, tcp }
    }

    /// What was read and not yet given.
    pub(crate) fn early(&self) -> &[u8] {
        &self.early
    }

    /// How many bytes the socket has taken.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Has an end of this connection look like a failure, also where no framing tells.
    pub(crate) fn end_as_reset(&self) {
        // It fails only where the connection has failed already.
        let _ = self.tcp.set_zero_linger();
    }

    /// Forgets the first `count` bytes of what was read.
    pub(crate) fn skip(&mut self, count: usize) {
        self.early.advance(count.min(self.early.len()));
        if self.early.is_empty() {
            self.early = BytesMut::new();
        }
    }

    /// Reads more, up to `most` bytes in all.
    ///
    /// # Errors
    /// When so many are there, the client is gone, or it ended what it sends.
    pub(crate) async fn more(&mut self, most: usize) -> io::Result<()> {
        let room = most.saturating_sub(self.early.len()).min(READ_BYTES);
        if room == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.early.reserve(room);
        let mut limited = (&mut self.tcp).take(room as u64);
        match limited.read_buf(&mut self.early).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl AsRawFd for ClientStream {
    fn as_raw_fd(&self) -> RawFd {
        self.tcp.as_raw_fd()
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.tcp).poll_read(cx, out);
        }
        let count = self.early.len().min(out.remaining());
        out.put_slice(self.early.get(..count).unwrap_or_default());
        self.skip(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, bytes))?;
        self.sent += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.tcp).poll_write_vectored(cx, slices))?;
        self.sent += written as u64;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Bytes that are read at once.
const READ_BYTES: usize = 4096;
