//! Bodies that come bit by bit: nothing is held back, and nothing is made up.

use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Request, Response};
use kubeng_config::backend::BackendProtocol;
use kubeng_config::policy::Policy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// Far longer than anything here takes.
const SOON: Duration = Duration::from_secs(10);

/// A replica with one Backend whose connections the test takes itself.
async fn replica() -> (Replica, TcpListener) {
    let mut replica = Replica::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    replica.serve(&[listener.local_addr().unwrap()]);
    (replica, listener)
}

/// Reads until `end` has come, or the connection ends.
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
    let in_time = tokio::time::timeout(SOON, read).await.is_ok();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(in_time, "{end:?} does not come, only {text:?}");
    text
}

/// Sends `request`, takes it at the Backend, and gives both ends.
async fn exchange(request: &str, until: &str) -> (Replica, TcpStream, TcpStream, String) {
    let (replica, listener) = replica().await;
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut backend, _) = listener.accept().await.unwrap();
    let got = read_until(&mut backend, until).await;
    (replica, client, backend, got)
}

#[tokio::test]
async fn each_event_arrives_before_the_next_one_is_sent() {
    let get = "GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";
    let (_replica, mut client, mut backend, _) = exchange(get, "\r\n\r\n").await;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    backend.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    for number in 0..50 {
        let event = format!("data: {number}\n\n");
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        backend.write_all(chunk.as_bytes()).await.unwrap();
        read_until(&mut client, &event).await;
    }
    backend.write_all(b"0\r\n\r\n").await.unwrap();
    read_until(&mut client, "0\r\n\r\n").await;
}

#[tokio::test]
async fn each_event_arrives_over_http2_too() {
    let (replica, listener) = replica().await;
    let tcp = TcpStream::connect(replica.http).await.unwrap();
    let (client, connection) = h2::client::handshake(tcp).await.unwrap();
    spawn(async move { drop(connection.await) });
    let request = Request::get("http://a/events").body(()).unwrap();
    let (answer, _) = client.ready().await.unwrap().send_request(request, true).unwrap();
    let (mut backend, _) = listener.accept().await.unwrap();
    read_until(&mut backend, "\r\n\r\n").await;
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    backend.write_all(head.as_bytes()).await.unwrap();
    let mut body = answer.await.unwrap().into_body();
    for number in 0..50 {
        // Also those that are longer than what h2 joins by itself.
        let event = format!("data: {number} {}\n\n", "x".repeat(number * 20));
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        backend.write_all(chunk.as_bytes()).await.unwrap();
        let mut come = String::new();
        while come.len() < event.len() {
            let data = tokio::time::timeout(SOON, body.data()).await.expect("an event comes");
            let data = data.unwrap().unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            come.push_str(str::from_utf8(&data).unwrap());
        }
        assert_eq!(come, event);
    }
}

#[tokio::test]
async fn each_part_of_an_upload_arrives_before_the_next_one_is_sent() {
    let post = "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (_replica, mut client, mut backend, _) = exchange(post, "\r\n\r\n").await;
    for number in 0..50 {
        let part = format!("part {number};");
        let chunk = format!("{:x}\r\n{part}\r\n", part.len());
        client.write_all(chunk.as_bytes()).await.unwrap();
        read_until(&mut backend, &part).await;
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    read_until(&mut backend, "0\r\n\r\n").await;
    backend.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 204 "));
}

#[tokio::test]
async fn a_head_request_has_the_length_but_no_body_and_the_connection_goes_on() {
    let mut replica = Replica::start();
    replica.serve(&[serve_text("twelve bytes").await]);
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    for _ in 0..3 {
        client.write_all(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let head = read_until(&mut client, "\r\n\r\n").await.to_ascii_lowercase();
        assert!(
            head.contains("\r\ncontent-length: 12\r\n") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
    }
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(read_until(&mut client, "twelve bytes").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn ranges_pass_through() {
    let mut replica = Replica::start();
    let backend = serve(|request| {
        assert_eq!(request.headers()["range"], "bytes=2-4");
        assert_eq!(request.headers()["if-range"], "\"v1\"");
        let answer = Response::builder().status(206).header("content-range", "bytes 2-4/10");
        answer.header("accept-ranges", "bytes").body("cde".into()).unwrap()
    });
    replica.serve(&[backend.await]);
    let text = "GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=2-4\r\nIf-Range: \"v1\"\r\n\
                Connection: close\r\n\r\n";
    let answer = Answer::read(&talk(replica.http, text.as_bytes()).await);
    assert_eq!((answer.status, answer.body.as_str()), (206, "cde"));
    assert!(answer.head.contains("\r\ncontent-range: bytes 2-4/10"), "{answer:?}");
    assert!(answer.head.contains("\r\naccept-ranges: bytes"), "{answer:?}");
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_still_sends() {
    for close in ["", "Connection: close\r\n"] {
        let post = "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nbegin";
        let (_replica, mut client, mut backend, _) = exchange(post, "begin").await;
        let answer =
            format!("HTTP/1.1 413 Content Too Large\r\n{close}Content-Length: 3\r\n\r\nbig");
        backend.write_all(answer.as_bytes()).await.unwrap();
        let text = read_until(&mut client, "big").await;
        assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    }
}

/// As nginx and Envoy do: a half-close cannot be told from a client that is gone, and work for
/// nobody is the greater harm.
#[tokio::test]
async fn a_client_that_closes_its_half_is_gone_and_the_backend_is_told() {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (_replica, mut client, mut backend, _) = exchange(get, "\r\n\r\n").await;
    client.shutdown().await.unwrap();
    assert_eq!(read_until(&mut backend, "never").await, "", "the backend sees the end");
    assert_eq!(read_until(&mut client, "never").await, "", "and the client no half answer");
}

#[tokio::test]
async fn trailers_of_an_answer_never_spoil_the_connection() {
    let (replica, listener) = replica().await;
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    for _ in 0..2 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n").await.unwrap();
        let (mut backend, _) = listener.accept().await.unwrap();
        read_until(&mut backend, "\r\n\r\n").await;
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\
                      Connection: close\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n";
        backend.write_all(answer.as_bytes()).await.unwrap();
        let text = read_until(&mut client, "\r\n0\r\n").await;
        assert!(text.contains("\r\n4\r\nbody\r\n0\r\n"), "{text}");
        let rest = text.split("\r\n0\r\n").nth(1).unwrap().to_owned();
        if !rest.ends_with("\r\n") {
            read_until(&mut client, "\r\n").await;
        }
    }
}

#[tokio::test]
async fn a_websocket_may_be_silent_longer_than_a_backend_may() {
    let mut value = Policy::default();
    value.timeouts.read = Duration::from_millis(200);
    let (mut replica, listener) = replica().await;
    replica.change([policy("default", value)]);
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    client.write_all(UPGRADE.as_bytes()).await.unwrap();
    let (mut backend, _) = listener.accept().await.unwrap();
    read_until(&mut backend, "\r\n\r\n").await;
    backend.write_all(SWITCH.as_bytes()).await.unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    for (number, pause) in [(0, 700), (1, 0), (2, 700)] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let text = format!("<{number}>");
        client.write_all(text.as_bytes()).await.unwrap();
        assert_eq!(read_until(&mut backend, ">").await, text);
        backend.write_all(text.as_bytes()).await.unwrap();
        assert_eq!(read_until(&mut client, ">").await, text);
    }
}

#[tokio::test]
async fn a_websocket_lasts_through_a_drain_and_is_cut_at_its_end() {
    let given = kubeng_proxy::ProxySettings { drain: Duration::from_secs(1), ..settings() };
    let mut replica = Replica::with(given);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    replica.serve(&[listener.local_addr().unwrap()]);
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    client.write_all(UPGRADE.as_bytes()).await.unwrap();
    let (mut backend, _) = listener.accept().await.unwrap();
    read_until(&mut backend, "\r\n\r\n").await;
    backend.write_all(SWITCH.as_bytes()).await.unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    let to = replica.http;
    let (drained, ()) = tokio::join!(replica.proxy.drain(), async {
        while TcpStream::connect(to).await.is_ok() {
            tokio::task::yield_now().await;
        }
        client.write_all(b"<still>").await.unwrap();
        assert_eq!(read_until(&mut backend, ">").await, "<still>");
    });
    assert_eq!(drained.cut, 1);
    assert_eq!(client.read(&mut [0; 16]).await.unwrap_or(0), 0, "the client sees the end");
    assert_eq!(backend.read(&mut [0; 16]).await.unwrap_or(0), 0, "so does the backend");
}

#[tokio::test]
async fn grpc_streams_both_ways_at_once_and_ends_with_its_trailers() {
    let mut replica = Replica::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    replica.serve_as(&[listener.local_addr().unwrap()], BackendProtocol::Grpc, vec![]);
    spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(tcp).await.unwrap();
        while let Some(Ok((request, respond))) = connection.accept().await {
            spawn(echo_messages(request, respond));
        }
    });
    let tcp = TcpStream::connect(replica.http).await.unwrap();
    let (client, connection) = h2::client::handshake(tcp).await.unwrap();
    spawn(async move { drop(connection.await) });
    let request = Request::post("http://a/pkg.Chat/Talk")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (answer, mut send) = client.ready().await.unwrap().send_request(request, false).unwrap();
    let mut body = None;
    let mut answer = Some(answer);
    for number in 0..50_u8 {
        let message = Bytes::from(vec![0, 0, 0, 0, 1, number]);
        send.send_data(message.clone(), false).unwrap();
        if let Some(answer) = answer.take() {
            body = Some(tokio::time::timeout(SOON, answer).await.unwrap().unwrap().into_body());
        }
        let body: &mut h2::RecvStream = body.as_mut().unwrap();
        let echo = tokio::time::timeout(SOON, body.data()).await.expect("it is not held back");
        let echo = echo.unwrap().unwrap();
        body.flow_control().release_capacity(echo.len()).unwrap();
        assert_eq!(echo, message);
    }
    send.send_data(Bytes::new(), true).unwrap();
    let mut body = body.unwrap();
    assert!(tokio::time::timeout(SOON, body.data()).await.unwrap().is_none());
    let trailers = tokio::time::timeout(SOON, body.trailers()).await.unwrap().unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["grpc-message"], "50");
}

/// Sends each message back when it has come, and ends with how many bytes of content there were.
pub(crate) async fn echo_messages(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut send = respond.send_response(head, false).unwrap();
    let mut body = request.into_body();
    let mut messages = 0;
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        messages += usize::from(!data.is_empty());
        if !data.is_empty() {
            send.send_data(data, false).unwrap();
        }
    }
    let mut trailers = hyper::HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    trailers.insert("grpc-message", messages.to_string().parse().unwrap());
    send.send_trailers(trailers).unwrap();
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
