//! Ejection, circuit, retry budget, and Endpoints that go: what is kept away from Backends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kubeng_config::backend::Backend;
use kubeng_config::backend::resilience::{Circuit, Ejection, Resilience};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::scripted::{Deed, Scripted};
use crate::support::*;

fn with_circuit(circuit: Circuit) -> impl FnOnce(&mut Backend) {
    let resilience = Resilience { circuit, ..Resilience::default() };
    |backend| backend.resilience = Some(Box::new(resilience))
}

/// Sends a request whose answer nobody waits for; the connection lives while it is held.
async fn send(replica: &Replica) -> TcpStream {
    let mut tcp = TcpStream::connect(replica.http).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    tcp
}

async fn until(what: impl Fn() -> bool) {
    let wanted = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wanted).await.expect("it comes");
}

#[tokio::test]
async fn an_endpoint_that_answers_badly_is_taken_out_and_comes_back() {
    let bad = Scripted::start(&[
        Deed::Status(503),
        Deed::Status(502),
        Deed::Status(502),
        Deed::Status(504),
        Deed::Status(503),
        Deed::Answer("well again"),
    ])
    .await;
    let good = Scripted::start(&[Deed::Answer("good")]).await;
    let mut replica = Replica::start();
    let ejection = Ejection { base: Duration::from_millis(400), ..Ejection::default() };
    let resilience = Resilience { ejection, ..Resilience::default() };
    let change = |backend: &mut Backend| backend.resilience = Some(Box::new(resilience));
    replica.serve_with(&[bad.address, good.address], change, |_| {});
    for _ in 0..10 {
        get(replica.http, "a", "/").await;
    }
    assert_eq!((bad.requests(), good.requests()), (5, 5));
    let began = std::time::Instant::now();
    let mut while_out = 0;
    while bad.requests() == 5 && began.elapsed() < Duration::from_secs(10) {
        while_out += u32::from(get(replica.http, "a", "/").await.body == "good");
    }
    assert!(while_out > 0 && bad.requests() == 6, "{while_out}, then it is asked again");
    for _ in 0..4 {
        get(replica.http, "a", "/").await;
    }
    assert_eq!(bad.requests(), 8, "it has its share again");
}

#[tokio::test]
async fn what_is_too_much_is_refused_at_once_and_says_why() {
    let backend = Scripted::start(&[Deed::Swallow]).await;
    let mut replica = Replica::start();
    let circuit = Circuit { requests_max: Some(2), ..Circuit::default() };
    replica.serve_with(&[backend.address], with_circuit(circuit), |_| {});
    let held = [send(&replica).await, send(&replica).await];
    until(|| backend.requests() == 2).await;
    assert_eq!(get(replica.http, "a", "/").await.status, 503);
    replica.until_failures("backend_full", 1).await;
    drop(held);

    let backend = Scripted::start(&[Deed::Swallow]).await;
    let circuit = Circuit { connections_max: 2, ..Circuit::default() };
    replica.serve_with(&[backend.address], with_circuit(circuit), |_| {});
    let held = [send(&replica).await, send(&replica).await];
    until(|| backend.requests() == 2).await;
    assert_eq!(get(replica.http, "a", "/").await.status, 503);
    replica.until_failures("endpoints_full", 1).await;
    drop(held);
    // Clients that are gone make room.
    until(|| backend.connections() == 2).await;
    let again = async {
        while backend.requests() < 3 {
            drop(send(&replica).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.expect("there is room again");
}

#[tokio::test]
async fn when_everything_fails_retries_stay_a_part_of_the_requests() {
    // It answers nothing before all have come, then 503 to all, and holds what comes after that.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
    let (counted, opened) = (seen.clone(), gate.clone());
    spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let (counted, opened) = (counted.clone(), opened.clone());
            spawn(async move {
                let mut space = [0; 4096];
                while tcp.read(&mut space).await.is_ok_and(|count| count > 0) {
                    counted.fetch_add(1, Ordering::SeqCst);
                    opened.acquire().await.unwrap().forget();
                    let text = b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n";
                    if tcp.write_all(text).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let mut replica = Replica::start();
    // Two names of one Backend, so that a retry has somewhere to go.
    let other = std::net::SocketAddr::from(([127, 0, 0, 1], address.port()));
    let second = Scripted::start(&[Deed::Swallow]).await;
    replica.serve_with(
        &[other, second.address],
        |_| {},
        |policy| {
            policy.retry.on.statuses = vec![503];
            policy.retry.retries_max = 10;
        },
    );
    let mut held = Vec::new();
    for _ in 0..60 {
        held.push(send(&replica).await);
    }
    until(|| seen.load(Ordering::SeqCst) + second.requests() == 60).await;
    let (first, waiting) = (seen.load(Ordering::SeqCst), second.requests());
    assert_eq!((first, waiting), (30, 30), "by turns");
    gate.add_permits(first);
    // Whoever may not be repeated has its 503; the others wait at the second one.
    let mut answered = 0;
    let mut space = [0; 4096];
    let mut open = Vec::new();
    for mut tcp in held {
        let read = tokio::time::timeout(Duration::from_millis(100), tcp.read(&mut space)).await;
        match read {
            Ok(count) => {
                assert!(String::from_utf8_lossy(&space[..count.unwrap()]).contains(" 503 "));
                answered += 1;
            }
            Err(_) => open.push(tcp),
        }
        if answered + second.requests() == 60 {
            break;
        }
    }
    let retries = second.requests() - waiting;
    // A fifth of the sixty and less in flight; never less than three.
    assert!((3..=12).contains(&retries), "{retries} retries, {answered} answered");
}

#[tokio::test]
async fn connections_to_an_endpoint_that_left_are_never_used_again() {
    let backend = Scripted::start(&[Deed::Answer("hello")]).await;
    let other = Scripted::start(&[Deed::Answer("other")]).await;
    // One worker, so that there is one pool.
    let mut replica = Replica::with(kubeng_proxy::ProxySettings { workers: 1, ..settings() });
    replica.serve(&[backend.address]);
    for _ in 0..3 {
        assert_eq!(get(replica.http, "a", "/").await.body, "hello");
    }
    assert_eq!(backend.connections(), 1, "one is kept");
    replica.set_endpoints(&[other.address]);
    assert_eq!(get(replica.http, "a", "/").await.body, "other");
    replica.set_endpoints(&[backend.address]);
    assert_eq!(get(replica.http, "a", "/").await.body, "hello");
    assert_eq!(backend.connections(), 2, "what is there now may be somebody else");
}
