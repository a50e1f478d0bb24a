//! Answers that are read ahead of clients that are slow to take them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::filters::filters;
use crate::support::*;
use crate::upgrade_refused::read_answer;

/// Far longer than anything here takes.
const SOON: Duration = Duration::from_secs(60);
/// More than the kernel keeps for a client, and less than may be held.
const LARGE: usize = 16_000_000;
/// More than all buffers of the kernel and of the proxy on one way.
const ENDLESS: usize = 256 * 1024 * 1024;
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

async fn replica(filter: &str, more: &[&str]) -> (Replica, TcpListener) {
    let mut replica = Replica::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let all: Vec<&str> = [filter].into_iter().chain(more.iter().copied()).collect();
    let protocol = kubeng_config::backend::BackendProtocol::Http1;
    replica.serve_as(&[listener.local_addr().unwrap()], protocol, filters(&all));
    (replica, listener)
}

/// A client that has asked, and takes next to nothing before it reads.
async fn slow_client(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(to).await.unwrap();
    client.write_all(GET).await.unwrap();
    client
}

async fn read_head(tcp: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(SOON, tcp.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

/// A body in which every place differs from its neighbours.
fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| b'a' + u8::try_from(at % 23).unwrap()).collect()
}

fn sized(length: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), &body(length)].concat()
}

/// In chunks of different sizes.
fn chunked(length: usize) -> Vec<u8> {
    let mut out = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let all = body(length);
    let mut rest = &all[..];
    for size in [1, 10, 3000, 70_000].into_iter().cycle() {
        let (chunk, later) = rest.split_at(rest.len().min(size));
        if chunk.is_empty() {
            break;
        }
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        rest = later;
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

#[tokio::test]
async fn a_backend_serves_the_next_client_while_the_first_one_still_reads() {
    for answer in [sized(LARGE), chunked(LARGE)] {
        let filter = r#"{"buffering":{"answerBytesMax":16777216}}"#;
        // One worker has one pool.
        let given = kubeng_proxy::ProxySettings { workers: 1, ..settings() };
        let mut replica = Replica::with(given);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let protocol = kubeng_config::backend::BackendProtocol::Http1;
        replica.serve_as(&[listener.local_addr().unwrap()], protocol, filters(&[filter]));
        let mut slow = slow_client(replica.http).await;
        let (mut backend, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
        read_head(&mut backend).await;
        timeout(SOON, backend.write_all(&answer)).await.expect("all is taken").unwrap();
        // Once it is whole the connection waits for the next request, whenever that is seen.
        let mut other = TcpStream::connect(replica.http).await.unwrap();
        let mut opened = 0;
        let body = loop {
            other.write_all(GET).await.unwrap();
            tokio::select! {
                head = read_head(&mut backend) => {
                    assert!(head.starts_with("get / "), "{head}");
                    backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother").await.unwrap();
                    break read_answer(&mut other).await.body;
                }
                another = listener.accept() => {
                    let (mut another, _) = another.unwrap();
                    read_head(&mut another).await;
                    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n-";
                    another.write_all(text).await.unwrap();
                    assert_eq!(read_answer(&mut other).await.body, "-");
                }
            }
            opened += 1;
            assert!(opened < 1000, "the connection is never free");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert_eq!(body, "other");
        // All the while the first client has read nothing, and it misses nothing.
        let head = read_head(&mut slow).await;
        let mut text = vec![0; if head.contains("chunked") { 0 } else { LARGE }];
        timeout(SOON, slow.read_exact(&mut text)).await.unwrap().unwrap();
        if head.contains("chunked") {
            text = read_chunks(&mut slow).await;
        }
        assert!(text == self::body(LARGE), "the body differs");
    }
}

/// The body behind a head that announces chunks.
async fn read_chunks(tcp: &mut TcpStream) -> Vec<u8> {
    let mut tcp = tokio::io::BufReader::new(tcp);
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        let read = tokio::io::AsyncBufReadExt::read_line(&mut tcp, &mut line);
        timeout(SOON, read).await.unwrap().unwrap();
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        timeout(SOON, tcp.read_exact(&mut chunk)).await.unwrap().unwrap();
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return body;
        }
    }
}

#[tokio::test]
async fn of_a_longer_answer_no_more_than_the_limit_waits() {
    let (replica, listener) = replica(r#"{"buffering":{"answerBytesMax":65536}}"#, &[]).await;
    let mut slow = slow_client(replica.http).await;
    let (mut backend, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
    read_head(&mut backend).await;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {ENDLESS}\r\n\r\n");
    backend.write_all(head.as_bytes()).await.unwrap();
    let block = body(23 * 1000);
    let mut written = 0;
    let stuck = loop {
        match timeout(Duration::from_millis(500), backend.writable()).await {
            Ok(ready) => ready.unwrap(),
            Err(_) => break true,
        }
        match backend.try_write(&block[written % 23..]) {
            Ok(count) => written += count,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        if written >= ENDLESS / 2 {
            break false;
        }
    };
    assert!(stuck, "{written} bytes wait for a client that reads nothing");
    // It goes on as the client reads.
    let head = read_head(&mut slow).await;
    assert!(head.contains(&format!("content-length: {ENDLESS}\r\n")), "{head}");
    let mut text = vec![0; written];
    timeout(SOON, slow.read_exact(&mut text)).await.unwrap().unwrap();
    assert!(text == body(written), "the body differs");
}

#[tokio::test]
async fn events_are_passed_on_as_they_come() {
    let (replica, listener) = replica(r#"{"buffering":{"answerBytesMax":1048576}}"#, &[]).await;
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    client.write_all(GET).await.unwrap();
    let (mut backend, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
    read_head(&mut backend).await;
    // Its end is that of the connection.
    backend.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    read_head(&mut client).await;
    for number in 0..5 {
        let event = format!("<{number}>");
        backend.write_all(event.as_bytes()).await.unwrap();
        let mut space = [0; 8];
        timeout(SOON, client.read_exact(&mut space)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&space), format!("3\r\n{event}\r\n"));
    }
    drop(backend);
    let mut space = [0; 5];
    timeout(SOON, client.read_exact(&mut space)).await.unwrap().unwrap();
    assert_eq!(&space, b"0\r\n\r\n");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_sent_as_far_as_it_came_and_looks_broken() {
    let (replica, listener) = replica(r#"{"buffering":{"answerBytesMax":16777216}}"#, &[]).await;
    for (head, is_chunked) in
        [("Content-Length: 16000000", false), ("Transfer-Encoding: chunked", true)]
    {
        let mut slow = slow_client(replica.http).await;
        let (mut backend, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
        read_head(&mut backend).await;
        let half = body(8_000_000);
        let size = if is_chunked { "f42400\r\n" } else { "" };
        let text = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{size}");
        backend.write_all(text.as_bytes()).await.unwrap();
        timeout(SOON, backend.write_all(&half)).await.expect("it is taken").unwrap();
        drop(backend);
        read_head(&mut slow).await;
        let mut text = Vec::new();
        timeout(SOON, slow.read_to_end(&mut text)).await.expect("it ends").ok();
        assert!(!text.ends_with(b"0\r\n\r\n"), "it must not look whole");
        assert!((half.len()..half.len() + 20_000).contains(&text.len()), "{}", text.len());
    }
    replica.until_failures("answer_cut", 2).await;
}

#[tokio::test]
async fn what_is_read_ahead_goes_through_the_other_filters() {
    let compression = r#"{"compression":{"codings":["gzip"],"types":["text/plain"]}}"#;
    let (replica, listener) =
        replica(r#"{"buffering":{"answerBytesMax":1048576}}"#, &[compression]).await;
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    let get = "GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n";
    client.write_all(get.as_bytes()).await.unwrap();
    let (mut backend, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
    read_head(&mut backend).await;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n";
    backend.write_all(&[head.as_bytes(), &body(100_000)].concat()).await.unwrap();
    let head = read_head(&mut client).await;
    assert!(head.contains("\r\ncontent-encoding: gzip\r\n"), "{head}");
    let coded = read_chunks(&mut client).await;
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&coded[..]), &mut plain).unwrap();
    assert!(plain == body(100_000), "the body differs");
}
