//! One Endpoint while it stays in its set: its load, how it does, how soon it answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use kubeng_config::backend::resilience::Ejection;

use super::balance::peak_ewma::Latency;

/// One address, for as long as it stays in the set.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) address: SocketAddr,
    /// Tells connections to an address that left and came back from those to what is there now.
    pub(crate) generation: u64,
    /// What it was found to be when it was asked.
    pub(crate) probed: super::probe::Verdict,
    pub(crate) latency: Latency,
    in_flight: AtomicU32,
    /// Of these, those that wait for a connection.
    waiting: AtomicU32,
    /// Failures in a row.
    failures: AtomicU32,
    /// Connects that failed in a row.
    connect_failures: AtomicU32,
    /// How often it was ejected, less what it has made good since.
    ejections: AtomicU32,
    /// Until when it comes last, in milliseconds since the start; 0 for never.
    avoided_until: AtomicU64,
    /// Until when it gets no request while others can, in milliseconds since the start; 0 for never.
    ejected_until: AtomicU64,
    /// When it was looked at first, in milliseconds since the start; 0: it was always there.
    born: AtomicU64,
}

/// Whether an Endpoint joins others, and begins with a small share where the Backend says so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Joins {
    /// It is of the first set: nobody else could take its share.
    First,
    /// Others were there before.
    Others,
}

impl Member {
    pub(crate) fn new(address: SocketAddr, generation: u64, joins: Joins) -> Self {
        let born = match joins {
            Joins::First => 0,
            Joins::Others => NOT_SEEN,
        };
        Self {
            address,
            generation,
            probed: super::probe::Verdict::default(),
            latency: Latency::default(),
            in_flight: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            connect_failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            avoided_until: AtomicU64::new(0),
            ejected_until: AtomicU64::new(0),
            born: AtomicU64::new(born),
        }
    }

    /// Notes that no connection could be opened: it comes last for a moment.
    pub(crate) fn avoid(&self, since_start: Duration) {
        let failures = self.connect_failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let pause = AVOIDANCE * failures.min(AVOIDANCE_STEPS_MAX);
        self.avoided_until.store(millis(since_start + pause), Ordering::Relaxed);
    }

    /// Counts a failure; gives whether it is one too many.
    pub(crate) fn fails(&self, rule: &Ejection) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        rule.failures != 0 && failures >= rule.failures
    }

    /// Takes it out of rotation, the longer the more often it happens.
    pub(crate) fn eject(&self, rule: &Ejection, since_start: Duration) {
        let times = self.ejections.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let pause = rule.base.saturating_mul(times).min(rule.max);
        self.ejected_until.store(millis(since_start + pause), Ordering::Relaxed);
    }

    /// Notes that it takes connections.
    pub(crate) fn connected(&self) {
        if self.connect_failures.load(Ordering::Relaxed) != 0 {
            self.connect_failures.store(0, Ordering::Relaxed);
            self.avoided_until.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that it answers well: an ejection ends at once, and each such answer makes one good.
    pub(crate) fn answered(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejected_until.store(0, Ordering::Relaxed);
        }
        if self.ejections.load(Ordering::Relaxed) != 0 {
            let less = |times: u32| times.checked_sub(1);
            // An error says that another one has made the last one good.
            let _ = self.ejections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    pub(crate) fn is_ejected(&self, since_start: Duration) -> bool {
        is_before(&self.ejected_until, since_start)
    }

    pub(crate) fn is_avoided(&self, since_start: Duration) -> bool {
        is_before(&self.avoided_until, since_start)
    }

    /// Requests in flight to it.
    pub(crate) fn load(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Those of them that wait for a connection.
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Its share of what it gets in the end, in parts of [`FULL_SHARE`]: it grows evenly over `window`.
    pub(crate) fn share(&self, window: Duration, since_start: Duration) -> u64 {
        let now = millis(since_start).max(1);
        let born = match self.born.load(Ordering::Relaxed) {
            0 => return FULL_SHARE,
            NOT_SEEN => {
                let first =
                    self.born.compare_exchange(NOT_SEEN, now, Ordering::Relaxed, Ordering::Relaxed);
                first.map_or_else(|other| other, |_| now)
            }
            born => born,
        };
        let (age, window) = (now.saturating_sub(born), millis(window).max(1));
        if age >= window {
            self.born.store(0, Ordering::Relaxed);
            return FULL_SHARE;
        }
        (age * FULL_SHARE / window).max(LEAST_SHARE)
    }
}

/// Counts one request in flight for as long as it lives.
#[derive(Debug)]
pub(crate) struct InFlight(pub(crate) Arc<Member>, AtomicBool);

impl InFlight {
    pub(crate) fn begin(member: &Arc<Member>) -> Self {
        member.in_flight.fetch_add(1, Ordering::Relaxed);
        member.waiting.fetch_add(1, Ordering::Relaxed);
        Self(member.clone(), AtomicBool::new(true))
    }

    /// It waits for a connection no longer.
    pub(crate) fn connected(&self) {
        if self.1.swap(false, Ordering::Relaxed) {
            self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.connected();
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn is_before(until: &AtomicU64, since_start: Duration) -> bool {
    let until = until.load(Ordering::Relaxed);
    until != 0 && until > millis(since_start)
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A whole share.
pub(crate) const FULL_SHARE: u64 = 1024;
/// A tenth: with less, what is wrong with a new Endpoint would not be seen.
const LEAST_SHARE: u64 = FULL_SHARE / 10;
const NOT_SEEN: u64 = u64::MAX;
/// How long an Endpoint comes last after one failed connect; it grows with each in a row.
const AVOIDANCE: Duration = Duration::from_secs(1);
const AVOIDANCE_STEPS_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn member(joins: Joins) -> Arc<Member> {
        Arc::new(Member::new(SocketAddr::from(([127, 0, 0, 1], 1)), 1, joins))
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn ejections_grow_to_their_bound_and_are_made_good_one_by_one() {
        let (member, rule) = (member(Joins::First), Ejection::default());
        assert!((0..4).all(|_| !member.fails(&rule)));
        assert!(member.fails(&rule), "the fifth in a row");
        for times in 1..=40_u64 {
            member.eject(&rule, Duration::ZERO);
            let pause = seconds((10 * times).min(300));
            assert!(member.is_ejected(pause - Duration::from_millis(1)), "{times}");
            assert!(!member.is_ejected(pause), "{times}");
        }
        // Behind the pause the next failure is enough, and the next good answer as well.
        assert!(member.fails(&rule));
        member.answered();
        assert!(!member.is_ejected(Duration::ZERO));
        assert!(!member.fails(&rule));
        for _ in 0..40 {
            member.answered();
        }
        member.eject(&rule, Duration::ZERO);
        assert!(!member.is_ejected(seconds(10)), "all is made good");
    }

    #[test]
    fn zero_failures_never_eject() {
        let (member, rule) =
            (member(Joins::First), Ejection { failures: 0, ..Ejection::default() });
        assert!((0..100).all(|_| !member.fails(&rule)));
    }

    #[test]
    fn a_share_grows_evenly_from_the_first_look() {
        let window = seconds(10);
        assert_eq!(member(Joins::First).share(window, seconds(1)), FULL_SHARE);
        let member = member(Joins::Others);
        assert_eq!(member.share(window, seconds(100)), LEAST_SHARE);
        assert_eq!(member.share(window, seconds(105)), FULL_SHARE / 2);
        assert_eq!(member.share(window, seconds(110)), FULL_SHARE);
        assert_eq!(member.share(window, seconds(101)), FULL_SHARE, "it stays");
    }

    #[test]
    fn a_request_is_counted_as_waiting_until_it_is_connected() {
        let member = member(Joins::First);
        let one = InFlight::begin(&member);
        let other = InFlight::begin(&member);
        assert_eq!((member.load(), member.waiting()), (2, 2));
        one.connected();
        one.connected();
        assert_eq!((member.load(), member.waiting()), (2, 1));
        drop((one, other));
        assert_eq!((member.load(), member.waiting()), (0, 0));
    }
}
