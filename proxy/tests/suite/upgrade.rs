//! WebSocket through the proxy.

use kubeng_config::policy::Policy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;
use crate::upgrade_refused::read_answer;

/// A Backend that agrees to become a WebSocket and then sends back what it gets.
async fn serve_tunnel() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(tcp.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
                assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
                let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                              Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
                tcp.write_all(answer.as_bytes()).await.unwrap();
                let (mut from, mut into) = tcp.split();
                let _ = tokio::io::copy(&mut from, &mut into).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_websocket_passes_both_ways_also_what_was_sent_early() {
    let mut replica = Replica::start();
    replica.serve(&[serve_tunnel().await]);
    let mut tcp = TcpStream::connect(replica.http).await.unwrap();
    let head = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\nearly";
    tcp.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(tcp.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let mut space = [0; 5];
    tcp.read_exact(&mut space).await.unwrap();
    assert_eq!(&space, b"early");
    for number in 0..100_u32 {
        tcp.write_all(&number.to_be_bytes()).await.unwrap();
        assert_eq!(tcp.read_u32().await.unwrap(), number);
    }
    // A table that goes while the tunnel lives takes nothing from it.
    replica.serve(&[nobody()]);
    tcp.write_all(b"still").await.unwrap();
    tcp.read_exact(&mut space).await.unwrap();
    assert_eq!(&space, b"still");
}

#[tokio::test]
async fn a_websocket_library_is_content() {
    use tokio_tungstenite::tungstenite::Message;
    let mut replica = Replica::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
        while let Some(Ok(message)) = futures::StreamExt::next(&mut socket).await {
            if message.is_text() {
                futures::SinkExt::send(&mut socket, message).await.unwrap();
            }
        }
    });
    replica.serve(&[address]);
    let tcp = TcpStream::connect(replica.http).await.unwrap();
    let (mut socket, _) =
        tokio_tungstenite::client_async("ws://a.example/chat", tcp).await.unwrap();
    for text in ["one", "two"] {
        futures::SinkExt::send(&mut socket, Message::text(text)).await.unwrap();
        let echoed = futures::StreamExt::next(&mut socket).await.unwrap().unwrap();
        assert_eq!(echoed.into_text().unwrap().as_str(), text);
    }
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn a_backend_that_switches_unasked_is_502() {
    let mut replica = Replica::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            spawn(async move {
                let _ = tcp.read(&mut [0; 4096]).await;
                let _ = tcp
                    .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
                    .await;
            });
        }
    });
    replica.serve(&[address]);
    assert_eq!(get(replica.http, "a", "/").await.status, 502);
}

#[tokio::test]
async fn what_only_looks_like_a_websocket_is_an_ordinary_request() {
    let mut replica = Replica::start();
    replica.serve(&[serve_echo().await]);
    let whole = [
        "Connection: close, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ];
    for (missing, _) in whole.iter().enumerate() {
        let mut lines = whole;
        lines[missing] = if missing == 0 { "Connection: close" } else { "X: y" };
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", lines.join("\r\n"));
        let answer = Answer::read(&talk(replica.http, text.as_bytes()).await);
        assert_eq!(answer.status, 200, "{text}");
        assert!(!answer.body.contains("upgrade:"), "{text}: {answer:?}");
    }
}

#[tokio::test]
async fn a_backend_that_never_decides_is_504() {
    let mut replica = Replica::start();
    let mut value = Policy::default();
    value.timeouts.read = std::time::Duration::from_millis(200);
    replica.change([policy("default", value)]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    replica.serve(&[listener.local_addr().unwrap()]);
    let text = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    client.write_all(text.as_bytes()).await.unwrap();
    let (answer, _held) = tokio::join!(read_answer(&mut client), listener.accept());
    assert_eq!(answer.status, 504);
}
