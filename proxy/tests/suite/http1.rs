//! HTTP/1.1 in, HTTP/1.1 out.

use std::collections::HashMap;
use std::time::Duration;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use kubeng_config::filter::Filter;
use kubeng_config::filter::headers::{Field, HeaderEdits};
use kubeng_config::filter::redirect::{Redirect, RedirectStatus, SentOn};
use kubeng_config::filter::rewrite::{PathRewrite, Rewrite};
use kubeng_config::matching::HostMatch;
use kubeng_config::problem;
use kubeng_config::request::Scheme;
use kubeng_config::route::{Action, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test]
async fn a_request_reaches_its_backend_and_says_who_asked() {
    let mut replica = Replica::start();
    replica.serve(&[serve_echo().await]);
    let answer = get(replica.http, "Shop.Example", "/a/%62?q=1").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.contains("\r\nserver: kubeng"), "{answer:?}");
    let port = replica.http.port();
    for line in [
        "GET /a/b?q=1".to_owned(),
        "host: Shop.Example".to_owned(),
        "x-forwarded-for: 127.0.0.1".to_owned(),
        "x-real-ip: 127.0.0.1".to_owned(),
        "x-forwarded-proto: http".to_owned(),
        "x-forwarded-host: Shop.Example".to_owned(),
        format!("x-forwarded-port: {port}"),
        "forwarded: for=127.0.0.1;host=\"Shop.Example\";proto=http".to_owned(),
    ] {
        assert!(answer.body.lines().any(|other| other == line), "{line} in {}", answer.body);
    }
    assert!(!answer.body.contains("connection:"), "{}", answer.body);
}

#[tokio::test]
async fn one_connection_carries_many_requests_also_pipelined() {
    let mut replica = Replica::start();
    replica.serve(&[serve_text("hello").await]);
    let mut tcp = TcpStream::connect(replica.http).await.unwrap();
    let one = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for _ in 0..3 {
        tcp.write_all(one).await.unwrap();
        let text = read_until(&mut tcp, "hello").await;
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    }
    let post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    tcp.write_all(&[&one[..], post, one].concat()).await.unwrap();
    let mut text = String::new();
    while text.matches("hello").count() < 3 {
        text.push_str(&read_until(&mut tcp, "hello").await);
    }
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3, "{text}");
}

async fn read_until(tcp: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut space = [0; 4096];
    while !text.ends_with(end) {
        let read = tokio::time::timeout(Duration::from_secs(5), tcp.read(&mut space)).await;
        let count = read.expect("an answer in time").unwrap();
        assert_ne!(count, 0, "the connection ended behind {text:?}");
        text.push_str(std::str::from_utf8(&space[..count]).unwrap());
    }
    text
}

#[tokio::test]
async fn large_bodies_pass_both_ways() {
    let mut replica = Replica::start();
    let back = serve(|request| Response::new(Full::new(request.into_body()))).await;
    replica.serve(&[back]);
    let body = vec![b'x'; 3_000_000];
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = Answer::read(&talk_both(&replica, &[head.as_bytes(), &body].concat()).await);
    assert_eq!((answer.status, answer.body.len()), (200, body.len()));
    let mut chunked =
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    for chunk in body.chunks(100_000) {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let answer = Answer::read(&talk_both(&replica, &chunked).await);
    assert_eq!((answer.status, answer.body.len()), (200, body.len()));
}

/// Sends and reads at the same time: neither side can hold all of it.
async fn talk_both(replica: &Replica, bytes: &[u8]) -> String {
    let (mut from, mut into) = TcpStream::connect(replica.http).await.unwrap().into_split();
    let mut answer = Vec::new();
    let (sent, read) = tokio::join!(into.write_all(bytes), from.read_to_end(&mut answer));
    sent.unwrap();
    read.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn what_nobody_serves_is_404_in_the_form_the_client_reads() {
    let replica = Replica::start();
    let answer = get(replica.http, "a", "/").await;
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("<h1>404 Not Found</h1>"), "{answer:?}");
    let text = "GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nConnection: close\r\n\r\n";
    let answer = Answer::read(&talk(replica.http, text.as_bytes()).await);
    assert!(answer.head.contains("application/problem+json"), "{answer:?}");
    let text = "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = Answer::read(&talk(replica.http, text.as_bytes()).await);
    assert_eq!((answer.status, answer.body.as_str()), (404, ""));
}

#[tokio::test]
async fn a_refused_route_answers_in_its_place_and_a_wider_one_does_not_catch_it() {
    let mut replica = Replica::start();
    replica.serve(&[serve_text("wide").await]);
    let refuse =
        Action::Refuse { status: Refusal::ServiceUnavailable, because: problem::BACKEND_NOT_FOUND };
    replica.change([route("narrow", HostMatch::Any, "/narrow", vec![], refuse)]);
    assert_eq!(get(replica.http, "a", "/narrow/x").await.status, 503);
    assert_eq!(get(replica.http, "a", "/%6earrow/x").await.status, 503);
    assert_eq!(get(replica.http, "a", "/x/../narrow").await.status, 503);
    assert_eq!(get(replica.http, "a", "/narrower").await.body, "wide");
}

#[tokio::test]
async fn filters_edit_redirect_and_rewrite() {
    let mut replica = Replica::start();
    let field = |name: &str, value: &str| Field {
        name: name.parse().unwrap(),
        value: value.parse().unwrap(),
    };
    let filters = vec![
        Filter::RequestHeaders(HeaderEdits {
            set: vec![field("x-tenant", "fin")],
            ..HeaderEdits::default()
        }),
        Filter::ResponseHeaders(HeaderEdits {
            set: vec![field("server", "mine")],
            ..HeaderEdits::default()
        }),
        Filter::Rewrite(Rewrite {
            host: Some("inner.example".parse().unwrap()),
            path: Some(PathRewrite::Prefix("/api/".parse().unwrap())),
        }),
    ];
    let echo = serve_echo().await;
    replica.serve(&[echo]);
    let forward = Action::Forward(vec![to("web")]);
    let redirect = Filter::Redirect(Redirect {
        scheme: Some(Scheme::Https),
        host: None,
        port: None,
        path: None,
        status: RedirectStatus::PermanentRedirect,
        sent_on: SentOn::Everybody,
    });
    replica.change([
        route("old", HostMatch::Any, "/old", filters, forward),
        route("http", HostMatch::Any, "/go", vec![redirect], Action::Answer),
    ]);
    let answer = get(replica.http, "a", "/old/x?y=z").await;
    assert!(answer.body.starts_with("GET /api/x?y=z\n"), "{answer:?}");
    assert!(answer.body.contains("\nhost: inner.example\n"), "{answer:?}");
    assert!(answer.body.contains("\nx-forwarded-host: a\n"), "{answer:?}");
    assert!(answer.body.contains("\nx-tenant: fin\n"), "{answer:?}");
    assert!(answer.head.contains("\r\nserver: mine"), "{answer:?}");
    let answer = get(replica.http, "a:8080", "/go/x?y=z").await;
    assert_eq!(answer.status, 308);
    assert!(answer.head.contains("\r\nlocation: https://a/go/x?y=z"), "{answer:?}");
}

#[tokio::test]
async fn requests_reach_all_endpoints_evenly_from_all_workers() {
    let mut replica = Replica::start();
    let names = ["a", "b", "c", "d", "e"];
    let mut endpoints = Vec::new();
    for name in names {
        endpoints.push(serve_text(name).await);
    }
    replica.serve(&endpoints);
    let mut counts = HashMap::<String, u32>::new();
    for _ in 0..50 {
        *counts.entry(get(replica.http, "a", "/").await.body).or_default() += 1;
    }
    assert!(names.iter().all(|&name| counts.get(name) == Some(&10)), "{counts:?}");
}

#[tokio::test]
async fn a_connect_that_fails_is_tried_on_another_endpoint() {
    let mut replica = Replica::start();
    let alive = serve_text("alive").await;
    replica.serve(&[nobody(), alive, nobody()]);
    for _ in 0..20 {
        assert_eq!(get(replica.http, "a", "/").await.body, "alive");
    }
    replica.set_endpoints(&[nobody(), nobody()]);
    assert_eq!(get(replica.http, "a", "/").await.status, 502);
    replica.set_endpoints(&[]);
    assert_eq!(get(replica.http, "a", "/").await.status, 503);
    let metrics = replica.proxy.facts().metrics();
    let retries = metrics.lines().find(|line| line.starts_with("kubeng_backend_retries_total"));
    assert!(retries.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
}

#[tokio::test]
async fn a_pooled_connection_that_went_away_is_no_failure() {
    let mut replica = Replica::start();
    // Answers once on each connection and closes it without a word.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            spawn(async move {
                let mut space = [0; 4096];
                let _ = tcp.read(&mut space).await;
                let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            });
        }
    });
    replica.serve(&[address]);
    for _ in 0..20 {
        assert_eq!(get(replica.http, "a", "/").await.body, "ok");
    }
}

#[tokio::test]
async fn a_backend_that_answers_nothing_sensible_is_502() {
    let mut replica = Replica::start();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            spawn(async move {
                let _ = tcp.read(&mut [0; 4096]).await;
                let _ = tcp.write_all(b"nonsense\r\n\r\n").await;
            });
        }
    });
    replica.serve(&[address]);
    let answer = get(replica.http, "a", "/").await;
    assert_eq!(answer.status, 502);
    assert!(!answer.body.contains("127.0.0.1") && answer.head.contains("server: kubeng"));
}

#[tokio::test]
async fn access_records_tell_what_was_served() {
    let records: &'static std::sync::Mutex<Vec<u8>> = Box::leak(Box::default());
    struct Into(&'static std::sync::Mutex<Vec<u8>>);
    impl std::io::Write for Into {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut replica = Replica::with(kubeng_proxy::ProxySettings {
        observe: kubeng_proxy::ObserveSettings {
            access_log: Some(kubeng_proxy::AccessLogSettings::json(
                kubeng_proxy::LogTarget::Writer(Box::new(Into(records))),
            )),
            ..kubeng_proxy::ObserveSettings::default()
        },
        ..settings()
    });
    replica.serve(&[serve(|_| {
        Response::builder().status(201).body(Full::<Bytes>::default()).unwrap()
    })
    .await]);
    get(replica.http, "a.example", "/x").await;
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    loop {
        let text = String::from_utf8(records.lock().unwrap().clone()).unwrap();
        if text.ends_with('\n') {
            for part in
                ["\"status\":201", "\"host\":\"a.example\"", "\"path\":\"/x\"", "Ingress/test/all"]
            {
                assert!(text.contains(part), "{part} in {text}");
            }
            return;
        }
        assert!(std::time::Instant::now() < deadline, "no record came");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_is_never_completed() {
    let mut replica = Replica::start();
    for cut in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let _ = tcp.read(&mut [0; 4096]).await;
            let _ = tcp.write_all(cut.as_bytes()).await;
        });
        replica.serve(&[address]);
        let text = talk(replica.http, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        // How much of it had left before the cut was seen is a matter of timing.
        let text = text.to_ascii_lowercase();
        let is_framed = text.contains("content-length: 10\r\n") || text.contains("chunked\r\n");
        assert!(text.is_empty() || is_framed, "{text:?}");
        assert!(!text.ends_with("0\r\n\r\n"), "{text:?}");
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it() {
    let mut replica = Replica::start();
    replica.serve(&[serve_echo().await]);
    let mut tcp = TcpStream::connect(replica.http).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    tcp.write_all(head).await.unwrap();
    let text = read_until(&mut tcp, "\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 100 "), "{text:?}");
    tcp.write_all(b"abc").await.unwrap();
    let text = read_until(&mut tcp, "body: 3\n").await;
    assert!(text.starts_with("HTTP/1.1 200 "), "{text:?}");
}
