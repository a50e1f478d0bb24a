//! A connection as the engine wants to see it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::listener::connection::Conn;

/// Wraps a [`Conn`].
#[derive(Debug)]
pub(super) struct PingoraIo {
    pub(super) conn: Box<Conn>,
}

impl AsyncRead for PingoraIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.conn).poll_read(cx, out)
    }
}

impl AsyncWrite for PingoraIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.conn).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.conn).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.conn).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for PingoraIo {
    async fn shutdown(&mut self) {
        // The client may be gone already; then there is nothing to end.
        let _ = AsyncWriteExt::shutdown(&mut *self.conn).await;
    }
}

impl UniqueID for PingoraIo {
    fn id(&self) -> UniqueIDType {
        self.conn.raw_fd()
    }
}

impl Ssl for PingoraIo {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        // Streams of HTTP/2 come one by one.
        None
    }
}

impl GetTimingDigest for PingoraIo {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for PingoraIo {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for PingoraIo {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        // Whoever asks for addresses asks the facts.
        None
    }
}

impl Peek for PingoraIo {}
