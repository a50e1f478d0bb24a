//! How the fake answers lists and watches.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Shared;
use super::state::{Asked, Fault, Filter, Verb};

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// The connection is to be cut.
#[derive(Debug)]
pub(crate) struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut")
    }
}

impl std::error::Error for Cut {}

pub(crate) async fn answer(request: Request<Incoming>, state: Arc<Shared>) -> Result<Answer, Cut> {
    let path = request.uri().path().to_owned();
    if path.contains("/leases") {
        let method = request.method().clone();
        let body = request.into_body().collect().await.map_err(|_| Cut)?.to_bytes();
        let (code, body) = super::leases::answer(&method, &path, &body, &state);
        let mut answer = Response::new(Full::from(body.to_string()).boxed());
        *answer.status_mut() = code;
        return Ok(answer);
    }
    let query = query(request.uri().query().unwrap_or_default());
    let is_watch = query.get("watch").is_some_and(|text| text == "true" || text == "1");
    let verb = if is_watch { Verb::Watch } else { Verb::List };
    let fault = state.lock().ask(Asked { verb, path: path.clone(), query: query.clone() });
    match fault {
        Some(Fault::Status(code, message, wait)) => return Ok(status(code, message, wait)),
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::Stall) => return Ok(Response::new(Lines::silent().boxed())),
        Some(Fault::Cut) => return Err(Cut),
        Some(Fault::Body(text)) => return Ok(Response::new(Full::from(text).boxed())),
        None => {}
    }
    let parts: Vec<&str> = path.split('/').collect();
    let namespace = parts.iter().position(|part| *part == "namespaces");
    let filter = Filter {
        resource: parts.last().copied().unwrap_or_default().to_owned(),
        namespace: namespace.and_then(|at| parts.get(at + 1)).map(|name| (*name).to_owned()),
        fields: query.get("fieldSelector").cloned().unwrap_or_default(),
    };
    Ok(match verb {
        Verb::Watch => watch(&filter, &query, state),
        Verb::List | Verb::ListNext => list(&filter, &query, &state),
    })
}

fn list(filter: &Filter, query: &BTreeMap<String, String>, state: &Shared) -> Answer {
    let state = state.lock();
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let all = state.objects(filter);
    let start = number("continue").unwrap_or(0);
    let end = number("limit").map_or(all.len(), |limit| (start + limit).min(all.len()));
    let mut metadata = json!({"resourceVersion": state.version().to_string()});
    if end < all.len() {
        metadata["continue"] = json!(end.to_string());
    }
    let items = all.get(start..end).unwrap_or_default();
    let page = json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items});
    Response::new(Full::from(page.to_string()).boxed())
}

fn watch(filter: &Filter, query: &BTreeMap<String, String>, state: Arc<Shared>) -> Answer {
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<u64>().ok());
    let version = number("resourceVersion").unwrap_or(0);
    if state.lock().has_expired(version) {
        return status(410, "too old resource version", 0);
    }
    let ends = Duration::from_secs(number("timeoutSeconds").unwrap_or(290));
    let (sender, lines) = mpsc::channel(64);
    let mut task = JoinSet::new();
    let filter = filter.clone();
    task.spawn(async move {
        let _ = tokio::time::timeout(ends, feed(filter, version, state, sender)).await;
    });
    Response::new(Lines { lines: Some(lines), _task: task }.boxed())
}

/// Sends what happens, until the watch is ended.
async fn feed(filter: Filter, mut version: u64, state: Arc<Shared>, sender: mpsc::Sender<Bytes>) {
    let mut changes = state.changes();
    loop {
        let lines = state.lock().lines(&filter, version);
        for line in lines {
            version = line.version;
            let text = format!("{}\n", line.event);
            if sender.send(Bytes::from(text)).await.is_err() || line.is_last {
                return;
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// A body of lines that are sent as they come.
struct Lines {
    /// `None`: nothing ever comes.
    lines: Option<mpsc::Receiver<Bytes>>,
    _task: JoinSet<()>,
}

impl Lines {
    fn silent() -> Self {
        Self { lines: None, _task: JoinSet::new() }
    }
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.lines {
            Some(lines) => {
                lines.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
            }
            None => Poll::Pending,
        }
    }
}

fn status(code: u16, message: &str, wait: u32) -> Answer {
    let status: Value = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "message": message, "reason": "Test", "details": {"retryAfterSeconds": wait},
    });
    let mut answer = Response::new(Full::from(status.to_string()).boxed());
    *answer.status_mut() = StatusCode::from_u16(code).expect("a test names a status code");
    answer
}

/// The fields of a query, with `%` and `+` undone.
fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                bytes.extend(u8::from_str_radix(&digits, 16));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
