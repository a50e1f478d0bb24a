//! Every metric of the data plane, in one list.
//!
//! Counters are per worker, so that counting costs nothing between cores, and
//! are summed when they are read. Labels come from configuration, never from requests.

pub(crate) mod key_fetches;
pub(crate) mod known;
pub(crate) mod lag;
pub(crate) mod list;
mod render;
pub(crate) mod traffic;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use kubeng_config::name::{BackendId, ListenerId, RouteId};

use crate::backend::health::Counts;
use crate::backend::probe::Health;
use crate::listener::refusal::Rule;
use crate::listener::turned_away::TurnedAway;
use crate::reason::Reason;
use crate::record::query::namespace_bit;
use key_fetches::KeyFetches;
use known::Known;
use lag::Lag;
use list::{Metric, MetricKind};
use render::Page;
use traffic::{Totals, Traffic};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
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
            handshakes: [Counter; Handshake::ALL.len()],
            pub(crate) lag: Lag,
            /// Connections that wait for a request.
            pub(crate) idle: Idle,
        }

        const WORKER_LIST: &[Metric] = &[$(
            Metric { name: $name, kind: MetricKind::Counter, labels: &[], help: $help },
        )*];

        fn render_workers(workers: &[Arc<WorkerMetrics>], page: &mut Page) {
            let mut metrics = WORKER_LIST.iter();
            $(if let Some(metric) = metrics.next() {
                page.single(metric, workers.iter().map(|worker| worker.$field.read()).sum());
            })*
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

/// How a TLS handshake with a client ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Handshake {
    /// Well.
    Done,
    /// The client, or what it sent, would not do.
    Failed,
    /// It took too long.
    Late,
}

impl Handshake {
    const ALL: [Self; 3] = [Self::Done, Self::Failed, Self::Late];

    fn name(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Failed => "failed",
            Self::Late => "timeout",
        }
    }
}

/// How many connections of one worker wait for a request.
#[derive(Debug, Default)]
pub(crate) struct Idle(AtomicU64);

impl Idle {
    /// One waits for as long as what is given lives.
    pub(crate) fn enter(&self) -> Waiting<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }
}

/// One connection that waits.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a Idle);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl WorkerMetrics {
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

    /// Counts a request that was not served, or not to its end; rules of input are counted when they are broken.
    pub(crate) fn failed(&self, reason: Reason) {
        if let Some(counter) = reason.number().and_then(|number| self.failures.get(number)) {
            counter.add(1);
        }
    }

    /// Counts a TLS handshake.
    pub(crate) fn handshake(&self, handshake: Handshake) {
        if let Some(counter) = self.handshakes.get(handshake as usize) {
            counter.add(1);
        }
    }
}

/// What is counted for one Listener.
#[derive(Debug)]
pub(crate) struct ListenerMetrics {
    pub(crate) id: ListenerId,
    pub(crate) traffic: Traffic,
}

/// What is known of the use of one Route. It outlives Tables, as long as the Route is served.
#[derive(Debug)]
pub(crate) struct RouteUse {
    pub(crate) id: RouteId,
    /// Of its tenant, for the summaries of recent requests.
    pub(crate) namespace_bit: u64,
    /// In seconds since the epoch; 0 for never.
    last_hit: AtomicU64,
    pub(crate) tenant: Arc<Traffic>,
    /// Present when Routes are counted one by one.
    pub(crate) own: Option<Arc<Traffic>>,
}

#[cfg(test)]
impl RouteUse {
    /// Of a Route that was never asked for.
    pub(crate) fn for_tests(id: &str) -> Self {
        let id: RouteId = id.parse().expect("an id of a test is one");
        let namespace_bit = namespace_bit(&id.object.namespace);
        Self { id, namespace_bit, last_hit: AtomicU64::new(0), tenant: Arc::default(), own: None }
    }
}

impl RouteUse {
    /// Notes that a request came at `now`. Writes at most once a second.
    pub(crate) fn hit(&self, now: SystemTime) {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        if self.last_hit.load(Ordering::Relaxed) != now {
            self.last_hit.store(now, Ordering::Relaxed);
        }
    }

    fn last_hit(&self) -> Option<SystemTime> {
        let seconds = self.last_hit.load(Ordering::Relaxed);
        (seconds > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }
}

/// What has numbers of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MetricsDetail {
    /// The most Backends, and the most tenants, and the most Routes if they are counted, that have
    /// numbers of their own; the rest is counted together as `other`. Default: 100.
    pub series_max: usize,
    /// Whether Routes are counted one by one. Default: no.
    pub routes: bool,
}

impl Default for MetricsDetail {
    fn default() -> Self {
        Self { series_max: 100, routes: false }
    }
}

/// All counters of a replica.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) workers: Vec<Arc<WorkerMetrics>>,
    pub(crate) key_fetches: KeyFetches,
    detail: MetricsDetail,
    listeners: Known<ListenerId, ListenerMetrics>,
    backends: Known<BackendId, Traffic>,
    tenants: Known<Arc<str>, Traffic>,
    routes: Known<RouteId, RouteUse>,
    counted_routes: Known<RouteId, Traffic>,
    other_backends: Arc<Traffic>,
    other_tenants: Arc<Traffic>,
    other_routes: Arc<Traffic>,
}

/// What is not counted but looked up when metrics are read.
#[derive(Clone, Debug)]
pub(crate) struct Gauges {
    pub(crate) connections: usize,
    pub(crate) table_age_seconds: u64,
    pub(crate) table_digest: String,
    pub(crate) access_records_dropped: u64,
    pub(crate) endpoints: Counts,
    /// Exported, and dropped.
    pub(crate) spans: (u64, u64),
}

/// Every metric of the data plane, in the order in which they are rendered.
pub fn metrics() -> impl Iterator<Item = &'static Metric> {
    list::LIST.iter().chain(WORKER_LIST)
}

impl Metrics {
    #[cfg(test)]
    pub(crate) fn new(workers: usize) -> Self {
        Self::with(workers, MetricsDetail::default())
    }

    pub(crate) fn with(workers: usize, detail: MetricsDetail) -> Self {
        let other = || Arc::new(Traffic::new(workers));
        Self {
            workers: (0..workers).map(|_| Arc::default()).collect(),
            key_fetches: KeyFetches::default(),
            detail,
            listeners: Known::new(usize::MAX),
            backends: Known::new(detail.series_max),
            tenants: Known::new(detail.series_max),
            routes: Known::new(usize::MAX),
            counted_routes: Known::new(detail.series_max),
            other_backends: other(),
            other_tenants: other(),
            other_routes: other(),
        }
    }

    fn traffic(&self) -> Traffic {
        Traffic::new(self.workers.len())
    }

    /// The counters of a Listener; made when it is seen first.
    pub(crate) fn of_listener(&self, id: &ListenerId) -> Arc<ListenerMetrics> {
        let make = || ListenerMetrics { id: id.clone(), traffic: self.traffic() };
        // There is no bound, for Listeners are few and are written by the operator.
        self.listeners.get_or(id, make).unwrap_or_else(|| Arc::new(make()))
    }

    /// The counters of a Backend, or those of all that are too many.
    pub(crate) fn of_backend(&self, id: &BackendId) -> Arc<Traffic> {
        let own = self.backends.get_or(id, || self.traffic());
        own.unwrap_or_else(|| self.other_backends.clone())
    }

    /// What is known of a Route.
    pub(crate) fn of_route(&self, id: &RouteId) -> Arc<RouteUse> {
        let make = || {
            let tenant = self.tenants.get_or(&id.object.namespace, || self.traffic());
            let own = self.detail.routes.then(|| {
                let own = self.counted_routes.get_or(id, || self.traffic());
                own.unwrap_or_else(|| self.other_routes.clone())
            });
            RouteUse {
                id: id.clone(),
                namespace_bit: namespace_bit(&id.object.namespace),
                last_hit: AtomicU64::new(0),
                tenant: tenant.unwrap_or_else(|| self.other_tenants.clone()),
                own,
            }
        };
        self.routes.get_or(id, make).unwrap_or_else(|| Arc::new(make()))
    }

    /// When a request last came to a Route; None for never, or when it is not served.
    pub(crate) fn last_hit(&self, id: &RouteId) -> Option<SystemTime> {
        self.routes.get(id)?.last_hit()
    }

    /// All metrics in the text format of Prometheus.
    pub(crate) fn render(&self, gauges: &Gauges) -> String {
        let mut page = Page::new();
        let Gauges {
            connections,
            table_age_seconds,
            table_digest,
            access_records_dropped,
            endpoints,
            spans,
        } = gauges;
        page.single(&list::CONNECTIONS_OPEN, *connections as u64);
        let idle = self.workers.iter().map(|worker| worker.idle.0.load(Ordering::Relaxed)).sum();
        page.single(&list::CONNECTIONS_IDLE, idle);
        page.family(&list::TABLE);
        page.line(&list::TABLE, "", &[("digest", table_digest)], 1);
        page.single(&list::TABLE_AGE, *table_age_seconds);
        self.render_lag(&mut page);
        page.single(&list::ACCESS_DROPPED, *access_records_dropped);
        page.single(&list::SPANS_EXPORTED, spans.0);
        page.single(&list::SPANS_DROPPED, spans.1);
        render_endpoints(endpoints, &mut page);
        self.key_fetches.render(&mut page);
        self.render_by_name(&mut page);
        self.render_listeners(&mut page);
        self.render_backends(&mut page);
        self.render_tenants(&mut page);
        if self.detail.routes {
            self.render_routes(&mut page);
        }
        render_workers(&self.workers, &mut page);
        page.finish()
    }

    fn render_lag(&self, page: &mut Page) {
        let mut counts = [0; lag::BOUNDS.len() + 1];
        let mut micros = 0;
        for worker in &self.workers {
            let (of_worker, sum) = worker.lag.read();
            micros += sum;
            counts.iter_mut().zip(of_worker).for_each(|(total, count)| *total += count);
        }
        page.family(&list::WORKER_LAG);
        let mut below = 0;
        for (bound, count) in
            lag::BOUNDS.map(|(_, bound)| bound).iter().chain(&["+Inf"]).zip(counts)
        {
            below += count;
            page.line(&list::WORKER_LAG, "_bucket", &[("le", bound)], below);
        }
        page.sum_and_count(&list::WORKER_LAG, &[], micros, below);
        page.family(&list::WORKER_LAG_LAST);
        for (number, worker) in self.workers.iter().enumerate() {
            let last = worker.lag.last_micros();
            let seconds = format!("{}.{:06}", last / 1_000_000, last % 1_000_000);
            page.line(&list::WORKER_LAG_LAST, "", &[("worker", &number.to_string())], seconds);
        }
    }

    /// Counters with one label from a closed set.
    fn render_by_name(&self, page: &mut Page) {
        let sum = |of: &dyn Fn(&WorkerMetrics) -> Option<u64>| -> u64 {
            self.workers.iter().filter_map(|worker| of(worker)).sum()
        };
        page.family(&list::HANDSHAKES);
        for end in Handshake::ALL {
            let count = sum(&|worker| worker.handshakes.get(end as usize).map(Counter::read));
            page.line(&list::HANDSHAKES, "", &[("outcome", end.name())], count);
        }
        page.family(&list::TURNED_AWAY);
        for &reason in TurnedAway::ALL {
            let count = sum(&|worker| worker.turned_away.get(reason as usize).map(Counter::read));
            page.line(&list::TURNED_AWAY, "", &[("rule", reason.name())], count);
        }
        page.family(&list::REFUSED);
        for &rule in Rule::ALL {
            let count = sum(&|worker| worker.refusals.0.get(rule as usize).map(Counter::read));
            page.line(&list::REFUSED, "", &[("rule", rule.name())], count);
        }
        page.family(&list::FAILED);
        for (number, reason) in Reason::ALL.iter().enumerate() {
            let count = sum(&|worker| worker.failures.get(number).map(Counter::read));
            page.line(&list::FAILED, "", &[("reason", reason.name())], count);
        }
    }

    fn render_listeners(&self, page: &mut Page) {
        let all = self.listeners.all().into_iter();
        let all: Vec<(String, Totals)> =
            all.map(|(id, of)| (id.to_string(), of.traffic.read())).collect();
        let each = |page: &mut Page, metric: &Metric, line: &dyn Fn(&mut Page, &str, &Totals)| {
            page.family(metric);
            all.iter().for_each(|(id, totals)| line(page, id, totals));
        };
        each(page, &list::REQUESTS, &|page, id, totals| {
            page.classes(&list::REQUESTS, ("listener", id), totals);
        });
        each(page, &list::DURATION, &|page, id, totals| {
            page.times(&list::DURATION, &[("listener", id)], &totals.duration);
        });
        each(page, &list::FIRST_BYTE, &|page, id, totals| {
            page.times(&list::FIRST_BYTE, &[("listener", id)], &totals.first_byte);
        });
        for (metric, value) in [
            (&list::IN_FLIGHT, (|totals| totals.in_flight) as fn(&Totals) -> u64),
            (&list::REQUEST_BYTES, |totals| totals.request_bytes),
            (&list::RESPONSE_BYTES, |totals| totals.response_bytes),
        ] {
            each(page, metric, &|page, id, totals| {
                page.line(metric, "", &[("listener", id)], value(totals));
            });
        }
    }

    fn render_backends(&self, page: &mut Page) {
        let all = self.backends.all().into_iter().map(|(id, traffic)| (id.to_string(), traffic));
        let all = seen(all, &self.other_backends);
        summaries(
            page,
            "backend",
            &all,
            [
                (&list::BACKEND_REQUESTS, Shown::Classes),
                (&list::BACKEND_DURATION, Shown::Times(|totals| totals.duration)),
                (&list::BACKEND_FIRST_BYTE, Shown::Times(|totals| totals.first_byte)),
                (
                    &list::BACKEND_CONNECT,
                    Shown::Sum(|totals| (totals.connect_micros, totals.connects)),
                ),
                (&list::BACKEND_IN_FLIGHT, Shown::Number(|totals| totals.in_flight)),
                (&list::BACKEND_TRIES, Shown::Number(|totals| totals.tries)),
                (&list::BACKEND_REQUEST_BYTES, Shown::Number(|totals| totals.request_bytes)),
                (&list::BACKEND_RESPONSE_BYTES, Shown::Number(|totals| totals.response_bytes)),
            ],
        );
    }

    fn render_tenants(&self, page: &mut Page) {
        let all = self.tenants.all().into_iter().map(|(id, traffic)| (id.to_string(), traffic));
        summaries(
            page,
            "namespace",
            &seen(all, &self.other_tenants),
            [
                (&list::TENANT_REQUESTS, Shown::Classes),
                (&list::TENANT_DURATION, Shown::Times(|totals| totals.duration)),
                (&list::TENANT_REQUEST_BYTES, Shown::Number(|totals| totals.request_bytes)),
                (&list::TENANT_RESPONSE_BYTES, Shown::Number(|totals| totals.response_bytes)),
            ],
        );
    }

    fn render_routes(&self, page: &mut Page) {
        let all = self.counted_routes.all().into_iter();
        let all = all.map(|(id, traffic)| (id.to_string(), traffic));
        summaries(
            page,
            "route",
            &seen(all, &self.other_routes),
            [
                (&list::ROUTE_REQUESTS, Shown::Classes),
                (&list::ROUTE_DURATION, Shown::Times(|totals| totals.duration)),
            ],
        );
    }
}

/// Those that had a request, and the rest of them as `other`.
fn seen(
    all: impl Iterator<Item = (String, Arc<Traffic>)>,
    other: &Arc<Traffic>,
) -> Vec<(String, Totals)> {
    let all = all.chain([("other".to_owned(), other.clone())]);
    let totals = all.map(|(id, traffic)| (id, traffic.read()));
    totals
        .filter(|(_, totals)| totals.in_flight > 0 || totals.classes.iter().any(|&count| count > 0))
        .collect()
}

/// What of the totals a metric shows.
enum Shown {
    Classes,
    Times(fn(&Totals) -> traffic::TotalTimes),
    /// Sum in microseconds, and count.
    Sum(fn(&Totals) -> (u64, u64)),
    Number(fn(&Totals) -> u64),
}

fn summaries<const N: usize>(
    page: &mut Page,
    label: &str,
    all: &[(String, Totals)],
    shown: [(&Metric, Shown); N],
) {
    for (metric, shown) in shown {
        page.family(metric);
        for (id, totals) in all {
            let label = (label, id.as_str());
            match shown {
                Shown::Classes => page.classes(metric, label, totals),
                Shown::Times(times) => page.times(metric, &[label], &times(totals)),
                Shown::Sum(sum) => {
                    let (micros, count) = sum(totals);
                    page.sum_and_count(metric, &[label], micros, count);
                }
                Shown::Number(number) => page.line(metric, "", &[label], number(totals)),
            }
        }
    }
}

fn render_endpoints(counts: &Counts, page: &mut Page) {
    let Counts { unknown, well, unwell, ejected, ejections } = counts;
    page.family(&list::ENDPOINTS);
    for (health, count) in
        [(Health::Unknown, unknown), (Health::Well, well), (Health::Unwell, unwell)]
    {
        page.line(&list::ENDPOINTS, "", &[("health", health.name())], count);
    }
    page.single(&list::ENDPOINTS_EJECTED, *ejected);
    page.single(&list::EJECTIONS, *ejections);
}

#[cfg(test)]
mod tests;
