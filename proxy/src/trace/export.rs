//! Sends spans to a collector: OTLP over HTTP with JSON, in batches, from a queue that is bounded.

mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::otlp;
use crate::record::Record;
use tls::Tls;

/// Where spans are sent: the address of a collector of OTLP over HTTP.
#[derive(Clone, Debug)]
pub struct Collector {
    authority: Arc<str>,
    host: Arc<str>,
    port: u16,
    path: Arc<str>,
    /// None over plain HTTP.
    tls: Option<Tls>,
}

/// Why a text is no address of a collector.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CollectorError {
    /// No URL with a host.
    #[error("{0:?} is not of the form http://host:4318 or https://host:4318")]
    Form(String),
    /// Only `http` and `https` can be spoken.
    #[error("{0:?} is neither http nor https")]
    Scheme(String),
    /// Authorities are given, and nothing is verified by them.
    #[error("authorities are given, but the collector is not https")]
    Plain,
    /// The authorities are none.
    #[error("no certificate of an authority can be read from what is given")]
    Authorities,
}

impl Collector {
    /// The same one, whose certificate must come from these authorities, in PEM, and no others.
    ///
    /// # Errors
    /// When it is not spoken to over TLS, or one of the authorities cannot be read.
    pub fn trusting(mut self, authorities: &[u8]) -> Result<Self, CollectorError> {
        let tls = self.tls.as_mut().ok_or(CollectorError::Plain)?;
        tls.trust(authorities).ok_or(CollectorError::Authorities)?;
        Ok(self)
    }
}

impl std::str::FromStr for Collector {
    type Err = CollectorError;

    fn from_str(text: &str) -> Result<Self, CollectorError> {
        let form = || CollectorError::Form(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| form())?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(CollectorError::Scheme(text.to_owned())),
            None => return Err(form()),
        };
        if uri.query().is_some() {
            return Err(form());
        }
        let authority = uri.authority().ok_or_else(form)?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(form());
        }
        let host = authority.host().trim_matches(['[', ']']);
        let tls = if is_tls { Some(Tls::to(host).ok_or_else(form)?) } else { None };
        // A path of its own is taken as it is; else that of the protocol.
        let path = match uri.path() {
            "" | "/" => TRACES_PATH,
            path => path,
        };
        Ok(Self {
            authority: authority.as_str().into(),
            host: host.into(),
            port: authority.port_u16().unwrap_or(4318),
            path: path.into(),
            tls,
        })
    }
}

/// What became of spans.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    /// Taken by the collector.
    pub(crate) exported: AtomicU64,
    /// Given up: the queue was full, or the collector did not take them.
    pub(crate) dropped: AtomicU64,
}

impl Spans {
    fn lose(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// The end of the queue into which workers put records.
#[derive(Debug)]
pub(crate) struct SpanQueue {
    queue: mpsc::Sender<Arc<Record>>,
    spans: Arc<Spans>,
}

impl SpanQueue {
    /// A queue, and what sends what is put into it.
    pub(crate) fn new(to: Collector, spans: Arc<Spans>) -> (Self, Exporter) {
        let (queue, records) = mpsc::channel(QUEUE_SPANS_MAX);
        let exporter = Exporter { to, records, spans: spans.clone(), connection: None };
        (Self { queue, spans }, exporter)
    }

    /// Hands a record over. Never waits.
    pub(crate) fn push(&self, record: Arc<Record>) {
        if self.queue.try_send(record).is_err() {
            self.spans.lose(1);
        }
    }
}

/// Sends batches one after the other.
pub(crate) struct Exporter {
    to: Collector,
    records: mpsc::Receiver<Arc<Record>>,
    spans: Arc<Spans>,
    connection: Option<Connection>,
}

/// An open connection to the collector, and the task that drives it.
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: JoinSet<()>,
}

impl Connection {
    async fn open(to: &Collector) -> Result<Self, SendError> {
        let tcp = TcpStream::connect((&*to.host, to.port)).await.map_err(unreachable)?;
        match &to.tls {
            None => Self::over(tcp).await,
            Some(tls) => Self::over(tls.connect(tcp).await.map_err(unreachable)?).await,
        }
    }

    async fn over(
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Self, SendError> {
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(unreachable)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // How it ends is seen by the request that is under way.
            let _ = connection.await;
        });
        Ok(Self { sender, driver })
    }

    fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.driver.is_empty()
    }
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum SendError {
    /// Tried again.
    #[error("the collector cannot be reached: {0}")]
    Unreachable(String),
    /// Tried again, not before the time that it names.
    #[error("the collector answers {status}")]
    Busy { status: StatusCode, after: Option<Duration> },
    /// Given up: it would answer the same again.
    #[error("the collector refuses with {0}")]
    Refused(StatusCode),
}

impl Exporter {
    /// Sends until `stop` is done, and then what is left, for at most the time that it says.
    pub(crate) async fn run(mut self, stop: impl Future<Output = Duration>) {
        let mut stop = std::pin::pin!(stop);
        // A batch under way when the end comes is dropped from here, so it stays outside.
        let mut batch = Vec::new();
        let within = loop {
            tokio::select! {
                biased;
                within = &mut stop => break within,
                () = self.fill(&mut batch) => {}
            }
            tokio::select! {
                biased;
                within = &mut stop => break within,
                () = self.send(&batch) => batch.clear(),
            }
        };
        self.records.close();
        let end = Instant::now() + within;
        loop {
            while batch.len() < BATCH_SPANS_MAX
                && let Ok(record) = self.records.try_recv()
            {
                batch.push(record);
            }
            if batch.is_empty() {
                return;
            }
            if timeout_at(end, self.send(&batch)).await.is_err() {
                break;
            }
            batch.clear();
        }
        self.spans.lose(batch.len() + self.records.len());
    }

    /// Waits for the first record, and a little for more.
    async fn fill(&mut self, batch: &mut Vec<Arc<Record>>) {
        if batch.is_empty() {
            match self.records.recv().await {
                Some(record) => batch.push(record),
                None => std::future::pending().await,
            }
        }
        let until = Instant::now() + BATCH_WITHIN;
        while batch.len() < BATCH_SPANS_MAX {
            match timeout_at(until, self.records.recv()).await {
                Ok(Some(record)) => batch.push(record),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Sends one batch, with a few tries; counts what became of it.
    async fn send(&mut self, batch: &[Arc<Record>]) {
        let body = Bytes::from(otlp::body(batch));
        for pause in PAUSES {
            let tried = timeout(ANSWER_WITHIN, self.post(body.clone())).await;
            let error = tried.unwrap_or_else(|_| {
                self.connection = None;
                Err(SendError::Unreachable("no answer in time".to_owned()))
            });
            let Err(error) = error else {
                self.spans.exported.fetch_add(batch.len() as u64, Ordering::Relaxed);
                return;
            };
            let pause = match error {
                SendError::Refused(_) => {
                    tracing::warn!(%error, spans = batch.len(), "spans dropped");
                    break;
                }
                SendError::Busy { after, .. } => after.unwrap_or(pause).clamp(pause, PAUSE_MAX),
                SendError::Unreachable(_) => pause,
            };
            tracing::debug!(%error, "spans not exported yet");
            sleep(pause).await;
        }
        self.spans.lose(batch.len());
    }

    async fn post(&mut self, body: Bytes) -> Result<(), SendError> {
        let request = Request::post(&*self.to.path)
            .header(header::HOST, &*self.to.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("kubeng/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(unreachable)?;
        let mut connection = match self.connection.take().filter(Connection::is_open) {
            Some(connection) => connection,
            None => Connection::open(&self.to).await?,
        };
        connection.sender.ready().await.map_err(unreachable)?;
        let answer = connection.sender.send_request(request).await.map_err(unreachable)?;
        let (head, body) = answer.into_parts();
        // Read to its end, so that the connection can go on; what it says is for people.
        let is_whole = Limited::new(body, ANSWER_BYTES_MAX).collect().await.is_ok();
        self.connection = is_whole.then_some(connection);
        let status = head.status;
        match status.as_u16() {
            200..300 => Ok(()),
            // Those that may pass (OTLP, "Retryable Response Codes").
            429 | 502 | 503 | 504 => {
                let after = head.headers.get(header::RETRY_AFTER);
                let seconds = after.and_then(|after| after.to_str().ok()?.parse().ok());
                Err(SendError::Busy { status, after: seconds.map(Duration::from_secs) })
            }
            _ => Err(SendError::Refused(status)),
        }
    }
}

fn unreachable(error: impl std::fmt::Display) -> SendError {
    SendError::Unreachable(error.to_string())
}

const TRACES_PATH: &str = "/v1/traces";
/// Spans that wait; what comes above is dropped and counted.
const QUEUE_SPANS_MAX: usize = 4096;
const BATCH_SPANS_MAX: usize = 512;
/// How long a batch waits to become larger.
const BATCH_WITHIN: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The pause behind each try that failed; there are as many tries as pauses.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];
const PAUSE_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_collectors_are_checked() {
        let check = |text: &str, expected: &str| match text.parse::<Collector>() {
            Ok(to) => assert_eq!(format!("{} {} {}", to.host, to.port, to.path), expected),
            Err(error) => assert!(error.to_string().contains(expected), "{text}: {error}"),
        };
        check("http://otel.example", "otel.example 4318 /v1/traces");
        check("http://[::1]:99/x/v1/traces", "::1 99 /x/v1/traces");
        check("https://otel.example/x", "otel.example 4318 /x");
        check("https://[::1]:99", "::1 99 /v1/traces");
        check("grpc://otel.example", "neither http nor https");
        check("otel.example:4317", "not of the form");
        check("http://user@otel.example", "not of the form");
        check("", "not of the form");
    }

    #[test]
    fn authorities_are_for_https_and_can_be_read() {
        let trusting = |to: &str, pem: &str| {
            to.parse::<Collector>().unwrap().trusting(pem.as_bytes()).map(|_| ())
        };
        let made = rcgen::generate_simple_self_signed(["otel.example".to_owned()]).unwrap();
        let pem = made.cert.pem();
        assert_eq!(trusting("https://otel.example", &pem), Ok(()));
        assert_eq!(trusting("http://otel.example", &pem), Err(CollectorError::Plain));
        let broken = pem.replace("MII", "AAA");
        for bad in ["", "no pem", &broken, &format!("{pem}{broken}")] {
            assert_eq!(trusting("https://otel.example", bad), Err(CollectorError::Authorities));
        }
    }
}
