//! Pacing of what leaves the path of a change: writes to an API server.

use std::time::{Duration, Instant};

/// Lets through so many per second, and some at once after a quiet time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    interval: Duration,
    /// How far ahead of the even pace it may be.
    ahead: Duration,
    /// When the next one would come at an even pace.
    even: Option<Instant>,
}

impl Bucket {
    /// At most `per_second`, and after a quiet time `at_once`.
    pub(crate) fn new(per_second: u32, at_once: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second;
        Self { interval, ahead: interval * at_once.saturating_sub(1), even: None }
    }

    /// How long the next one waits; zero: it may go.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        let even = self.even.map(|even| even.saturating_duration_since(now)).unwrap_or_default();
        even.saturating_sub(self.ahead)
    }

    /// One has gone.
    pub(crate) fn took(&mut self, now: Instant) {
        self.even = Some(self.even.map_or(now, |even| even.max(now)) + self.interval);
    }
}

/// Pauses after failures: each twice as long as the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// How long to wait; zero: try.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.until.map(|until| until.saturating_duration_since(now)).unwrap_or_default()
    }

    /// It failed.
    pub(crate) fn failed(&mut self, now: Instant) {
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.failures.min(10));
        self.until = Some(now + pause.min(PAUSE_MAX));
        self.failures = self.failures.saturating_add(1);
    }

    /// It went well.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_go_at_once_and_the_rest_at_an_even_pace() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 3);
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..5 {
            let wait = bucket.wait(now);
            waits.push(wait.as_millis());
            now += wait;
            bucket.took(now);
        }
        assert_eq!(waits, [0, 0, 0, 100, 100]);
        // A quiet second gives the first three again, and not more.
        now += Duration::from_secs(1);
        for expected in [0, 0, 0, 100] {
            assert_eq!(bucket.wait(now).as_millis(), expected);
            bucket.took(now);
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_end_with_the_first_success() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.wait(now), Duration::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            backoff.failed(now);
            pauses.push(backoff.wait(now).as_millis());
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        backoff.succeeded();
        assert_eq!(backoff.wait(now), Duration::ZERO);
    }
}
