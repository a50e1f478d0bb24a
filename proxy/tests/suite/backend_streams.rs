//! Bodies to and from Backends over HTTP/2: at what pace they go, and how they end.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use h2::{Reason, SendStream};
use hyper::body::Bytes;
use hyper::{HeaderMap, Response};
use kubeng_config::backend::BackendProtocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::backend_calls::{Calls, Manners, SOON, client, grpc, post, read_whole};
use crate::support::*;

/// Sends as much as is taken, at most `max` bytes. Gives how much that was: less when nothing was taken
/// for a while.
async fn push(stream: &mut SendStream<Bytes>, max: usize) -> usize {
    let mut sent = 0;
    while sent < max {
        stream.reserve_capacity(16 * 1024);
        let room = match stream.capacity() {
            0 => match timeout(WHILE, poll_fn(|cx| stream.poll_capacity(cx))).await {
                Ok(Some(Ok(room))) => room,
                Ok(Some(Err(_)) | None) | Err(_) => break,
            },
            room => room,
        };
        let part = room.min(16 * 1024).min(max - sent);
        if stream.send_data(vec![b'x'; part].into(), false).is_err() {
            break;
        }
        sent += part;
    }
    sent
}

/// Nothing moves for so long when the other side takes nothing.
const WHILE: Duration = Duration::from_secs(1);
const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn trailers_go_both_ways_and_neither_frame_nor_name_anybody() {
    let calls = Calls::serve(Manners::default(), |request, mut respond| async move {
        let mut body = request.into_body();
        let whole = read_whole(&mut body).await.unwrap();
        let mut trailers = body.trailers().await.unwrap().unwrap_or_default();
        trailers.insert("grpc-status", "0".parse().unwrap());
        trailers.insert("x-forwarded-host", "evil".parse().unwrap());
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(whole.into(), false).unwrap();
        stream.send_trailers(trailers).unwrap();
    })
    .await;
    let mut replica = Replica::start();
    for filters in [vec![], crate::filters::filters(&[r#"{"bodyLimit":{"responseBytesMax":99}}"#])]
    {
        replica.serve_as(&[calls.address], BackendProtocol::Grpc, filters);
        for (request, wanted) in [(grpc(), Some("yes")), (post(&[]), None)] {
            let mut client = client(&replica).await;
            let (answer, mut stream) = client.send_request(request, false).unwrap();
            stream.send_data("body".into(), false).unwrap();
            let mut trailers = HeaderMap::new();
            for (name, value) in [("x-last", "yes"), ("x-forwarded-for", "6.6.6.6")] {
                trailers.insert(name, value.parse().unwrap());
            }
            stream.send_trailers(trailers).unwrap();
            let mut body = timeout(SOON, answer).await.unwrap().unwrap().into_body();
            assert_eq!(read_whole(&mut body).await.unwrap(), b"body");
            let trailers = body.trailers().await.unwrap().unwrap();
            assert_eq!(trailers["grpc-status"], "0");
            let last = trailers.get("x-last").map(|last| last.to_str().unwrap());
            assert_eq!(last, wanted, "only who says so sends some");
            assert_eq!(trailers.get("x-forwarded-for"), None);
            assert_eq!(trailers.get("x-forwarded-host"), None);
        }
    }
}

#[tokio::test]
async fn a_client_of_http1_is_told_the_end_of_each_body() {
    let calls = Calls::serve(Manners::default(), |request, mut respond| async move {
        let path = request.uri().path().to_owned();
        let length = read_whole(&mut request.into_body()).await.unwrap().len();
        let text = format!("{length} bytes");
        let answer = match path.as_str() {
            "/told" => Response::builder().header("content-length", text.len()),
            "/none" => Response::builder().status(204),
            _ => Response::builder(),
        };
        let is_empty = path == "/none" || path == "/empty";
        let mut stream = respond.send_response(answer.body(()).unwrap(), is_empty).unwrap();
        if !is_empty {
            stream.send_data(text.into(), true).unwrap();
        }
    })
    .await;
    let mut replica = Replica::start();
    replica.serve_as(&[calls.address], BackendProtocol::Http2, vec![]);
    let chunked = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n2\r\n..\r\n0\r\n\r\n";
    for (path, sent, head, body) in [
        ("/told", "Content-Length: 5\r\n\r\nhello", "content-length: 7\r\n", "5 bytes"),
        ("/told", chunked, "content-length: 7\r\n", "7 bytes"),
        ("/", "\r\n", "transfer-encoding: chunked\r\n", "7\r\n0 bytes\r\n0\r\n\r\n"),
        ("/empty", "\r\n", "content-length: 0\r\n", ""),
        ("/none", "\r\n", "204 no content", ""),
    ] {
        let text = format!("POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{sent}");
        let answer = Answer::read(&talk(replica.http, text.as_bytes()).await);
        assert!(format!("{}\r\n", answer.head).contains(head), "{path} {answer:?}");
        assert_eq!(answer.body, body, "{path}");
    }
}

#[tokio::test]
async fn an_upload_is_held_up_by_a_slow_backend_and_then_whole() {
    let go_on = Arc::new(Notify::new());
    let held = go_on.clone();
    let calls = Calls::serve(Manners::default(), move |request, mut respond| {
        let held = held.clone();
        async move {
            held.notified().await;
            let length = read_whole(&mut request.into_body()).await.unwrap().len();
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(length.to_string().into(), true).unwrap();
        }
    })
    .await;
    let mut replica = Replica::start();
    replica.serve_as(&[calls.address], BackendProtocol::Http2, vec![]);
    let mut client = client(&replica).await;
    let (answer, mut stream) = client.send_request(post(&[]), false).unwrap();
    let taken = push(&mut stream, 16 * MIB).await;
    assert!(taken > 0 && taken < MIB, "{taken}");
    go_on.notify_one();
    let rest = push(&mut stream, 16 * MIB - taken).await;
    stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(taken + rest, 16 * MIB);
    let mut body = timeout(SOON, answer).await.unwrap().unwrap().into_body();
    assert_eq!(read_whole(&mut body).await.unwrap(), (16 * MIB).to_string().as_bytes());
}

#[tokio::test]
async fn an_answer_is_held_up_by_a_slow_client_and_then_whole() {
    let (told, mut sent) = mpsc::channel(1);
    let calls = Calls::serve(Manners::default(), move |_, mut respond| {
        let told = told.clone();
        async move {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            let taken = push(&mut stream, 16 * MIB).await;
            told.send(taken).await.unwrap();
            push(&mut stream, 16 * MIB - taken).await;
            stream.send_data(Bytes::new(), true).unwrap();
        }
    })
    .await;
    let mut replica = Replica::start();
    replica.serve_as(&[calls.address], BackendProtocol::Http2, vec![]);
    let mut client = client(&replica).await;
    let (answer, _stream) = client.send_request(post(&[]), true).unwrap();
    let mut body = timeout(SOON, answer).await.unwrap().unwrap().into_body();
    let taken = timeout(SOON, sent.recv()).await.unwrap().unwrap();
    assert!(taken > 0 && taken < MIB, "{taken}");
    assert_eq!(read_whole(&mut body).await.unwrap().len(), 16 * MIB);
}

#[tokio::test]
async fn a_request_goes_on_while_its_answer_is_not_taken() {
    let calls = Calls::serve(Manners::default(), |request, mut respond| async move {
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        // More than is held on the way, before anything is read.
        push(&mut stream, 4 * MIB).await;
        let length = read_whole(&mut request.into_body()).await.unwrap().len();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-length", length.to_string().parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    })
    .await;
    let mut replica = Replica::start();
    replica.serve_as(&[calls.address], BackendProtocol::Http2, vec![]);
    let mut client = client(&replica).await;
    let (answer, mut stream) = client.send_request(post(&[]), false).unwrap();
    let mut body = timeout(SOON, answer).await.unwrap().unwrap().into_body();
    // The client reads nothing until it has sent all.
    let mut sent = 0;
    let all = async {
        while sent < 4 * MIB {
            sent += push(&mut stream, 4 * MIB - sent).await;
        }
    };
    timeout(SOON, all).await.expect("it is taken");
    stream.send_data(Bytes::new(), true).unwrap();
    read_whole(&mut body).await.unwrap();
    let length = body.trailers().await.unwrap().unwrap()["x-length"].clone();
    assert_eq!(length, (4 * MIB).to_string());
}

#[tokio::test]
async fn an_answer_that_the_backend_breaks_off_is_never_whole() {
    let calls = Calls::serve(Manners::default(), |request, mut respond| async move {
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data("part".into(), false).unwrap();
        // The client has it before the end comes.
        read_whole(&mut request.into_body()).await.unwrap();
        stream.send_reset(Reason::INTERNAL_ERROR);
    })
    .await;
    let mut replica = Replica::start();
    replica.serve_as(&[calls.address], BackendProtocol::Http2, vec![]);
    let mut client = client(&replica).await;
    let (answer, mut stream) = client.send_request(post(&[]), false).unwrap();
    let mut body = timeout(SOON, answer).await.unwrap().unwrap().into_body();
    let part = timeout(SOON, body.data()).await.unwrap().unwrap().unwrap();
    assert_eq!(part, "part");
    stream.send_data("go".into(), true).unwrap();
    assert_eq!(read_whole(&mut body).await, Err(vec![]));
    // A client of HTTP/1.1 misses the last chunk.
    let mut tcp = TcpStream::connect(replica.http).await.unwrap();
    tcp.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx").await.unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"part\r\n") {
        text.push(timeout(SOON, tcp.read_u8()).await.expect("it comes").unwrap());
    }
    tcp.write_all(b"x").await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(SOON, tcp.read_to_end(&mut rest)).await.expect("it ends");
    assert_eq!(rest, b"", "no last chunk");
    replica.until_failures("answer_cut", 2).await;
    // Nothing else suffered.
    assert_eq!(calls.begun(), 2);
}

#[tokio::test]
async fn an_answer_that_comes_before_the_request_has_ended_is_whole() {
    let calls = Calls::serve(Manners::default(), |request, mut respond| async move {
        let answer = Response::builder().status(413).body(()).unwrap();
        let mut stream = respond.send_response(answer, false).unwrap();
        stream.send_data("too large".into(), true).unwrap();
        // Nothing of it was read, and nothing will be.
        drop(request);
    })
    .await;
    let mut replica = Replica::start();
    replica.serve_as(&[calls.address], BackendProtocol::Http2, vec![]);
    let mut client = client(&replica).await;
    let (answer, mut stream) = client.send_request(post(&[]), false).unwrap();
    push(&mut stream, 100_000).await;
    let answer = timeout(SOON, answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(read_whole(&mut answer.into_body()).await.unwrap(), b"too large");
    let text = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nx";
    let answer = Answer::read(&talk(replica.http, text.as_bytes()).await);
    assert_eq!((answer.status, answer.body.ends_with("\r\n0\r\n\r\n")), (413, true), "{answer:?}");
}

#[tokio::test]
async fn an_answer_is_read_ahead_of_its_client_where_the_route_says_so() {
    const AHEAD: usize = 4 * MIB;
    let (told, mut sent) = mpsc::channel(1);
    let calls = Calls::serve(Manners::default(), move |_, mut respond| {
        let told = told.clone();
        async move {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            let mut taken = 0;
            while taken < AHEAD {
                taken += push(&mut stream, AHEAD - taken).await;
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("x-last", "yes".parse().unwrap());
            stream.send_trailers(trailers).unwrap();
            told.send(()).await.unwrap();
        }
    })
    .await;
    let mut replica = Replica::start();
    let ahead = crate::filters::filters(&[r#"{"buffering":{"answerBytesMax":16777216}}"#]);
    replica.serve_as(&[calls.address], BackendProtocol::Http2, ahead);
    let mut client = client(&replica).await;
    let (answer, _stream) = client.send_request(post(&[]), true).unwrap();
    let mut body = timeout(SOON, answer).await.unwrap().unwrap().into_body();
    // The client has taken nothing yet.
    timeout(SOON, sent.recv()).await.expect("all of it is taken").unwrap();
    assert_eq!(read_whole(&mut body).await.unwrap().len(), AHEAD);
    assert_eq!(body.trailers().await.unwrap().unwrap()["x-last"], "yes");
}
