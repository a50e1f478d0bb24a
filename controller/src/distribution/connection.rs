//! HTTP/2 connections of replicas to controllers, and the tasks that carry connections of either side.

mod noted;

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;

use self::noted::{Fault, Noted};
use super::join::said;
use super::wire::MESSAGE_BYTES_MAX;
use super::wire::proto::delivery_client::DeliveryClient;
use super::wire::proto::joining_client::JoiningClient;

/// How long it may take until a controller can be spoken to: name, TCP and TLS together.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// How often a replica asks whether its controller is still there, and how long it waits for the
/// answer: a dead one is left within 5 s.
const ASK_EVERY: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_millis(2500);

/// How much may be on its way on one stream, and on a connection.
pub(super) const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// How messages are compressed.
pub(super) const COMPRESSION: CompressionEncoding = CompressionEncoding::Zstd;

/// Runs what an HTTP/2 connection needs beside itself; all of it ends with the connection.
#[derive(Clone)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    pub(super) fn new(tracker: &TaskTracker, stop: CancellationToken) -> Self {
        Self { tracker: tracker.clone(), stop }
    }
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            stop.run_until_cancelled_owned(future).await;
        });
    }
}

/// The address of a controller: `https://name:port`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ControllerUrl {
    text: String,
    host: String,
    port: u16,
    name: ServerName<'static>,
}

/// A text is not the address of a controller. Fatal: the setting must be mended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is not the address of a controller: write https://NAME:PORT")]
pub struct ControllerUrlError(String);

impl FromStr for ControllerUrl {
    type Err = ControllerUrlError;

    fn from_str(text: &str) -> Result<Self, ControllerUrlError> {
        let wrong = || ControllerUrlError(text.chars().take(300).collect());
        let uri: http::Uri = text.parse().map_err(|_| wrong())?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        if uri.scheme_str() != Some("https") || path != "/" {
            return Err(wrong());
        }
        let authority = uri.authority().ok_or_else(wrong)?;
        let port = authority.port_u16().ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err(wrong());
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let name = match host.parse::<IpAddr>() {
            Ok(address) => ServerName::from(address),
            Err(_) => ServerName::try_from(host.clone()).map_err(|_| wrong())?,
        };
        let text = format!("https://{authority}");
        Ok(Self { text, host, port, name })
    }
}

impl std::fmt::Display for ControllerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a controller cannot be spoken to. Another one is tried, or this one again.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("no connection")]
    Tcp(#[source] std::io::Error),
    #[error("no TLS connection")]
    Tls(#[source] std::io::Error),
    #[error(
        "its certificate comes from no authority that this replica believes: give the replica a \
         token of that controller, made by kubeng token create, or its authority by --ca, or mend \
         --controller"
    )]
    Unbelieved(#[source] std::io::Error),
    #[error("no HTTP/2 connection")]
    Http(#[source] hyper::Error),
    #[error("no connection within {} s", CONNECT_WITHIN.as_secs())]
    Late,
}

/// An HTTP/2 connection to a controller. It ends when this is dropped.
pub(super) struct Connection {
    channel: Channel,
    origin: http::Uri,
    fault: Fault,
    _end: DropGuard,
}

impl Connection {
    /// Connects; what the connection needs runs in `tracker`.
    pub(super) async fn open(
        to: &ControllerUrl,
        tls: Arc<ClientConfig>,
        tracker: &TaskTracker,
    ) -> Result<Self, ConnectError> {
        timeout(CONNECT_WITHIN, Self::connect(to, tls, tracker))
            .await
            .unwrap_or(Err(ConnectError::Late))
    }

    async fn connect(
        to: &ControllerUrl,
        tls: Arc<ClientConfig>,
        tracker: &TaskTracker,
    ) -> Result<Self, ConnectError> {
        let tcp = TcpStream::connect((to.host.as_str(), to.port)).await;
        let tcp = tcp.map_err(ConnectError::Tcp)?;
        tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
        let stream = TlsConnector::from(tls).connect(to.name.clone(), tcp).await;
        let stream = stream.map_err(|error| {
            if is_unbelieved(&error) {
                ConnectError::Unbelieved(error)
            } else {
                ConnectError::Tls(error)
            }
        })?;
        let (stop, fault) = (CancellationToken::new(), Fault::default());
        let end = stop.clone().drop_guard();
        let tasks = Tasks::new(tracker, stop.clone());
        let (sender, connection) = http2::Builder::new(tasks)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(ASK_EVERY)
            .keep_alive_timeout(ANSWER_WITHIN)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(Noted::new(stream, fault.clone())))
            .await
            .map_err(ConnectError::Http)?;
        tracker.spawn(async move {
            // How it ended is told by the calls that it carried.
            let _ = stop.run_until_cancelled_owned(connection).await;
        });
        let origin = to.text.parse().unwrap_or_default();
        Ok(Self { channel: Channel(sender), origin, fault, _end: end })
    }

    pub(super) fn delivery(&self) -> DeliveryClient<Channel> {
        DeliveryClient::with_origin(self.channel.clone(), self.origin.clone())
            .accept_compressed(COMPRESSION)
            .send_compressed(COMPRESSION)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Why a call failed: what the controller said, or what became of the connection.
    pub(super) fn why(&self, status: &tonic::Status) -> String {
        match self.fault.get() {
            // With TLS 1.3 a replica learns only here what its certificate was found to be.
            Some(fault) if fault.contains("alert") => format!(
                "the controller does not take the certificate of this replica ({fault}): join \
                 again with a new token of this controller"
            ),
            Some(fault) => fault,
            None => said(status),
        }
    }

    pub(super) fn joining(&self) -> JoiningClient<Channel> {
        JoiningClient::with_origin(self.channel.clone(), self.origin.clone())
    }
}

/// Whether the other side is certified by somebody else than was expected.
fn is_unbelieved(error: &std::io::Error) -> bool {
    use rustls::{CertificateError, Error};
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    matches!(
        cause,
        Some(Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature
        ))
    )
}

/// What calls go over.
#[derive(Clone)]
pub(super) struct Channel(http2::SendRequest<Body>);

impl tonic::codegen::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = tonic::codegen::BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_controllers_have_one_form() {
        for text in ["https://a.example:9443", "https://10.0.0.1:1", "https://[::1]:9443"] {
            let url: ControllerUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), text);
        }
        assert_eq!("https://a:1/".parse::<ControllerUrl>().unwrap().to_string(), "https://a:1");
        for text in [
            "",
            "a.example:9443",
            "http://a.example:9443",
            "https://a.example",
            "https://a.example:9443/x",
            "https://user@a.example:9443",
            "https://a b:1",
            "https://a.example:99999",
        ] {
            let error = text.parse::<ControllerUrl>().unwrap_err().to_string();
            assert!(error.contains("write https://NAME:PORT"), "{error}");
        }
    }
}
