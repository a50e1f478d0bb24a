//! Metrics in the text format of Prometheus.

use std::fmt::Write as _;

use super::list::{Metric, MetricKind};
use super::traffic::{BOUNDS, TotalTimes, Totals};

/// The text while it is written.
#[derive(Debug)]
pub(super) struct Page(String);

impl Page {
    pub(super) fn new() -> Self {
        Self(String::with_capacity(32 * 1024))
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    /// Begins a metric: what stands behind it belongs to it.
    pub(super) fn family(&mut self, metric: &Metric) {
        let Metric { name, kind, help, labels: _ } = metric;
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}.\n# TYPE {name} {}", kind.as_str());
    }

    /// A metric with one number and no labels.
    pub(super) fn single(&mut self, metric: &Metric, value: u64) {
        self.family(metric);
        self.line(metric, "", &[], value);
    }

    /// One number; `suffix` belongs to the name.
    pub(super) fn line(
        &mut self,
        metric: &Metric,
        suffix: &str,
        labels: &[(&str, &str)],
        value: impl std::fmt::Display,
    ) {
        self.0.push_str(metric.name);
        self.0.push_str(suffix);
        for (number, (name, value)) in labels.iter().enumerate() {
            self.0.push(if number == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{name}=\"");
            escape(&mut self.0, value);
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// The times of `label`, as the kind of the metric has it.
    pub(super) fn times(&mut self, metric: &Metric, labels: &[(&str, &str)], times: &TotalTimes) {
        match metric.kind {
            MetricKind::Histogram => {
                let mut below = 0;
                for ((_, bound), count) in BOUNDS.iter().zip(&times.buckets) {
                    below += count;
                    let labels: Vec<_> = labels.iter().copied().chain([("le", *bound)]).collect();
                    self.line(metric, "_bucket", &labels, below);
                }
                let labels: Vec<_> = labels.iter().copied().chain([("le", "+Inf")]).collect();
                self.line(metric, "_bucket", &labels, times.count());
            }
            MetricKind::Summary | MetricKind::Counter | MetricKind::Gauge => {}
        }
        self.sum_and_count(metric, labels, times.micros, times.count());
    }

    pub(super) fn sum_and_count(
        &mut self,
        metric: &Metric,
        labels: &[(&str, &str)],
        micros: u64,
        count: u64,
    ) {
        let seconds = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        self.line(metric, "_sum", labels, seconds);
        self.line(metric, "_count", labels, count);
    }

    /// Requests by class of status: 1xx to 5xx, and `none` for those without an answer.
    pub(super) fn classes(&mut self, metric: &Metric, label: (&str, &str), totals: &Totals) {
        let names = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
        for (name, &count) in names.iter().zip(&totals.classes) {
            // What has never been is left out: most backends answer with one or two classes.
            if count > 0 {
                self.line(metric, "", &[label, ("status", name)], count);
            }
        }
    }
}

/// Writes the value of a label as the text format has it.
fn escape(out: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}
