//! Connections that are passed on as they are: plain TCP, and TLS that the Endpoint ends.

use std::time::Duration;

use kubeng_config::backend::ProxyVersion;
use kubeng_config::delta::PartKey;
use kubeng_config::listener::Protocol;
use kubeng_config::policy::Policy;
use kubeng_config::route::Target;
use kubeng_proxy::ProxySettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::listening::*;
use crate::support::{Replica, nobody, policy, route_id, serve_text, settings, to};
use crate::tls_client::{Client, get, serve_tls};

#[tokio::test]
async fn bytes_go_both_ways_and_each_half_ends_by_itself() {
    let mut replica = Replica::start();
    let to_there = put_tcp(&mut replica, &[serve_raw("echo").await]);
    let much = vec![b'x'; 3 << 20];
    let answer = exchange(to_there, &much).await;
    assert_eq!(answer.len(), much.len() + 5);
    assert!(answer.starts_with("echo:xxx"));
    assert_eq!(metric(&replica, "kubeng_tunnels_total"), 1);
    assert_eq!(metric(&replica, "kubeng_tunnel_received_bytes_total"), much.len() as u64);
    assert_eq!(metric(&replica, "kubeng_tunnel_sent_bytes_total"), answer.len() as u64);
}

#[tokio::test]
async fn a_server_may_speak_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut replica = Replica::start();
    let to_there = put_tcp(&mut replica, &[listener.local_addr().unwrap()]);
    let mut client = TcpStream::connect(to_there).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    server.write_all(b"220 ready").await.unwrap();
    let mut greeting = [0; 9];
    client.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"220 ready");
    drop(client);
    assert_eq!(rest(&mut server).await, "", "the end of one side ends the other");
}

#[tokio::test]
async fn another_endpoint_is_tried_when_one_cannot_be_connected_to() {
    let mut replica = Replica::start();
    let to_there = put_tcp(&mut replica, &[nobody(), serve_raw("echo").await]);
    for _ in 0..6 {
        assert_eq!(exchange(to_there, b"a").await, "echo:a");
    }
    assert!(metric(&replica, "kubeng_backend_retries_total") > 0);
    put_backend(&mut replica, "raw", &[nobody()], None);
    assert_eq!(exchange(to_there, b"a").await, "");
    put_backend(&mut replica, "raw", &[], None);
    assert_eq!(exchange(to_there, b"a").await, "");
    refused(&replica, "endpoint", 2);
}

#[tokio::test]
async fn targets_get_their_shares() {
    let mut replica = Replica::start();
    let to_there = put_tcp(&mut replica, &[serve_raw("a").await]);
    put_backend(&mut replica, "other", &[serve_raw("b").await], None);
    let targets = vec![Target { weight: 3, ..to("raw") }, to("other")];
    replica.change([forward("tcp", "tcp", "*", targets)]);
    let mut to_a = 0;
    for _ in 0..8 {
        to_a += u32::from(exchange(to_there, b"").await == "a:");
    }
    assert_eq!(to_a, 6);
}

#[tokio::test]
async fn a_change_moves_new_connections_and_leaves_those_that_are_open() {
    let mut replica = Replica::start();
    let to_there = put_tcp(&mut replica, &[serve_raw("old").await]);
    let mut held = TcpStream::connect(to_there).await.unwrap();
    held.write_all(b"be").await.unwrap();
    while metric(&replica, "kubeng_tunnels_total") == 0 {
        tokio::task::yield_now().await;
    }
    put_backend(&mut replica, "new", &[serve_raw("new").await], None);
    replica.change([forward("tcp", "tcp", "*", vec![to("new")])]);
    assert_eq!(exchange(to_there, b"x").await, "new:x");
    replica.remove([PartKey::Route(route_id("tcp"))]);
    assert_eq!(exchange(to_there, b"x").await, "");
    refused(&replica, "route", 1);
    replica.remove([PartKey::Listener("tcp".parse().unwrap())]);
    held.write_all(b"fore").await.unwrap();
    held.shutdown().await.unwrap();
    assert_eq!(rest(&mut held).await, "old:before");
}

#[tokio::test]
async fn silence_ends_a_connection() {
    let mut replica = Replica::start();
    let mut quick = Policy::default();
    quick.timeouts.tunnel = Duration::from_millis(300);
    replica.change([policy("default", quick)]);
    let to_there = put_tcp(&mut replica, &[serve_raw("echo").await]);
    let mut client = TcpStream::connect(to_there).await.unwrap();
    client.write_all(b"a").await.unwrap();
    assert_eq!(rest(&mut client).await, "");
}

#[tokio::test]
async fn a_drain_cuts_what_is_open_at_its_end_and_waits_for_what_ends() {
    let settings = || ProxySettings { drain: Duration::from_millis(800), ..settings() };
    let mut replica = Replica::with(settings());
    let to_there = put_tcp(&mut replica, &[serve_raw("echo").await]);
    let mut open = TcpStream::connect(to_there).await.unwrap();
    let mut ends = TcpStream::connect(to_there).await.unwrap();
    while metric(&replica, "kubeng_tunnels_total") < 2 {
        tokio::task::yield_now().await;
    }
    let ending = async {
        ends.write_all(b"a").await.unwrap();
        ends.shutdown().await.unwrap();
        rest(&mut ends).await
    };
    let (drained, answer) = tokio::join!(replica.proxy.drain(), ending);
    assert_eq!((drained.cut, answer.as_str()), (1, "echo:a"));
    assert_eq!(rest(&mut open).await, "");
}

#[tokio::test]
async fn an_endpoint_is_told_who_the_client_is_before_its_bytes() {
    let mut replica = Replica::start();
    let to_there = put_tcp(&mut replica, &[]);
    let echo = serve_raw("echo").await;
    put_backend(&mut replica, "raw", &[echo], Some(ProxyVersion::V1));
    let mut client = TcpStream::connect(to_there).await.unwrap();
    let me = client.local_addr().unwrap();
    client.write_all(b"data").await.unwrap();
    client.shutdown().await.unwrap();
    let header =
        format!("PROXY TCP4 {} {} {} {}\r\n", me.ip(), to_there.ip(), me.port(), to_there.port());
    assert_eq!(rest(&mut client).await, format!("echo:{header}data"));
    put_backend(&mut replica, "raw", &[echo], Some(ProxyVersion::V2));
    let answer = exchange(to_there, b"data").await;
    assert!(
        answer.starts_with("echo:\r\n\r\n\0\r\nQUIT\n!\u{11}\0\u{c}\u{7f}\0\0\u{1}"),
        "{answer:?}"
    );
    assert!(answer.ends_with("data"), "{answer:?}");
}

/// A replica with a passthrough listener, and what leads where.
async fn passthrough() -> (Replica, std::net::SocketAddr) {
    let mut given = settings();
    given.limits.client_hello = Duration::from_millis(500);
    let mut replica = Replica::with(given);
    let to_there = put(&mut replica, "pass", &on(3, Protocol::TlsPassthrough));
    for (name, host) in [("a", "a.example"), ("b", "*.b.example")] {
        put_backend(&mut replica, name, &[serve_tls(name).await], None);
        replica.change([forward(name, "pass", host, vec![to(name)])]);
    }
    (replica, to_there)
}

#[tokio::test]
async fn the_server_name_decides_where_to_and_the_endpoint_ends_tls() {
    let (replica, to_there) = passthrough().await;
    for (name, expected) in [("a.example", "a"), ("A.Example", "a"), ("x.b.example", "b")] {
        let answer = Client::default().ask(to_there, name, b"hello").await.unwrap();
        assert_eq!(answer, format!("{expected}:hello"));
    }
    for name in ["other.example", "b.example", "127.0.0.1"] {
        let answer = Client::default().ask(to_there, name, b"hello").await;
        assert!(answer.is_err(), "{name}: {answer:?}");
    }
    refused(&replica, "route", 2);
    refused(&replica, "server_name", 1);
    assert_eq!(exchange(to_there, b"GET / HTTP/1.1\r\n\r\n").await, "");
    refused(&replica, "server_name", 2);
}

#[tokio::test]
async fn a_client_hello_may_dribble_but_not_for_ever_and_not_without_end() {
    let (replica, to_there) = passthrough().await;
    let answer = Client { piece: 7, ..Client::default() };
    assert_eq!(answer.ask(to_there, "a.example", b"hello").await.unwrap(), "a:hello");

    let mut slow = TcpStream::connect(to_there).await.unwrap();
    slow.write_all(&[0x16, 3, 1]).await.unwrap();
    assert_eq!(rest(&mut slow).await, "");
    refused(&replica, "server_name_late", 1);

    // A handshake message of 60,000 bytes, in records of 4,000.
    let mut endless = vec![0x16, 3, 1, 0x0f, 0xa0, 1, 0, 0xea, 0x60];
    endless.resize(5 + 4000, 0);
    for _ in 0..14 {
        endless.extend_from_slice(&[0x16, 3, 1, 0x0f, 0xa0]);
        endless.resize(endless.len() + 4000, 0);
    }
    assert_eq!(exchange(to_there, &endless).await, "");
    refused(&replica, "server_name", 1);
}

#[tokio::test]
async fn one_port_can_end_tls_for_some_names_and_pass_others_on() {
    let mut replica = Replica::start();
    replica.serve(&[serve_text("ended here").await]);
    let mut some = on(2, Protocol::TlsPassthrough);
    some.host = "raw.example".parse().unwrap();
    // It shares the socket of the Listener `https`.
    put(&mut replica, "pass", &some);
    put_backend(&mut replica, "tls", &[serve_tls("passed on").await], None);
    replica.change([forward("pass", "pass", "raw.example", vec![to("tls")])]);
    let to_there = replica.https;
    let answer = Client::default().ask(to_there, "raw.example", b"hello").await.unwrap();
    assert_eq!(answer, "passed on:hello");
    // What is passed on is not reached by a request that was read here.
    let client = Client::default();
    let answer = get(&client, to_there, "a.example", "raw.example", "").await.unwrap();
    assert_eq!(answer.status, 421);
    // Without a name it is ended here as well.
    for name in ["a.example", "127.0.0.1"] {
        let answer = get(&Client::default(), to_there, name, name, "").await.unwrap();
        assert_eq!(answer.body, "ended here");
    }
}
