//! The end of an HTTP/2 connection whose client went too far.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep, sleep_until};

use super::transport::Transport;

/// Sends what is left, and then reads a little on: closing with unread bytes would reset the
/// connection, and the GOAWAY with it.
#[derive(Debug)]
pub(crate) struct Cut {
    until: Pin<Box<Sleep>>,
    unread: usize,
    is_shut: bool,
}

impl Cut {
    pub(crate) fn new() -> Self {
        let until = Box::pin(sleep_until(Instant::now() + LINGER));
        Self { until, unread: LINGER_BYTES_MAX, is_shut: false }
    }

    /// Ready with an error once the connection may be dropped.
    pub(crate) fn poll(
        &mut self,
        transport: &mut Transport,
        out: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let over = || Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        if self.until.as_mut().poll(cx).is_ready() {
            return over();
        }
        while !out.is_empty() {
            let written = ready!(transport.poll_write(cx, out))?;
            if written == 0 {
                return over();
            }
            out.advance(written);
        }
        if !self.is_shut {
            ready!(transport.poll_shutdown(cx))?;
            self.is_shut = true;
        }
        while self.unread > 0 {
            let mut space = [const { MaybeUninit::uninit() }; 4096];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(transport.poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                break;
            }
            self.unread = self.unread.saturating_sub(read.filled().len());
        }
        over()
    }
}

const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;
