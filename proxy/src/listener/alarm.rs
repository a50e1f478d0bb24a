//! A deadline that an engine sets on the request that a connection or a stream carries.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When the connection, or the stream, tells the engine that its time is over; mostly never.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    /// Milliseconds after `base`, and one; 0 for never.
    at: AtomicU64,
    base: OnceLock<Instant>,
}

impl Alarm {
    /// Rings at this time, instead of whenever it was set to.
    pub(crate) fn set(&self, at: Option<Instant>) {
        let Some(at) = at else {
            // Most requests set none, and most never did.
            if self.at.load(Ordering::Relaxed) != 0 {
                self.at.store(0, Ordering::Relaxed);
            }
            return;
        };
        let base = *self.base.get_or_init(Instant::now);
        let after = at.saturating_duration_since(base).as_millis();
        self.at.store(u64::try_from(after).unwrap_or(u64::MAX - 1) + 1, Ordering::Relaxed);
    }

    /// When it rings.
    pub(crate) fn get(&self) -> Option<Instant> {
        let after = self.at.load(Ordering::Relaxed).checked_sub(1)?;
        self.base.get()?.checked_add(Duration::from_millis(after))
    }

    /// Whether its time has come.
    pub(crate) fn rings(&self, now: Instant) -> bool {
        self.get().is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rings_at_its_time_until_it_is_set_anew() {
        let alarm = Alarm::default();
        let now = Instant::now();
        assert!(!alarm.rings(now));
        let later = now + Duration::from_secs(2);
        alarm.set(Some(later));
        assert!(!alarm.rings(now) && alarm.rings(later));
        // Past times ring at once.
        alarm.set(Some(now.checked_sub(Duration::from_millis(5)).unwrap()));
        assert!(alarm.rings(later));
        alarm.set(None);
        assert_eq!(alarm.get(), None);
    }
}
