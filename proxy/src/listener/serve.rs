//! The life of one connection: set-up, requests one after the other, end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use http::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::SocketSpec;
use super::accept::{Admitted, Worker};
use super::connection::{Conn, ConnFacts, TlsFacts};
use super::head::{NoHead, Turn, read_head};
use super::refusal::Rule;
use super::transport::{Prefixed, Transport};
use crate::engine::Engine;
use crate::forward::is_trusted;
use crate::reply;

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
    let _admitted = admitted;
    let Some(mut conn) = Box::pin(set_up(&worker, tcp, from, &spec)).await else { return };
    if conn.is_h2() {
        return worker.engine.serve_h2(conn).await;
    }
    let mut stopping = worker.shared.stopping.subscribe();
    loop {
        conn.park();
        let early = conn.take_held();
        let turn = if conn.requests() == 0 { Turn::First } else { Turn::Later };
        let head = tokio::select! {
            biased;
            head = read_head(&mut conn, early, turn, &worker.shared.limits) => head,
            // A new connection still gets its first answer.
            _ = stopping.wait_for(|stopping| *stopping), if turn == Turn::Later => Err(NoHead::Closed),
        };
        let head = match head {
            Ok(head) => head,
            Err(NoHead::Http2(before)) => {
                conn.become_h2(before);
                return worker.engine.serve_h2(conn).await;
            }
            Err(NoHead::Refuse(rule)) => return Box::pin(refuse(&worker, conn, rule)).await,
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

/// What comes before HTTP: facts about the peer, and TLS.
async fn set_up<E: Engine>(
    worker: &Worker<E>,
    tcp: TcpStream,
    from: SocketAddr,
    spec: &SocketSpec,
) -> Option<Box<Conn>> {
    tcp.set_nodelay(true).ok()?;
    let local = tcp.local_addr().ok()?;
    let limits = &worker.shared.limits;
    let raw = Prefixed::new(tcp);
    let (transport, tls, is_h2) = match &spec.tls {
        None => (Transport::Plain(raw), None, false),
        Some(config) => {
            let _turn = Handshaking::begin(worker)?;
            let acceptor = TlsAcceptor::from(config.clone());
            let Ok(Ok(stream)) = timeout(limits.handshake, acceptor.accept(raw)).await else {
                worker.metrics.handshakes_failed.add(1);
                return None;
            };
            worker.metrics.handshakes.add(1);
            let session = stream.get_ref().1;
            let server_name = session.server_name().map(Into::into);
            let is_h2 = session.alpn_protocol() == Some(b"h2");
            (Transport::Tls(Box::new(stream)), Some(TlsFacts { server_name }), is_h2)
        }
    };
    let client = SocketAddr::new(from.ip().to_canonical(), from.port());
    let facts = Arc::new(ConnFacts {
        socket: spec.address,
        client,
        client_text: HeaderValue::from_str(&client.ip().to_string())
            .expect("an address is visible ASCII"),
        is_client_trusted: is_trusted(client.ip(), &worker.shared.trusted_proxies),
        local_port: local.port(),
        port_text: HeaderValue::from(local.port()),
        tls,
        is_tunnel: AtomicBool::new(false),
    });
    let mut conn = Box::new(Conn::new(transport, facts, limits.write_stall));
    if is_h2 {
        conn.become_h2(BytesMut::new());
    }
    Some(conn)
}

/// One of the handshakes that may go on at a time.
struct Handshaking<'a, E: Engine>(&'a Worker<E>);

impl<'a, E: Engine> Handshaking<'a, E> {
    /// None when there are too many already.
    fn begin(worker: &'a Worker<E>) -> Option<Self> {
        let before = worker.handshakes.fetch_add(1, Ordering::Relaxed);
        let this = Self(worker);
        if before < worker.shared.limits.handshakes_max {
            return Some(this);
        }
        worker.metrics.handshakes_failed.add(1);
        None
    }
}

impl<E: Engine> Drop for Handshaking<'_, E> {
    fn drop(&mut self) {
        self.0.handshakes.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers a request that broke `rule`, and closes so that the client can read the answer.
async fn refuse<E: Engine>(worker: &Worker<E>, mut conn: Box<Conn>, rule: Rule) {
    worker.metrics.refused(rule);
    let answer = reply::raw(rule.status());
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

/// How long a client that was refused may take to read why.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;
