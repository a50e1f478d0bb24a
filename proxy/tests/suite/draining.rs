//! Leaving without losing a request.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::support::*;

/// A Backend that tells when a request has come, and answers when it is told to.
async fn serve_held() -> (std::net::SocketAddr, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (came, has_come) = oneshot::channel();
    let (go, may_go) = oneshot::channel::<()>();
    spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        assert_ne!(tcp.read(&mut [0; 4096]).await.unwrap(), 0);
        came.send(()).unwrap();
        let _ = may_go.await;
        let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nheld").await;
    });
    (address, has_come, go)
}

#[tokio::test]
async fn a_drain_finishes_what_has_begun_and_closes_what_waits() {
    let mut replica = Replica::start();
    let (address, has_come, go) = serve_held().await;
    replica.serve(&[address]);
    let to = replica.http;
    let mut idle = TcpStream::connect(to).await.unwrap();
    idle.write_all(b"GET /x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n").await.unwrap();
    let (sent, running) = oneshot::channel();
    spawn(async move {
        let text = talk(to, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        sent.send(text).unwrap();
    });
    has_come.await.unwrap();
    replica.proxy.leave();
    // New connections are still taken.
    TcpStream::connect(to).await.unwrap();
    let (ended, has_ended) = oneshot::channel();
    let Replica { proxy, writer, .. } = replica;
    spawn(async move { ended.send(proxy.drain().await).unwrap() });
    while TcpStream::connect(to).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go.send(()).unwrap();
    let answer = Answer::read(&running.await.unwrap());
    assert_eq!((answer.status, answer.body.as_str()), (200, "held"));
    assert!(answer.head.contains("connection: close"), "{answer:?}");
    let drained = has_ended.await.unwrap();
    assert_eq!(drained.cut, 0);
    drop(writer);
}

#[tokio::test]
async fn a_drain_is_bounded_and_counts_what_it_cuts() {
    let mut replica = Replica::with(kubeng_proxy::ProxySettings {
        drain: Duration::from_millis(200),
        ..settings()
    });
    let (address, has_come, _never) = serve_held().await;
    replica.serve(&[address]);
    let mut tcp = TcpStream::connect(replica.http).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    has_come.await.unwrap();
    let started = Instant::now();
    let drained = replica.proxy.drain().await;
    assert_eq!(drained.cut, 1);
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!(tcp.read(&mut [0; 16]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_connection_that_waits_is_closed_at_once() {
    let mut replica = Replica::start();
    replica.serve(&[serve_text("hello").await]);
    let mut idle = TcpStream::connect(replica.http).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_ne!(idle.read(&mut [0; 4096]).await.unwrap(), 0);
    let started = Instant::now();
    let drained = replica.proxy.drain().await;
    assert_eq!(drained.cut, 0);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(idle.read(&mut [0; 16]).await.unwrap_or(0), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_is_told_to_go_and_its_streams_end_well() {
    let mut replica = Replica::start();
    let (came, mut has_come) = tokio::sync::mpsc::channel(1);
    let slow = serve(move |_| {
        came.try_send(()).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        Response::new("slow".into())
    })
    .await;
    replica.serve(&[slow]);
    let tcp = TcpStream::connect(replica.http).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
            .await
            .unwrap();
    let (ended, has_ended) = oneshot::channel();
    spawn(async move { ended.send(connection.await.is_ok()).unwrap() });
    let request = Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
    let answer = client.send_request(request);
    has_come.recv().await.unwrap();
    let (drained, answer) = tokio::join!(replica.proxy.drain(), async {
        answer.await.unwrap().into_body().collect().await.unwrap().to_bytes()
    });
    assert_eq!(answer, "slow");
    assert_eq!(drained.cut, 0);
    assert!(has_ended.await.unwrap(), "the connection ended in order");
}

#[tokio::test]
async fn a_connection_that_was_completed_before_the_drain_is_served() {
    let mut replica = Replica::start();
    replica.serve(&[serve_text("hello").await]);
    let mut clients = tokio::task::JoinSet::new();
    // The kernel completes them; whether a worker has seen them by now does not matter.
    for _ in 0..20 {
        let mut tcp = TcpStream::connect(replica.http).await.unwrap();
        clients.spawn(async move {
            tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut text = String::new();
            tcp.read_to_string(&mut text).await.unwrap();
            text
        });
    }
    let drained = replica.proxy.drain().await;
    while let Some(text) = clients.join_next().await {
        let text = text.unwrap();
        assert!(text.ends_with("hello"), "{text:?}");
    }
    assert_eq!(drained.cut, 0);
}

#[tokio::test]
async fn a_connection_that_never_asked_does_not_hold_a_drain_up() {
    let replica = Replica::start();
    let (mut plain, mut h2) = (
        TcpStream::connect(replica.http).await.unwrap(),
        TcpStream::connect(replica.http).await.unwrap(),
    );
    h2.write_all(b"PRI * HTTP/2.0\r\n\r\n").await.unwrap();
    let started = Instant::now();
    let drained = replica.proxy.drain().await;
    assert_eq!(drained.cut, 0);
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(plain.read(&mut [0; 16]).await.unwrap_or(0), 0);
    assert_eq!(h2.read(&mut [0; 16]).await.unwrap_or(0), 0);
}

/// A client that asks again and again, on one connection as long as it may, wherever `front` says.
async fn ask_on(
    front: std::sync::Arc<std::sync::Mutex<std::net::SocketAddr>>,
    mut is_over: tokio::sync::watch::Receiver<bool>,
) -> u32 {
    let mut answered = 0;
    let mut open: Option<TcpStream> = None;
    while !*is_over.borrow_and_update() {
        let to = *front.lock().unwrap();
        let mut tcp = match open.take() {
            Some(tcp) => tcp,
            None => TcpStream::connect(to).await.expect("the port is open"),
        };
        tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("the request is taken");
        let mut text = String::new();
        while !text.ends_with("hello") {
            let mut space = [0; 1024];
            let count = tcp.read(&mut space).await.expect("the answer is whole");
            assert_ne!(count, 0, "the answer is whole: {text:?}");
            text.push_str(str::from_utf8(&space[..count]).unwrap());
        }
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        answered += 1;
        open = (!text.to_ascii_lowercase().contains("connection: close")).then_some(tcp);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_drains_under_load_lose_no_request() {
    let backend = serve_text("hello").await;
    let start = || {
        let given = kubeng_proxy::ProxySettings { workers: 1, ..settings() };
        let mut replica = Replica::with(given);
        replica.serve(&[backend]);
        replica
    };
    let mut serving = start();
    let front = std::sync::Arc::new(std::sync::Mutex::new(serving.http));
    let (over, is_over) = tokio::sync::watch::channel(false);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..16 {
        clients.spawn(ask_on(front.clone(), is_over.clone()));
    }
    for _ in 0..20 {
        let next = start();
        // As a balancer does: readiness goes off, it sends new connections elsewhere, then we stop.
        serving.proxy.leave();
        *front.lock().unwrap() = next.http;
        tokio::time::sleep(Duration::from_millis(150)).await;
        let Replica { proxy, writer, .. } = std::mem::replace(&mut serving, next);
        drop(writer);
        assert_eq!(proxy.drain().await.cut, 0);
    }
    over.send(true).unwrap();
    let answered: u32 = clients.join_all().await.into_iter().sum();
    assert!(answered > 1_000, "{answered}");
}
