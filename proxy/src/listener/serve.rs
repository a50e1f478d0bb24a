//! The life of one connection: set-up, requests one after the other, end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::accept::Worker;
use super::admission::Admitted;
use super::connection::Conn;
use super::head::{NoHead, Turn, read_first, read_head};
use super::opening::{Opened, Unopened, open};
use super::refusal::Rule;
use super::{SocketSpec, tunnel};
use crate::engine::Engine;
use crate::metrics::WorkerMetrics;
use crate::reply::{self, Asked};

/// Serves a connection to its end.
///
/// Stays small: what is needed only once lives in boxes that are gone while the connection idles.
pub(crate) async fn connection<E: Engine>(
    worker: Arc<Worker<E>>,
    tcp: TcpStream,
    from: SocketAddr,
    spec: Arc<SocketSpec>,
    admitted: Admitted,
) {
    // Dropped at the end, however it comes about.
    let mut admitted = admitted;
    let _panics = CountsPanic(&worker.metrics);
    let mut stopping = worker.shared.stopping.subscribe();
    let set_up = set_up(&worker, tcp, from, &spec, &mut admitted, &mut stopping);
    let mut conn = match Box::pin(set_up).await {
        Some(Opened::Requests(conn)) => conn,
        Some(Opened::PassOn(to_pass_on)) => {
            return Box::pin(tunnel::serve(&worker, to_pass_on)).await;
        }
        None => return,
    };
    if conn.is_h2() {
        return serve_h2(&worker, conn, BytesMut::new(), &mut stopping).await;
    }
    loop {
        conn.park();
        let early = conn.take_held();
        let is_first = conn.requests() == 0;
        // Over TLS it is the handshake that chooses HTTP/2 (RFC 9113 section 3.2).
        let turn = if is_first && conn.facts.tls.is_none() { Turn::First } else { Turn::Later };
        let waiting = worker.metrics.idle.enter();
        let limits = &worker.shared.limits;
        let first = tokio::select! {
            biased;
            first = read_first(&mut conn, early, limits) => first,
            () = has_to_end(&mut stopping, is_first) => Err(NoHead::Closed),
        };
        drop(waiting);
        // What has begun is in progress, also while the replica stops; it has a deadline of its own.
        let head = match first {
            Ok(bytes) => read_head(&mut conn, bytes, turn, limits).await,
            Err(none) => Err(none),
        };
        let head = match head {
            Ok(head) => head,
            Err(NoHead::Http2(before)) => {
                return serve_h2(&worker, conn, before, &mut stopping).await;
            }
            Err(NoHead::Refuse(rule, asked)) => {
                return Box::pin(refuse(&worker, conn, rule, asked)).await;
            }
            Err(NoHead::Silent) => return worker.metrics.refused(Rule::NotHttp),
            Err(NoHead::Closed) => {
                // Over TLS this tells the client that nothing was cut off.
                let _ = timeout(LINGER, conn.shutdown()).await;
                return;
            }
        };
        conn.begin(head.left, head.early);
        let Some(back) = Box::pin(worker.engine.exchange(conn, head.bytes)).await else { return };
        conn = back;
    }
}

/// Counts a panic on its way out. It ends this connection; the task keeps it from the others.
struct CountsPanic<'a>(&'a WorkerMetrics);

impl Drop for CountsPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.connections_panicked.add(1);
        }
    }
}

/// Ends when a connection that waits for a request has to.
async fn has_to_end(stopping: &mut watch::Receiver<bool>, is_first: bool) {
    // An error means that nobody can tell any more: the replica is gone.
    let _ = stopping.wait_for(|stopping| *stopping).await;
    if is_first {
        // What the client sent before it could know is still on its way, or in the kernel.
        sleep(FIRST_BYTES).await;
    }
}

/// Reads the preface of HTTP/2, of which `before` has arrived, and hands the connection on.
///
/// The engine has no deadline for it, so a connection is the engine's only behind it.
async fn serve_h2<E: Engine>(
    worker: &Worker<E>,
    mut conn: Box<Conn>,
    before: BytesMut,
    stopping: &mut watch::Receiver<bool>,
) {
    let preface = timeout(worker.shared.limits.head, read_preface(&mut conn, before));
    let read = tokio::select! {
        biased;
        read = preface => read,
        () = has_to_end(stopping, true) => return,
    };
    match read {
        Ok(Ok(preface)) => {
            conn.become_h2(preface, worker.shared.limits.requests_max);
            let course = conn.course();
            worker.engine.serve_h2(conn).await;
            if let Some(rule) = course.and_then(|course| course.broken()) {
                worker.metrics.refused(rule);
            }
        }
        Ok(Err(rule)) => worker.metrics.refused(rule),
        Err(_) => worker.metrics.refused(Rule::SlowHead),
    }
}

async fn read_preface(conn: &mut Conn, mut bytes: BytesMut) -> Result<BytesMut, Rule> {
    loop {
        let known = bytes.len().min(PREFACE.len());
        if bytes.get(..known) != PREFACE.get(..known) {
            return Err(Rule::NotHttp);
        }
        if known == PREFACE.len() {
            return Ok(bytes);
        }
        if !matches!(conn.fill(&mut bytes).await, Ok(1..)) {
            return Err(Rule::NotHttp);
        }
    }
}

/// Reads what comes before requests; None when it ends there.
async fn set_up<E: Engine>(
    worker: &Worker<E>,
    tcp: TcpStream,
    from: SocketAddr,
    spec: &SocketSpec,
    admitted: &mut Admitted,
    stopping: &mut watch::Receiver<bool>,
) -> Option<Opened> {
    let opened = tokio::select! {
        biased;
        opened = open(worker, tcp, from, spec, admitted) => opened,
        () = has_to_end(stopping, true) => Err(Unopened::Gone),
    };
    match opened {
        Ok(opened) => return Some(opened),
        Err(Unopened::TurnedAway(reason)) => worker.metrics.turned_away(reason),
        Err(Unopened::Handshake(how)) => worker.metrics.handshake(how),
        Err(Unopened::Gone) => {}
    }
    None
}

/// Answers a request that broke `rule`, and closes so that the client can read the answer.
async fn refuse<E: Engine>(worker: &Worker<E>, mut conn: Box<Conn>, rule: Rule, asked: Asked) {
    worker.metrics.refused(rule);
    worker.shared.observe.refused(worker.number, &conn.facts, rule);
    let answer = reply::raw(rule.status(), asked);
    let sent = async {
        conn.write_all(&answer).await?;
        conn.shutdown().await?;
        // Closing with unread bytes would reset the connection, and the answer with it.
        let mut sink = [0; 1024];
        let mut unread = LINGER_BYTES_MAX;
        while unread > 0 {
            match conn.read(&mut sink).await? {
                0 => break,
                count => unread = unread.saturating_sub(count),
            }
        }
        Ok::<(), std::io::Error>(())
    };
    // Whether the client took it is up to the client.
    let _ = timeout(LINGER, sent).await;
}

/// The bytes with which a client begins HTTP/2 (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a connection without any request is kept when the replica stops.
const FIRST_BYTES: Duration = Duration::from_secs(1);
/// How long a client that was refused may take to read why.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;
