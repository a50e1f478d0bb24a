//! Connections that are passed on as they are: bytes both ways, until both sides have ended.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::accept::Worker;
use super::opening::ToPassOn;
use super::turned_away::TurnedAway;
use crate::backend::connect::{connect, is_want};
use crate::engine::Engine;
use crate::forward::tries::{self, Failure, Next, Replay};
use crate::metrics::{Counter, WorkerMetrics};
use crate::pass_on;
use crate::proxy_protocol::Told;
use crate::request::RequestContext;

/// Passes a connection on, to its end.
pub(super) async fn serve<E: Engine>(worker: &Worker<E>, to_pass_on: Box<ToPassOn>) {
    let ToPassOn { stream, socket, ends, server_name } = *to_pass_on;
    let now = (Instant::now(), SystemTime::now());
    let begun = {
        let table = worker.shared.table.load();
        pass_on::begin(&table, socket, server_name.as_deref(), now)
    };
    let connected = match begun {
        Ok(mut ctx) => endpoint(worker, &mut ctx, ends).await.map(|tcp| (ctx, tcp)),
        Err(reason) => Err(reason),
    };
    match connected {
        Ok((ctx, endpoint)) => {
            let idle = ctx.policy.as_ref().map_or(Duration::ZERO, |policy| policy.timeouts.tunnel);
            let _open = Open::begin(&worker.metrics);
            let read = (&worker.metrics.tunnel_bytes_in, &worker.metrics.tunnel_bytes_out);
            copy(stream, endpoint, idle, read).await;
            // Until here it counts as load of its Endpoint.
            drop(ctx);
        }
        Err(reason) => worker.metrics.turned_away(reason),
    }
}

/// A connection to an Endpoint: to the next one when one cannot be connected to.
async fn endpoint<E: Engine>(
    worker: &Worker<E>,
    ctx: &mut RequestContext,
    ends: Told,
) -> Result<TcpStream, TurnedAway> {
    loop {
        if let Some(pause) = tries::pause(ctx) {
            sleep(pause).await;
        }
        let to = tries::choose(ctx, Instant::now(), worker.shared.setting());
        let to = to.map_err(|_| TurnedAway::Endpoint)?;
        let tell = to.backend.spec.proxy_protocol.map(|version| (version, Some(ends)));
        match connect(to.address, to.connect, tell).await {
            Ok(tcp) => {
                worker.metrics.pool_misses.add(1);
                tries::connected(ctx);
                return Ok(tcp);
            }
            Err(error) => {
                worker.metrics.connect_failures.add(1);
                let failure = if is_want(&error) {
                    Failure::Local
                } else if error.kind() == io::ErrorKind::TimedOut {
                    Failure::ConnectTimeout
                } else {
                    Failure::Connect
                };
                // Nothing was sent yet.
                match tries::failed(ctx, failure, Replay::Harmless, worker.shared.setting()) {
                    Next::Retry => worker.metrics.retries.add(1),
                    Next::GiveUp => return Err(TurnedAway::Endpoint),
                }
            }
        }
    }
}

/// [`copy`] that gives how many bytes each side has sent, the client first.
pub(crate) async fn copy_counted<C, B>(client: C, endpoint: B, idle: Duration) -> (u64, u64)
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (from_client, from_endpoint) = (Counter::default(), Counter::default());
    copy(client, endpoint, idle, (&from_client, &from_endpoint)).await;
    (from_client.read(), from_endpoint.read())
}

/// Copies both ways until both sides have ended, one fails, or nothing has moved for `idle`. What is
/// read of the client and of the Endpoint is counted.
async fn copy<C, B>(client: C, endpoint: B, idle: Duration, read: (&Counter, &Counter))
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let moved = Moved { since: Instant::now(), last: AtomicU64::new(0) };
    let mut client = Watched { inner: client, moved: &moved, read: read.0 };
    let mut endpoint = Watched { inner: endpoint, moved: &moved, read: read.1 };
    tokio::select! {
        // How it ends is the business of the two sides.
        _ = copy_bidirectional_with_sizes(&mut client, &mut endpoint, COPIED, COPIED) => {}
        () = moved.silence(idle) => {}
    }
}

/// When a byte moved last.
struct Moved {
    since: Instant,
    /// In milliseconds after `since`.
    last: AtomicU64,
}

impl Moved {
    fn note(&self) {
        let millis = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    /// Ends when nothing has moved for `idle`.
    async fn silence(&self, idle: Duration) {
        loop {
            let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
            let silent = self.since.elapsed().saturating_sub(last);
            if silent >= idle {
                return;
            }
            sleep(idle - silent).await;
        }
    }
}

/// A side whose reads and writes are noted, and whose reads are counted.
struct Watched<'a, S> {
    inner: S,
    moved: &'a Moved,
    read: &'a Counter,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, out))?;
        self.read.add((out.filled().len() - before) as u64);
        self.moved.note();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.moved.note();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Counts one connection that is passed on for as long as it lives.
struct Open<'a>(&'a WorkerMetrics);

impl<'a> Open<'a> {
    fn begin(metrics: &'a WorkerMetrics) -> Self {
        metrics.tunnels.add(1);
        Self(metrics)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.tunnels_ended.add(1);
    }
}

/// Bytes that are kept of each direction.
const COPIED: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn each_half_ends_by_itself() {
        let counted = (Counter::default(), Counter::default());
        let (mut client, near) = duplex(64);
        let (far, mut endpoint) = duplex(64);
        let talk = async {
            client.write_all(b"a").await.unwrap();
            assert_eq!(endpoint.read_u8().await.unwrap(), b'a');
            endpoint.write_all(b"bb").await.unwrap();
            assert_eq!(client.read_u16().await.unwrap(), u16::from_be_bytes(*b"bb"));
            endpoint.shutdown().await.unwrap();
            assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
            client.write_all(b"after").await.unwrap();
            client.shutdown().await.unwrap();
            let mut rest = String::new();
            endpoint.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, "after", "half of it stayed open");
        };
        tokio::join!(talk, copy(near, far, Duration::from_secs(60), (&counted.0, &counted.1)));
    }

    #[tokio::test]
    async fn silence_ends_both_halves() {
        let counted = (Counter::default(), Counter::default());
        let (mut client, near) = duplex(64);
        let (far, mut endpoint) = duplex(64);
        client.write_all(b"a").await.unwrap();
        copy(near, far, Duration::from_millis(50), (&counted.0, &counted.1)).await;
        assert_eq!(endpoint.read_u8().await.unwrap(), b'a');
        assert_eq!(endpoint.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
