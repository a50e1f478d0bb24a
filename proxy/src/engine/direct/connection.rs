//! An HTTP/2 connection of a client: takes its streams, and ends it in time.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use h2::server::{Builder, Connection};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Direct;
use crate::limits::Limits;
use crate::listener::connection::Conn;
use crate::listener::frames::Course;

impl Direct {
    /// Serves an HTTP/2 connection to its end. All its streams share its task, so what they write in
    /// one turn leaves together.
    pub(super) async fn serve_streams(&self, conn: Box<Conn>) {
        let limits = &self.shared.limits;
        let (facts, course, ends) = (conn.facts.clone(), conn.course(), conn.ends());
        // The preface is there, and there is room for our settings: this waits for nothing.
        let Ok(mut connection) = options(limits).handshake::<_, Bytes>(conn).await else { return };
        let mut streams = FuturesUnordered::new();
        let mut idle = pin!(sleep(limits.idle));
        let mut leave = pin!(has_to_leave(self.shared.leaving.subscribe(), course, ends));
        let mut is_leaving = false;
        loop {
            tokio::select! {
                biased;
                Some(()) = streams.next(), if !streams.is_empty() => {
                    if streams.is_empty() {
                        idle.as_mut().reset(Instant::now() + limits.idle);
                    }
                }
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, respond))) => {
                        begin(&streams, Box::pin(self.stream(request, respond, facts.clone())));
                    }
                    Some(Err(_)) | None => break,
                },
                () = &mut leave, if !is_leaving => {
                    is_leaving = true;
                    connection.graceful_shutdown();
                }
                // Nobody waits for anything: it is dropped, which says so.
                () = &mut idle, if streams.is_empty() => return,
            }
        }
        // Streams that are left see that the client is gone, and tell it.
        drop::<Connection<_, _>>(connection);
        while streams.next().await.is_some() {}
    }
}

/// Puts a stream among those that are served.
///
/// A place among them is made with each connection, and one that is left may wait to be cleared until
/// another stream begins. So it must be small, also while nothing is in it.
fn begin<F>(streams: &FuturesUnordered<F>, stream: F) {
    const { assert!(size_of::<F>() <= PLACE_BYTES_MAX, "a stream is served in a box") };
    streams.push(stream);
}

fn options(limits: &Limits) -> Builder {
    let mut options = Builder::new();
    options
        .max_concurrent_streams(limits.h2_streams_max)
        .max_header_list_size(limits.h2_header_list_bytes_max)
        .initial_window_size(limits.h2_stream_window)
        .initial_connection_window_size(limits.h2_connection_window)
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    options
}

/// Ends when no further stream may begin: the replica leaves, or the connection had as many requests,
/// or as much time, as one may have.
async fn has_to_leave(
    mut leaving: watch::Receiver<bool>,
    course: Option<Arc<Course>>,
    ends: Instant,
) {
    let is_spent = async {
        match course {
            Some(course) => course.is_spent.notified().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = leaving.wait_for(|leaving| *leaving) => {}
        () = is_spent => {}
        () = sleep_until(ends) => {}
    }
}

/// What is kept of the answer of one stream while its client does not take it.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// What a stream takes of the connection itself.
const PLACE_BYTES_MAX: usize = 16;
