//! Listeners that come, change and go under traffic; HTTP/2 by prior knowledge; IPv6.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kubeng_config::delta::PartKey;
use kubeng_config::listener::{Listener, ListenerTls, Protocol, TlsVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::listening::*;
use crate::support::{Replica, get, nobody, serve_echo, serve_text, spawn, to};
use crate::tls_client::Client;

/// Asks over and over on one connection, which must never end; gives how often it did.
async fn keep_asking<S>(mut stream: S, stop: Arc<AtomicBool>, served: Arc<AtomicU32>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut space = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
        let mut text = String::new();
        while !text.ends_with("hello") {
            let count = stream.read(&mut space).await.unwrap();
            assert_ne!(count, 0, "the connection ended behind {text:?}");
            text.push_str(std::str::from_utf8(&space[..count]).unwrap());
        }
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
        served.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_come_change_and_go_and_no_other_connection_notices() {
    let mut replica = Replica::start();
    replica.serve(&[serve_text("hello").await]);
    let raw = put_tcp(&mut replica, &[serve_raw("echo").await]);
    let mut passed_on = TcpStream::connect(raw).await.unwrap();
    passed_on.write_all(b"be").await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicU32::new(0));
    let mut clients = tokio::task::JoinSet::new();
    let plain = TcpStream::connect(replica.http).await.unwrap();
    clients.spawn(keep_asking(plain, stop.clone(), served.clone()));
    let tls = Client::default().connect(replica.https, "a.example").await.unwrap();
    clients.spawn(keep_asking(tls, stop.clone(), served.clone()));
    let port = nobody();
    for round in 0..60_u32 {
        let protocol = [Protocol::Http, Protocol::Tcp, Protocol::Https][round as usize % 3];
        put(&mut replica, "more", &Listener::new(port, protocol));
        let mut http = on(1, Protocol::Http);
        http.connections_max = (round % 2 == 0).then_some(1000 + round);
        put(&mut replica, "http", &http);
        let mut https = on(2, Protocol::Https);
        let version_min = if round % 2 == 0 { TlsVersion::V1_3 } else { TlsVersion::V1_2 };
        https.tls = Some(ListenerTls { version_min, suites: vec![] });
        put(&mut replica, "https", &https);
        if round % 5 == 4 {
            replica.remove([PartKey::Listener("more".parse().unwrap())]);
        }
        if round % 10 == 0 {
            assert_eq!(get(replica.http, "a", "/").await.body, "hello");
        }
        tokio::task::yield_now().await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    assert!(served.load(Ordering::Relaxed) > 60);
    passed_on.write_all(b"fore").await.unwrap();
    passed_on.shutdown().await.unwrap();
    assert_eq!(rest(&mut passed_on).await, "echo:before");
}

#[tokio::test]
async fn what_a_port_speaks_changes_while_it_stays_open() {
    let mut replica = Replica::start();
    replica.serve(&[serve_text("hello").await]);
    let port = nobody();
    put(&mut replica, "more", &Listener::new(port, Protocol::Http));
    assert_eq!(get(port, "a", "/").await.status, 404);
    let mut held = TcpStream::connect(port).await.unwrap();
    held.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_ne!(held.read(&mut [0; 4096]).await.unwrap(), 0);
    put_backend(&mut replica, "raw", &[serve_raw("echo").await], None);
    put(&mut replica, "more", &Listener::new(port, Protocol::Tcp));
    replica.change([forward("more", "more", "*", vec![to("raw")])]);
    while exchange(port, b"a").await != "echo:a" {
        tokio::task::yield_now().await;
    }
    held.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(rest(&mut held).await.starts_with("HTTP/1.1 "), "it goes on as it began");
}

async fn h2c(to: SocketAddr) -> String {
    let tcp = TcpStream::connect(to).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
            .await
            .unwrap();
    spawn(async move { drop(connection.await) });
    let request = Request::get("http://a.example/x").body(Empty::<Bytes>::new()).unwrap();
    let answer = client.send_request(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn http2_by_prior_knowledge_on_a_listener_that_came_later_over_ipv6() {
    let mut replica = Replica::start();
    let six: SocketAddr = "[::1]:0".parse().unwrap();
    let to_there = put(&mut replica, "six", &Listener::new(six, Protocol::Http));
    assert!(to_there.is_ipv6() && to_there.port() != 0);
    put_backend(&mut replica, "echo", &[serve_echo().await], None);
    replica.change([forward("six", "six", "*", vec![to("echo")])]);
    let body = h2c(to_there).await;
    assert!(body.starts_with("GET /x\n"), "{body}");
    assert!(body.contains("\nx-forwarded-for: ::1\n"), "{body}");
    assert!(body.contains("\nforwarded: for=\"[::1]\";"), "{body}");
    assert_eq!(get(to_there, "a", "/").await.status, 200);
}

#[tokio::test]
async fn both_families_can_have_one_port() {
    let mut replica = Replica::start();
    let port = nobody().port();
    put_backend(&mut replica, "echo", &[serve_echo().await], None);
    for (id, address) in [("six", "[::]"), ("four", "0.0.0.0")] {
        let address: SocketAddr = format!("{address}:{port}").parse().unwrap();
        put(&mut replica, id, &Listener::new(address, Protocol::Http));
        replica.change([forward(id, id, "*", vec![to("echo")])]);
    }
    for (to_there, client) in [("[::1]", "::1"), ("127.0.0.1", "127.0.0.1")] {
        let answer = get(format!("{to_there}:{port}").parse().unwrap(), "a", "/").await;
        assert!(answer.body.contains(&format!("x-forwarded-for: {client}\n")), "{answer:?}");
    }
}
