//! How late the loop of a worker is: what holds one request up holds up all of its worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::WorkerMetrics;

/// How late timers of one worker were.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
    last_micros: AtomicU64,
}

impl Lag {
    fn observe(&self, late: Duration) {
        let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS.partition_point(|(bound, _)| *bound < micros);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.last_micros.store(micros, Ordering::Relaxed);
    }

    /// Counts by bound, and the sum in microseconds.
    pub(super) fn read(&self) -> ([u64; BOUNDS.len() + 1], u64) {
        let counts = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        (counts, self.micros.load(Ordering::Relaxed))
    }

    pub(super) fn last_micros(&self) -> u64 {
        self.last_micros.load(Ordering::Relaxed)
    }
}

/// Measures for as long as it is polled.
pub(crate) async fn measure(metrics: Arc<WorkerMetrics>) -> std::convert::Infallible {
    loop {
        let due = Instant::now() + EVERY;
        sleep_until(due).await;
        metrics.lag.observe(due.elapsed());
    }
}

/// Twice a second: a worker without work is hardly woken.
const EVERY: Duration = Duration::from_millis(500);
/// In microseconds, and as a label in seconds. Timers themselves count in milliseconds.
pub(super) const BOUNDS: [(u64, &str); 5] =
    [(2_000, "0.002"), (10_000, "0.01"), (50_000, "0.05"), (250_000, "0.25"), (1_000_000, "1")];
