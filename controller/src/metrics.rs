//! Every metric of the controller, in one list.

pub(crate) mod text;

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of the buckets of times, in seconds: from 50 µs to 2.5 s.
pub(crate) const SECONDS: [f64; 15] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1,
    0.25, 1.0, 2.5,
];

/// What the controller counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    propagation: Histogram,
    endpoint_propagation: Histogram,
    /// Configurations that a replica serves.
    pub applied: Counter,
    /// Configurations that a replica rejected.
    pub rejected: Counter,
    /// Problems that are known.
    pub problems: Gauge,
    /// Statuses of Ingresses written.
    pub statuses_written: Counter,
    /// Writes of statuses that failed; they are tried again.
    pub statuses_failed: Counter,
    /// Events written.
    pub events_written: Counter,
    /// Events given up: too many at once, or refused by the API server.
    pub events_dropped: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let propagation = Histogram::new(SECONDS);
        registry.register(
            "kubeng_propagation_seconds",
            "From the moment an event had been read until its configuration was served",
            propagation.clone(),
        );
        let endpoint_propagation = Histogram::new(SECONDS);
        registry.register(
            "kubeng_endpoint_propagation_seconds",
            "From the moment an event had been read until its endpoints were served",
            endpoint_propagation.clone(),
        );
        let (applied, rejected) = (Counter::default(), Counter::default());
        registry.register(
            "kubeng_configurations_applied",
            "Configurations served",
            applied.clone(),
        );
        registry.register(
            "kubeng_configurations_rejected",
            "Configurations that a replica rejected",
            rejected.clone(),
        );
        let problems = Gauge::default();
        registry.register("kubeng_problems", "Problems that are known", problems.clone());
        let mut count = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let statuses_written = count("kubeng_statuses_written", "Statuses of Ingresses written");
        let statuses_failed =
            count("kubeng_statuses_failed", "Writes of statuses that failed and are tried again");
        let events_written = count("kubeng_events_written", "Events written");
        let events_dropped = count("kubeng_events_dropped", "Events given up");
        Self {
            registry,
            propagation,
            endpoint_propagation,
            applied,
            rejected,
            problems,
            statuses_written,
            statuses_failed,
            events_written,
            events_dropped,
        }
    }
}

impl Metrics {
    /// A configuration is served, `after` its oldest event had been read.
    pub fn propagated(&self, after: Duration) {
        self.propagation.observe(after.as_secs_f64());
    }

    /// Endpoints are served, `after` their oldest event had been read.
    pub fn endpoints_propagated(&self, after: Duration) {
        self.endpoint_propagation.observe(after.as_secs_f64());
    }

    /// All of them in the text format of Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        text::render(&self.registry)
    }
}
