//! A keep-alive HTTP/1.1 client that accounts for every request and every connection.

use std::net::SocketAddr;
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::backend::BACKEND;
use crate::trust;

/// One client with at most one connection, which it keeps open as long as the server does.
///
/// A request that fails is not sent again; the next one opens a connection.
pub struct Client {
    to: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    open: Option<Open>,
    counts: Counts,
    certificate: Option<CertificateDer<'static>>,
}

struct Open {
    sender: SendRequest<Full<Bytes>>,
    /// Drives the connection; ends when the connection does.
    driver: JoinSet<()>,
    /// How many requests it has carried to their end.
    answered: u64,
}

/// What a client has done. Always `sent == answered + failed` between two requests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Requests begun.
    pub sent: u64,
    /// Requests with a complete answer, whatever its status.
    pub answered: u64,
    /// Requests without one: refused, broken off, or later than [`ANSWER_WITHIN`].
    pub failed: u64,
    /// Connections opened.
    pub opened: u64,
    /// Connections that the server closed, or that broke, but for those that were [`retired`](Self::retired).
    pub closed: u64,
    /// Connections that the server ended between two requests because they had carried as many as a
    /// connection may: [`REQUESTS_MAX`].
    pub retired: u64,
}

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The name of the [`Backend`](crate::backend::Backend) that answered, if one did.
    #[must_use]
    pub fn backend(&self) -> Option<&str> {
        self.headers.get(BACKEND)?.to_str().ok()
    }
}

impl Client {
    /// A client without TLS.
    #[must_use]
    pub fn plain(to: SocketAddr) -> Self {
        Self { to, tls: None, open: None, counts: Counts::default(), certificate: None }
    }

    /// A client with TLS that asks for `server_name` and trusts every certificate.
    ///
    /// # Errors
    /// When `server_name` is not a DNS name.
    pub fn tls(to: SocketAddr, server_name: &str) -> Result<Self> {
        let name = ServerName::try_from(server_name.to_owned())?;
        let connector = TlsConnector::from(Arc::new(trust::anything(&[b"http/1.1"])));
        Ok(Self { tls: Some((connector, name)), ..Self::plain(to) })
    }

    /// Sends `GET path` for `host`.
    ///
    /// # Errors
    /// When there is no complete answer; it is counted as failed.
    pub async fn get(&mut self, host: &str, path: &str) -> Result<Answer> {
        let request = Request::get(path).header(header::HOST, host).body(Bytes::new())?;
        self.send(request).await
    }

    /// Sends one request, over the open connection if there is one.
    ///
    /// # Errors
    /// When there is no complete answer; it is counted as failed.
    pub async fn send(&mut self, request: Request<Bytes>) -> Result<Answer> {
        self.notice_close();
        self.counts.sent += 1;
        let answer = tokio::time::timeout(ANSWER_WITHIN, self.exchange(request)).await;
        match answer.unwrap_or_else(|_| Err(anyhow!("no answer within {ANSWER_WITHIN:?}"))) {
            Ok(answer) => {
                self.counts.answered += 1;
                Ok(answer)
            }
            Err(error) => {
                self.counts.failed += 1;
                if self.open.take().is_some() {
                    self.counts.closed += 1;
                }
                Err(error)
            }
        }
    }

    /// What it has done up to this moment; a connection that was closed meanwhile is noticed.
    pub async fn counts(&mut self) -> Counts {
        // The driver learns of a close only when it runs.
        tokio::task::yield_now().await;
        self.notice_close();
        self.counts
    }

    /// The leaf certificate of the newest connection.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.certificate.as_ref()
    }

    /// Whether it has a connection, as far as it has noticed.
    pub fn is_open(&mut self) -> bool {
        self.notice_close();
        self.open.is_some()
    }

    /// Closes the connection; it does not count as closed, and the next request opens one.
    pub fn close(&mut self) {
        self.open = None;
    }

    fn notice_close(&mut self) {
        let is_closed =
            |open: &mut Open| open.sender.is_closed() || open.driver.try_join_next().is_some();
        if let Some(open) = self.open.take_if(is_closed) {
            if open.answered >= REQUESTS_MAX {
                self.counts.retired += 1;
            } else {
                self.counts.closed += 1;
            }
        }
    }

    async fn exchange(&mut self, request: Request<Bytes>) -> Result<Answer> {
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let stream = TcpStream::connect(self.to).await?;
                stream.set_nodelay(true)?;
                let open = match &self.tls {
                    None => Open::over(stream).await?,
                    Some((connector, name)) => {
                        let stream = connector.connect(name.clone(), stream).await?;
                        let presented = stream.get_ref().1.peer_certificates();
                        let leaf = presented.and_then(|chain| chain.first());
                        self.certificate = leaf.cloned().map(CertificateDer::into_owned);
                        Open::over(stream).await?
                    }
                };
                self.counts.opened += 1;
                none.insert(open)
            }
        };
        open.sender.ready().await?;
        let response = open.sender.send_request(request.map(Full::new)).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.context("the answer broke off")?.to_bytes();
        open.answered += 1;
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

impl Open {
    async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Self> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // How it ends is seen by the request that is under way, if one is.
            let _ = connection.await;
        });
        Ok(Self { sender, driver, answered: 0 })
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let Self { sent, answered, failed, opened, closed, retired } = other;
        self.sent += sent;
        self.answered += answered;
        self.failed += failed;
        self.opened += opened;
        self.closed += closed;
        self.retired += retired;
    }
}

/// How many requests a connection of HTTP/1.1 carries before the server ends it.
pub const REQUESTS_MAX: u64 = 10_000;

/// The longest wait for an answer, from the connection to the end of the body.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::backend::Backend;

    #[tokio::test]
    async fn one_connection_carries_all_requests() {
        let backend = Backend::start("one").await.unwrap();
        let mut client = Client::plain(backend.address);
        for _ in 0..3 {
            let answer = client.get("any.example", "/").await.unwrap();
            assert_eq!((answer.status, answer.backend()), (StatusCode::OK, Some("one")));
        }
        let expected = Counts { sent: 3, answered: 3, opened: 1, ..Counts::default() };
        assert_eq!(client.counts().await, expected);
        assert_eq!((backend.requests(), backend.connections()), (3, 1));
    }

    /// A server that does `after` with its first connection, and then ends it.
    async fn check(answer: &'static [u8], expected: Counts) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = Client::plain(listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            stream.write_all(answer).await.unwrap();
        });
        let _ = client.get("any.example", "/").await;
        server.join_next().await;
        for _ in 0..100 {
            if client.counts().await == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(client.counts().await, expected);
    }

    #[tokio::test]
    async fn a_close_after_an_answer_is_noticed() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let one = Counts { sent: 1, answered: 1, opened: 1, closed: 1, ..Counts::default() };
        check(answer, one).await;
    }

    #[tokio::test]
    async fn a_broken_answer_is_a_failed_request() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
        let one = Counts { sent: 1, failed: 1, opened: 1, closed: 1, ..Counts::default() };
        check(answer, one).await;
    }
}
