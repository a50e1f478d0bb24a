//! Clients that take their time, with limits that are short for the test.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::recorder::Recorder;
use crate::support::*;

async fn rig(change: impl FnOnce(&mut kubeng_proxy::Limits)) -> (Replica, Recorder) {
    let mut given = settings();
    change(&mut given.limits);
    let mut replica = Replica::with(given);
    let (address, recorder) = Recorder::start().await;
    replica.serve(&[address]);
    (replica, recorder)
}

/// Sends `head`, then one byte each 20 ms, and gives what comes until the end.
async fn drip(replica: &Replica, head: &str, byte: &[u8]) -> String {
    let tcp = TcpStream::connect(replica.http).await.unwrap();
    let (mut from, mut to) = tcp.into_split();
    to.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let dripping = async {
        while to.write_all(byte).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    };
    timeout(Duration::from_secs(10), async {
        tokio::select! {
            read = from.read_to_end(&mut answer) => drop(read),
            () = dripping => {}
        }
    })
    .await
    .expect("the connection ends");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_head_that_drips_is_cut() {
    let (replica, recorder) = rig(|limits| limits.head = Duration::from_millis(300)).await;
    let answer = drip(&replica, "GET / HTTP/1.1\r\nHost: a\r\nX: ", b"y").await;
    assert_eq!(Answer::read(&answer).status, 408);
    assert_eq!(recorder.take().await.len(), 0);
}

#[tokio::test]
async fn a_body_that_drips_is_cut_and_never_whole() {
    let (replica, recorder) = rig(|limits| limits.body_read = Duration::from_millis(300)).await;
    for (head, byte) in [
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", "x"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n", "x"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", "y"),
    ] {
        let answer = drip(&replica, head, byte.as_bytes()).await;
        assert_eq!(Answer::read(&answer).status, 408, "{head:?}: {answer:?}");
        let arrived = crate::recorder::requests(&recorder.take().await, true);
        assert_eq!(arrived, Ok(vec![]), "{head:?}");
    }
    let metrics = replica.proxy.facts().metrics();
    assert!(metrics.contains("kubeng_requests_refused_total{rule=\"slow_body\"} 4"), "{metrics}");
}

#[tokio::test]
async fn a_body_that_is_fast_enough_passes() {
    let (replica, recorder) = rig(|limits| limits.body_read = Duration::from_millis(300)).await;
    let mut tcp = TcpStream::connect(replica.http).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 12288\r\n\r\n";
    tcp.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        tcp.write_all(&[b'x'; 1024]).await.unwrap();
    }
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    assert_eq!(Answer::read(&answer).status, 200);
    let arrived = crate::recorder::requests(&recorder.take().await, false).unwrap();
    assert_eq!(arrived[0].body.len(), 12_288);
}

#[tokio::test]
async fn a_reader_that_stops_is_cut() {
    let mut given = settings();
    given.limits.write_stall = Duration::from_millis(300);
    let mut replica = Replica::with(given);
    static BODY: [u8; 16 << 20] = [b'x'; 16 << 20];
    replica.serve(&[serve_text(std::str::from_utf8(&BODY).unwrap()).await]);
    let mut tcp = TcpStream::connect(replica.http).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let facts = replica.proxy.facts();
    crate::recorder::until(|| facts.connections() == 1).await;
    crate::recorder::until(|| facts.connections() == 0).await;
    assert_eq!(facts.connections(), 0);
}
