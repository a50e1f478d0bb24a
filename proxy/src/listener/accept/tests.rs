use std::io::{Read as _, Write as _};
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use kubeng_config::listener::Opening;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

use super::*;
use crate::limits::Limits;
use crate::listener::connection::Conn;
use crate::metrics::Metrics;
use crate::observe::{Observe, ObserveSettings};
use crate::table::Table;

/// Answers everything, but panics when it is asked for `/panic`.
struct Fragile;

impl Engine for Fragile {
    async fn exchange(&self, mut conn: Box<Conn>, head: BytesMut) -> Option<Box<Conn>> {
        assert!(!head.starts_with(b"GET /panic "), "asked to");
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        conn.write_all(answer).await.ok()?;
        conn.flush().await.ok()?;
        Some(conn)
    }

    async fn serve_h2(&self, _: Box<Conn>) {
        panic!("asked to");
    }

    async fn drain(&self) {}
}

fn shared() -> Arc<Shared> {
    Arc::new(Shared {
        table: ArcSwap::from_pointee(Table::empty()),
        limits: Limits::default(),
        trusted_proxies: Arc::new([]),
        metrics: Metrics::new(1),
        observe: Observe::start(ObserveSettings::default(), 1).unwrap().0,
        fallback_certificate: crate::tls::fallback_certificate().unwrap(),
        connections: AtomicUsize::new(0),
        addresses: crate::listener::admission::Addresses::default(),
        leaving: watch::Sender::new(false),
        is_leaving: false.into(),
        handover: Arc::default(),
        closing: watch::Sender::new(false),
        stopping: watch::Sender::new(false),
        reserved: Arc::default(),
        listen: Default::default(),
        zone: None,
        sticky_key: crate::backend::sticky::StickyKey::new(None).unwrap(),
        passwords: crate::filter::basic_auth::Passwords::new(1),
        key_sets: Arc::default(),
        started: std::time::Instant::now(),
    })
}

/// Sends `request` and gives what came until the end or the first answer.
fn ask(to: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut tcp = std::net::TcpStream::connect(to).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    tcp.write_all(request).unwrap();
    let mut space = [0; 256];
    // A reset is an end, too.
    let count = tcp.read(&mut space).unwrap_or(0);
    space[..count].to_vec()
}

#[tokio::test]
async fn a_panic_ends_one_connection_and_is_counted() {
    let shared = shared();
    let worker = Worker::new(Fragile, shared.clone(), shared.metrics.workers[0].clone(), 0);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let (commands, received) = mpsc::channel(1);
    let opening = Opening::Http;
    let spec = Arc::new(SocketSpec { address, opening, connections: AtomicUsize::new(0) });
    commands.send(Command::Open(spec, socket, Arc::new(()))).await.unwrap();
    let mut running = tokio::task::JoinSet::new();
    running.spawn(worker.run(received, Duration::from_secs(5)));
    let mut clients = tokio::task::JoinSet::new();
    clients.spawn_blocking(move || {
        let mut bystander = std::net::TcpStream::connect(address).unwrap();
        for _ in 0..5 {
            assert!(ask(address, b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").is_empty());
            assert!(ask(address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").is_empty());
            assert!(
                ask(address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").starts_with(b"HTTP/1.1 204")
            );
        }
        // On the same worker, open all the time.
        bystander.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(bystander.read(&mut [0; 12]).unwrap(), 12);
    });
    clients.join_next().await.unwrap().unwrap();
    drop(commands);
    let cut = tokio::time::timeout(Duration::from_secs(10), running.join_next()).await;
    assert_eq!(cut.unwrap().unwrap().unwrap(), 0);
    assert_eq!(shared.connections.load(Ordering::Relaxed), 0, "none is counted as open for ever");
    let metrics = shared.render_metrics();
    assert!(metrics.contains("kubeng_connections_panicked_total 10\n"), "{metrics}");
}
