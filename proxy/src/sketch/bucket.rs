//! The keys of one bucket of time.
//!
//! A key that is known costs one hash, one comparison and one addition, and allocates nothing: with
//! thousands of keys that is most of what counting costs. What has to go is found when
//! something has to go.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use kubeng_config::name::Hostname;

use super::group::Group;
use super::{Count, Key, KeyRef};

/// Distinct keys with their counts, shared out among hosts.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Places in `entries` by the hash of their key.
    places: HashTable<usize>,
    entries: Vec<Entry>,
    /// Places of entries that went.
    free: Vec<usize>,
    groups: HashMap<Owner, usize, Fast>,
    /// By the number that `groups` gives; they only become more.
    states: Vec<Group>,
    hasher: Fast,
}

type Fast = foldhash::fast::RandomState;

/// Whom the places of a bucket are shared among.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Owner {
    Host(Option<Hostname>),
    /// All hosts that came when there were too many.
    Others,
}

#[derive(Debug)]
struct Entry {
    key: Arc<Key>,
    hash: u64,
    count: Count,
}

impl Bucket {
    /// Counts a key once.
    pub(super) fn count(&mut self, key: &KeyRef<'_>, keys_max: usize, hosts_max: usize) {
        let hash = self.hasher.hash_one(key);
        if let Some(entry) = self.find(key, hash).and_then(|place| self.entries.get_mut(place)) {
            entry.count.count += 1;
            return;
        }
        let group = self.group_of(key.host, hosts_max);
        if self.places.len() >= keys_max {
            self.evict_for(group, keys_max);
        }
        self.insert(Arc::new(key.to_key()), hash, group);
    }

    /// The keys that are held, with their counts.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&Arc<Key>, Count)> {
        self.places.iter().filter_map(|&place| {
            let entry = self.entries.get(place)?;
            Some((&entry.key, entry.count))
        })
    }

    /// What is known of `key`: its count, or how often it came at most.
    pub(super) fn count_of(&self, key: &Key) -> Count {
        let reference = key.borrowed();
        let found = self.find(&reference, self.hasher.hash_one(&reference));
        if let Some(entry) = found.and_then(|place| self.entries.get(place)) {
            return entry.count;
        }
        let group = self.groups.get(&Owner::Host(key.host.clone()));
        let group = group.or_else(|| self.groups.get(&Owner::Others));
        let floor = group.and_then(|&group| self.states.get(group)).map_or(0, |group| group.floor);
        Count { count: floor, error: floor }
    }

    /// The floor of each group.
    pub(super) fn floors(&self) -> impl Iterator<Item = (&Owner, u64)> {
        self.groups
            .iter()
            .filter_map(|(owner, &group)| Some((owner, self.states.get(group)?.floor)))
    }

    fn find(&self, key: &KeyRef<'_>, hash: u64) -> Option<usize> {
        let is_it = |&place: &usize| {
            self.entries.get(place).is_some_and(|entry| entry.key.borrowed() == *key)
        };
        self.places.find(hash, is_it).copied()
    }

    /// Where keys of `host` are held. It never changes: groups only become more.
    fn group_of(&mut self, host: Option<&Hostname>, hosts_max: usize) -> usize {
        let owner = Owner::Host(host.cloned());
        if let Some(&group) = self.groups.get(&owner) {
            return group;
        }
        let owner = if self.groups.len() < hosts_max { owner } else { Owner::Others };
        let next = self.states.len();
        let group = *self.groups.entry(owner).or_insert(next);
        if group == next {
            self.states.push(Group::default());
        }
        group
    }

    /// Makes room: in the group itself if it has its share, else in the largest one.
    fn evict_for(&mut self, group: usize, keys_max: usize) {
        let share = (keys_max / self.states.len().max(1)).max(1);
        let held = self.states.get(group).map_or(0, Group::len);
        let victim = if held >= share {
            Some(group)
        } else {
            let sized = self.states.iter().enumerate();
            sized.max_by_key(|(_, group)| group.len()).map(|(number, _)| number)
        };
        let Self { places, entries, free, states, .. } = self;
        let Some(victim) = victim.and_then(|victim| states.get_mut(victim)) else { return };
        // Counts have grown since they were put in order.
        let count_of = |place: usize| entries.get(place).map_or(0, |entry| entry.count.count);
        let Some(gone) = victim.evict(count_of) else { return };
        if let Some(entry) = entries.get(gone)
            && let Ok(found) = places.find_entry(entry.hash, |&place| place == gone)
        {
            found.remove();
            free.push(gone);
        }
    }

    fn insert(&mut self, key: Arc<Key>, hash: u64, group: usize) {
        let Some(state) = self.states.get_mut(group) else { return };
        let (count, number) = state.enter();
        let entry = Entry { key, hash, count };
        let place = self.free.pop().unwrap_or(self.entries.len());
        state.order(count.count, number, place);
        match self.entries.get_mut(place) {
            Some(former) => *former = entry,
            None => self.entries.push(entry),
        }
        let entries = &self.entries;
        let hash_of = |&place: &usize| entries.get(place).map_or(0, |entry| entry.hash);
        self.places.insert_unique(hash, place, hash_of);
    }
}

#[cfg(test)]
impl Bucket {
    /// Panics unless table, entries and orders hold the same keys.
    pub(super) fn check(&self) {
        let ordered: usize = self.states.iter().map(Group::len).sum();
        assert_eq!((ordered, self.entries.len()), (self.places.len(), ordered + self.free.len()));
    }
}
