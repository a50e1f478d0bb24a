//! An errand over a connection of its own, for Backends of whose TLS more is asked than the engine of
//! errands can do: it has no pool, and leaves nothing out.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, Version, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use super::{Errand, Fetched};
use crate::backend::connect::connect;
use crate::backend::tls::failure::{self, TlsFailure};
use crate::forward;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lost {
    /// No connection could be opened: the Endpoint has not seen the errand, and another one may.
    Connect,
    /// It may have been seen.
    Answer,
}

/// The complete answer of the Endpoint at `address`. Whoever asks sets the time.
///
/// # Errors
/// See [`Lost`].
pub(crate) async fn fetch(errand: &Errand, address: SocketAddr) -> Result<Fetched, Lost> {
    let backend = &errand.backend;
    // Nobody stands behind it.
    let tell = backend.spec.proxy_protocol.map(|version| (version, None));
    let tcp = connect(address, errand.timeout, tell).await.map_err(|_| Lost::Connect)?;
    // What should be encrypted is never sent in clear.
    let connector = backend.tls.connector().ok_or(Lost::Connect)?;
    let stream = connector.connect(tcp).await.map_err(|error| {
        failure::tell(backend, address, &TlsFailure::Handshake(&error));
        Lost::Connect
    })?;
    let is_http2 = forward::is_http2(backend.spec.protocol);
    if is_http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        failure::tell(backend, address, &TlsFailure::NoHttp2);
        return Err(Lost::Connect);
    }
    let request = request(errand, is_http2).ok_or(Lost::Answer)?;
    let answer = if is_http2 {
        over_http2(stream, request, errand).await
    } else {
        over_http1(stream, request, errand).await
    };
    let (head, body) = answer.ok_or(Lost::Answer)?.into_parts();
    Ok(Fetched { status: head.status, headers: head.headers, body })
}

fn request(errand: &Errand, is_http2: bool) -> Option<Request<()>> {
    let Errand { method, target, host, headers, body, .. } = errand;
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    *request.headers_mut() = headers.clone();
    let has_length =
        !body.is_empty() || [Method::POST, Method::PUT, Method::PATCH].contains(method);
    if has_length {
        request.headers_mut().insert(header::CONTENT_LENGTH, body.len().into());
    }
    if is_http2 {
        // There the authority stands in the target (RFC 9113 section 8.3.1).
        let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        *request.uri_mut() = format!("https://{host}{target}").parse().ok()?;
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(header::HOST);
    } else {
        *request.uri_mut() = target.parse().ok()?;
        if let Some(host) = host {
            request.headers_mut().insert(header::HOST, host.clone());
        }
    }
    Some(request)
}

async fn over_http1(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<()>,
    errand: &Errand,
) -> Option<Response<Bytes>> {
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.ok()?;
    let mut connection = JoinSet::new();
    connection.spawn(async move { drop(driver.await) });
    let request = request.map(|()| Full::new(errand.body.clone()));
    let (head, body) = sender.send_request(request).await.ok()?.into_parts();
    let body = Limited::new(body, errand.answer_bytes_max).collect().await.ok()?;
    Some(Response::from_parts(head, body.to_bytes()))
}

async fn over_http2(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<()>,
    errand: &Errand,
) -> Option<Response<Bytes>> {
    let (sender, driver) = h2::client::handshake(io).await.ok()?;
    let mut connection = JoinSet::new();
    connection.spawn(async move { drop(driver.await) });
    let mut sender = sender.ready().await.ok()?;
    let (answer, mut sending) = sender.send_request(request, errand.body.is_empty()).ok()?;
    if !errand.body.is_empty() {
        // All of it is in memory already, and its length is bounded.
        sending.send_data(errand.body.clone(), true).ok()?;
    }
    let (head, mut coming) = answer.await.ok()?.into_parts();
    let mut body = BytesMut::new();
    while let Some(part) = coming.data().await {
        let part = part.ok()?;
        if body.len() + part.len() > errand.answer_bytes_max {
            return None;
        }
        coming.flow_control().release_capacity(part.len()).ok()?;
        body.extend_from_slice(&part);
    }
    Some(Response::from_parts(head, body.freeze()))
}
