//! The Endpoints that a replica is to be told of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use kubeng_config::endpoint::EndpointSet;
use kubeng_config::name::BackendId;

use super::held::Held;
use crate::distribution::ToReplica;
use crate::distribution::publisher::Published;

/// How many sets one message carries at most, so that it stays small; the others follow.
const SETS_PER_MESSAGE_MAX: usize = 512;

/// The newest set of each Backend that is to be told. Bounded by the number of Backends.
pub(super) struct DueEndpoints {
    /// Those of all Backends that it holds, once it is known which.
    all: bool,
    sets: BTreeMap<BackendId, Arc<EndpointSet>>,
    /// Backends that lose their last Endpoint, each with the Offer whose answer must come first: what
    /// is served until then may still lead there.
    withheld: BTreeMap<BackendId, (u64, Arc<EndpointSet>)>,
    received: Option<Instant>,
}

impl DueEndpoints {
    /// Of a replica that serves something, whose sets may all be old, or of one that serves nothing.
    pub(super) fn of_a_replica(serves_something: bool) -> Self {
        Self {
            all: serves_something,
            sets: BTreeMap::new(),
            withheld: BTreeMap::new(),
            received: None,
        }
    }

    /// Those of all Backends that it holds are to be told, once.
    pub(super) fn all(&mut self) {
        self.all = true;
    }

    /// Puts newer sets in the place of those that wait. Where `behind` names an Offer that is not
    /// answered, a Backend loses its last Endpoint only after that answer; no longer, for there may
    /// always be another Offer.
    pub(super) fn put(
        &mut self,
        sets: Vec<(BackendId, Arc<EndpointSet>)>,
        received: Option<Instant>,
        behind: Option<u64>,
    ) {
        for (id, set) in sets {
            self.received = [self.received, received].into_iter().flatten().min();
            let known = self.withheld.remove(&id).map(|(offer, _)| offer);
            match behind.filter(|_| set.as_slice().is_empty()) {
                Some(offer) => {
                    self.sets.remove(&id);
                    self.withheld.insert(id, (known.unwrap_or(offer), set));
                }
                None => drop(self.sets.insert(id, set)),
            }
        }
    }

    /// The Offer was answered: what waited for that waits no more.
    pub(super) fn answered(&mut self, offer: u64) {
        let released = self.withheld.extract_if(.., |_, (behind, _)| *behind <= offer);
        self.sets.extend(released.map(|(id, (_, set))| (id, set)));
    }

    /// The next message, if any is due.
    pub(super) fn message(&mut self, held: &Held, newest: &Published) -> Option<ToReplica> {
        if self.all
            && let Some(backends) = held.discovered(newest)
        {
            self.all = false;
            for id in backends {
                let set = newest.endpoints.get(&id).cloned().unwrap_or_default();
                // A set that waits is as new, for it is put where these come from first.
                self.sets.entry(id).or_insert(set);
            }
        }
        let mut sets = Vec::new();
        while sets.len() < SETS_PER_MESSAGE_MAX
            && let Some(one) = self.sets.pop_first()
        {
            sets.push(one);
        }
        if sets.is_empty() {
            return None;
        }
        let received = self.received;
        if self.sets.is_empty() && self.withheld.is_empty() {
            self.received = None;
        }
        Some(ToReplica::Endpoints { sets, received })
    }
}
