//! How many connections there may be: of a client, of a listener, in a handshake, in all.

use std::net::SocketAddr;
use std::time::Duration;

use kubeng_config::listener::Protocol;
use kubeng_proxy::ProxySettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::listening::*;
use crate::support::{Replica, get, serve_text, settings};
use crate::tls_client::Client;

/// A connection that has been answered once, so that it is known to be counted.
async fn open(to: SocketAddr) -> TcpStream {
    let mut tcp = TcpStream::connect(to).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut space = [0; 4096];
    assert_ne!(tcp.read(&mut space).await.unwrap_or(0), 0, "it was refused");
    tcp
}

/// Whether a new connection is closed without a word.
async fn is_closed(to: SocketAddr) -> bool {
    let mut tcp = TcpStream::connect(to).await.unwrap();
    let _ = tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    rest(&mut tcp).await.is_empty()
}

#[tokio::test]
async fn an_address_has_so_many_and_gets_them_back() {
    let mut given = settings();
    given.limits.connections_per_address_max = Some(2);
    let mut replica = Replica::with(given);
    replica.serve(&[serve_text("hello").await]);
    let to_there = replica.http;
    let (_one, other) = (open(to_there).await, open(to_there).await);
    assert!(is_closed(to_there).await);
    refused(&replica, "address_full", 1);
    // Another loopback address is another client.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.9:0".parse().unwrap()).unwrap();
    let mut client = socket.connect(to_there).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(rest(&mut client).await.ends_with("hello"));
    drop(other);
    while is_closed(to_there).await {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn trusted_proxies_have_as_many_as_they_want() {
    let mut given =
        ProxySettings { trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()], ..settings() };
    given.limits.connections_per_address_max = Some(1);
    let mut replica = Replica::with(given);
    replica.serve(&[serve_text("hello").await]);
    let _open = [open(replica.http).await, open(replica.http).await, open(replica.http).await];
    refused(&replica, "address_full", 0);
}

#[tokio::test]
async fn a_listener_has_so_many_and_takes_none_from_the_others() {
    let mut replica = Replica::start();
    replica.serve(&[serve_text("hello").await]);
    let mut small = on(1, Protocol::Http);
    small.connections_max = Some(2);
    let to_there = put(&mut replica, "http", &small);
    assert_eq!(to_there, replica.http, "a limit closes no port");
    let open = [open(to_there).await, open(to_there).await];
    assert!(is_closed(to_there).await);
    refused(&replica, "listener_full", 1);
    assert!(Client::default().connect(replica.https, "a.example").await.is_ok());
    put(&mut replica, "http", &on(1, Protocol::Http));
    assert_eq!(get(to_there, "a", "/").await.status, 200);
    drop(open);
}

#[tokio::test]
async fn connections_that_are_passed_on_count_like_all_others() {
    let mut replica = Replica::start();
    let to_there = put_tcp(&mut replica, &[serve_raw("echo").await]);
    let mut small = on(3, Protocol::Tcp);
    small.connections_max = Some(1);
    put(&mut replica, "tcp", &small);
    let held = TcpStream::connect(to_there).await.unwrap();
    while metric(&replica, "kubeng_tunnels_total") < 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(exchange(to_there, b"a").await, "");
    refused(&replica, "listener_full", 1);
    drop(held);
    while exchange(to_there, b"a").await != "echo:a" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn so_many_handshakes_go_on_at_a_time() {
    let mut given = ProxySettings { workers: 1, ..settings() };
    given.limits.handshakes_max = 1;
    given.limits.handshake = Duration::from_secs(60);
    let replica = Replica::with(given);
    let mut slow = TcpStream::connect(replica.https).await.unwrap();
    slow.write_all(&[0x16]).await.unwrap();
    let connect = || async { Client::default().connect(replica.https, "a.example").await };
    // The one that is first at the worker goes on.
    while connect().await.is_ok() {
        tokio::task::yield_now().await;
    }
    refused(&replica, "handshakes", 1);
    drop(slow);
    while connect().await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn some_descriptors_are_kept_for_ourselves() {
    let mut given = settings();
    // What this process has open already is more than that.
    given.limits.descriptors_max = 3;
    let mut replica = Replica::with(given);
    replica.serve(&[serve_text("hello").await]);
    assert!(is_closed(replica.http).await);
    refused(&replica, "descriptors", 1);
    while replica.proxy.facts().connections() > 0 {
        tokio::task::yield_now().await;
    }
}
