//! Asking the admin listener of another process.

use std::net::IpAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// An admin listener, by its address such as `http://127.0.0.1:9180`.
#[derive(Clone, Debug)]
pub struct AdminClient {
    url: String,
    host: String,
    port: u16,
    authority: String,
}

/// An answer that is well.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What it says.
    pub body: String,
    /// The version of what was read, for a change of it.
    pub etag: Option<String>,
}

/// An answer as it came, whether it is well or not.
pub(crate) struct Passed {
    pub(crate) status: StatusCode,
    pub(crate) kind: Option<HeaderValue>,
    pub(crate) etag: Option<HeaderValue>,
    pub(crate) body: Bytes,
}

/// Why there is no answer that is well. The next one may be.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It is no address of an admin listener.
    #[error("{0:?} is not an address such as http://127.0.0.1:9180")]
    Address(String),
    /// It cannot be connected to.
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    /// It broke off.
    #[error("the exchange broke off")]
    Exchange(#[source] hyper::Error),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// The answer cannot be read: too long, or no text.
    #[error("the answer cannot be read")]
    Unreadable,
    /// It says why not.
    #[error("{status}: {detail}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// What it says.
        detail: String,
    },
}

/// The longest answer, in bytes: an export of 40,000 routes has about 20 MiB.
const ANSWER_BYTES_MAX: usize = 256 << 20;

impl AdminClient {
    /// For the listener at `url`.
    ///
    /// # Errors
    /// When it is no address; https is not spoken.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        if uri.scheme_str() != Some("http") || !["", "/"].contains(&uri.path()) {
            return Err(wrong());
        }
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authority: authority.as_str().to_owned(),
        })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether its address says that it is on this machine.
    pub(crate) fn is_on_this_machine(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        address.map_or(self.host == "localhost", |address| address.is_loopback())
    }

    /// Asks for `/api/v1` + `path`, over a connection of its own. `etag` goes as `If-Match`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        etag: Option<&str>,
        body: Option<&Value>,
        within: Duration,
    ) -> Result<Answer, ClientError> {
        let body = Bytes::from(body.map(Value::to_string).unwrap_or_default());
        let Passed { status, kind: _, etag, body } =
            self.pass(method, path, etag, body, within).await?;
        let body = String::from_utf8(body.to_vec()).map_err(|_| ClientError::Unreadable)?;
        if !status.is_success() {
            return Err(ClientError::Refused { status, detail: detail(&body) });
        }
        let etag = etag.as_ref().and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        Ok(Answer { body, etag })
    }

    /// The same, whatever the answer says.
    pub(crate) async fn pass(
        &self,
        method: Method,
        path: &str,
        etag: Option<&str>,
        body: Bytes,
        within: Duration,
    ) -> Result<Passed, ClientError> {
        let exchange = self.exchange(method, path, etag, body);
        tokio::time::timeout(within, exchange).await.map_err(|_| ClientError::Late(within))?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        etag: Option<&str>,
        body: Bytes,
    ) -> Result<Passed, ClientError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let io = TokioIo::new(stream.map_err(ClientError::Connect)?);
        let (mut sender, connection) = handshake(io).await.map_err(ClientError::Exchange)?;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(etag) = etag {
            request = request.header(header::IF_MATCH, etag);
        }
        let request = request.body(Full::new(body));
        let request = request.map_err(|_| ClientError::Address(path.to_owned()))?;
        let answer = async move {
            let answer = sender.send_request(request).await.map_err(ClientError::Exchange)?;
            let status = answer.status();
            let field = |name| answer.headers().get(name).cloned();
            let (kind, etag) = (field(header::CONTENT_TYPE), field(header::ETAG));
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|_| ClientError::Unreadable)?.to_bytes();
            Ok(Passed { status, kind, etag, body })
        };
        // The connection ends by itself once the answer is there.
        let (answer, _ended) = tokio::join!(answer, connection);
        answer
    }
}

/// What an error answer says (RFC 9457).
fn detail(body: &str) -> String {
    let value = serde_json::from_str::<Value>(body).ok();
    let detail = value.as_ref().and_then(|value| value["detail"].as_str());
    detail.unwrap_or("it does not say why").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_are_taken() {
        for (url, is_well) in [
            ("http://127.0.0.1:9180", true),
            ("http://[::1]:9180/", true),
            ("http://localhost", true),
            ("https://127.0.0.1:9180", false),
            ("127.0.0.1:9180", false),
            ("http://127.0.0.1:9180/x", false),
            ("", false),
        ] {
            assert_eq!(AdminClient::new(url).is_ok(), is_well, "{url}");
        }
    }

    #[test]
    fn only_loopback_is_on_this_machine() {
        for (url, is_here) in [
            ("http://127.0.0.1:9180", true),
            ("http://127.9.9.9:1", true),
            ("http://[::1]:9180", true),
            ("http://localhost:9180", true),
            ("http://0.0.0.0:9180", false),
            ("http://192.0.2.1:9180", false),
            ("http://controller:9180", false),
            ("http://localhost.example:9180", false),
        ] {
            assert_eq!(AdminClient::new(url).unwrap().is_on_this_machine(), is_here, "{url}");
        }
    }
}
