//! Requests to Backends over HTTP/2: how they share connections, and how each ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use h2::RecvStream;
use h2::client::SendRequest;
use h2::server::SendResponse;
use hyper::body::Bytes;
use hyper::{Request, Response};
use kubeng_config::backend::BackendProtocol;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::support::*;

/// No test waits for longer.
pub(crate) const SOON: Duration = Duration::from_secs(120);

/// A Backend over HTTP/2, and what has come to it.
#[derive(Clone)]
pub(crate) struct Calls {
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    begun: AtomicUsize,
}

/// How a Backend treats its connections.
#[derive(Clone, Copy, Default)]
pub(crate) struct Manners {
    /// How many requests at a time it takes on each.
    pub(crate) streams_max: Option<u32>,
    /// After how many requests it takes leave of each.
    pub(crate) requests_max: Option<usize>,
}

impl Calls {
    /// Each request is answered by `handle`.
    pub(crate) async fn serve<F, D>(manners: Manners, handle: F) -> Self
    where
        F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> D + Clone + Send + Sync + 'static,
        D: Future<Output = ()> + Send + 'static,
    {
        Self::start(None, manners, handle).await
    }

    /// The same over TLS.
    pub(crate) async fn serve_tls<F, D>(config: Arc<ServerConfig>, handle: F) -> Self
    where
        F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> D + Clone + Send + Sync + 'static,
        D: Future<Output = ()> + Send + 'static,
    {
        Self::start(Some(config), Manners::default(), handle).await
    }

    async fn start<F, D>(config: Option<Arc<ServerConfig>>, manners: Manners, handle: F) -> Self
    where
        F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> D + Clone + Send + Sync + 'static,
        D: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let this = Self { address: listener.local_addr().unwrap(), counts: Arc::default() };
        let counts = this.counts.clone();
        spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (config, counts, handle) = (config.clone(), counts.clone(), handle.clone());
                spawn(async move {
                    match config {
                        None => connection(tcp, manners, &counts, handle).await,
                        Some(config) => {
                            let accepted = TlsAcceptor::from(config).accept(tcp).await;
                            let Ok(stream) = accepted else { return };
                            connection(stream, manners, &counts, handle).await;
                        }
                    }
                });
            }
        });
        this
    }

    /// Connections that were opened.
    pub(crate) fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// Requests that came.
    pub(crate) fn begun(&self) -> usize {
        self.counts.begun.load(Ordering::SeqCst)
    }
}

async fn connection<IO, F, D>(io: IO, manners: Manners, counts: &Counts, handle: F)
where
    IO: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> D,
    D: Future<Output = ()> + Send + 'static,
{
    let mut options = h2::server::Builder::new();
    if let Some(max) = manners.streams_max {
        options.max_concurrent_streams(max);
    }
    let Ok(mut connection) = options.handshake(io).await else { return };
    counts.connections.fetch_add(1, Ordering::SeqCst);
    let mut requests = 0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        counts.begun.fetch_add(1, Ordering::SeqCst);
        requests += 1;
        if Some(requests) == manners.requests_max {
            connection.graceful_shutdown();
        }
        spawn(handle(request, respond));
    }
}

/// A client of HTTP/2, all of whose requests one worker carries.
pub(crate) async fn client(replica: &Replica) -> SendRequest<Bytes> {
    let tcp = TcpStream::connect(replica.http).await.unwrap();
    let (client, connection) = h2::client::handshake(tcp).await.unwrap();
    spawn(async move { drop(connection.await) });
    client.ready().await.unwrap()
}

pub(crate) fn grpc() -> Request<()> {
    post(&[("content-type", "application/grpc"), ("te", "trailers")])
}

pub(crate) fn post(fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::post("http://a/pkg.Service/Call");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// The whole body, or what came before it broke off.
pub(crate) async fn read_whole(body: &mut RecvStream) -> Result<Vec<u8>, Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        match timeout(SOON, body.data()).await.expect("the body goes on, or ends") {
            Some(Ok(part)) => {
                body.flow_control().release_capacity(part.len()).unwrap();
                whole.extend_from_slice(&part);
            }
            Some(Err(_)) => return Err(whole),
            None => return Ok(whole),
        }
    }
}

async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let Ok(body) = read_whole(&mut request.into_body()).await else { return };
    let Ok(mut stream) = respond.send_response(Response::new(()), body.is_empty()) else { return };
    if !body.is_empty() {
        let _ = stream.send_data(body.into(), true);
    }
}

#[tokio::test]
async fn requests_share_connections_as_far_as_the_backend_allows() {
    for (streams_max, connections) in [(None, 1), (Some(2), 10)] {
        let release = Arc::new(Notify::new());
        let (began, mut begun) = mpsc::channel(64);
        let held = release.clone();
        let manners = Manners { streams_max, ..Manners::default() };
        let calls = Calls::serve(manners, move |request, respond| {
            let (held, began) = (held.clone(), began.clone());
            async move {
                let wait = held.notified();
                began.send(()).await.unwrap();
                wait.await;
                echo(request, respond).await;
            }
        })
        .await;
        let mut replica = Replica::start();
        replica.serve_as(&[calls.address], BackendProtocol::Http2, vec![]);
        let mut client = client(&replica).await;
        let mut answers = Vec::new();
        for _ in 0..20 {
            client = client.ready().await.unwrap();
            answers.push(client.send_request(post(&[]), true).unwrap().0);
        }
        // All of them are there at once.
        for _ in 0..20 {
            timeout(SOON, begun.recv()).await.expect("it comes").unwrap();
        }
        assert_eq!(calls.connections(), connections);
        release.notify_waiters();
        for answer in answers {
            assert_eq!(timeout(SOON, answer).await.unwrap().unwrap().status(), 200);
        }
    }
}

#[tokio::test]
async fn a_backend_that_takes_leave_of_its_connections_loses_no_request() {
    let manners = Manners { requests_max: Some(7), ..Manners::default() };
    let calls = Calls::serve(manners, echo).await;
    let mut replica = Replica::start();
    replica.serve_as(&[calls.address], BackendProtocol::Http2, vec![]);
    // One that goes on while the connections change.
    let mut long = client(&replica).await;
    let (long_answer, mut long_stream) = long.send_request(grpc(), false).unwrap();
    long_stream.send_data("begin".into(), false).unwrap();
    let clients = (0..4).map(|_| async {
        let mut client = client(&replica).await;
        for number in 0..40 {
            client = client.ready().await.unwrap();
            // No method that could be repeated just so.
            let (answer, mut stream) = client.send_request(post(&[]), false).unwrap();
            let body = format!("body {number}");
            stream.send_data(body.clone().into(), true).unwrap();
            let answer = timeout(SOON, answer).await.unwrap().unwrap();
            assert_eq!(answer.status(), 200);
            let whole = read_whole(&mut answer.into_body()).await.unwrap();
            assert_eq!(whole, body.as_bytes());
        }
    });
    futures::future::join_all(clients).await;
    long_stream.send_data("-end".into(), true).unwrap();
    let answer = timeout(SOON, long_answer).await.unwrap().unwrap();
    assert_eq!(read_whole(&mut answer.into_body()).await.unwrap(), b"begin-end");
    assert!(calls.connections() > 10, "{}", calls.connections());
}

/// Takes leave of its first connections as soon as a request has come, saying that it looked at none;
/// then answers.
async fn serve_leaving(first: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        for number in 0.. {
            let Ok((mut tcp, _)) = listener.accept().await else { return };
            if number >= first {
                let counts = Counts::default();
                spawn(async move { connection(tcp, Manners::default(), &counts, echo).await });
                continue;
            }
            spawn(async move {
                tcp.read_exact(&mut [0; PREFACE_BYTES]).await.unwrap();
                tcp.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await.unwrap();
                loop {
                    let mut head = [0; 9];
                    tcp.read_exact(&mut head).await.unwrap();
                    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                    tcp.read_exact(&mut vec![0; length as usize]).await.unwrap();
                    if head[3] == HEADERS {
                        break;
                    }
                }
                let last_and_reason = [0; 8];
                tcp.write_all(&[0, 0, 8, GOAWAY, 0, 0, 0, 0, 0]).await.unwrap();
                tcp.write_all(&last_and_reason).await.unwrap();
                // It stays there until the other side has gone.
                let _ = tcp.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    address
}

pub(crate) const PREFACE_BYTES: usize = 24;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

#[tokio::test]
async fn a_request_that_was_not_looked_at_is_sent_again_whatever_its_method() {
    let mut replica = Replica::start();
    replica.serve_as(&[serve_leaving(2).await], BackendProtocol::Http2, vec![]);
    let answer = crate::scripted::post(replica.http, "body").await;
    assert_eq!((answer.status, &*answer.body), (200, "4\r\nbody\r\n0\r\n\r\n"));
    // Not for ever.
    replica.serve_as(&[serve_leaving(100).await], BackendProtocol::Http2, vec![]);
    assert_eq!(crate::scripted::post(replica.http, "body").await.status, 502);
    replica.until_failures("stream_refused", 1).await;
}

#[tokio::test]
async fn a_backend_that_speaks_no_http2_is_sent_no_request() {
    let echo = crate::scripted::Scripted::start(&[crate::scripted::Deed::Answer("ok")]).await;
    let mut replica = Replica::start();
    replica.serve_as(&[echo.address], BackendProtocol::Http2, vec![]);
    assert_eq!(get(replica.http, "a", "/").await.status, 502);
}
