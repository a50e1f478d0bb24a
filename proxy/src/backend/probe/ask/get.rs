//! One GET to one Endpoint, over the protocol and the TLS of its Backend, with a bounded answer.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Asker, fault};
use crate::backend::tls::failure;
use crate::{forward, proxy_protocol};

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Get<'a> {
    pub(crate) path: &'a str,
    /// None: the server name of its TLS, or its address.
    pub(crate) host: Option<String>,
    /// A longer answer is an error.
    pub(crate) bytes_max: usize,
}

impl Asker {
    /// The whole answer of the Endpoint at `address`, whatever its status, or what went wrong.
    ///
    /// Never ends by itself while nothing comes: whoever asks sets the time.
    pub(crate) async fn get(
        &self,
        address: SocketAddr,
        get: Get<'_>,
    ) -> Result<Response<Bytes>, Box<str>> {
        let tls = self.tls.as_ref().map_err(Clone::clone)?;
        let mut tcp = TcpStream::connect(address).await.map_err(fault)?;
        if let Some(version) = self.spec.proxy_protocol {
            tcp.write_all(&proxy_protocol::encode(version, None)).await.map_err(fault)?;
        }
        match tls {
            None => self.get_over(tcp, address, get).await,
            Some(connector) => {
                let stream =
                    connector.connect(tcp).await.map_err(|error| failure::in_words(&error))?;
                self.get_over(stream, address, get).await
            }
        }
    }

    async fn get_over(
        &self,
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        address: SocketAddr,
        get: Get<'_>,
    ) -> Result<Response<Bytes>, Box<str>> {
        let Get { path, host, bytes_max } = get;
        let host = host.unwrap_or_else(|| self.host(address));
        let request = Request::get(path)
            .header(header::USER_AGENT, concat!("kubeng/", env!("CARGO_PKG_VERSION")));
        if forward::is_http2(self.spec.protocol) {
            let uri = format!("{}://{host}{path}", self.scheme());
            return over_http2(io, request.uri(uri).body(()).map_err(fault)?, bytes_max).await;
        }
        let request = request.header(header::HOST, host).body(()).map_err(fault)?;
        over_http1(io, request, bytes_max).await
    }
}

async fn over_http1(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<()>,
    bytes_max: usize,
) -> Result<Response<Bytes>, Box<str>> {
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(fault)?;
    let mut connection = JoinSet::new();
    connection.spawn(async move { drop(driver.await) });
    let answer = sender.send_request(request.map(|()| String::new())).await.map_err(fault)?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, bytes_max).collect().await;
    let body = body.map_err(|error| Box::<str>::from(error.to_string()))?.to_bytes();
    Ok(Response::from_parts(head, body))
}

async fn over_http2(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<()>,
    bytes_max: usize,
) -> Result<Response<Bytes>, Box<str>> {
    let (sender, driver) = h2::client::handshake(io).await.map_err(fault)?;
    let mut connection = JoinSet::new();
    connection.spawn(async move { drop(driver.await) });
    let mut sender = sender.ready().await.map_err(fault)?;
    let (answer, _) = sender.send_request(request, true).map_err(fault)?;
    let (head, mut coming) = answer.await.map_err(fault)?.into_parts();
    let mut body = BytesMut::new();
    while let Some(chunk) = coming.data().await {
        let chunk = chunk.map_err(fault)?;
        if body.len() + chunk.len() > bytes_max {
            return Err("the answer is too long".into());
        }
        coming.flow_control().release_capacity(chunk.len()).map_err(fault)?;
        body.extend_from_slice(&chunk);
    }
    Ok(Response::from_parts(head, body.freeze()))
}
