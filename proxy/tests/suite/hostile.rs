//! Input that must be refused, over the wire: nothing of it reaches a Backend.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// A Backend that counts the connections that bring it a byte.
async fn serve_counting() -> (std::net::SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicU32::new(0));
    let count = seen.clone();
    spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let count = count.clone();
            spawn(async move {
                while tcp.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                    count.fetch_add(1, Ordering::Relaxed);
                    let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                }
            });
        }
    });
    (address, seen)
}

#[tokio::test]
async fn what_must_be_refused_is_answered_closed_and_sent_nowhere() {
    let mut replica = Replica::start();
    let (address, seen) = serve_counting().await;
    replica.serve(&[address]);
    let cases: [(&str, u16); 19] = [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET /../x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a%2fb HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /% HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\nx", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n X: y\r\n\r\n", 400),
    ];
    for (text, status) in cases {
        let answer = Answer::read(&talk(replica.http, text.as_bytes()).await);
        assert_eq!(answer.status, status, "{text:?}");
        assert!(answer.head.contains("connection: close"), "{text:?}: {answer:?}");
        assert!(answer.head.contains("server: kubeng"), "{text:?}: {answer:?}");
    }
    assert_eq!(seen.load(Ordering::Relaxed), 0);
    let metrics = replica.proxy.facts().metrics();
    assert!(
        metrics.contains("kubeng_requests_refused_total{rule=\"method_refused\"} 2"),
        "{metrics}"
    );
}

#[tokio::test]
async fn slow_heads_are_cut_and_strangers_get_no_answer() {
    let replica = Replica::start();
    let started = Instant::now();
    let answer = Answer::read(&talk(replica.http, b"GET / HTTP/1.1\r\nHost: a").await);
    assert_eq!(answer.status, 408);
    // 500 ms in this test; the connection lingers one second.
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!(talk(replica.http, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await, "");
    let large = format!("GET /{} HTTP/1.1\r\n", "a".repeat(20_000));
    assert_eq!(Answer::read(&talk(replica.http, large.as_bytes()).await).status, 414);
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "X: y\r\n".repeat(20_000));
    assert_eq!(Answer::read(&talk(replica.http, large.as_bytes()).await).status, 431);
}

#[tokio::test]
async fn connections_above_the_limit_are_closed_and_those_below_serve_on() {
    let mut given = settings();
    given.limits.connections_max = 2;
    let mut replica = Replica::with(given);
    replica.serve(&[serve_text("hello").await]);
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut tcp = TcpStream::connect(replica.http).await.unwrap();
        tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert_ne!(tcp.read(&mut [0; 4096]).await.unwrap(), 0);
        held.push(tcp);
    }
    let mut above = TcpStream::connect(replica.http).await.unwrap();
    assert_eq!(above.read(&mut [0; 16]).await.unwrap_or(0), 0);
    held.pop();
    let mut last = held.pop().unwrap();
    last.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_ne!(last.read(&mut [0; 4096]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_chunked_body_that_breaks_ends_the_connection() {
    let mut replica = Replica::start();
    replica.serve(&[serve_echo().await]);
    let text = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nhello\r\n";
    let answer = talk(replica.http, text.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[tokio::test]
async fn a_preface_that_stops_is_cut() {
    let replica = Replica::start();
    let started = Instant::now();
    for bytes in
        ["PRI * HTTP/2.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n", "PRI * HTTP/2.0\r\n\r\nGET"]
    {
        // The time of a head, 500 ms in this test; a preface that is none ends at once.
        assert_eq!(talk(replica.http, bytes.as_bytes()).await, "", "{bytes:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_refusal_is_written_in_the_form_that_was_asked_for() {
    let replica = Replica::start();
    let json = "GET /%00 HTTP/9.9\r\nHost: a\r\nAccept: application/json\r\n\r\n";
    let answer = Answer::read(&talk(replica.http, json.as_bytes()).await);
    assert!(answer.head.contains("content-type: application/problem+json"), "{answer:?}");
    let answer = Answer::read(&talk(replica.http, b"HEAD / HTTP/1.1\r\n\r\n").await);
    assert_eq!((answer.status, answer.body.as_str()), (400, ""));
}
