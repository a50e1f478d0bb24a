//! Every metric of the data plane, in one list.
//!
//! Counters are per worker, so that counting costs nothing between cores, and
//! are summed when they are read. Labels come from configuration, never from requests.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use kubeng_config::name::ListenerId;

use crate::backend::health::Counts;
use crate::backend::probe::Health;
use crate::listener::refusal::Rule;
use crate::listener::turned_away::TurnedAway;
use crate::reason::Reason;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares the counters of a worker with their name and help text.
macro_rules! worker_counters {
    ($($(#[$doc:meta])* $field:ident, $name:literal, $help:literal;)*) => {
        /// What one worker counts. Aligned so that workers share no cache line.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(crate) struct WorkerMetrics {
            $($(#[$doc])* pub(crate) $field: Counter,)*
            refusals: Refusals,
            failures: [Counter; Reason::ALL.len()],
            turned_away: [Counter; TurnedAway::ALL.len()],
        }

        fn render_workers(workers: &[Arc<WorkerMetrics>], out: &mut String) {
            $(
                let sum = workers.iter().map(|worker| worker.$field.read()).sum();
                simple(out, $name, "counter", $help, sum);
            )*
        }
    };
}

worker_counters! {
    /// Connections taken.
    connections, "kubeng_connections_total", "Connections taken";
    /// Connections that were passed on as they are.
    tunnels, "kubeng_tunnels_total", "Connections passed on as they are";
    /// Those that have ended.
    tunnels_ended, "kubeng_tunnels_ended_total", "Connections passed on that have ended";
    /// Bytes of clients that were passed on.
    tunnel_bytes_in, "kubeng_tunnel_received_bytes_total", "Bytes from clients passed on";
    /// Bytes of Endpoints that were passed on.
    tunnel_bytes_out, "kubeng_tunnel_sent_bytes_total", "Bytes passed on to clients";
    /// Connections that ended with a panic.
    connections_panicked, "kubeng_connections_panicked_total",
        "Connections that ended with a panic; each is a fault of Kubeng, and the log says where";
    /// TLS handshakes that ended well.
    handshakes, "kubeng_tls_handshakes_total", "TLS handshakes that ended well";
    /// TLS handshakes that failed or took too long.
    handshakes_failed, "kubeng_tls_handshakes_failed_total",
        "TLS handshakes that failed or took too long";
    /// Tries after the first.
    retries, "kubeng_backend_retries_total", "Tries after the first";
    /// Connections to Backends that could not be opened.
    connect_failures, "kubeng_backend_connect_failures_total",
        "Connections to backends that could not be opened";
    /// Requests answered by ourselves because no Backend could.
    backend_errors, "kubeng_backend_errors_total",
        "Requests answered with an error of ours because no backend answered";
    /// Copies of requests that were sent.
    mirrors, "kubeng_mirrors_total", "Copies of requests sent to another backend";
    /// Copies of requests that were not sent, or not answered.
    mirrors_dropped, "kubeng_mirrors_dropped_total",
        "Copies of requests that were not sent or got no answer";
    /// Tries that went over a pooled connection.
    pool_hits, "kubeng_backend_connections_reused_total", "Tries over a pooled connection";
    /// Tries that opened a connection.
    pool_misses, "kubeng_backend_connections_opened_total", "Tries that opened a connection";
}

/// Requests that broke each rule.
#[derive(Debug)]
struct Refusals([Counter; Rule::ALL.len()]);

impl Default for Refusals {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl WorkerMetrics {
    /// Counts a request that was not served, or not to its end.
    pub(crate) fn failed(&self, reason: Reason) {
        if let Some(counter) = self.failures.get(reason as usize) {
            counter.add(1);
        }
    }

    /// Counts a request that broke `rule`.
    pub(crate) fn refused(&self, rule: Rule) {
        if let Some(counter) = self.refusals.0.get(rule as usize) {
            counter.add(1);
        }
    }

    /// Counts a connection that was closed without a word.
    pub(crate) fn turned_away(&self, reason: TurnedAway) {
        if let Some(counter) = self.turned_away.get(reason as usize) {
            counter.add(1);
        }
    }
}

/// Requests of one Listener by class of status, 1xx to 5xx.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Answers([Counter; 5]);

/// What is counted for one Listener, by worker. It outlives Tables.
#[derive(Debug)]
pub(crate) struct ListenerMetrics(Box<[Answers]>);

impl ListenerMetrics {
    /// Counts an answer that `worker` gave.
    pub(crate) fn answered(&self, worker: usize, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.0.get(worker).and_then(|answers| answers.0.get(class)) {
            counter.add(1);
        }
    }
}

/// All counters of a replica.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) workers: Vec<Arc<WorkerMetrics>>,
    /// Read by the writer of Tables and by the renderer only.
    listeners: Mutex<HashMap<ListenerId, Arc<ListenerMetrics>>>,
}

/// What is not counted but looked up when metrics are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gauges {
    pub(crate) connections: usize,
    pub(crate) table_age_seconds: u64,
    pub(crate) access_records_dropped: u64,
    pub(crate) endpoints: Counts,
}

impl Metrics {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| Arc::default()).collect(),
            listeners: Mutex::default(),
        }
    }

    /// The counters of a Listener; made when it is seen first.
    pub(crate) fn of_listener(&self, id: &ListenerId) -> Arc<ListenerMetrics> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let workers = self.workers.len();
        listeners
            .entry(id.clone())
            .or_insert_with(|| {
                Arc::new(ListenerMetrics((0..workers).map(|_| Answers::default()).collect()))
            })
            .clone()
    }

    /// All metrics in the text format of Prometheus.
    pub(crate) fn render(&self, gauges: Gauges) -> String {
        let mut out = String::with_capacity(8 * 1024);
        let Gauges { connections, table_age_seconds, access_records_dropped, endpoints } = gauges;
        simple(
            &mut out,
            "kubeng_connections_open",
            "gauge",
            "Open connections",
            connections as u64,
        );
        let help = "Seconds since the table that serves was put in place";
        simple(&mut out, "kubeng_table_age_seconds", "gauge", help, table_age_seconds);
        let help = "Access records dropped because the queue was full";
        let name = "kubeng_access_records_dropped_total";
        simple(&mut out, name, "counter", help, access_records_dropped);
        render_endpoints(endpoints, &mut out);
        render_workers(&self.workers, &mut out);
        self.render_turned_away(&mut out);
        self.render_refusals(&mut out);
        self.render_failures(&mut out);
        self.render_listeners(&mut out);
        out
    }

    fn render_turned_away(&self, out: &mut String) {
        let name = "kubeng_connections_refused_total";
        family(out, name, "counter", "Connections closed without a word");
        for &reason in TurnedAway::ALL {
            let of_reason = |worker: &Arc<WorkerMetrics>| {
                worker.turned_away.get(reason as usize).map_or(0, Counter::read)
            };
            let sum: u64 = self.workers.iter().map(of_reason).sum();
            line(out, name, &format!("{{rule=\"{}\"}}", reason.name()), sum);
        }
    }

    fn render_refusals(&self, out: &mut String) {
        let name = "kubeng_requests_refused_total";
        family(out, name, "counter", "Requests that broke a rule of input");
        for &rule in Rule::ALL {
            let of_rule = |worker: &Arc<WorkerMetrics>| {
                worker.refusals.0.get(rule as usize).map_or(0, Counter::read)
            };
            let sum: u64 = self.workers.iter().map(of_rule).sum();
            line(out, name, &format!("{{rule=\"{}\"}}", rule.name()), sum);
        }
    }

    fn render_failures(&self, out: &mut String) {
        let name = "kubeng_request_failures_total";
        family(out, name, "counter", "Requests that were not served, or not to their end");
        for &reason in Reason::ALL {
            let of_reason = |worker: &Arc<WorkerMetrics>| {
                worker.failures.get(reason as usize).map_or(0, Counter::read)
            };
            let sum: u64 = self.workers.iter().map(of_reason).sum();
            line(out, name, &format!("{{reason=\"{}\"}}", reason.name()), sum);
        }
    }

    fn render_listeners(&self, out: &mut String) {
        let name = "kubeng_requests_total";
        family(out, name, "counter", "Requests by listener and class of status");
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<_> = listeners.iter().collect();
        sorted.sort_by_key(|(id, _)| *id);
        for (id, metrics) in sorted {
            for class in 1..=5_usize {
                let of_class =
                    |answers: &Answers| answers.0.get(class - 1).map_or(0, Counter::read);
                let sum: u64 = metrics.0.iter().map(of_class).sum();
                let id = id.as_str().escape_default();
                line(out, name, &format!("{{listener=\"{id}\",status=\"{class}xx\"}}"), sum);
            }
        }
    }
}

fn render_endpoints(counts: Counts, out: &mut String) {
    let Counts { unknown, well, unwell, ejected, ejections } = counts;
    let name = "kubeng_endpoints";
    family(out, name, "gauge", "Endpoints of all backends by what they said when they were asked");
    for (health, count) in
        [(Health::Unknown, unknown), (Health::Well, well), (Health::Unwell, unwell)]
    {
        line(out, name, &format!("{{health=\"{}\"}}", health.name()), count);
    }
    let help = "Endpoints out of rotation because of how they answered requests";
    simple(out, "kubeng_endpoints_ejected", "gauge", help, ejected);
    let help = "Times that an endpoint of a backend that is served was taken out of rotation";
    simple(out, "kubeng_endpoint_ejections", "gauge", help, ejections);
}

fn simple(out: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    family(out, name, kind, help);
    line(out, name, "", value);
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a text cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &str, value: u64) {
    let _ = writeln!(out, "{name}{labels} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed() {
        let metrics = Metrics::new(2);
        for worker in &metrics.workers {
            worker.retries.add(2);
            worker.refused(Rule::BareLf);
        }
        let listener = metrics.of_listener(&"http".parse().unwrap());
        listener.answered(0, StatusCode::OK);
        listener.answered(1, StatusCode::NO_CONTENT);
        let endpoints = Counts { unwell: 5, ..Counts::default() };
        let gauges =
            Gauges { connections: 3, table_age_seconds: 4, access_records_dropped: 0, endpoints };
        let text = metrics.render(gauges);
        for line in [
            "kubeng_backend_retries_total 4",
            "kubeng_requests_refused_total{rule=\"bare_lf\"} 2",
            "kubeng_requests_total{listener=\"http\",status=\"2xx\"} 2",
            "kubeng_connections_open 3",
            "kubeng_endpoints{health=\"unwell\"} 5",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in {text}");
        }
    }
}
