//! Public keys that a Backend publishes, fetched beside the requests and shared by all Routes that
//! want the same ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use kubeng_config::filter::jwt::RemoteKeys;
use tokio::sync::Notify;

use super::published::PublishedKey;

/// The keys of one source, as they were last told.
#[derive(Debug)]
pub(crate) struct KeySet {
    pub(super) source: RemoteKeys,
    known: ArcSwapOption<Known>,
    /// Woken when a token names a key that is not known, and when the set is gone.
    pub(super) wanted: Arc<Notify>,
}

#[derive(Debug)]
struct Known {
    keys: Arc<[PublishedKey]>,
    since: Instant,
}

impl KeySet {
    fn new(source: RemoteKeys) -> Self {
        Self { source, known: ArcSwapOption::empty(), wanted: Arc::default() }
    }

    /// The keys; None until they were told, and when they are too old to be believed.
    pub(crate) fn keys(&self) -> Option<Arc<[PublishedKey]>> {
        self.known.load().as_ref().map(|known| known.keys.clone())
    }

    /// Asks for newer keys, beside the requests. How often that is heard is for the fetcher to say.
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Takes keys in; gives whether they are others than before.
    pub(super) fn put(&self, keys: Arc<[PublishedKey]>, now: Instant) -> bool {
        let is_other = self.keys().is_none_or(|before| before != keys);
        self.known.store(Some(Arc::new(Known { keys, since: now })));
        is_other
    }

    /// Forgets keys that could not be fetched again for so long that they may have been withdrawn.
    pub(super) fn forget_old(&self, now: Instant) {
        let known = self.known.load();
        let is_old = known
            .as_ref()
            .is_some_and(|known| now.saturating_duration_since(known.since) > KEPT_MAX);
        if is_old {
            self.known.store(None);
        }
    }
}

impl Drop for KeySet {
    fn drop(&mut self) {
        // Who fetches for it ends.
        self.wanted.notify_one();
    }
}

/// All sources that Routes want keys from.
#[derive(Debug, Default)]
pub(crate) struct KeySets {
    all: Mutex<HashMap<RemoteKeys, Weak<KeySet>>>,
    added: Notify,
}

impl KeySets {
    /// The set of `source`: the one that is there, or one that is going to be fetched.
    pub(crate) fn of(&self, source: &RemoteKeys) -> Arc<KeySet> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = all.get(source).and_then(Weak::upgrade) {
            return set;
        }
        all.retain(|_, set| set.strong_count() > 0);
        let set = Arc::new(KeySet::new(source.clone()));
        all.insert(source.clone(), Arc::downgrade(&set));
        self.added.notify_one();
        set
    }

    /// Waits until there is another one.
    pub(super) async fn added(&self) {
        self.added.notified().await;
    }

    /// Those that some Route wants.
    pub(super) fn live(&self) -> Vec<Arc<KeySet>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().filter_map(Weak::upgrade).collect()
    }
}

/// How long keys are believed that cannot be fetched again.
const KEPT_MAX: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str) -> RemoteKeys {
        let text = format!(r#"{{"backend":"Upstream/a/idp","path":"{path}"}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn routes_that_want_the_same_keys_share_them() {
        let sets = KeySets::default();
        let first = sets.of(&source("/a"));
        assert!(Arc::ptr_eq(&first, &sets.of(&source("/a"))));
        let other = sets.of(&source("/b"));
        assert!(!Arc::ptr_eq(&first, &other));
        assert_eq!(sets.live().len(), 2);
        drop(first);
        assert_eq!(sets.live().len(), 1);
        sets.of(&source("/c"));
        assert_eq!(sets.all.lock().unwrap().len(), 2, "what nobody wants is forgotten");
    }

    #[test]
    fn keys_are_kept_for_a_day_and_no_longer() {
        let set = KeySet::new(source("/a"));
        assert_eq!(set.keys(), None);
        let now = Instant::now();
        assert!(set.put(Arc::default(), now), "there were none before");
        assert!(!set.put(Arc::default(), now));
        set.forget_old(now + KEPT_MAX);
        assert!(set.keys().is_some());
        set.forget_old(now + KEPT_MAX + Duration::from_secs(1));
        assert_eq!(set.keys(), None);
    }
}
