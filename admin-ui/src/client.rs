//! Asking the admin listener of another process.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::http::{Method, Request, StatusCode, Uri, header};
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
        let exchange = self.exchange(method, path, etag, body);
        tokio::time::timeout(within, exchange).await.map_err(|_| ClientError::Late(within))?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        etag: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, ClientError> {
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
        let body = Bytes::from(body.map(Value::to_string).unwrap_or_default());
        let request = request.body(Full::new(body));
        let request = request.map_err(|_| ClientError::Address(path.to_owned()))?;
        let answer = async move {
            let answer = sender.send_request(request).await.map_err(ClientError::Exchange)?;
            let status = answer.status();
            let etag = answer.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
            let etag = etag.map(str::to_owned);
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|_| ClientError::Unreadable)?.to_bytes();
            let body = String::from_utf8(body.to_vec()).map_err(|_| ClientError::Unreadable)?;
            if status.is_success() {
                Ok(Answer { body, etag })
            } else {
                Err(ClientError::Refused { status, detail: detail(&body) })
            }
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
}
