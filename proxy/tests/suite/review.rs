//! What a review of the data path has found: deadlines that outlive their request, writes that stay
//! where nobody sends them, answers that are passed on although they should not be.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Sleep, timeout};

use crate::recorder::until;
use crate::support::*;
use crate::upgrade_refused::read_answer;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Longer than anything here takes that does not hang, also on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A Backend that reads one head after the other and answers each with what `answer` says, for the
/// number of the connection and of the request on it; None closes the connection.
async fn serve_heads(
    answer: impl Fn(usize, usize) -> Option<String> + Clone + Send + 'static,
    pause: Duration,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let (number, answer) = (count.fetch_add(1, Ordering::SeqCst), answer.clone());
            spawn(async move {
                for turn in 0.. {
                    if read_until(&mut tcp, "\r\n\r\n").await.is_none() {
                        return;
                    }
                    tokio::time::sleep(pause).await;
                    let Some(text) = answer(number, turn) else { return };
                    if tcp.write_all(text.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, connections)
}

/// What comes up to `end`; None when the connection ends before.
async fn read_until(from: &mut (impl AsyncRead + Unpin), end: &str) -> Option<String> {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let byte = timeout(SOON, from.read_u8()).await.expect("it does not hang").ok()?;
        text.push(byte);
    }
    Some(String::from_utf8(text).unwrap())
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
/// One that the direct engine carries.
const WHOLE: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// One that Pingora carries.
const CHUNKED: &str =
    "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";

#[tokio::test]
async fn the_deadline_of_a_request_does_not_end_the_next_one() {
    let mut replica = Replica::start();
    let (address, _) = serve_heads(|_, _| Some(OK.to_owned()), millis(30)).await;
    replica.serve_with(
        &[address],
        |_| {},
        |policy| policy.timeouts.request = Some(Duration::from_secs(3)),
    );
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    client.write_all(CHUNKED.as_bytes()).await.unwrap();
    assert!(read_until(&mut client, "hello").await.is_some());
    tokio::time::sleep(millis(3_200)).await;
    for text in [WHOLE, CHUNKED, WHOLE] {
        client.write_all(text.as_bytes()).await.unwrap();
        let answer = read_until(&mut client, "hello").await;
        assert!(answer.is_some(), "the connection ended instead: {text:?}");
    }
}

/// A Backend that answers with as many bytes as the path says.
async fn serve_lengths() -> SocketAddr {
    serve(|request| {
        let length: usize = request.uri().path().trim_start_matches('/').parse().unwrap();
        hyper::Response::new(vec![b'x'; length].into())
    })
    .await
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_does_not_look_whole_when_it_is_cut() {
    for answer in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nx\r\n",
    ] {
        let mut replica = Replica::start();
        let (address, _) =
            serve_heads(move |_, turn| (turn == 0).then(|| answer.to_owned()), millis(0)).await;
        // Silence ends it, as an end would.
        replica.serve_with(&[address], |_| {}, |policy| policy.timeouts.read = millis(300));
        let mut client = TcpStream::connect(replica.http).await.unwrap();
        client.write_all(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
        let mut bytes = Vec::new();
        let read = timeout(SOON, client.read_to_end(&mut bytes)).await.expect("it ends");
        assert!(read.is_err(), "{}", bytes.escape_ascii());
    }
}

/// A connection whose buffer for what comes is small.
async fn narrow(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_is_cut_over_tls_wherever_it_stops() {
    let mut given = settings();
    given.limits.write_stall = millis(500);
    given.limits.connections_per_address_max = None;
    let mut replica = Replica::with(given);
    replica.serve(&[serve_lengths().await]);
    let facts = replica.proxy.facts();
    // How much the kernel takes is its own business, so there is one that just does not fit, and
    // whose rest waits within TLS.
    let mut held = Vec::new();
    for part in 1..=120 {
        let (mut client, _) =
            crate::tls::connect_over(narrow(replica.https).await, "a", b"http/1.1").await;
        let head = format!("GET /{} HTTP/1.1\r\nHost: a\r\n", part * 40_000);
        client.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).await.unwrap();
        held.push(client);
    }
    let began = Instant::now();
    while facts.connections() > 0 && began.elapsed() < SOON {
        tokio::time::sleep(millis(20)).await;
    }
    assert_eq!(facts.connections(), 0, "those that nobody reads from are cut");
}

/// Reads a little at a time, or nothing.
struct Slow {
    tcp: TcpStream,
    pause: Option<Pin<Box<Sleep>>>,
    how: Arc<AtomicUsize>,
}

impl Slow {
    const SLOWLY: usize = 0;
    const NOTHING: usize = 1;
    const AT_ONCE: usize = 2;

    async fn connect(to: SocketAddr) -> Self {
        Self { tcp: narrow(to).await, pause: None, how: Arc::new(AtomicUsize::new(Self::SLOWLY)) }
    }

    fn wait(&mut self, within: Duration, cx: &mut Context<'_>) {
        let mut pause = Box::pin(tokio::time::sleep(within));
        if pause.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        self.pause = Some(pause);
    }
}

impl AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(pause) = &mut this.pause {
            std::task::ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
        let how = this.how.load(Ordering::SeqCst);
        if how == Self::NOTHING {
            this.wait(millis(10), cx);
            return Poll::Pending;
        }
        let read = Pin::new(&mut this.tcp).poll_read(cx, out);
        if read.is_ready() && how == Self::SLOWLY {
            this.wait(millis(1), cx);
        }
        read
    }
}

impl AsyncWrite for Slow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_gets_the_last_byte_over_http2_and_tls() {
    let mut replica = Replica::start();
    replica.serve(&[serve_lengths().await]);
    let mut answers = Vec::new();
    // As above: one of them ends with bytes that only TLS holds.
    for length in (1..=80).map(|part| part * 60_000) {
        let slow = Slow::connect(replica.https).await;
        let how = slow.how.clone();
        let (stream, _) = crate::tls::connect_over(slow, "a", b"h2").await;
        let (mut client, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 24)
            .initial_connection_window_size(1 << 24)
            .handshake::<_, bytes::Bytes>(stream)
            .await
            .unwrap();
        spawn(async move { drop(connection.await) });
        let request = hyper::Request::get(format!("https://a/{length}")).body(()).unwrap();
        client = client.ready().await.unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        how.store(Slow::NOTHING, Ordering::SeqCst);
        answers.push((length, how, answer, client));
    }
    // Until the kernel takes no more; what is missed by less time is only not tested.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (_, how, _, _) in &answers {
        how.store(Slow::AT_ONCE, Ordering::SeqCst);
    }
    for (length, _, answer, _) in &mut answers {
        let mut body = timeout(SOON, answer).await.expect("it begins").unwrap().into_body();
        let mut count = 0;
        while let Some(data) = timeout(SOON, body.data()).await.expect("it goes on") {
            count += data.unwrap().len();
        }
        assert_eq!(count, *length);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_ends_in_time_also_where_its_answer_never_pauses() {
    let mut replica = Replica::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            spawn(async move {
                read_until(&mut tcp, "\r\n\r\n").await.unwrap();
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n";
                tcp.write_all(head.as_bytes()).await.unwrap();
                while tcp.write_all(&[b'x'; 64 * 1024]).await.is_ok() {}
            });
        }
    });
    replica.serve_with(&[address], |_| {}, |policy| policy.timeouts.request = Some(millis(700)));
    for text in [WHOLE, CHUNKED] {
        let mut slow = Slow::connect(replica.http).await;
        slow.write_all(text.as_bytes()).await.unwrap();
        let mut space = vec![0; 16 * 1024];
        let ended = timeout(Duration::from_secs(10), async {
            while matches!(slow.read(&mut space).await, Ok(1..)) {}
        });
        assert!(ended.await.is_ok(), "it goes on behind its deadline: {text:?}");
    }
    replica.until_failures("request_timeout", 2).await;
}

#[tokio::test]
async fn a_switch_to_another_protocol_than_the_one_asked_for_is_502() {
    let ask = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
               Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    for upgrade in ["Upgrade: h2c\r\n", "Upgrade: websocket, h2c\r\n", ""] {
        let mut replica = Replica::start();
        let switch =
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{upgrade}\r\n");
        let (address, _) = serve_heads(move |_, _| Some(switch.clone()), millis(0)).await;
        replica.serve(&[address]);
        let mut client = TcpStream::connect(replica.http).await.unwrap();
        client.write_all(ask.as_bytes()).await.unwrap();
        let answer = read_answer(&mut client).await;
        assert_eq!(answer.status, 502, "{upgrade:?}: {answer:?}");
        replica.until_failures("bad_answer", 1).await;
    }
}

#[tokio::test]
async fn a_connection_is_not_used_again_behind_a_204_that_announces_a_body() {
    for announced in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let mut given = settings();
        given.workers = 1;
        let mut replica = Replica::with(given);
        let answer = format!("HTTP/1.1 204 No Content\r\n{announced}\r\n\r\n");
        let (address, connections) = serve_heads(move |_, _| Some(answer.clone()), millis(0)).await;
        replica.serve(&[address]);
        for number in 1..=3 {
            assert_eq!(get(replica.http, "a", "/").await.status, 204);
            assert_eq!(connections.load(Ordering::SeqCst), number, "{announced}");
        }
    }
}

#[tokio::test]
async fn connections_that_went_stale_together_cost_no_request() {
    let mut given = settings();
    given.workers = 1;
    let mut replica = Replica::with(given);
    // The first four connections answer once and close when they are asked again, as a server does
    // whose limit of idle time ends in this moment.
    let answer = |connection, turn| (connection >= 4 || turn == 0).then(|| OK.to_owned());
    let (address, _) = serve_heads(answer, millis(100)).await;
    replica.serve_with(&[address], |_| {}, |policy| policy.retry.retries_max = 1);
    let first = (0..4).map(|_| get(replica.http, "a", "/"));
    for answer in futures::future::join_all(first).await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    for _ in 0..2 {
        let answer = get(replica.http, "a", "/").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn a_head_that_has_begun_is_served_through_a_drain() {
    let mut given = settings();
    given.limits.head = Duration::from_secs(10);
    given.drain = Duration::from_secs(20);
    let mut replica = Replica::with(given);
    replica.serve(&[serve_text("hello").await]);
    let mut client = TcpStream::connect(replica.http).await.unwrap();
    client.write_all(WHOLE.as_bytes()).await.unwrap();
    assert!(read_until(&mut client, "hello").await.is_some());
    let facts = replica.proxy.facts();
    let waits = |count| {
        let line = format!("kubeng_connections_idle {count}");
        move |metrics: &str| metrics.lines().any(|other| other == line)
    };
    let (one, none) = (waits(1), waits(0));
    until(|| one(&facts.metrics())).await;
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    // It has been read, so it is a request in progress.
    until(|| none(&facts.metrics())).await;
    let to = replica.http;
    let (drained, answer) = tokio::join!(replica.proxy.drain(), async {
        while TcpStream::connect(to).await.is_ok() {
            tokio::task::yield_now().await;
        }
        client.write_all(b"Host: a\r\n\r\n").await.unwrap();
        read_until(&mut client, "hello").await
    });
    let answer = answer.expect("it is served").to_ascii_lowercase();
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(drained.cut, 0);
}

#[test]
fn no_filter_can_be_asked_to_edit_the_framing() {
    let names = ["content-length", "Transfer-Encoding", "connection", "host", "content_length"];
    for name in names.iter().chain(&["upgrade", "te", "trailer", "expect", "keep-alive"]) {
        for text in [
            format!(r#"{{"requestHeaders":{{"remove":["{name}"]}}}}"#),
            format!(r#"{{"responseHeaders":{{"set":[{{"name":"{name}","value":"1"}}]}}}}"#),
            format!(r#"{{"responseHeaders":{{"add":[{{"name":"{name}","value":"1"}}]}}}}"#),
            format!(r#"{{"requestId":{{"header":"{name}"}}}}"#),
        ] {
            let read = serde_json::from_str::<kubeng_config::filter::Filter>(&text);
            let error = read.expect_err(&text).to_string();
            assert!(error.contains("frames"), "{text}: {error}");
        }
    }
}
