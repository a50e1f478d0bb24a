//! One record for each request, written by a thread of its own. A full queue drops and counts.

use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use kubeng_config::name::{BackendId, RouteId};
use serde_json::json;

/// What is told about one request.
#[derive(Debug)]
pub(crate) struct AccessRecord {
    pub(crate) at: std::time::SystemTime,
    pub(crate) client: IpAddr,
    pub(crate) method: http::Method,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) duration: Duration,
    pub(crate) route: Option<RouteId>,
    pub(crate) backend: Option<BackendId>,
    pub(crate) endpoint: Option<std::net::SocketAddr>,
    pub(crate) tries: u8,
    /// Why it was not served, or not to its end.
    pub(crate) reason: Option<&'static str>,
    /// The id that a Filter gave it.
    pub(crate) request_id: Option<http::HeaderValue>,
}

/// Where records go.
#[derive(Debug, Default)]
pub(crate) struct AccessLog {
    queue: Option<SyncSender<AccessRecord>>,
    dropped: AtomicU64,
}

impl AccessLog {
    /// Writes every record to `out` as one line of JSON.
    pub(crate) fn to(out: Box<dyn Write + Send>) -> std::io::Result<Self> {
        let (queue, records) = sync_channel(RECORDS_MAX);
        // Ends when the queue is dropped with the last worker.
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write(records, out))?;
        Ok(Self { queue: Some(queue), dropped: AtomicU64::new(0) })
    }

    /// Whether anybody reads records.
    pub(crate) fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Hands a record over. Never waits.
    pub(crate) fn push(&self, record: AccessRecord) {
        if let Some(queue) = &self.queue
            && queue.try_send(record).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many records found the queue full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn write(records: Receiver<AccessRecord>, out: Box<dyn Write + Send>) {
    let mut out = BufWriter::new(out);
    while let Ok(first) = records.recv() {
        let waiting = records.try_iter().take(RECORDS_MAX);
        for record in std::iter::once(first).chain(waiting) {
            if writeln!(out, "{}", line(&record)).is_err() {
                break;
            }
        }
        if let Err(error) = out.flush() {
            tracing::warn!(%error, "access log cannot be written");
        }
    }
}

fn line(record: &AccessRecord) -> serde_json::Value {
    let AccessRecord {
        at,
        client,
        method,
        host,
        path,
        status,
        duration,
        route,
        backend,
        endpoint,
        tries,
        reason,
        request_id,
    } = record;
    let mut line = json!({
        "time": httpdate::fmt_http_date(*at),
        "client": client,
        "method": method.as_str(),
        "host": host,
        "path": path,
        "status": status,
        "durationMicros": u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        "route": route.as_ref().map(ToString::to_string),
        "backend": backend.as_ref().map(ToString::to_string),
        "endpoint": endpoint,
        "tries": tries,
        "reason": reason,
    });
    if let Some(id) = request_id.as_ref().and_then(|id| id.to_str().ok()) {
        line["requestId"] = id.into();
    }
    line
}

const RECORDS_MAX: usize = 4096;
