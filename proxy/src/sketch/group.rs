//! The keys of one host in one bucket of time, counted by space-saving with a floor.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Count, Key};

/// Counts of keys. A key that is not held came at most `floor` times.
#[derive(Debug, Default)]
pub(super) struct Group {
    entries: HashMap<Arc<Key>, Entry>,
    /// The rarest first; the number tells apart those that came equally often.
    order: BTreeMap<(u64, u64), Arc<Key>>,
    pub(super) floor: u64,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    count: Count,
    number: u64,
}

impl Group {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Counts one more of `key`; false when it is not held.
    pub(super) fn hit(&mut self, key: &Key) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        let place = self.order.remove(&(entry.count.count, entry.number));
        entry.count.count += 1;
        if let Some(key) = place {
            self.order.insert((entry.count.count, entry.number), key);
        }
        true
    }

    /// Puts in a key that is not held, and that has just come.
    ///
    /// It may have come before, at most as often as the floor says.
    pub(super) fn insert(&mut self, key: Arc<Key>) {
        let number = self.next;
        self.next += 1;
        let count = Count { count: self.floor + 1, error: self.floor };
        self.order.insert((count.count, number), key.clone());
        self.entries.insert(key, Entry { count, number });
    }

    /// Drops the rarest key. No count is below the floor, so the floor only grows.
    pub(super) fn evict(&mut self) {
        if let Some(((count, _), key)) = self.order.pop_first() {
            self.entries.remove(&key);
            self.floor = self.floor.max(count);
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = (&Arc<Key>, Count)> {
        self.entries.iter().map(|(key, entry)| (key, entry.count))
    }

    /// What is known of `key`, held or not.
    pub(super) fn count_of(&self, key: &Key) -> Count {
        let unknown = Count { count: self.floor, error: self.floor };
        self.entries.get(key).map_or(unknown, |entry| entry.count)
    }
}
