//! What has counters of its own, for as long as it is served, and within a bound.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Counters by name. Read and written where configuration is compiled and where metrics are read,
/// never where requests are served.
#[derive(Debug)]
pub(super) struct Known<K, V> {
    inner: Mutex<Inner<K, V>>,
    /// The most that have an entry of their own.
    max: usize,
}

#[derive(Debug)]
struct Inner<K, V> {
    entries: HashMap<K, Weak<V>>,
    /// From how many entries on those that nobody serves any more are looked for.
    sweep_at: usize,
}

impl<K: Clone + Eq + Hash + Ord, V> Known<K, V> {
    pub(super) fn new(max: usize) -> Self {
        let inner = Inner { entries: HashMap::new(), sweep_at: SWEEP_MIN.min(max) };
        Self { inner: Mutex::new(inner), max }
    }

    /// The entry of `key`, made if it is not there; None when there are too many.
    pub(super) fn get_or(&self, key: &K, make: impl FnOnce() -> V) -> Option<Arc<V>> {
        let mut inner = self.lock();
        if let Some(known) = inner.entries.get(key).and_then(Weak::upgrade) {
            return Some(known);
        }
        if inner.entries.len() >= inner.sweep_at {
            inner.entries.retain(|_, entry| entry.strong_count() > 0);
            // Twice what is left, so that sweeping costs little for each entry.
            inner.sweep_at = (inner.entries.len() * 2).max(SWEEP_MIN).min(self.max);
        }
        if inner.entries.len() >= self.max {
            return None;
        }
        let made = Arc::new(make());
        inner.entries.insert(key.clone(), Arc::downgrade(&made));
        Some(made)
    }

    /// The entry of `key`, if it is served.
    pub(super) fn get(&self, key: &K) -> Option<Arc<V>> {
        self.lock().entries.get(key).and_then(Weak::upgrade)
    }

    /// All that are served, in order.
    pub(super) fn all(&self) -> Vec<(K, Arc<V>)> {
        let inner = self.lock();
        let all =
            inner.entries.iter().filter_map(|(key, entry)| Some((key.clone(), entry.upgrade()?)));
        let mut all: Vec<_> = all.collect();
        drop(inner);
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner<K, V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SWEEP_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_is_kept_and_the_rest_makes_room() {
        let known = Known::<u32, u32>::new(100);
        let held: Vec<_> = (0..100).map(|key| known.get_or(&key, || key).unwrap()).collect();
        assert!(known.get_or(&100, || 100).is_none(), "there is no room");
        assert_eq!(known.get_or(&7, || 0).as_deref(), Some(&7), "the same again");
        drop(held);
        assert!(known.get(&7).is_none());
        let again = known.get_or(&100, || 100).unwrap();
        assert_eq!(known.all(), vec![(100, again)]);
    }
}
