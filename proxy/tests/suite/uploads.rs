//! Requests whose bodies are long in coming: nothing piles up, nothing is lost, nothing is sent twice
//! that may not be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kubeng_config::backend::BackendProtocol;
use kubeng_config::policy::Policy;
use kubeng_config::policy::retry::Repeat;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::filters::filters;
use crate::scripted::{Deed, Scripted};
use crate::support::*;

/// Far longer than anything here takes.
const SOON: Duration = Duration::from_secs(30);
/// More than all buffers of the kernel and of the proxy on one way.
const LARGE: u64 = 256 * 1024 * 1024;

async fn read_until(tcp: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&text).contains(end) {
            let mut space = [0; 4096];
            match tcp.read(&mut space).await {
                Ok(count @ 1..) => text.extend_from_slice(&space[..count]),
                Ok(0) | Err(_) => break,
            }
        }
    };
    let in_time = timeout(SOON, read).await.is_ok();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(in_time, "{end:?} does not come, only {text:?}");
    text
}

/// Two Endpoints whose connections the test takes itself, one at a time.
struct Two(TcpListener, TcpListener);

impl Two {
    async fn accept(&self) -> std::io::Result<(TcpStream, std::net::SocketAddr)> {
        tokio::select! {
            taken = self.0.accept() => taken,
            taken = self.1.accept() => taken,
        }
    }
}

/// A replica with one Backend with two Endpoints.
async fn replica_of_two(given: &[&str], policy: Policy) -> (Replica, Two) {
    let (mut replica, one) = replica(given, policy).await;
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [one.local_addr().unwrap(), other.local_addr().unwrap()];
    replica.serve_as(&addresses, BackendProtocol::Http1, filters(given));
    (replica, Two(one, other))
}

/// A replica with one Backend whose connections the test takes itself.
async fn replica(given: &[&str], policy: Policy) -> (Replica, TcpListener) {
    let mut replica = Replica::start();
    replica.change([crate::support::policy("default", policy)]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    replica.serve_as(&[address], BackendProtocol::Http1, filters(given));
    (replica, listener)
}

/// Writes `LARGE` bytes, and counts those that were taken.
async fn pour(tcp: &mut (impl AsyncWriteExt + Unpin), taken: &AtomicU64) {
    let piece = [b'x'; 64 * 1024];
    while taken.load(Ordering::SeqCst) < LARGE {
        tcp.write_all(&piece).await.unwrap();
        taken.fetch_add(piece.len() as u64, Ordering::SeqCst);
    }
}

/// Waits until nothing more is taken; gives how much was.
async fn stalled(taken: &AtomicU64) -> u64 {
    let (mut before, mut same) = (u64::MAX, 0);
    while same < 10 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = taken.load(Ordering::SeqCst);
        same = if now == before { same + 1 } else { 0 };
        before = now;
    }
    before
}

/// Reads `LARGE` bytes.
async fn drink(tcp: &mut (impl AsyncReadExt + Unpin)) {
    let (mut left, mut space) = (LARGE, vec![0; 256 * 1024]);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(space.len()).min(space.len());
        let count = timeout(SOON, tcp.read(&mut space[..most])).await.unwrap().unwrap();
        assert!(count > 0 && space[..count].iter().all(|&byte| byte == b'x'));
        left -= count as u64;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_waits_for_a_backend_that_does_not_read_and_nothing_piles_up() {
    let (replica, listener) = replica(&[], Policy::default()).await;
    let client = TcpStream::connect(replica.http).await.unwrap();
    let (mut from, mut to) = client.into_split();
    let taken = Arc::new(AtomicU64::new(0));
    let pouring = taken.clone();
    spawn(async move {
        let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n");
        to.write_all(head.as_bytes()).await.unwrap();
        pour(&mut to, &pouring).await;
        // Held open until the answer is there.
        std::future::pending::<()>().await;
    });
    let (mut backend, _) = listener.accept().await.unwrap();
    let piled = stalled(&taken).await;
    assert!(piled < LARGE / 2, "{piled} bytes were taken that nobody reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(backend.read_u8().await.unwrap());
    }
    drink(&mut backend).await;
    backend.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    timeout(SOON, from.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 204");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_waits_for_a_client_that_does_not_read() {
    let (replica, listener) = replica(&[], Policy::default()).await;
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let taken = Arc::new(AtomicU64::new(0));
    let pouring = taken.clone();
    let (mut backend, _) = listener.accept().await.unwrap();
    spawn(async move {
        read_until(&mut backend, "\r\n\r\n").await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
        backend.write_all(head.as_bytes()).await.unwrap();
        pour(&mut backend, &pouring).await;
        std::future::pending::<()>().await;
    });
    let piled = stalled(&taken).await;
    assert!(piled < LARGE / 2, "{piled} bytes were taken that nobody reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    drink(&mut client).await;
}

#[tokio::test]
async fn both_sides_may_speak_at_once() {
    let (replica, listener) = replica(&[], Policy::default()).await;
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let (mut backend, _) = listener.accept().await.unwrap();
    let got = read_until(&mut backend, "\r\n\r\n").await.to_ascii_lowercase();
    assert!(got.contains("\r\ntransfer-encoding: chunked\r\n"), "{got}");
    backend.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    for number in 0..50 {
        let text = format!("<{number}>");
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        client.write_all(chunk.as_bytes()).await.unwrap();
        read_until(&mut backend, &text).await;
        backend.write_all(chunk.as_bytes()).await.unwrap();
        read_until(&mut client, &text).await;
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    read_until(&mut backend, "0\r\n\r\n").await;
    backend.write_all(b"0\r\n\r\n").await.unwrap();
    read_until(&mut client, "0\r\n\r\n").await;
}

#[tokio::test]
async fn a_client_that_waits_to_be_invited_is_when_a_backend_is_there_for_it() {
    let (mut replica, listener) = replica(&[], Policy::default()).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    for _ in 0..2 {
        client.write_all(head.as_bytes()).await.unwrap();
        let invited = read_until(&mut client, "\r\n\r\n").await;
        assert_eq!(invited, "HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"hello").await.unwrap();
        let (mut backend, _) = listener.accept().await.unwrap();
        let got = read_until(&mut backend, "hello").await.to_ascii_lowercase();
        assert!(!got.contains("expect"), "{got}");
        let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
        backend.write_all(answer).await.unwrap();
        let answer = read_until(&mut client, "ok").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "and the connection goes on: {answer}");
    }
    replica.serve(&[nobody()]);
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut client, "</html>").await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn a_whole_early_answer_is_read_although_the_client_goes_on_sending() {
    let (replica, listener) = replica(&[], Policy::default()).await;
    let client = TcpStream::connect(replica.http).await.unwrap();
    let (mut from, mut to) = client.into_split();
    spawn(async move {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000000\r\n\r\n";
        to.write_all(head.as_bytes()).await.unwrap();
        while to.write_all(&[b'x'; 4096]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let (mut backend, _) = listener.accept().await.unwrap();
    read_until(&mut backend, "xxxx").await;
    // It reads no more, answers, and ends its half.
    let answer =
        format!("HTTP/1.1 403 Forbidden\r\nContent-Length: 200000\r\n\r\n{}", "y".repeat(200_000));
    let (_held, mut into) = backend.into_split();
    into.write_all(answer.as_bytes()).await.unwrap();
    into.shutdown().await.unwrap();
    let mut text = Vec::new();
    while !text.ends_with(&[b'y'; 8]) || text.len() < 200_000 {
        let mut space = [0; 16 * 1024];
        let count = timeout(SOON, from.read(&mut space)).await.unwrap().unwrap();
        assert!(count > 0, "it ends after {} bytes", text.len());
        text.extend_from_slice(&space[..count]);
    }
    let text = String::from_utf8(text).unwrap().to_ascii_lowercase();
    assert!(text.starts_with("http/1.1 403 ") && text.contains("\r\nconnection: close\r\n"));
}

fn repeats() -> Policy {
    let mut policy = Policy::default();
    policy.retry.on.reset = true;
    policy.retry.methods = Repeat::All;
    policy
}

fn chunked(body: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    )
}

#[tokio::test]
async fn a_short_body_is_sent_again_and_a_long_one_is_not() {
    for (length, expected) in [(5, 200), (60_000, 200), (300_000, 502)] {
        let (replica, listener) = replica_of_two(&[], repeats()).await;
        let body = "z".repeat(length);
        let text = chunked(&body);
        let (answer, ()) = tokio::join!(talk(replica.http, text.as_bytes()), async {
            let (mut backend, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
            read_until(&mut backend, "\r\n0\r\n\r\n").await;
            drop(backend);
            if expected == 200 {
                let (mut backend, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
                let got = read_until(&mut backend, "\r\n0\r\n\r\n").await;
                assert_eq!(got.matches('z').count(), length);
                let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                backend.write_all(answer).await.unwrap();
            }
        });
        assert_eq!(Answer::read(&answer).status, expected, "{length}");
    }
}

#[tokio::test]
async fn an_endpoint_that_closes_while_it_is_sent_to_has_perhaps_answered() {
    let (replica, listener) = replica(&[], Policy::default()).await;
    let text = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3000000\r\n\r\n{}",
        "x".repeat(3_000_000)
    );
    let (answer, ()) = tokio::join!(talk(replica.http, text.as_bytes()), async {
        let (mut backend, _) = listener.accept().await.unwrap();
        read_until(&mut backend, "xxxx").await;
        let answer = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig";
        backend.write_all(answer).await.unwrap();
        backend.shutdown().await.unwrap();
        // What is still on its way is read, so that the answer is not lost by a reset.
        let mut sink = vec![0; 64 * 1024];
        while matches!(timeout(SOON, backend.read(&mut sink)).await, Ok(Ok(1..))) {}
    });
    let answer = Answer::read(&answer);
    assert_eq!((answer.status, answer.body.as_str()), (413, "big"));
}

#[tokio::test]
async fn an_old_client_gets_what_it_can_read() {
    let deeds = &[
        Deed::Answer("one"),
        Deed::Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"),
    ];
    let backend = Scripted::start(deeds).await;
    let mut replica = Replica::start();
    replica.serve(&[backend.address]);
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    let head = "POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(b"hi").await.unwrap();
    let answer = read_until(&mut client, "one").await.to_ascii_lowercase();
    assert!(answer.contains("\r\nconnection: keep-alive\r\n"), "{answer}");
    // Whose end is only known when it is there.
    client.write_all(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await.unwrap();
    let answer = read_until(&mut client, "never").await.to_ascii_lowercase();
    assert!(answer.ends_with("\r\n\r\ntwo") && !answer.contains("transfer-encoding"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

const BUFFERED: &str = r#"{"buffering":{"requestBytesMax":100000}}"#;

#[tokio::test]
async fn a_buffered_request_asks_a_backend_only_when_it_is_whole() {
    let (replica, listener) = replica_of_two(&[BUFFERED], repeats()).await;
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut client, "100 Continue\r\n\r\n").await;
    for _ in 0..9 {
        client.write_all(b"2710\r\n").await.unwrap();
        client.write_all(&[b'z'; 10_000]).await.unwrap();
        client.write_all(b"\r\n").await.unwrap();
    }
    tokio::select! {
        biased;
        _ = listener.accept() => panic!("it is not whole"),
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    // More than is kept of one that is not buffered, and sent again all the same.
    for is_last in [false, true] {
        let (mut backend, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(backend.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.contains("\r\ncontent-length: 90000\r\n"), "{head}");
        assert!(!head.contains("transfer-encoding"), "{head}");
        let mut body = vec![0; 90_000];
        timeout(SOON, backend.read_exact(&mut body)).await.unwrap().unwrap();
        assert!(body.iter().all(|&byte| byte == b'z'));
        if is_last {
            backend.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            let answer = read_until(&mut client, "\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_buffered_request_that_is_too_large_is_refused_before_a_backend_hears_of_it() {
    let (replica, listener) = replica(&[BUFFERED], Policy::default()).await;
    let large = "z".repeat(100_001);
    let sized = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 100001\r\n\r\n{large}"
    );
    for text in [chunked(&large), sized] {
        let answer = talk(replica.http, text.as_bytes()).await;
        assert_eq!(Answer::read(&answer).status, 413);
    }
    replica.until_failures("body_too_large", 2).await;
    assert!(timeout(Duration::from_millis(50), listener.accept()).await.is_err());
}
