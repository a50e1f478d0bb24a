//! Requests for a tunnel that get none: the connection of the client goes on where that is safe.

use std::time::Duration;

use kubeng_config::policy::Policy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::scripted::{Deed, Scripted};
use crate::support::*;

/// A request for a tunnel without its end, so that more fields fit in.
pub(crate) const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n";
const PLAIN: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// Far longer than anything here takes.
const SOON: Duration = Duration::from_secs(30);

/// Reads one answer, whose end is found by its length or by its chunks.
pub(crate) async fn read_answer(tcp: &mut TcpStream) -> Answer {
    let read = async {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            text.push(tcp.read_u8().await.unwrap());
        }
        let mut answer = Answer::read(&String::from_utf8_lossy(&text));
        let length = answer.head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = match length {
            Some(length) => vec![0; length.parse().unwrap()],
            None => Vec::new(),
        };
        tcp.read_exact(&mut body).await.unwrap();
        while length.is_none() && !body.ends_with(b"0\r\n\r\n") {
            body.push(tcp.read_u8().await.unwrap());
        }
        answer.body = String::from_utf8_lossy(&body).into_owned();
        answer
    };
    timeout(SOON, read).await.expect("the answer is framed")
}

async fn ends(tcp: &mut TcpStream) {
    let mut rest = Vec::new();
    timeout(SOON, tcp.read_to_end(&mut rest)).await.expect("the connection ends").ok();
    assert_eq!(String::from_utf8_lossy(&rest), "", "nothing is answered any more");
}

async fn replica(deeds: &'static [Deed]) -> (Replica, Scripted) {
    let mut replica = Replica::start();
    let backend = Scripted::start(deeds).await;
    replica.serve(&[backend.address]);
    (replica, backend)
}

#[tokio::test]
async fn a_connection_goes_on_behind_a_tunnel_that_was_refused() {
    const DEEDS: &[Deed] = &[
        Deed::Status(401),
        Deed::Send("HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"),
        Deed::Send("HTTP/1.1 404 No\r\n\r\nnot here"),
        Deed::Answer("no tunnel"),
        Deed::Status(503),
        // Of ours, for this is no answer.
        Deed::Send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"),
        Deed::Answer("plain"),
    ];
    let (replica, backend) = replica(DEEDS).await;
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    for status in [401, 403, 404, 200, 503, 502] {
        client.write_all(format!("{UPGRADE}\r\n").as_bytes()).await.unwrap();
        let answer = read_answer(&mut client).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(!answer.head.contains("\r\nconnection:"), "{answer:?}");
    }
    client.write_all(PLAIN.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut client).await.body, "plain");
    assert_eq!(backend.requests(), 7);
}

#[tokio::test]
async fn what_a_client_sends_before_it_has_a_tunnel_is_never_read_as_a_request() {
    let (replica, backend) = replica(&[Deed::Status(403)]).await;
    let inner = "GET /inner HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    client.write_all(format!("{UPGRADE}\r\n{inner}").as_bytes()).await.unwrap();
    let answer = read_answer(&mut client).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(answer.head.contains("\r\nconnection: close"), "{answer:?}");
    ends(&mut client).await;
    assert_eq!(backend.requests(), 1);
}

#[tokio::test]
async fn an_answer_that_is_no_tunnel_may_not_be_silent_for_as_long_as_one() {
    let mut value = Policy::default();
    value.timeouts.read = Duration::from_millis(200);
    value.timeouts.tunnel = Duration::from_secs(3600);
    let mut replica = Replica::start();
    replica.change([policy("default", value)]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    replica.serve(&[listener.local_addr().unwrap()]);
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    client.write_all(format!("{UPGRADE}\r\n").as_bytes()).await.unwrap();
    let (mut backend, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
    backend.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nhalf").await.unwrap();
    let mut text = Vec::new();
    timeout(SOON, client.read_to_end(&mut text)).await.expect("it is cut").ok();
    let answer = Answer::read(&String::from_utf8_lossy(&text));
    assert_eq!((answer.status, answer.body.as_str()), (403, "half"));
}
