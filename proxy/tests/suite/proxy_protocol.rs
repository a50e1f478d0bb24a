//! Balancers that say by the PROXY protocol whom they speak for, and Backends that are told.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kubeng_config::backend::ProxyVersion;
use kubeng_config::listener::{Protocol, ProxyProtocol};
use kubeng_proxy::ProxySettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::listening::*;
use crate::support::{Answer, Replica, serve_echo, settings, talk, to};
use crate::tls_client::{self, Client};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
const V1: &[u8] = b"PROXY TCP4 192.0.2.1 203.0.113.9 4321 8443\r\n";

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, rest].concat()
}

/// A replica whose HTTP listener on 127.0.0.3 hears balancers of `from`, in front of an echo.
async fn hearing(given: ProxySettings, from: &str) -> (Replica, SocketAddr) {
    let mut replica = Replica::with(given);
    let mut listener = on(3, Protocol::Http);
    listener.proxy_protocol = Some(ProxyProtocol { from: vec![from.parse().unwrap()] });
    let to_there = put(&mut replica, "heard", &listener);
    put_backend(&mut replica, "echo", &[serve_echo().await], None);
    replica.change([forward("echo", "heard", "*", vec![to("echo")])]);
    (replica, to_there)
}

fn quick() -> ProxySettings {
    let mut given = settings();
    given.limits.proxy_header = Duration::from_millis(300);
    given
}

#[track_caller]
fn says(answer: &str, line: &str) {
    assert!(Answer::read(answer).body.lines().any(|other| other == line), "{line}: {answer}");
}

#[tokio::test]
async fn whom_a_balancer_speaks_for_is_the_client() {
    let (_replica, to_there) = hearing(quick(), "127.0.0.0/8").await;
    let six = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0, 1, 0, 2]].concat();
    for (header, client, port) in [
        (V1.to_vec(), "192.0.2.1", "8443"),
        (v2(0x21, 0x11, &[192, 0, 2, 2, 203, 0, 113, 9, 0, 1, 1, 0xbb]), "192.0.2.2", "443"),
        (v2(0x21, 0x21, &six), "2001:db8::1", "2"),
    ] {
        let answer = talk(to_there, &[&header, GET].concat()).await;
        says(&answer, &format!("x-forwarded-for: {client}"));
        says(&answer, &format!("x-real-ip: {client}"));
        says(&answer, &format!("x-forwarded-port: {port}"));
    }
    // In pieces, with the request behind the last one.
    let mut tcp = TcpStream::connect(to_there).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    for byte in V1 {
        tcp.write_all(&[*byte]).await.unwrap();
    }
    tcp.write_all(GET).await.unwrap();
    says(&rest(&mut tcp).await, "x-forwarded-for: 192.0.2.1");
}

#[tokio::test]
async fn a_balancer_that_speaks_for_itself_is_the_client() {
    let (_replica, to_there) = hearing(quick(), "127.0.0.0/8").await;
    for header in [v2(0x20, 0, b""), v2(0x21, 0, b"x"), b"PROXY UNKNOWN\r\n".to_vec()] {
        let answer = talk(to_there, &[&header, GET].concat()).await;
        says(&answer, "x-forwarded-for: 127.0.0.1");
    }
}

#[tokio::test]
async fn from_balancers_the_header_is_mandatory_and_in_time() {
    let (replica, to_there) = hearing(quick(), "127.0.0.0/8").await;
    let long = v2(0x20, 0, &[0; 2000]);
    let wrong = v2(0x21, 0x11, &[192, 0, 2, 2, 203, 0, 113, 9, 0, 1, 1, 0xbb, 3, 0, 4, 1, 2, 3, 4]);
    for bytes in [GET, &long, &wrong, b"PROXY TCP4 192.0.2.1\r\n", b""] {
        assert_eq!(exchange(to_there, bytes).await, "");
    }
    refused(&replica, "proxy_header", 5);
    let mut slow = TcpStream::connect(to_there).await.unwrap();
    slow.write_all(b"PROXY TCP4").await.unwrap();
    assert_eq!(rest(&mut slow).await, "");
    refused(&replica, "proxy_header_late", 1);
}

#[tokio::test]
async fn from_others_it_is_data() {
    let (replica, to_there) = hearing(quick(), "10.0.0.0/8").await;
    says(&talk(to_there, GET).await, "x-forwarded-for: 127.0.0.1");
    let answer = talk(to_there, &[V1, GET].concat()).await;
    assert_eq!(Answer::read(&answer).status, 400);
    let answer = talk(to_there, &[&v2(0x20, 0, b""), GET].concat()).await;
    assert_eq!(Answer::read(&answer).status, 400);
    refused(&replica, "proxy_header", 0);
}

#[tokio::test]
async fn it_can_be_switched_on_without_closing_the_port() {
    let (mut replica, to_there) = hearing(quick(), "10.0.0.0/8").await;
    let mut held = TcpStream::connect(to_there).await.unwrap();
    held.write_all(&GET[..10]).await.unwrap();
    let mut listener = on(3, Protocol::Http);
    listener.proxy_protocol = Some(ProxyProtocol { from: vec!["127.0.0.0/8".parse().unwrap()] });
    while metric(&replica, "kubeng_connections_open") == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(put(&mut replica, "heard", &listener), to_there);
    assert_eq!(exchange(to_there, GET).await, "");
    says(&talk(to_there, &[V1, GET].concat()).await, "x-forwarded-for: 192.0.2.1");
    held.write_all(&GET[10..]).await.unwrap();
    says(&rest(&mut held).await, "x-forwarded-for: 127.0.0.1");
}

#[tokio::test]
async fn it_stands_before_tls() {
    let mut replica = Replica::with(quick());
    let mut listener = on(3, Protocol::Https);
    listener.proxy_protocol = Some(ProxyProtocol { from: vec!["127.0.0.3/32".parse().unwrap()] });
    let to_there = put(&mut replica, "heard", &listener);
    put_backend(&mut replica, "echo", &[serve_echo().await], None);
    replica.change([forward("echo", "heard", "*", vec![to("echo")])]);
    // From 127.0.0.1, which is no balancer.
    let plain = Client::default();
    let answer = tls_client::get(&plain, to_there, "a.example", "a.example", "").await.unwrap();
    assert!(answer.body.contains("x-forwarded-for: 127.0.0.1\n"), "{answer:?}");
    listener.proxy_protocol = Some(ProxyProtocol { from: vec!["127.0.0.1/32".parse().unwrap()] });
    put(&mut replica, "heard", &listener);
    let told = Client { before: V1.to_vec(), ..Client::default() };
    let answer = tls_client::get(&told, to_there, "a.example", "a.example", "").await.unwrap();
    assert!(answer.body.contains("x-forwarded-for: 192.0.2.1\n"), "{answer:?}");
    assert!(plain.connect(to_there, "a.example").await.is_err());
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn who_is_told_is_logged_and_limited() {
    let lines = Lines::default();
    let log = kubeng_proxy::LogTarget::Writer(Box::new(lines.clone()));
    let access_log = Some(kubeng_proxy::AccessLogSettings::json(log));
    let observe = kubeng_proxy::ObserveSettings { access_log, ..Default::default() };
    let mut given = ProxySettings { observe, ..quick() };
    given.limits.connections_per_address_max = Some(2);
    let (replica, to_there) = hearing(given, "127.0.0.0/8").await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut tcp = TcpStream::connect(to_there).await.unwrap();
        tcp.write_all(&[V1, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat()).await.unwrap();
        assert_ne!(tcp.read(&mut [0; 4096]).await.unwrap(), 0);
        open.push(tcp);
    }
    assert_eq!(exchange(to_there, &[V1, GET].concat()).await, "");
    refused(&replica, "address_full", 1);
    // The balancer may have as many as it wants, for others.
    let other = b"PROXY TCP4 192.0.2.77 203.0.113.9 1 2\r\n";
    says(&talk(to_there, &[other, GET].concat()).await, "x-forwarded-for: 192.0.2.77");
    let logged = || String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    while !logged().contains("\"client\":\"192.0.2.77\"") {
        tokio::task::yield_now().await;
    }
}

/// A Backend that reads the header of each connection, answers each request with it, and with the
/// number of the connection.
async fn serve_headers(end: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    crate::support::spawn(async move {
        for number in 0.. {
            let (mut tcp, _) = listener.accept().await.unwrap();
            crate::support::spawn(async move {
                let mut header = Vec::new();
                while !header.ends_with(end) {
                    header.push(tcp.read_u8().await.unwrap());
                }
                let header = String::from_utf8_lossy(&header).trim_end().to_owned();
                loop {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = tcp.read_u8().await else { return };
                        head.push(byte);
                    }
                    let body = format!("{number} {header}");
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    tcp.write_all((head + &body).as_bytes()).await.unwrap();
                }
            });
        }
    });
    address
}

async fn ask(tcp: &mut TcpStream) -> String {
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut text = String::new();
    let mut space = [0; 4096];
    loop {
        let count = tcp.read(&mut space).await.unwrap();
        assert_ne!(count, 0, "{text:?}");
        text.push_str(std::str::from_utf8(&space[..count]).unwrap());
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && !body.is_empty()
        {
            return body.to_owned();
        }
    }
}

#[tokio::test]
async fn a_backend_is_told_who_each_client_is_and_no_connection_is_shared() {
    let mut replica = Replica::start();
    let to_there = replica.http;
    put_backend(&mut replica, "web", &[serve_headers(b"\r\n").await], Some(ProxyVersion::V1));
    replica.change([forward("web", "http", "*", vec![to("web")])]);
    // One worker has them all, or two share them: it makes no difference.
    let mut numbers = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let mut client = TcpStream::connect(to_there).await.unwrap();
        let me = client.local_addr().unwrap();
        let first = ask(&mut client).await;
        let (number, header) = first.split_once(' ').unwrap();
        let ends = format!("{} {} {} {}", me.ip(), to_there.ip(), me.port(), to_there.port());
        assert_eq!(header, format!("PROXY TCP4 {ends}"));
        assert!(numbers.insert(number.to_owned()), "a connection was shared");
        assert_eq!(ask(&mut client).await, first, "its own connection is used again");
    }
}

#[tokio::test]
async fn an_endpoint_of_such_a_backend_that_is_gone_is_passed_over() {
    let mut replica = Replica::start();
    let there = serve_headers(b"\r\n").await;
    let nobody = crate::support::nobody();
    put_backend(&mut replica, "web", &[nobody, there], Some(ProxyVersion::V1));
    replica.change([forward("web", "http", "*", vec![to("web")])]);
    for _ in 0..4 {
        let mut client = TcpStream::connect(replica.http).await.unwrap();
        assert!(ask(&mut client).await.contains("PROXY TCP4"));
    }
    assert!(metric(&replica, "kubeng_backend_retries_total") > 0);
    replica.set_endpoints(&[nobody]);
    assert_eq!(crate::support::get(replica.http, "a", "/").await.status, 502);
}

#[tokio::test]
async fn a_backend_hears_whom_a_balancer_spoke_for() {
    let (mut replica, to_there) = hearing(quick(), "127.0.0.0/8").await;
    put_backend(&mut replica, "echo", &[serve_headers(b"\r\n").await], Some(ProxyVersion::V1));
    let mut client = TcpStream::connect(to_there).await.unwrap();
    client.write_all(V1).await.unwrap();
    let header = std::str::from_utf8(V1).unwrap().trim_end();
    assert_eq!(ask(&mut client).await, format!("0 {header}"));
}
