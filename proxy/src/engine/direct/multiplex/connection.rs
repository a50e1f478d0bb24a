//! One connection over HTTP/2: how it begins, and the task that it has until it ends.

use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::engine::direct::stream::Stream;
use crate::engine::direct::watched::{Load, Watched};
use crate::forward::tries::Failure;
use crate::limits::Limits;

/// Begins to speak, and waits until the Endpoint has said how many requests it takes: by then it is known
/// to speak HTTP/2, and over TLS 1.3 to have believed who connects.
///
/// # Errors
/// What the connection failed of.
pub(super) async fn begin(
    stream: Stream,
    load: Arc<Load>,
    within: Duration,
) -> Result<(SendRequest<Bytes>, Connection<Watched, Bytes>), Failure> {
    let begun = timeout(within, async {
        let watched = Watched::new(stream, load.clone());
        let (requests, mut connection) = options().handshake(watched).await?;
        poll_fn(|cx| {
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(ended.and(Err(h2::Reason::NO_ERROR.into())));
            }
            if connection.max_concurrent_send_streams() == 0 {
                Poll::Pending
            } else {
                Poll::Ready(Ok(()))
            }
        })
        .await?;
        Ok((requests, connection))
    });
    match begun.await {
        Ok(Ok(begun)) => Ok(begun),
        Ok(Err(error)) => Err(failure(&error, &load)),
        Err(_) => Err(Failure::ConnectTimeout),
    }
}

fn failure(error: &h2::Error, load: &Load) -> Failure {
    if load.disbelief().is_some() {
        Failure::Tls
    } else if error.is_library() {
        // What came is no HTTP/2.
        Failure::BadAnswer
    } else {
        Failure::Connect
    }
}

fn options() -> Builder {
    let mut options = Builder::new();
    options
        .enable_push(false)
        // None before the Endpoint has said how many it takes.
        .initial_max_send_streams(0)
        .initial_window_size(STREAM_WINDOW)
        // One that is not taken must not hold up the others.
        .initial_connection_window_size(STREAM_WINDOW * STREAMS)
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    options
}

/// How long the silence of an Endpoint is borne while requests wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Then it is asked whether it is there.
    ping_after: Duration,
    /// By when it has to say so.
    ping_within: Duration,
}

impl Patience {
    pub(super) fn of(limits: &Limits) -> Self {
        Self { ping_after: limits.backend_ping_after, ping_within: limits.backend_ping_within }
    }
}

/// Carries the connection until it ends, the Endpoint is gone, or `ended`.
pub(super) async fn drive(
    mut connection: Connection<Watched, Bytes>,
    load: &Load,
    patience: Patience,
    ended: &CancellationToken,
) {
    let pings = connection.ping_pong();
    let mut silent = pin!(until_silent(pings, load, patience));
    tokio::select! {
        // What is wrong is told to the requests that it carries.
        _ = &mut connection => {}
        () = &mut silent => {}
        () = ended.cancelled() => {}
    }
    load.retire();
}

/// Ends when requests wait and the Endpoint does not even answer a ping. Who wants a ping less often
/// than every five minutes ends connections that do not keep to it, so by default it is not sent more often.
async fn until_silent(pings: Option<PingPong>, load: &Load, patience: Patience) {
    let Some(mut pings) = pings else { return pending().await };
    loop {
        let before = load.reads();
        sleep(patience.ping_after).await;
        if load.reads() != before || load.streams() == 0 {
            continue;
        }
        let pong = timeout(patience.ping_within, pings.ping(Ping::opaque())).await;
        if !matches!(pong, Ok(Ok(_))) {
            return;
        }
    }
}

/// What may be on its way of one answer, in bytes, while its client takes nothing.
const STREAM_WINDOW: u32 = 64 * 1024;
/// As many as share a connection.
const STREAMS: u32 = 100;
/// What is kept of one request, in bytes, while the Endpoint does not take it.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Decoded fields of one answer, in bytes, as the library counts them.
const HEAD_BYTES_MAX: u32 = 80 * 1024;
