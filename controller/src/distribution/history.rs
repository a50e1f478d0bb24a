//! The Snapshots of a fleet that were published last, for replicas that come back with one of them.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use kubeng_config::canonical::Digest;
use kubeng_config::snapshot::Snapshot;

/// How many Snapshots of a fleet are remembered. They share nearly everything with each other. A
/// replica that has missed more tells its holdings instead.
pub const SNAPSHOTS_REMEMBERED_MAX: usize = 32;

/// The Snapshots of one fleet that were published last.
///
/// Whoever publishes notes each; a publisher also notes what it sends, which changes nothing then.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<(Digest, Snapshot)>>);

impl History {
    /// Remembers `snapshot`, and forgets the oldest one when there are more than
    /// [`SNAPSHOTS_REMEMBERED_MAX`].
    pub fn note(&self, snapshot: &Snapshot) {
        let digest = snapshot.digest();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.back().is_some_and(|(newest, _)| *newest == digest) {
            return;
        }
        // One that returns is the newest again.
        known.retain(|(other, _)| *other != digest);
        known.push_back((digest, snapshot.clone()));
        if known.len() > SNAPSHOTS_REMEMBERED_MAX {
            known.pop_front();
        }
    }

    /// The Snapshot of `digest`, if it is remembered.
    #[must_use]
    pub fn find(&self, digest: Digest) -> Option<Snapshot> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().rev().find(|(other, _)| *other == digest).map(|(_, snapshot)| snapshot.clone())
    }
}

#[cfg(test)]
mod tests {
    use kubeng_config::delta::AnyPart;
    use kubeng_config::part::Part;
    use kubeng_config::policy::Policy;
    use kubeng_config::policy::retry::Retry;
    use kubeng_config::policy::timeouts::Timeouts;

    use super::*;

    fn snapshot(nth: usize) -> Snapshot {
        let policy = Policy { timeouts: Timeouts::default(), retry: Retry::default() };
        let id = format!("policy-{nth}").parse().unwrap();
        Snapshot::default().edited([AnyPart::Policy(id, Part::new(policy))], []).unwrap()
    }

    #[test]
    fn the_last_ones_are_found_and_no_more() {
        let history = History::default();
        let all: Vec<Snapshot> = (0..=SNAPSHOTS_REMEMBERED_MAX).map(snapshot).collect();
        for snapshot in &all {
            history.note(snapshot);
            history.note(snapshot);
        }
        let find = |nth: usize| history.find(all[nth].digest()).is_some();
        assert!(!find(0), "the oldest one is forgotten");
        assert!((1..all.len()).all(find));
        history.note(&all[1]);
        history.note(&snapshot(99));
        assert!(find(1), "it has returned, so it is not the oldest one");
        assert!(!find(2));
    }
}
