//! What is seen of requests: the one place that the engine calls, and who reads from it.
//!
//! Counting is always on and costs some additions. Records are built only if somebody wants them:
//! the access log, the recent requests, the keys for planning, or a collector of spans.

mod background;
pub(crate) mod facts;
mod seen;

use std::hash::RandomState;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use kubeng_config::observed::RecordQuery;

use crate::access_log::{AccessLog, AccessLogSettings};
use crate::debug::{self, DebugAccess};
use crate::listener::facts::ConnFacts;
use crate::listener::refusal::Rule;
use crate::metrics::traffic::Outcome;
use crate::metrics::{MetricsDetail, WorkerMetrics};
use crate::over::Over;
use crate::pipeline::Begin;
use crate::reason::Reason;
use crate::record::ring::{Pushed, Ring};
use crate::record::{Queries, Quoted, Record, Texts, is_failure};
use crate::request::{Fields, Incoming, RequestContext};
use crate::sketch::{Key, Reading, Sketch, selected};
use crate::table::Table;
use crate::trace::export::{Collector, SpanQueue, Spans};
use crate::trace::{Caller, Ratio, Trace};
pub(crate) use background::Background;
pub(crate) use seen::Seen;

/// What is told about requests, and to whom.
pub struct ObserveSettings {
    /// Where and how requests are logged; None logs none.
    pub access_log: Option<AccessLogSettings>,
    /// Whether records keep query strings. Default: no.
    pub queries: Queries,
    /// Memory for recent requests in bytes, over all workers; 0 keeps none. Default: 8 MiB.
    pub recent_bytes_max: usize,
    /// Keys that are counted for planning; 0 counts none. Default: 20,000.
    pub request_keys_max: usize,
    /// What has numbers of its own.
    pub metrics: MetricsDetail,
    /// Where spans are sent; None sends none and takes no part in traces.
    pub tracing: Option<TraceSettings>,
    /// Who may see how a request was served; None is nobody.
    pub debug: Option<DebugAccess>,
}

/// How spans are exported.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    /// Where to.
    pub to: Collector,
    /// The part of traces that is exported, 0 to 1, unless a trusted proxy has decided.
    pub sample: f64,
}

impl Default for ObserveSettings {
    fn default() -> Self {
        Self {
            access_log: None,
            queries: Queries::Drop,
            recent_bytes_max: 8 << 20,
            request_keys_max: 20_000,
            metrics: MetricsDetail::default(),
            tracing: None,
            debug: None,
        }
    }
}

/// Everything that reads requests.
pub(crate) struct Observe {
    access_log: Option<AccessLog>,
    queries: Queries,
    /// One for each worker; none when nobody reads them.
    rings: Box<[Ring]>,
    keys: Option<Keys>,
    tracing: Option<Tracing>,
    pub(crate) spans: Arc<Spans>,
    debug: Option<DebugAccess>,
}

/// The keys for planning.
struct Keys {
    sketch: Mutex<Sketch>,
    /// What values of headers are hashed with; nobody else knows it.
    hasher: RandomState,
    /// Who reads what the rings have closed.
    reader: OnceLock<Thread>,
}

struct Tracing {
    ratio: Ratio,
    queue: SpanQueue,
}

impl Observe {
    /// Opens what is to be written to, and gives what runs beside the workers.
    ///
    /// # Errors
    /// When the access log cannot be opened.
    pub(crate) fn start(
        settings: ObserveSettings,
        workers: usize,
    ) -> std::io::Result<(Self, Background)> {
        let ObserveSettings {
            access_log,
            queries,
            recent_bytes_max,
            request_keys_max,
            metrics: _,
            tracing,
            debug,
        } = settings;
        let spans = Arc::new(Spans::default());
        let (tracing, exporter) = tracing
            .map(|TraceSettings { to, sample }| {
                let (queue, exporter) = SpanQueue::new(to, spans.clone());
                (Tracing { ratio: Ratio::new(sample), queue }, exporter)
            })
            .unzip();
        let rings = if recent_bytes_max > 0 || request_keys_max > 0 { workers } else { 0 };
        let ring = |_| Ring::new(recent_bytes_max / workers, RECENT_KEEP);
        let keys = (request_keys_max > 0).then(|| Keys {
            sketch: Mutex::new(Sketch::new(request_keys_max)),
            hasher: RandomState::new(),
            reader: OnceLock::new(),
        });
        let this = Self {
            access_log: access_log.map(AccessLog::start).transpose()?,
            queries,
            rings: (0..rings).map(ring).collect(),
            keys,
            tracing,
            spans,
            debug,
        };
        Ok((this, Background::new(exporter)))
    }

    /// Notes how a request begins, once, whichever engines carry it.
    pub(crate) fn begun(
        &self,
        table: &Table,
        incoming: &Incoming<'_>,
        facts: &ConnFacts,
        worker: usize,
        begin: &Begin,
        ctx: &mut RequestContext,
    ) {
        if let (Some(route), Some((_, now))) = (&ctx.route, ctx.started) {
            route.usage.hit(now);
        }
        ctx.seen.enter(worker, ctx.listener.as_ref());
        decided(begin, ctx);
        if let Some(tracing) = &self.tracing {
            let is_trusted = facts.trusted_proxies.is_some();
            let caller = if is_trusted { Caller::Trusted } else { Caller::Stranger };
            ctx.seen.trace = Some(Trace::of(incoming.headers, caller, tracing.ratio));
        }
        if let Some(keys) = &self.keys {
            let host = ctx.host.as_ref().map(|host| host.as_str());
            let query = incoming.uri.query();
            ctx.seen.selected = table.names.select(host, incoming.headers, query, &keys.hasher);
        }
        if let Some(debug) = &self.debug {
            ctx.seen.is_debug = debug.allows(incoming.headers, facts);
        }
    }

    /// What a Backend is told beside the request, and what it must not see.
    pub(crate) fn forward(&self, ctx: &RequestContext, to: &mut impl Fields) {
        debug::strip(to);
        if let Some(trace) = ctx.seen.trace {
            trace.forward(to);
        }
    }

    /// Shows how the request was served, if whoever asked for it may see it.
    pub(crate) fn show(&self, ctx: &RequestContext, to: &mut impl Fields) {
        if ctx.seen.is_debug {
            let elapsed = ctx.started.map_or(Duration::ZERO, |(started, _)| started.elapsed());
            debug::show(ctx, elapsed, to);
        }
    }

    /// What of `headers` is recorded; nothing when nobody wants records.
    pub(crate) fn quote(&self, headers: &HeaderMap) -> Quoted {
        let is_wanted =
            self.access_log.is_some() || self.tracing.is_some() || !self.rings.is_empty();
        if is_wanted { Quoted::of(headers) } else { Quoted::default() }
    }

    /// Counts a request that is over, and records it if somebody wants that.
    pub(crate) fn ended(
        &self,
        worker: usize,
        metrics: &WorkerMetrics,
        ctx: &mut RequestContext,
        over: Over<'_>,
    ) {
        let Over { method, uri, version, mut quoted, body_bytes } = over;
        let (Some(facts), Some((started, began))) = (&ctx.facts, ctx.started) else { return };
        let took = started.elapsed();
        let outcome = Outcome {
            status: ctx.answered,
            took,
            first_byte: ctx.seen.try_first_byte,
            connect: ctx.seen.connect,
            body_bytes,
            tries: ctx.tries.count,
        };
        count(worker, metrics, ctx, &outcome);
        let Some(wanted) = self.wanted(ctx.answered, ctx.reason, ctx.seen.trace) else {
            return;
        };
        let given = ctx.extra.as_ref().and_then(|extra| extra.request_id.as_ref());
        if let Some(given) = given {
            quoted.request_id = Some(given.value.clone());
        }
        let record = Record {
            began,
            took,
            first_byte: ctx.seen.first_byte.map(|at| at - started),
            connect: ctx.seen.connect,
            client: facts.client,
            version,
            scheme: ctx.scheme.unwrap_or_else(|| facts.scheme()),
            tls: facts.tls.as_ref().map(|tls| tls.session.clone()),
            method: Some(method.clone()),
            host: ctx.host.clone(),
            status: ctx.answered,
            reason: ctx.reason,
            body_bytes,
            listener: ctx.listener.as_ref().map(|listener| listener.id.clone()),
            route_use: ctx.route.as_ref().map(|route| route.usage.clone()),
            backend: ctx.backend.as_ref().map(|backend| backend.id.clone()),
            endpoint: ctx.tries.current.as_ref().map(|current| current.0.address),
            tries: ctx.tries.count,
            trace: ctx.seen.trace,
            texts: Texts::of(uri.path(), uri.query(), &quoted, self.queries),
            selected: std::mem::take(&mut ctx.seen.selected),
        };
        self.hand_out(worker, Arc::new(record), wanted);
    }

    /// Records a head that could not be read.
    pub(crate) fn refused(&self, worker: usize, facts: &ConnFacts, rule: Rule) {
        let (status, reason) = (Some(rule.status()), Some(Reason::Input(rule)));
        let Some(wanted) = self.wanted(status, reason, None) else { return };
        let record = Record {
            began: SystemTime::now(),
            took: Duration::ZERO,
            first_byte: None,
            connect: None,
            client: facts.client,
            version: http::Version::HTTP_11,
            scheme: facts.scheme(),
            tls: facts.tls.as_ref().map(|tls| tls.session.clone()),
            method: None,
            host: None,
            status,
            reason,
            body_bytes: (0, 0),
            listener: None,
            route_use: None,
            backend: None,
            endpoint: None,
            tries: 0,
            trace: None,
            texts: Texts::default(),
            selected: Box::default(),
        };
        self.hand_out(worker, Arc::new(record), wanted);
    }

    /// Who wants a record of a request that ended like this; None when nobody does.
    fn wanted(
        &self,
        status: Option<StatusCode>,
        reason: Option<Reason>,
        trace: Option<Trace>,
    ) -> Option<Wanted<'_>> {
        let log = self.access_log.as_ref().filter(|log| log.wants(is_failure(status, reason)));
        let is_sampled = trace.is_some_and(|trace| trace.is_sampled);
        let spans = self.tracing.as_ref().map(|tracing| &tracing.queue).filter(|_| is_sampled);
        let is_wanted = log.is_some() || spans.is_some() || !self.rings.is_empty();
        is_wanted.then_some(Wanted { log, spans })
    }

    fn hand_out(&self, worker: usize, record: Arc<Record>, wanted: Wanted<'_>) {
        let Wanted { log, spans } = wanted;
        if let Some(spans) = spans {
            spans.push(record.clone());
        }
        if let Some(log) = log {
            log.push(record.clone());
        }
        let Some(ring) = self.rings.get(worker) else { return };
        match (ring.push(record), &self.keys) {
            (Pushed::Closed, Some(keys)) => {
                if let Some(reader) = keys.reader.get() {
                    reader.unpark();
                }
            }
            (Pushed::Closed, None) | (Pushed::Open, _) => {}
        }
    }

    /// The recent requests that `query` wants, the newest first.
    pub(crate) fn recent(&self, query: &RecordQuery) -> Vec<Arc<Record>> {
        let now = SystemTime::now();
        let mut found: Vec<_> = self.rings.iter().flat_map(|ring| ring.find(query, now)).collect();
        found.sort_by_key(|record| std::cmp::Reverse(record.ended()));
        found.truncate(query.limit);
        found
    }

    /// Reads what the rings have closed into the sketch.
    fn read_closed(&self, keys: &Keys) {
        let mut sketch = keys.sketch.lock().unwrap_or_else(PoisonError::into_inner);
        for ring in &self.rings {
            let (runs, missed) = ring.take_closed();
            sketch.missed += missed;
            runs.iter().flat_map(|run| run.records.iter()).for_each(|record| sketch.add(record));
        }
    }

    /// The keys of the last minutes, up to this moment; None when none are counted.
    pub(crate) fn keys(
        &self,
        limit: usize,
        wanted: impl Fn(&Key) -> bool,
    ) -> Option<(Reading, u64, u64)> {
        let keys = self.keys.as_ref()?;
        let now = SystemTime::now();
        self.rings.iter().for_each(|ring| ring.close_open(now));
        self.read_closed(keys);
        let mut sketch = keys.sketch.lock().unwrap_or_else(PoisonError::into_inner);
        Some((sketch.read(now, limit, wanted), sketch.unkeyed, sketch.missed))
    }

    /// What stands for `value` in keys; None when none are counted.
    pub(crate) fn value_hash(&self, value: &str) -> Option<u64> {
        self.keys.as_ref().map(|keys| selected::hash(&keys.hasher, value.as_bytes()))
    }

    /// Lines of the access log that nobody can read.
    pub(crate) fn log_lines_dropped(&self) -> u64 {
        self.access_log.as_ref().map_or(0, AccessLog::dropped)
    }

    /// Has the file of the access log opened again.
    pub(crate) fn reopen_log(&self) {
        if let Some(log) = &self.access_log {
            log.reopen();
        }
    }

    /// Writes the last lines. No worker may run any more. Blocks, at most for `within`.
    pub(crate) fn finish_log(&self, within: Duration) {
        if let Some(log) = &self.access_log {
            log.finish(within);
        }
    }
}

/// Notes how a request goes on, once nothing has to be asked any more.
pub(crate) fn decided(begin: &Begin, ctx: &mut RequestContext) {
    match begin {
        Begin::Ask(..) => return,
        Begin::Forward => {}
        Begin::Reply(reply) => {
            // Whoever decided on the answer may have said why.
            let reason = || Reason::of_answer(reply.status, ctx.route.is_some());
            ctx.reason = ctx.reason.or_else(reason);
        }
        Begin::Refuse(rule) => ctx.reason = Some(Reason::Input(*rule)),
    }
    if let Some(backend) = &ctx.backend {
        ctx.seen.enter_backend(backend);
    }
}

/// Who wants a record, beside the ring.
struct Wanted<'a> {
    log: Option<&'a AccessLog>,
    spans: Option<&'a SpanQueue>,
}

fn count(worker: usize, metrics: &WorkerMetrics, ctx: &RequestContext, outcome: &Outcome) {
    if let Some(reason) = ctx.reason {
        metrics.failed(reason);
    }
    if let Some(listener) = &ctx.listener {
        listener.traffic.count(worker, outcome);
    }
    if let Some(route) = &ctx.route {
        route.usage.tenant.count(worker, outcome);
        if let Some(own) = &route.usage.own {
            own.count(worker, outcome);
        }
    }
    if let Some(backend) = &ctx.backend {
        backend.traffic.count(worker, outcome);
    }
}

/// How long a request is told as recent, at most.
const RECENT_KEEP: Duration = Duration::from_secs(15 * 60);
