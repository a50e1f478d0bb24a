//! Backends that refuse, swallow, break off: what the client gets, and what is tried again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kubeng_config::policy::Policy;
use kubeng_config::policy::retry::Repeat;
use tokio::net::TcpStream;

use crate::scripted::{Deed, Scripted, post};
use crate::support::*;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// One request to one Backend that does `deed`: the status, and why.
#[track_caller]
fn check(deed: Deed, policy: fn(&mut Policy), status: u16, reason: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let backend = Scripted::start(Box::leak(Box::new([deed]))).await;
        let mut replica = Replica::start();
        replica.serve_with(&[backend.address], |_| {}, policy);
        let began = Instant::now();
        let mut answer = get(replica.http, "a", "/").await;
        while answer.status < 200 {
            // Interim answers may have been passed on.
            answer = Answer::read(&answer.body);
        }
        assert_eq!(answer.status, status, "{deed:?}: {answer:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{deed:?}: {:?}", began.elapsed());
        replica.until_failures(reason, 1).await;
        assert_eq!(backend.requests(), 1, "{deed:?}");
    });
}

#[test]
fn each_way_to_fail_has_its_status_and_its_reason() {
    check(Deed::Close, |_| {}, 502, "reset");
    check(Deed::Send("HTTP/1.1 200 O"), |_| {}, 502, "reset");
    check(Deed::Send("nonsense\r\n\r\n"), |_| {}, 502, "bad_answer");
    check(Deed::Interim, |_| {}, 502, "bad_answer");
    let read = |policy: &mut Policy| policy.timeouts.read = millis(200);
    check(Deed::Swallow, read, 504, "answer_timeout");
    let first_byte = |policy: &mut Policy| policy.timeouts.first_byte = Some(millis(200));
    check(Deed::Swallow, first_byte, 504, "answer_timeout");
    let per_try = |policy: &mut Policy| policy.timeouts.per_try = Some(millis(200));
    check(Deed::Swallow, per_try, 504, "try_timeout");
    let whole = |policy: &mut Policy| policy.timeouts.request = Some(millis(200));
    check(Deed::Swallow, whole, 504, "request_timeout");
    // The answer has begun, so the client sees that it is cut off.
    check(Deed::Send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), |_| {}, 200, "answer_cut");
}

#[tokio::test]
async fn a_truncated_answer_never_looks_whole() {
    let deeds = &[
        Deed::Send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
        Deed::Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
    ];
    let backend = Scripted::start(deeds).await;
    let mut replica = Replica::start();
    replica.serve(&[backend.address]);
    let answer = get(replica.http, "a", "/").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "abc"), "{answer:?}");
    assert!(answer.head.contains("content-length: 9"), "{answer:?}");
    let answer = get(replica.http, "a", "/").await;
    assert!(!answer.body.ends_with("0\r\n\r\n"), "{answer:?}");
    replica.until_failures("answer_cut", 2).await;
}

#[tokio::test]
async fn a_trickling_answer_ends_with_the_time_of_the_request() {
    let backend = Scripted::start(&[Deed::Trickle]).await;
    let mut replica = Replica::start();
    replica.serve_with(
        &[backend.address],
        |_| {},
        |policy| {
            policy.timeouts.request = Some(millis(600));
        },
    );
    let began = Instant::now();
    let answer = get(replica.http, "a", "/").await;
    assert!((millis(550)..millis(3000)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert!(answer.status == 200 && answer.body.len() < 1000, "{answer:?}");
    replica.until_failures("request_timeout", 1).await;

    // The same over HTTP/2, where the stream is reset.
    let tcp = TcpStream::connect(replica.http).await.unwrap();
    let io = TokioIo::new(tcp);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    spawn(async move { drop(connection.await) });
    let request = Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
    let began = Instant::now();
    let answer = client.send_request(request).await.unwrap();
    assert!(answer.into_body().collect().await.is_err());
    assert!((millis(550)..millis(3000)).contains(&began.elapsed()), "{:?}", began.elapsed());
    replica.until_failures("request_timeout", 2).await;
}

#[tokio::test]
async fn an_answer_that_began_in_time_may_be_silent_as_long_as_the_read_limit_says() {
    let slow = serve_slowly(millis(600)).await;
    let mut replica = Replica::start();
    replica.serve_with(
        &[slow],
        |_| {},
        |policy| {
            policy.timeouts.first_byte = Some(millis(300));
            policy.timeouts.read = Duration::from_secs(5);
        },
    );
    let answer = get(replica.http, "a", "/").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ab"), "{answer:?}");
}

/// Sends a head and half of a body at once, and the other half after a while.
async fn serve_slowly(pause: Duration) -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut space = [0; 4096];
        let _ = tcp.read(&mut space).await.unwrap();
        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na").await.unwrap();
        tokio::time::sleep(pause).await;
        let _ = tcp.write_all(b"b").await;
    });
    address
}

#[tokio::test]
async fn a_request_that_nobody_saw_goes_to_another_endpoint_whatever_its_method() {
    let good = Scripted::start(&[Deed::Answer("good")]).await;
    let mut replica = Replica::start();
    replica.serve(&[nobody(), good.address]);
    for _ in 0..4 {
        assert_eq!(post(replica.http, "body").await.body, "good");
    }
    assert_eq!(good.requests(), 4);
    replica.serve(&[nobody(), nobody()]);
    assert_eq!(get(replica.http, "a", "/").await.status, 502);
    replica.until_failures("connect_failed", 1).await;
    replica.serve(&[]);
    assert_eq!(get(replica.http, "a", "/").await.status, 503);
    replica.until_failures("no_endpoint", 1).await;
}

/// A GET and a POST to a Backend that first does `deed`, then answers: how often it saw each.
async fn seen(deed: Deed, policy: fn(&mut Policy)) -> [(u16, usize); 2] {
    let mut seen = [(0, 0); 2];
    for (number, seen) in seen.iter_mut().enumerate() {
        let bad = Scripted::start(Box::leak(Box::new([deed, Deed::Answer("later")]))).await;
        let other = Scripted::start(Box::leak(Box::new([deed, Deed::Answer("later")]))).await;
        let mut replica = Replica::start();
        replica.serve_with(&[bad.address, other.address], |_| {}, policy);
        let answer = if number == 0 {
            get(replica.http, "a", "/").await
        } else {
            post(replica.http, "body").await
        };
        *seen = (answer.status, bad.requests() + other.requests());
    }
    seen
}

#[tokio::test]
async fn a_request_that_was_seen_is_repeated_only_where_the_policy_says_so() {
    // By default neither is sent twice.
    assert_eq!(seen(Deed::Close, |_| {}).await, [(502, 1), (502, 1)]);
    let reset = |policy: &mut Policy| policy.retry.on.reset = true;
    // Both Endpoints close at first, so the third try, on none that is left, ends with what was.
    assert_eq!(seen(Deed::Close, reset).await, [(502, 2), (502, 1)]);
    let status = |policy: &mut Policy| policy.retry.on.statuses = vec![503];
    // Who answers is there: when none is left that has not, one of them is asked again, and is well then.
    assert_eq!(seen(Deed::Status(503), status).await, [(200, 3), (503, 1)]);
    let timeout = |policy: &mut Policy| {
        policy.retry.on.timeout = true;
        policy.timeouts.per_try = Some(millis(200));
    };
    assert_eq!(seen(Deed::Swallow, timeout).await, [(504, 2), (504, 1)]);
    let all = |policy: &mut Policy| {
        policy.retry.on.reset = true;
        policy.retry.methods = Repeat::All;
    };
    assert_eq!(seen(Deed::Close, all).await, [(502, 2), (502, 2)]);
}

/// An HTTP/2 Backend that refuses its first streams and answers the others.
struct Refusing {
    address: SocketAddr,
    streams: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Refusing {
    async fn start(refused: usize) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (streams, connections) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let this = Self { address, streams, connections };
        let (streams, connections) = (this.streams.clone(), this.connections.clone());
        spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let streams = streams.clone();
                connections.fetch_add(1, Ordering::SeqCst);
                spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(tcp).await else { return };
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        if streams.fetch_add(1, Ordering::SeqCst) < refused {
                            respond.send_reset(h2::Reason::REFUSED_STREAM);
                        } else {
                            let answer = hyper::Response::new(());
                            drop(respond.send_response(answer, true));
                        }
                    }
                });
            }
        });
        this
    }

    fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_stream_that_was_refused_was_not_seen_so_even_a_post_is_repeated() {
    let http2 = |backend: &mut kubeng_config::backend::Backend| {
        backend.protocol = kubeng_config::backend::BackendProtocol::Http2;
    };
    let (one, two) = (Refusing::start(1).await, Refusing::start(1).await);
    let mut replica = Replica::start();
    replica.serve_with(&[one.address, two.address], http2, |_| {});
    // Both refuse once. Neither has done anything for the request, so one of them is asked again.
    assert_eq!(post(replica.http, "body").await.status, 200);
    assert_eq!(one.streams() + two.streams(), 3);
    // So is one that is alone, over another connection.
    let alone = Refusing::start(1).await;
    replica.serve_with(&[alone.address], http2, |_| {});
    assert_eq!(post(replica.http, "body").await.status, 200);
    assert_eq!((alone.streams(), alone.connections()), (2, 2));
    // Not for ever.
    let never = Refusing::start(usize::MAX).await;
    replica.serve_with(&[never.address], http2, |_| {});
    assert_eq!(post(replica.http, "body").await.status, 502);
    replica.until_failures("stream_refused", 1).await;
    assert_eq!(never.streams(), 3, "as often as anything is tried");
}

#[tokio::test]
async fn a_repeated_request_is_whole_and_succeeds() {
    let deeds: [&'static [Deed]; 3] = [&[Deed::Close], &[Deed::Status(503)], &[Deed::Swallow]];
    for deeds in deeds {
        let (bad, good) =
            (Scripted::start(deeds).await, Scripted::start(&[Deed::Answer("ok")]).await);
        let mut replica = Replica::start();
        replica.serve_with(
            &[bad.address, good.address],
            |_| {},
            |policy| {
                policy.retry.on.reset = true;
                policy.retry.on.timeout = true;
                policy.retry.on.statuses = vec![503];
                policy.retry.methods = Repeat::All;
                policy.timeouts.first_byte = Some(millis(500));
            },
        );
        // Of two requests one comes to the bad one first. Both bodies are read in full.
        for _ in 0..2 {
            let answer = post(replica.http, &"x".repeat(40_000)).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{deeds:?} {answer:?}");
        }
        assert_eq!((bad.requests(), good.requests()), (1, 2), "{deeds:?}");
        // A larger body is not kept, so it is sent once.
        let mut statuses = Vec::new();
        for _ in 0..2 {
            statuses.push(post(replica.http, &"x".repeat(100_000)).await.status);
        }
        statuses.sort_unstable();
        let lost = match deeds {
            [Deed::Status(status)] => *status,
            [Deed::Swallow] => 504,
            _ => 502,
        };
        assert_eq!(statuses, [200, lost], "{deeds:?}");
    }
}
