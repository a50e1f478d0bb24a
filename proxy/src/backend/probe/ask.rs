//! One question to one Endpoint, over the protocol and the TLS of its Backend.

mod get;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Version, header};
use hyper_util::rt::TokioIo;
use kubeng_config::backend::Backend;
use kubeng_config::backend::health::{HttpProbe, Probe};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::super::CompiledBackend;
use super::super::tls::connector::Connector;
use super::super::tls::failure;
use super::grpc;
use crate::{forward, proxy_protocol};
pub(crate) use get::Get;

/// Asks the Endpoints of one Backend.
#[derive(Debug)]
pub(crate) struct Asker {
    spec: Arc<Backend>,
    /// As requests do it: the same names, the same authorities, the same certificate.
    tls: Result<Option<Connector>, Box<str>>,
}

impl Asker {
    pub(crate) fn of(backend: &CompiledBackend) -> Self {
        let tls = match backend.tls.fault() {
            Some(why) => Err(why.into()),
            None => Ok(backend.tls.connector().cloned()),
        };
        Self { spec: backend.spec.clone(), tls }
    }

    /// Whether the Endpoint at `address` is well, or what is wrong with it. Never ends by itself while
    /// nothing comes: whoever asks sets the time.
    pub(crate) async fn ask(&self, address: SocketAddr) -> Result<(), Box<str>> {
        let tls = self.tls.as_ref().map_err(Clone::clone)?;
        let mut tcp = TcpStream::connect(address).await.map_err(fault)?;
        if let Some(version) = self.spec.proxy_protocol {
            // It waits for a header; nobody stands behind the question.
            tcp.write_all(&proxy_protocol::encode(version, None)).await.map_err(fault)?;
        }
        match tls {
            None => self.ask_over(tcp, address).await,
            Some(connector) => {
                let stream =
                    connector.connect(tcp).await.map_err(|error| failure::in_words(&error))?;
                self.ask_over(stream, address).await
            }
        }
    }

    async fn ask_over(
        &self,
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        address: SocketAddr,
    ) -> Result<(), Box<str>> {
        match self
            .spec
            .resilience
            .as_ref()
            .and_then(|all| all.health.as_ref())
            .map(|all| &all.probe)
        {
            None | Some(Probe::Tcp) => Ok(()),
            Some(Probe::Http(probe)) => {
                let http2 = forward::is_http2(self.spec.protocol);
                let request = self.request(probe, address, http2).map_err(fault)?;
                let status = if http2 {
                    over_http2(io, request, Bytes::new()).await?.head.status
                } else {
                    over_http1(io, request).await?
                };
                let is_good = probe.is_good(status.as_u16());
                if is_good { Ok(()) } else { Err(format!("status {}", status.as_u16()).into()) }
            }
            Some(Probe::Grpc { service }) => {
                let request = self.grpc_request(address).map_err(fault)?;
                let Answer { head, body, trailers } =
                    over_http2(io, request, grpc::question(service)).await?;
                grpc::judge(&head, &trailers, &body)
            }
        }
    }

    fn request(
        &self,
        probe: &HttpProbe,
        address: SocketAddr,
        http2: bool,
    ) -> Result<Request<()>, http::Error> {
        let host = probe.host.as_ref().map_or_else(|| self.host(address), ToString::to_string);
        let path = probe.path.as_str();
        let request = Request::builder().method(Method::GET).header(header::USER_AGENT, AGENT);
        if http2 {
            let uri = format!("{}://{host}{path}", self.scheme());
            return request.version(Version::HTTP_2).uri(uri).body(());
        }
        request.uri(path).header(header::HOST, host).body(())
    }

    fn grpc_request(&self, address: SocketAddr) -> Result<Request<()>, http::Error> {
        let uri = format!("{}://{}{}", self.scheme(), self.host(address), grpc::PATH);
        Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(uri)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, AGENT)
            .body(())
    }

    fn host(&self, address: SocketAddr) -> String {
        let name = self.spec.tls.as_ref().map(|tls| tls.server_name.to_string());
        name.unwrap_or_else(|| address.to_string())
    }

    fn scheme(&self) -> &'static str {
        if self.spec.tls.is_some() { "https" } else { "http" }
    }
}

/// The status of the answer to one request. Its body is left where it is.
async fn over_http1(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<()>,
) -> Result<http::StatusCode, Box<str>> {
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(fault)?;
    let mut connection = JoinSet::new();
    connection.spawn(async move { drop(driver.await) });
    let answer = sender.send_request(request.map(|()| String::new())).await.map_err(fault)?;
    Ok(answer.status())
}

/// An answer over HTTP/2.
struct Answer {
    head: http::response::Parts,
    body: Bytes,
    trailers: HeaderMap,
}

/// The answer to one request with this body; its own may be a few bytes long.
async fn over_http2(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<()>,
    body: Bytes,
) -> Result<Answer, Box<str>> {
    let (sender, driver) = h2::client::handshake(io).await.map_err(fault)?;
    let mut connection = JoinSet::new();
    connection.spawn(async move { drop(driver.await) });
    let mut sender = sender.ready().await.map_err(fault)?;
    let (answer, mut sending) = sender.send_request(request, body.is_empty()).map_err(fault)?;
    if !body.is_empty() {
        sending.send_data(body, true).map_err(fault)?;
    }
    let (head, mut coming) = answer.await.map_err(fault)?.into_parts();
    let mut collected = BytesMut::new();
    while let Some(chunk) = coming.data().await {
        let chunk = chunk.map_err(fault)?;
        // The window is not opened again, so what comes is bounded.
        if collected.len() + chunk.len() <= ANSWER_BYTES_MAX {
            collected.extend_from_slice(&chunk);
        } else {
            break;
        }
    }
    let trailers = if coming.is_end_stream() { None } else { coming.trailers().await.ok() };
    let trailers = trailers.flatten().unwrap_or_default();
    Ok(Answer { head, body: collected.freeze(), trailers })
}

fn fault(error: impl std::error::Error) -> Box<str> {
    match error.source() {
        Some(source) => format!("{error}: {source}").into(),
        None => error.to_string().into(),
    }
}

const AGENT: &str = "kubeng-probe";
/// Of an answer to a gRPC question, which is a few bytes long.
const ANSWER_BYTES_MAX: usize = 4096;
