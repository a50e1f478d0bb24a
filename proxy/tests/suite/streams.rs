//! Streams of HTTP/2 to Backends, whichever engine carries them.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use h2::client::SendRequest;
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use kubeng_config::backend::BackendProtocol;
use kubeng_config::policy::Policy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::filters::filters;
use crate::recorder::{self, Recorder};
use crate::scripted::{Deed, Scripted};
use crate::support::*;

/// None, which is carried directly, and one that looks at bodies, which is Pingora's.
const BOTH: [&[&str]; 2] = [&[], &[r#"{"bodyLimit":{"responseBytesMax":1000000}}"#]];
/// No test waits for longer.
const SOON: Duration = Duration::from_secs(20);

async fn client(replica: &Replica) -> SendRequest<Bytes> {
    let tcp = TcpStream::connect(replica.http).await.unwrap();
    let (client, connection) = h2::client::handshake(tcp).await.unwrap();
    spawn(async move { drop(connection.await) });
    client
}

fn request(method: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri("http://a/");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// The whole body, or what came before it broke off.
async fn body_of(body: &mut h2::RecvStream) -> Result<String, String> {
    let mut whole = String::new();
    loop {
        match timeout(SOON, body.data()).await.expect("the body goes on, or ends") {
            Some(Ok(part)) => {
                body.flow_control().release_capacity(part.len()).unwrap();
                whole.push_str(str::from_utf8(&part).unwrap());
            }
            Some(Err(_)) => return Err(whole),
            None => return Ok(whole),
        }
    }
}

async fn status_of(answer: h2::client::ResponseFuture) -> StatusCode {
    timeout(SOON, answer).await.expect("an answer comes").unwrap().status()
}

#[tokio::test]
async fn many_bodies_go_both_ways_at_once() {
    let mut replica = Replica::start();
    let echo = serve_echo().await;
    for given in BOTH {
        replica.serve_as(&[echo], BackendProtocol::Http1, filters(given));
        let mut client = client(&replica).await.ready().await.unwrap();
        let mut answers = Vec::new();
        for number in 0..60_usize {
            // Some told, some not, and some larger than what is kept.
            let length = number * number * 10;
            let text = length.to_string();
            let told: &[(&str, &str)] =
                if number % 3 == 0 { &[] } else { &[("content-length", &text)] };
            client = client.ready().await.unwrap();
            let is_empty = length == 0;
            let (answer, mut stream) =
                client.send_request(request("POST", told), is_empty).unwrap();
            if !is_empty {
                stream.send_data(vec![b'x'; length].into(), true).unwrap();
            }
            answers.push((length, answer));
        }
        for (length, answer) in answers {
            let answer = timeout(SOON, answer).await.expect("an answer comes").unwrap();
            assert_eq!(answer.status(), 200);
            let body = body_of(&mut answer.into_body()).await.unwrap();
            assert!(body.ends_with(&format!("\nbody: {length}\n")), "{length}: {body}");
        }
    }
}

#[tokio::test]
async fn an_interim_answer_comes_before_the_final_one() {
    let text = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n\
                HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let backend = Scripted::start(Box::leak(Box::new([Deed::Send(text)]))).await;
    let mut replica = Replica::start();
    for given in BOTH {
        replica.serve_as(&[backend.address], BackendProtocol::Http1, filters(given));
        let mut client = client(&replica).await;
        let (mut answer, _) = client.send_request(request("GET", &[]), true).unwrap();
        let hint = timeout(SOON, poll_fn(|cx| answer.poll_informational(cx))).await;
        let hint = hint.expect("it comes").unwrap().unwrap();
        assert_eq!(
            (hint.status().as_u16(), &hint.headers()["link"]),
            (103, &"</a.css>".parse().unwrap())
        );
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(body_of(&mut answer.into_body()).await.unwrap(), "ok");
    }
}

#[tokio::test]
async fn a_body_that_waits_to_be_asked_for_is_asked_for() {
    let mut replica = Replica::start();
    let echo = serve_echo().await;
    for given in BOTH {
        replica.serve_as(&[echo], BackendProtocol::Http1, filters(given));
        for told in [
            &[("expect", "100-continue"), ("content-length", "5")][..],
            &[("expect", "100-continue")],
        ] {
            let mut client = client(&replica).await;
            let (mut answer, mut stream) =
                client.send_request(request("POST", told), false).unwrap();
            let asked = timeout(SOON, poll_fn(|cx| answer.poll_informational(cx))).await;
            assert_eq!(asked.expect("it is asked for").unwrap().unwrap().status(), 100);
            stream.send_data("hello".into(), true).unwrap();
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), 200);
            let body = body_of(&mut answer.into_body()).await.unwrap();
            assert!(body.ends_with("\nbody: 5\n") && !body.contains("expect"), "{body}");
        }
    }
}

#[tokio::test]
async fn a_body_that_drips_is_cut_and_never_whole() {
    let mut given = settings();
    given.limits.body_read = Duration::from_millis(300);
    let mut replica = Replica::with(given);
    let (address, recorder) = Recorder::start().await;
    for given in BOTH {
        replica.serve_as(&[address], BackendProtocol::Http1, filters(given));
        for told in [&[][..], &[("content-length", "5000")], &[("content-length", "100000")]] {
            let mut client = client(&replica).await;
            let (answer, mut stream) = client.send_request(request("POST", told), false).unwrap();
            let dripping = async {
                loop {
                    // Once the answer has come the stream may be closed.
                    let _ = stream.send_data("x".into(), false);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let status = tokio::select! {
                status = status_of(answer) => status,
                () = dripping => unreachable!(),
            };
            assert_eq!(status, 408, "{told:?}");
            let arrived = recorder::requests(&recorder.take().await, true);
            assert_eq!(arrived, Ok(vec![]), "{told:?}");
        }
    }
    replica.until_failures("client_slow", 6).await;
}

#[tokio::test]
async fn a_length_of_nothing_with_a_body_behind_it_reaches_no_backend() {
    let mut replica = Replica::start();
    let (address, recorder) = Recorder::start().await;
    replica.serve(&[address]);
    let mut client = client(&replica).await;
    let told = request("POST", &[("content-length", "0")]);
    let (answer, mut stream) = client.send_request(told, false).unwrap();
    let _ = stream.send_data("x".into(), true);
    let answer = timeout(SOON, answer).await.expect("it ends");
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == 400));
    assert_eq!(recorder.take().await.len(), 0);
}

/// A Backend of HTTP/2 that never answers.
async fn swallow_http2() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            spawn(async move {
                let mut connection = h2::server::handshake(tcp).await.unwrap();
                let mut held = Vec::new();
                while let Some(Ok(stream)) = connection.accept().await {
                    held.push(stream);
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn the_limit_of_the_first_byte_is_kept_also_where_silence_may_last_longer() {
    let plain = Scripted::start(&[Deed::Swallow]).await.address;
    let http2 = swallow_http2().await;
    let mut replica = Replica::start();
    let mut value = Policy::default();
    value.timeouts.first_byte = Some(Duration::from_millis(300));
    value.timeouts.read = Duration::from_secs(60);
    replica.change([policy("default", value)]);
    let mut failures = 0;
    for given in BOTH {
        for (address, protocol) in
            [(plain, BackendProtocol::Http1), (http2, BackendProtocol::Http2)]
        {
            replica.serve_as(&[address], protocol, filters(given));
            let mut client = client(&replica).await;
            let began = Instant::now();
            let (answer, _) = client.send_request(request("GET", &[]), true).unwrap();
            assert_eq!(status_of(answer).await, 504, "{protocol:?} {given:?}");
            assert!(began.elapsed() < SOON, "{protocol:?} {given:?}");
            failures += 1;
            replica.until_failures("answer_timeout", failures).await;
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_ends_the_request_to_the_backend_and_no_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut replica = Replica::start();
    for (number, given) in (1..).zip(BOTH) {
        let address = listener.local_addr().unwrap();
        replica.serve_as(&[address], BackendProtocol::Http1, filters(given));
        let mut client = client(&replica).await.ready().await.unwrap();
        let (kept, _) = client.send_request(request("GET", &[]), true).unwrap();
        let mut of_kept = accepted(&listener).await;
        client = client.ready().await.unwrap();
        let (answer, mut stream) = client.send_request(request("GET", &[]), true).unwrap();
        let mut of_reset = accepted(&listener).await;
        stream.send_reset(h2::Reason::CANCEL);
        drop(answer);
        let end = timeout(SOON, of_reset.read(&mut [0; 16])).await.expect("it ends");
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        replica.until_failures("client_gone", number).await;
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkept";
        of_kept.write_all(text).await.unwrap();
        let mut body = timeout(SOON, kept).await.unwrap().unwrap().into_body();
        assert_eq!(body_of(&mut body).await.unwrap(), "kept");
    }
}

/// The next connection, whose request head was read.
async fn accepted(listener: &TcpListener) -> TcpStream {
    let (mut tcp, _) = timeout(SOON, listener.accept()).await.expect("one comes").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    tcp
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_reset_and_never_ended() {
    let deeds = &[
        Deed::Send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
        Deed::Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        Deed::Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n"),
    ];
    for given in BOTH {
        let backend = Scripted::start(deeds).await;
        let mut replica = Replica::start();
        replica.serve_as(&[backend.address], BackendProtocol::Http1, filters(given));
        let mut client = client(&replica).await;
        for _ in deeds {
            client = client.ready().await.unwrap();
            let (answer, _) = client.send_request(request("GET", &[]), true).unwrap();
            let answer = timeout(SOON, answer).await.expect("it begins").unwrap();
            let found = body_of(&mut answer.into_body()).await;
            assert!(found.is_err_and(|part| "abc".starts_with(&part)));
        }
    }
}

#[tokio::test]
async fn answers_without_a_body_end_with_their_head() {
    let mut replica = Replica::start();
    replica.serve(&[serve_text("twelve bytes").await]);
    let mut client = client(&replica).await;
    let (answer, _) = client.send_request(request("HEAD", &[]), true).unwrap();
    let answer = timeout(SOON, answer).await.unwrap().unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-length"]),
        (200, &"12".parse().unwrap())
    );
    assert!(answer.headers().contains_key("date"));
    assert!(answer.body().is_end_stream());
    // An answer of ours.
    replica.set_endpoints(&[]);
    let (answer, _) = client.send_request(request("HEAD", &[]), true).unwrap();
    let answer = timeout(SOON, answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.body().is_end_stream());
}
