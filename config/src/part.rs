//! Parts, and all Parts of one kind: canonical, hashed, shared.

use std::fmt::Display;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::canonical::{self, Digest, ReadError};

/// One value of the model with the digest of its canonical bytes.
///
/// Equal when the digests are equal. A clone shares everything.
#[derive(Debug)]
pub struct Part<V> {
    digest: Digest,
    value: Arc<V>,
}

impl<V> Clone for Part<V> {
    fn clone(&self) -> Self {
        Self { digest: self.digest, value: Arc::clone(&self.value) }
    }
}

impl<V: Serialize + DeserializeOwned> Part<V> {
    /// Writes `value` in its canonical form.
    #[must_use]
    pub fn new(value: V) -> Self {
        let bytes = canonical::to_bytes(&value);
        Self { digest: Digest::of([bytes.as_slice()]), value: Arc::new(value) }
    }

    /// Writes a value that is shared already in its canonical form.
    #[must_use]
    pub fn of(value: Arc<V>) -> Self {
        let bytes = canonical::to_bytes(&*value);
        Self { digest: Digest::of([bytes.as_slice()]), value }
    }

    /// Reads a Part that came from elsewhere, strictly.
    ///
    /// # Errors
    /// When a field is not known, or the bytes are not canonical.
    pub fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        let value = canonical::from_bytes(bytes)?;
        Ok(Self { digest: Digest::of([bytes]), value: Arc::new(value) })
    }

    /// The canonical bytes, made anew: they are asked for only when a Part
    /// travels or is stored, and would double its size if they were kept.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        canonical::to_bytes(&self.value)
    }
}

impl<V> Part<V> {
    /// Lets `act` change how the value lies in memory, unless somebody shares it; what it is must
    /// stay the same.
    pub(crate) fn rearrange(&mut self, act: impl FnOnce(&mut V)) {
        if let Some(value) = Arc::get_mut(&mut self.value) {
            act(value);
        }
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &Arc<V> {
        &self.value
    }

    /// The hash of the canonical bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl<V> PartialEq for Part<V> {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl<V> Eq for Part<V> {}

/// How many buckets a map has; two replicas find where they differ by comparing buckets.
const BUCKETS: usize = 256;

/// All Parts of one kind, by key. A clone is a pointer; a change copies one bucket.
#[derive(Debug)]
pub struct PartMap<K, V> {
    buckets: Arc<[Arc<Bucket<K, V>>]>,
    len: usize,
    digest: Digest,
}

#[derive(Debug)]
struct Bucket<K, V> {
    /// By key.
    parts: Vec<(K, Part<V>)>,
    digest: Digest,
}

impl<K, V> Clone for PartMap<K, V> {
    fn clone(&self) -> Self {
        Self { buckets: Arc::clone(&self.buckets), len: self.len, digest: self.digest }
    }
}

impl<K, V> PartMap<K, V> {
    fn new(buckets: Vec<Arc<Bucket<K, V>>>, len: usize) -> Self {
        let digest = Digest::of(buckets.iter().map(|one| one.digest.as_bytes().as_slice()));
        Self { buckets: buckets.into(), len, digest }
    }
}

impl<K: Ord + Clone + Display, V> Default for PartMap<K, V> {
    fn default() -> Self {
        let empty = Arc::new(Bucket { digest: bucket_digest::<K, V>(&[]), parts: Vec::new() });
        Self::new(vec![empty; BUCKETS], 0)
    }
}

/// The digest of a map that had these Parts, without one being made: for who writes Parts again and
/// keeps none of them. Of two with one key both count, which no map has.
#[must_use]
pub fn digest_of<K: Ord + Display>(mut parts: Vec<(K, Digest)>) -> Digest {
    parts.sort();
    let mut buckets = vec![Vec::new(); BUCKETS];
    for (key, digest) in &parts {
        buckets[bucket_of(key)].push((key, *digest));
    }
    let digests: Vec<Digest> = buckets.iter().map(|bucket| lines_digest(bucket)).collect();
    Digest::of(digests.iter().map(|one| one.as_bytes().as_slice()))
}

/// One difference between two maps.
#[derive(Debug)]
pub enum Change<'a, K, V> {
    /// In the newer one only.
    Added(&'a K, &'a Part<V>),
    /// In both, with different contents: the older, then the newer.
    Changed(&'a K, &'a Part<V>, &'a Part<V>),
    /// In the older one only.
    Removed(&'a K, &'a Part<V>),
}

impl<K: Ord + Clone + Display, V> PartMap<K, V> {
    /// How many Parts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The Part of `key`.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&Part<V>> {
        let bucket = &self.buckets[bucket_of(key)];
        let at = bucket.parts.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
        bucket.parts.get(at).map(|(_, part)| part)
    }

    /// Whether there is a Part of `key`.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// All Parts in no order that means anything; [`sorted`](Self::sorted) has one.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &Part<V>)> {
        self.buckets.iter().flat_map(|bucket| bucket.parts.iter().map(|(key, part)| (key, part)))
    }

    /// All Parts by key.
    #[must_use]
    pub fn sorted(&self) -> Vec<(&K, &Part<V>)> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_by(|a, b| a.0.cmp(b.0));
        all
    }

    /// The map with these Parts put in or, where there is none, taken out.
    #[must_use]
    pub fn with(&self, changes: impl IntoIterator<Item = (K, Option<Part<V>>)>) -> Self {
        let mut by_bucket: std::collections::BTreeMap<usize, Vec<_>> = Default::default();
        for change in changes {
            by_bucket.entry(bucket_of(&change.0)).or_default().push(change);
        }
        if by_bucket.is_empty() {
            return self.clone();
        }
        let mut buckets = self.buckets.to_vec();
        let mut len = self.len;
        for (at, changes) in by_bucket {
            let mut parts = buckets[at].parts.clone();
            len -= parts.len();
            for (key, part) in changes {
                match (parts.binary_search_by(|(other, _)| other.cmp(&key)), part) {
                    (Ok(found), Some(part)) => parts[found].1 = part,
                    (Ok(found), None) => drop(parts.remove(found)),
                    (Err(place), Some(part)) => parts.insert(place, (key, part)),
                    (Err(_), None) => {}
                }
            }
            len += parts.len();
            parts.shrink_to_fit();
            buckets[at] = Arc::new(Bucket { digest: bucket_digest(&parts), parts });
        }
        Self::new(buckets, len)
    }

    /// What turns this map into `newer`, in order of keys within each bucket. Skips what is shared.
    pub fn diff<'a>(&'a self, newer: &'a Self) -> impl Iterator<Item = Change<'a, K, V>> {
        let buckets = if self.digest == newer.digest { 0 } else { BUCKETS };
        let pairs = self.buckets.iter().zip(newer.buckets.iter());
        pairs
            .take(buckets)
            .filter(|(old, new)| !Arc::ptr_eq(old, new) && old.digest != new.digest)
            .flat_map(|(old, new)| diff_sorted(&old.parts, &new.parts))
    }

    /// The digest of the map: over the digests of its buckets.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

fn diff_sorted<'a, K: Ord, V>(
    mut old: &'a [(K, Part<V>)],
    mut new: &'a [(K, Part<V>)],
) -> Vec<Change<'a, K, V>> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let mut changes = Vec::new();
    loop {
        let order = match (old.first(), new.first()) {
            (None, None) => return changes,
            (Some(_), None) => Less,
            (None, Some(_)) => Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        if let (Less, Some(((key, part), rest))) = (order, old.split_first()) {
            changes.push(Change::Removed(key, part));
            old = rest;
        } else if let (Greater, Some(((key, part), rest))) = (order, new.split_first()) {
            changes.push(Change::Added(key, part));
            new = rest;
        } else if let (Equal, Some(((key, before), old_rest)), Some(((_, after), new_rest))) =
            (order, old.split_first(), new.split_first())
        {
            if before != after {
                changes.push(Change::Changed(key, before, after));
            }
            (old, new) = (old_rest, new_rest);
        }
    }
}

fn bucket_of(key: &impl Display) -> usize {
    usize::from(Digest::of([key.to_string().as_bytes()]).as_bytes()[0])
}

/// The hash of the keys and digests of a bucket, each key ended by a line feed, which no key holds.
fn bucket_digest<K: Display, V>(parts: &[(K, Part<V>)]) -> Digest {
    let parts: Vec<(&K, Digest)> = parts.iter().map(|(key, part)| (key, part.digest)).collect();
    lines_digest(&parts)
}

fn lines_digest<K: Display>(parts: &[(&K, Digest)]) -> Digest {
    let lines: Vec<String> = parts
        .iter()
        .map(|(key, digest)| format!("{}\n{digest}\n", key.to_string().escape_default()))
        .collect();
    Digest::of(lines.iter().map(String::as_bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Plain = BTreeMap<String, u32>;

    fn map_of(plain: &Plain) -> PartMap<String, u32> {
        PartMap::default().with(plain.iter().map(|(k, v)| (k.clone(), Some(Part::new(*v)))))
    }

    fn plain() -> impl Strategy<Value = Plain> {
        proptest::collection::btree_map("[a-c]{1,3}", 0..3_u32, 0..30)
    }

    proptest! {
        #[test]
        fn the_difference_is_exactly_what_differs(old in plain(), new in plain()) {
            let (a, b) = (map_of(&old), map_of(&new));
            let mut changed = old.clone();
            for change in a.diff(&b) {
                match change {
                    Change::Added(key, part) => {
                        prop_assert_eq!(changed.insert(key.clone(), *part.value().as_ref()), None);
                    }
                    Change::Changed(key, before, after) => {
                        prop_assert_ne!(before.value(), after.value());
                        let was = changed.insert(key.clone(), *after.value().as_ref());
                        prop_assert_eq!(was, Some(*before.value().as_ref()));
                    }
                    Change::Removed(key, part) => {
                        prop_assert_eq!(changed.remove(key), Some(*part.value().as_ref()));
                    }
                }
            }
            prop_assert_eq!(&changed, &new);
            prop_assert_eq!(a.diff(&a).count(), 0);
            prop_assert_eq!(a.digest() == b.digest(), old == new);
            prop_assert_eq!(b.len(), new.len());
            let written = b.iter().map(|(key, part)| (key.clone(), Part::new(**part.value())));
            let written = written.map(|(key, part)| (key, part.digest())).collect();
            prop_assert_eq!(digest_of::<String>(written), b.digest());
        }

        #[test]
        fn the_way_to_a_map_leaves_no_trace(old in plain(), new in plain()) {
            let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|k| (k.clone(), None));
            let here = new.iter().map(|(k, v)| (k.clone(), Some(Part::new(*v))));
            let walked = map_of(&old).with(gone.chain(here));
            prop_assert_eq!(walked.digest(), map_of(&new).digest());
            prop_assert_eq!(walked.len(), new.len());
        }
    }
}
