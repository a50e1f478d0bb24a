//! What Backends over HTTP/2 are not asked to bear, and what of them is not borne.

use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use kubeng_config::backend::BackendProtocol;
use kubeng_proxy::{Limits, ProxySettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::backend_calls::{
    Calls, HEADERS, Manners, PREFACE_BYTES, SETTINGS, SOON, client, post, read_whole,
};
use crate::support::*;

/// Sends a ping after 200 ms of silence, and waits for so long for the answer.
fn watchful(within: Duration) -> Replica {
    let limits = Limits {
        backend_ping_after: Duration::from_millis(200),
        backend_ping_within: within,
        ..settings().limits
    };
    Replica::with(ProxySettings { limits, ..settings() })
}

/// The kind and payload of the next frame.
async fn frame(tcp: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    tcp.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    tcp.read_exact(&mut payload).await?;
    Ok((head[3], payload))
}

const PING: u8 = 6;

#[tokio::test]
async fn a_backend_that_does_not_even_answer_a_ping_loses_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut replica = watchful(Duration::from_millis(200));
    let silent = listener.local_addr().unwrap();
    replica.serve_as(&[silent], BackendProtocol::Http2, vec![]);
    let http = replica.http;
    let asked = async { crate::scripted::post(http, "body").await };
    let heard = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.read_exact(&mut [0; PREFACE_BYTES]).await.unwrap();
        tcp.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await.unwrap();
        let mut kinds = Vec::new();
        while let Ok((kind, _)) = frame(&mut tcp).await {
            kinds.push(kind);
        }
        kinds
    };
    let (answer, kinds) =
        timeout(SOON, async { tokio::join!(asked, heard) }).await.expect("the connection ends");
    assert_eq!(answer.status, 502, "{answer:?}");
    let at = |wanted| kinds.iter().position(|kind| *kind == wanted);
    assert!(at(HEADERS) < at(PING) && at(HEADERS).is_some(), "{kinds:?}");
    replica.until_failures("reset", 1).await;
}

#[tokio::test]
async fn a_backend_that_answers_pings_may_be_silent_otherwise() {
    let within = Duration::from_secs(4);
    let calls = Calls::serve(Manners::default(), move |_, mut respond| async move {
        // Longer than it takes to lose the connection.
        tokio::time::sleep(within * 3 / 2).await;
        drop(respond.send_response(Response::new(()), true));
    })
    .await;
    let mut replica = watchful(within);
    replica.serve_as(&[calls.address], BackendProtocol::Http2, vec![]);
    assert_eq!(crate::scripted::post(replica.http, "body").await.status, 200);
    assert_eq!((calls.connections(), calls.begun()), (1, 1));
}

#[tokio::test]
async fn beyond_the_connections_to_one_endpoint_requests_are_answered_and_not_kept() {
    /// Connections of one worker to one Endpoint.
    const GROUP_MAX: usize = 128;
    let release = Arc::new(Notify::new());
    let (began, mut begun) = mpsc::channel(2 * GROUP_MAX);
    let held = release.clone();
    let manners = Manners { streams_max: Some(1), ..Manners::default() };
    let calls = Calls::serve(manners, move |request, mut respond| {
        let (held, began) = (held.clone(), began.clone());
        async move {
            let wait = held.notified();
            began.send(()).await.unwrap();
            wait.await;
            let _ = read_whole(&mut request.into_body()).await;
            drop(respond.send_response(Response::new(()), true));
        }
    })
    .await;
    let mut replica = Replica::with(ProxySettings { workers: 1, ..settings() });
    replica.serve_as(&[calls.address], BackendProtocol::Http2, vec![]);
    // A connection of a client has 100 requests at most.
    let mut answers = Vec::new();
    for count in [GROUP_MAX / 2, GROUP_MAX / 2] {
        let mut client = client(&replica).await;
        for _ in 0..count {
            client = client.ready().await.unwrap();
            answers.push(client.send_request(post(&[]), true).unwrap().0);
        }
    }
    for _ in 0..GROUP_MAX {
        timeout(SOON, begun.recv()).await.expect("it comes").unwrap();
    }
    assert_eq!(calls.connections(), GROUP_MAX);
    let beyond = timeout(SOON, get(replica.http, "a", "/")).await.expect("it is answered");
    assert_eq!(beyond.status, 503, "{beyond:?}");
    replica.until_failures("endpoints_full", 1).await;
    assert_eq!(calls.begun(), GROUP_MAX);
    release.notify_waiters();
    for answer in answers {
        assert_eq!(timeout(SOON, answer).await.unwrap().unwrap().status(), 200);
    }
    // There is room again.
    let after = async { get(replica.http, "a", "/").await };
    let released = async {
        timeout(SOON, begun.recv()).await.expect("it comes").unwrap();
        release.notify_waiters();
    };
    let (after, ()) = tokio::join!(after, released);
    assert_eq!(after.status, 200, "{after:?}");
    assert_eq!(calls.connections(), GROUP_MAX);
}

#[tokio::test]
async fn a_websocket_to_a_backend_over_http2_is_refused_with_a_reason() {
    let calls = Calls::serve(Manners::default(), |_, mut respond| async move {
        drop(respond.send_response(Response::new(()), true));
    })
    .await;
    let mut replica = Replica::start();
    let ask = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
               Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    for (protocol, count) in [(BackendProtocol::Http2, 1), (BackendProtocol::Grpc, 2)] {
        replica.serve_as(&[calls.address], protocol, vec![]);
        let answer = Answer::read(&talk(replica.http, ask.as_bytes()).await);
        assert_eq!(answer.status, 501, "{answer:?}");
        replica.until_failures("upgrade_unsupported", count).await;
        // An upgrade of another kind may be passed over (RFC 9110 section 7.8).
        let other = ask.replace("websocket", "h2c");
        assert_eq!(Answer::read(&talk(replica.http, other.as_bytes()).await).status, 200);
    }
    assert_eq!(calls.begun(), 2, "nothing but the others");
}
