//! A backend: answers every request over HTTP/1.1 and HTTP/2 without TLS, and says who it is.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderName, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A server on loopback; it and its connections end when it is dropped.
pub struct Backend {
    /// What it calls itself.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

/// What a backend answers, and how long it takes over it.
pub struct Reply {
    /// The answer; the name of the backend is added to its headers.
    pub response: Response<Bytes>,
    /// Time to wait before it is sent.
    pub after: Duration,
}

struct State {
    name: http::HeaderValue,
    answer: Box<dyn Fn(Request<Bytes>) -> Reply + Send + Sync>,
    requests: AtomicU64,
    connections: AtomicU64,
}

impl Backend {
    /// Starts one on a free port of 127.0.0.1 that answers 200 with [`BODY_BYTES`] bytes.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(name: &str) -> Result<Self> {
        Self::start_with(name, (Ipv4Addr::LOCALHOST, 0).into(), canned).await
    }

    /// Starts one that answers as it is told, where it is told; port 0 is any free one.
    ///
    /// # Errors
    /// When the address cannot be bound, or the name is no header value.
    pub async fn start_with(
        name: &str,
        address: SocketAddr,
        answer: impl Fn(Request<Bytes>) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("{address}"))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            name: name.parse()?,
            answer: Box::new(answer),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { name: name.into(), address, state, _serving: serving })
    }

    /// Starts one for each name, on 127.0.0.1, 127.0.0.2 and so on with one port for all,
    /// as an EndpointSlice has it.
    ///
    /// # Errors
    /// When ten ports in turn are not free on all of the addresses.
    pub async fn start_group(names: &[&str]) -> Result<Vec<Self>> {
        let mut last = None;
        for _ in 0..10 {
            match Self::try_group(names).await {
                Ok(group) => return Ok(group),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no names were given")?)
    }

    async fn try_group(names: &[&str]) -> Result<Vec<Self>> {
        let mut group: Vec<Self> = Vec::new();
        for (name, host) in names.iter().zip(1..) {
            let port = group.first().map_or(0, |first| first.address.port());
            let address = (IpAddr::from([127, 0, 0, host]), port).into();
            group.push(Self::start_with(name, address, canned).await?);
        }
        Ok(group)
    }

    /// How many requests it has seen.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// How many connections it has taken.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }
}

impl Reply {
    /// An answer that is sent at once.
    #[must_use]
    pub fn now(response: Response<Bytes>) -> Self {
        Self { response, after: Duration::ZERO }
    }
}

/// 200 with a body of [`BODY_BYTES`] bytes. `?after=MILLISECONDS`, at most 10,000, makes it late.
#[must_use]
pub fn canned(request: Request<Bytes>) -> Reply {
    static BODY: [u8; BODY_BYTES] = [b'x'; BODY_BYTES];
    let late = request.uri().query().and_then(|query| query.strip_prefix("after="));
    let millis = late.and_then(|late| late.parse().ok()).unwrap_or(0);
    let response = Response::new(Bytes::from_static(&BODY));
    Reply { response, after: Duration::from_millis(u64::min(millis, 10_000)) }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                state.connections.fetch_add(1, Ordering::Relaxed);
                connections.spawn(serve(stream, Arc::clone(&state)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let is_h2 = begins_as_http2(&stream).await;
    // Without it an answer may wait 40 ms for an acknowledgement; a failure costs only that.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| answer(request, Arc::clone(&state)));
    let io = TokioIo::new(stream);
    // What a client does wrong is for the client to notice.
    if is_h2 {
        let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = http2.serve_connection(io, service).await;
    } else {
        let http1 = hyper::server::conn::http1::Builder::new();
        let _ = http1.serve_connection(io, service).with_upgrades().await;
    }
}

/// Whether the first bytes are the preface of HTTP/2 (RFC 9113 section 3.4); no method begins so.
async fn begins_as_http2(stream: &TcpStream) -> bool {
    let mut first = [0; 3];
    loop {
        match stream.peek(&mut first).await {
            Ok(3) => return first == *b"PRI",
            Ok(0) | Err(_) => return false,
            Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    state.requests.fetch_add(1, Ordering::Relaxed);
    let (head, body) = request.into_parts();
    // A body that breaks off is shown as an empty one; the connection ends anyway.
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let Reply { mut response, after } = (state.answer)(Request::from_parts(head, body));
    if !after.is_zero() {
        tokio::time::sleep(after).await;
    }
    response.headers_mut().insert(BACKEND, state.name.clone());
    Ok(response.map(Full::new))
}

/// The header with which a backend names itself.
pub const BACKEND: HeaderName = HeaderName::from_static("x-backend");
/// The size of the canned body.
pub const BODY_BYTES: usize = 1024;
