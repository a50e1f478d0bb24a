//! Which requests come: distinct keys with their counts over the last minutes, in bounded memory.
//!
//! Planning replays these keys against the configuration before and after a change. A key holds
//! what routing looks at, and nothing else: headers and parameters that some Route matches on are
//! kept as a keyed hash, credentials only as being there.
//!
//! # Accuracy
//!
//! Time is cut into buckets of [`BUCKET`]; [`BUCKETS`] of them are kept, so a reading covers
//! between 15 and 18 minutes. Each bucket holds at most so many keys, shared among hosts: a host
//! with many paths cannot push out one with few. While a bucket has room all counts are exact.
//! Behind that it is the space-saving algorithm with a floor for each host: with `count` and `error`
//! as told, `count - error <= true count <= count`, and a key that is not told came at most as
//! often as the floor of its host says. A host that never had fewer than `k` places and had `n`
//! requests in a bucket has a floor of at most `n / k`.

mod bucket;
mod group;
pub(crate) mod selected;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Method;
use kubeng_config::name::{Hostname, ListenerId};
use kubeng_config::path::{PathRules, canonical};

use crate::record::{PATH_BYTES_MAX, Record};
use bucket::{Bucket, Owner};
pub(crate) use selected::Selected;

/// What of a request decides where it goes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Key {
    pub(crate) listener: ListenerId,
    /// None for an address, and for a request without host.
    pub(crate) host: Option<Hostname>,
    pub(crate) method: Method,
    /// In canonical form, at most [`KEY_PATH_BYTES_MAX`] bytes.
    pub(crate) path: Box<str>,
    /// The name of the TLS handshake.
    pub(crate) sni: Option<Arc<str>>,
    pub(crate) selected: Box<[Selected]>,
}

/// How often a key came: at least `count - error` times, at most `count` times.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Count {
    pub(crate) count: u64,
    pub(crate) error: u64,
}

/// The keys of the last minutes.
#[derive(Debug)]
pub(crate) struct Sketch {
    /// By number of the bucket since the epoch.
    buckets: BTreeMap<u64, Bucket>,
    bucket_keys_max: usize,
    /// Requests that have no key: refused before routing, or with too long a path.
    pub(crate) unkeyed: u64,
    /// Requests whose records went before they were read.
    pub(crate) missed: u64,
}

/// What is known of the last minutes.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// From the beginning of the oldest bucket.
    pub(crate) since: Option<SystemTime>,
    /// The most frequent first.
    pub(crate) keys: Vec<(Arc<Key>, Count)>,
    /// How often a key of a host that is not among `keys` may have come, where that is not zero.
    pub(crate) floors: Vec<(Option<Hostname>, u64)>,
    /// The same for hosts that came when there were too many.
    pub(crate) floor_of_others: u64,
}

/// A [`Key`] that refers to a record.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct KeyRef<'a> {
    listener: &'a ListenerId,
    host: Option<&'a Hostname>,
    method: &'a Method,
    path: Cow<'a, str>,
    sni: Option<&'a str>,
    selected: &'a [Selected],
}

impl<'a> KeyRef<'a> {
    /// The key of a request; None when it never came to routing, or its path is too long.
    fn of(record: &'a Record) -> Option<Self> {
        let path = record.texts.path();
        if path.len() >= PATH_BYTES_MAX {
            return None;
        }
        let path = canonical(path, PathRules::INGRESS).ok()?;
        (path.len() <= KEY_PATH_BYTES_MAX).then_some(())?;
        Some(Self {
            listener: record.listener.as_ref()?,
            host: record.host.as_ref(),
            method: record.method.as_ref()?,
            path,
            sni: record.tls.as_ref().and_then(|tls| tls.server_name.as_deref()),
            selected: &record.selected,
        })
    }

    fn to_key(&self) -> Key {
        Key {
            listener: self.listener.clone(),
            host: self.host.cloned(),
            method: self.method.clone(),
            path: (*self.path).into(),
            sni: self.sni.map(Into::into),
            selected: self.selected.into(),
        }
    }
}

impl Key {
    fn borrowed(&self) -> KeyRef<'_> {
        KeyRef {
            listener: &self.listener,
            host: self.host.as_ref(),
            method: &self.method,
            path: Cow::Borrowed(&self.path),
            sni: self.sni.as_deref(),
            selected: &self.selected,
        }
    }
}

impl Sketch {
    /// One that holds at most `keys_max` keys, over all buckets.
    pub(crate) fn new(keys_max: usize) -> Self {
        let bucket_keys_max = (keys_max / BUCKETS).max(HOST_SHARE_MIN);
        Self { buckets: BTreeMap::new(), bucket_keys_max, unkeyed: 0, missed: 0 }
    }

    /// Counts a request.
    pub(crate) fn add(&mut self, record: &Record) {
        match KeyRef::of(record) {
            Some(key) => self.count(&key, record.ended()),
            None => self.unkeyed += 1,
        }
    }

    fn count(&mut self, key: &KeyRef<'_>, at: SystemTime) {
        let number = number_of(at);
        let newest = self.buckets.last_key_value().map_or(number, |(&newest, _)| newest);
        if number + BUCKETS as u64 <= newest {
            // It comes too late to matter.
            return;
        }
        let keys_max = self.bucket_keys_max;
        let hosts_max = keys_max / HOST_SHARE_MIN;
        self.buckets.entry(number).or_default().count(key, keys_max, hosts_max);
        self.forget(number.max(newest));
    }

    fn forget(&mut self, newest: u64) {
        self.buckets = self.buckets.split_off(&newest.saturating_sub(BUCKETS as u64 - 1));
    }

    /// What is known now, at most `limit` keys of those that are `wanted`.
    pub(crate) fn read(
        &mut self,
        now: SystemTime,
        limit: usize,
        wanted: impl Fn(&Key) -> bool,
    ) -> Reading {
        self.forget(number_of(now));
        let mut sums = HashMap::<Arc<Key>, Count>::new();
        for bucket in self.buckets.values() {
            for (key, _) in bucket.keys().filter(|(key, _)| wanted(key)) {
                sums.entry(key.clone()).or_default();
            }
        }
        let mut floors = HashMap::<Option<Hostname>, u64>::new();
        let mut floor_of_others = 0;
        for bucket in self.buckets.values() {
            for (key, sum) in &mut sums {
                let Count { count, error } = bucket.count_of(key);
                *sum = Count { count: sum.count + count, error: sum.error + error };
            }
            for (owner, floor) in bucket.floors() {
                match owner {
                    Owner::Host(host) if floor > 0 => {
                        *floors.entry(host.clone()).or_default() += floor;
                    }
                    Owner::Host(_) => {}
                    Owner::Others => floor_of_others += floor,
                }
            }
        }
        let mut keys: Vec<_> = sums.into_iter().collect();
        keys.sort_by(|(a, x), (b, y)| {
            y.count.cmp(&x.count).then_with(|| (&a.host, &a.path).cmp(&(&b.host, &b.path)))
        });
        keys.truncate(limit);
        let since = self.buckets.keys().next().map(|&number| {
            SystemTime::UNIX_EPOCH + BUCKET * u32::try_from(number).unwrap_or(u32::MAX)
        });
        let mut floors: Vec<_> = floors.into_iter().collect();
        floors.sort();
        Reading { since, keys, floors, floor_of_others }
    }
}

fn number_of(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / BUCKET.as_secs()
}

/// The time of one bucket.
pub(crate) const BUCKET: Duration = Duration::from_secs(180);
/// Buckets that are kept, the one that fills included.
const BUCKETS: usize = 6;
/// Longer paths have no key.
const KEY_PATH_BYTES_MAX: usize = 256;
/// Places that each host can have at least; there are no more hosts than that allows.
const HOST_SHARE_MIN: usize = 4;

#[cfg(test)]
mod tests;
