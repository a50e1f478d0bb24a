//! The sample services: each replica says who it is and what it was asked.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use anyhow::Context as _;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Where the replicas of the sample services listen.
pub(super) struct Services {
    pub(super) shop: [SocketAddr; 2],
    pub(super) billing: [SocketAddr; 2],
    pub(super) chat: [SocketAddr; 2],
}

/// Starts all replicas on free ports, on a thread of their own, until the process ends.
pub(super) fn start() -> anyhow::Result<Services> {
    let mut replicas = Vec::new();
    let mut pair = |name: &str| -> anyhow::Result<[SocketAddr; 2]> {
        let mut one = |number: u8| -> anyhow::Result<SocketAddr> {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            replicas.push((format!("{name}-{number}"), listener));
            Ok(address)
        };
        Ok([one(1)?, one(2)?])
    };
    let services = Services { shop: pair("shop")?, billing: pair("billing")?, chat: pair("chat")? };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new()
        .name("samples".into())
        .spawn(move || runtime.block_on(serve(replicas)))
        .context("cannot start the sample services")?;
    Ok(services)
}

async fn serve(replicas: Vec<(String, TcpListener)>) {
    let mut tasks = JoinSet::new();
    for (name, listener) in replicas {
        tasks.spawn(replica(name, listener));
    }
    while tasks.join_next().await.is_some() {}
}

async fn replica(name: String, listener: TcpListener) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(connection(name.clone(), stream));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(name: String, stream: TcpStream) {
    let service = service_fn(move |request| {
        let name = name.clone();
        async move { Ok::<_, Infallible>(answer(&name, request)) }
    });
    // A client that goes away is none of the service's business.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

fn answer(name: &str, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let key = request.headers().get("sec-websocket-key").cloned();
    if let (true, Some(key)) = (name.starts_with("chat"), key) {
        return upgrade(request, key.as_bytes());
    }
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("-");
    let client = headers.get("x-forwarded-for").and_then(|from| from.to_str().ok());
    let text = format!(
        "{name} got {} {} for {host} from {}\n",
        request.method(),
        request.uri(),
        client.unwrap_or("nobody")
    );
    Response::new(Full::new(Bytes::from(text)))
}

fn upgrade(mut request: Request<Incoming>, key: &[u8]) -> Response<Full<Bytes>> {
    let upgrading = hyper::upgrade::on(&mut request);
    #[expect(clippy::disallowed_methods, reason = "a sample: the task ends with its connection")]
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrading.await {
            echo(TokioIo::new(upgraded)).await;
        }
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
    if let Ok(accept) = derive_accept_key(key).parse() {
        headers.insert("sec-websocket-accept", accept);
    }
    response
}

async fn echo(stream: TokioIo<hyper::upgrade::Upgraded>) {
    use futures::{SinkExt as _, StreamExt as _};
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}
