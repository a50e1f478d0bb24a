//! Which backends may answer what is asked, over time.

use std::time::{Duration, Instant};

/// A set of backends, by number.
pub(super) type Backends = u32;

/// The legal answers to one request, from change to change.
#[derive(Debug)]
pub(super) struct Ledger {
    epochs: Vec<Epoch>,
    /// The longest time after a change in which an answer by the state before it was seen.
    pub(super) stale_max: Duration,
}

#[derive(Debug)]
struct Epoch {
    from: Instant,
    legal: Backends,
    /// Whether an answer came that only this epoch and not the one before it allows.
    is_seen: bool,
}

/// Whether changes were seen to take effect.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Seen {
    /// Changes that allow an answer which was not allowed before.
    pub(super) visible: usize,
    /// Those of them with such an answer.
    pub(super) seen: usize,
}

impl Ledger {
    pub(super) fn new(now: Instant, legal: Backends) -> Self {
        let epochs = vec![Epoch { from: now, legal, is_seen: false }];
        Self { epochs, stale_max: Duration::ZERO }
    }

    /// From `now` on these are legal. To be said before the change is made.
    pub(super) fn change(&mut self, now: Instant, legal: Backends) {
        self.epochs.push(Epoch { from: now, legal, is_seen: false });
    }

    /// Whether `backend` was legal at some time between shortly before `sent` and `answered`.
    pub(super) fn judge(&mut self, sent: Instant, answered: Instant, backend: u32) -> bool {
        let mut end = None;
        let mut is_legal = false;
        for at in (0..self.epochs.len()).rev() {
            let before = at.checked_sub(1).map_or(0, |before| self.epochs[before].legal);
            let epoch = &mut self.epochs[at];
            let allows = |legal: Backends| legal & (1 << backend) != 0;
            let stale = end.map_or(Duration::ZERO, |end| sent.saturating_duration_since(end));
            if stale > STALE_MAX {
                break;
            }
            if epoch.from <= answered && allows(epoch.legal) {
                epoch.is_seen |= epoch.from <= sent && !allows(before);
                self.stale_max = self.stale_max.max(stale);
                is_legal = true;
                break;
            }
            end = Some(epoch.from);
        }
        is_legal
    }

    pub(super) fn seen(&self) -> Seen {
        let mut seen = Seen::default();
        for pair in self.epochs.windows(2) {
            let [before, after] = pair else { continue };
            seen.visible += usize::from(after.legal & !before.legal != 0);
            seen.seen += usize::from(after.is_seen);
        }
        seen
    }
}

/// How long after a change the state before it may still answer: far more than it should take.
pub(super) const STALE_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const RED: u32 = 0;
    const BLUE: u32 = 1;

    #[track_caller]
    fn check(sent: u64, answered: u64, backend: u32, expected: bool, stale: u64) {
        let zero = Instant::now();
        let at = |millis| zero + Duration::from_millis(millis);
        let mut ledger = Ledger::new(zero, 1 << RED);
        ledger.change(at(5000), 1 << BLUE);
        assert_eq!(ledger.judge(at(sent), at(answered), backend), expected);
        assert_eq!(ledger.stale_max, Duration::from_millis(stale));
    }

    #[test]
    fn an_answer_must_have_been_legal_at_its_time() {
        check(100, 101, RED, true, 0);
        check(100, 101, BLUE, false, 0);
        check(6000, 6001, BLUE, true, 0);
        check(6001, 6002, RED, false, 0);
    }

    #[test]
    fn around_a_change_both_are_legal() {
        check(4999, 5001, RED, true, 0);
        check(4999, 5001, BLUE, true, 0);
        check(5040, 5041, RED, true, 40);
    }

    #[test]
    fn a_change_is_seen_by_an_answer_that_only_it_allows() {
        let zero = Instant::now();
        let at = |millis| zero + Duration::from_millis(millis);
        let mut ledger = Ledger::new(zero, 1 << RED);
        ledger.change(at(10), 1 << RED | 1 << BLUE);
        ledger.change(at(20), 1 << RED);
        ledger.judge(at(11), at(12), RED);
        assert_eq!(ledger.seen(), Seen { visible: 1, seen: 0 });
        ledger.judge(at(12), at(13), BLUE);
        assert_eq!(ledger.seen(), Seen { visible: 1, seen: 1 });
    }
}
