//! How soon an Endpoint is expected to answer: a moving average that follows a peak at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::member::Member;

/// What is known of the latency of an Endpoint.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// The average in microseconds; 0 until the first answer.
    average: AtomicU64,
    /// When it was measured, in microseconds since the start.
    at: AtomicU64,
}

impl Latency {
    /// Takes one measurement in.
    pub(crate) fn observe(&self, latency: Duration, since_start: Duration) {
        let (latency, now) = (micros(latency).max(1), micros(since_start));
        let before = self.at.swap(now, Ordering::Relaxed);
        // Two workers that meet here lose one measurement of many.
        let average = self.average.load(Ordering::Relaxed);
        let next = if latency >= average {
            latency
        } else {
            let kept = weight(now.saturating_sub(before));
            blend(average, kept) + blend(latency, 1.0 - kept)
        };
        self.average.store(next.max(1), Ordering::Relaxed);
    }

    /// What it is expected to be: an old measurement counts less and less.
    fn expected(&self, since_start: Duration) -> u64 {
        let average = self.average.load(Ordering::Relaxed);
        let age = micros(since_start).saturating_sub(self.at.load(Ordering::Relaxed));
        blend(average, weight(age))
    }
}

/// What one more request to `member` is expected to cost; the smaller the better.
pub(crate) fn cost(member: &Member, since_start: Duration) -> u64 {
    let load = u64::from(member.load());
    match member.latency.average.load(Ordering::Relaxed) {
        // One that never answered gets one request, and no flood before it did.
        0 => load.saturating_mul(micros(UNKNOWN)),
        _ => member.latency.expected(since_start).max(1).saturating_mul(load + 1),
    }
}

/// How much a measurement of this age counts, between 0 and 1.
fn weight(age: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a time of hours loses nothing")]
    let age = age as f64;
    (-age / DECAY.as_secs_f64() / 1e6).exp()
}

fn blend(micros: u64, weight: f64) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a latency of hours loses nothing, and neither factor is negative"
    )]
    let blended = (micros as f64 * weight) as u64;
    blended
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// After this time a measurement counts for about a third.
const DECAY: Duration = Duration::from_secs(10);
/// What an Endpoint is charged for each request before its first answer.
const UNKNOWN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_counts_at_once_and_wears_off() {
        let latency = Latency::default();
        let millis = Duration::from_millis;
        let at = |seconds| Duration::from_secs(seconds);
        latency.observe(millis(10), at(1));
        assert_eq!(latency.expected(at(1)), 10_000);
        latency.observe(millis(500), at(1));
        assert_eq!(latency.expected(at(1)), 500_000);
        latency.observe(millis(10), at(11));
        let after = latency.expected(at(11));
        assert!((150_000..250_000).contains(&after), "a third of the peak is left: {after}");
        assert!(latency.expected(at(71)) < after / 100, "an old one counts for nothing");
    }
}
