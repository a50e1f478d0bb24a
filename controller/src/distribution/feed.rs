//! What the loop hands to those who deliver: the newest of each fleet.

use std::collections::BTreeMap;
use std::sync::Arc;

use kubeng_config::fleet::FleetFacts;
use kubeng_config::name::FleetName;
use tokio::sync::watch;

use super::history::History;
use super::publisher::{PendingEndpoints, Published};

/// One fleet, as it is delivered. A clone is a few pointers.
#[derive(Clone)]
pub struct FleetFeed {
    /// What people are shown of it, and how it is cared for.
    pub facts: Arc<FleetFacts>,
    /// Its newest configuration; the newest wins, nothing queues.
    pub newest: watch::Receiver<Arc<Published>>,
    /// The newest Endpoints of its Backends, for each replica by itself.
    pub endpoints: Arc<EndpointBoard>,
    /// Its newest Snapshots, for replicas that come back with one of them. Whoever publishes notes
    /// them.
    pub history: Arc<History>,
}

/// All fleets by name; a fleet that is gone is not in it any more.
pub type FleetFeeds = BTreeMap<FleetName, FleetFeed>;

/// Hands Endpoints to every replica that follows: each has its own set of those that wait, bounded by
/// the number of Backends.
#[derive(Default)]
pub struct EndpointBoard {
    followers: std::sync::Mutex<Vec<std::sync::Weak<PendingEndpoints>>>,
}

impl EndpointBoard {
    /// A place of its own for one more replica; it ends when it is dropped.
    #[must_use]
    pub fn follow(&self) -> Arc<PendingEndpoints> {
        let place = Arc::new(PendingEndpoints::default());
        let mut followers =
            self.followers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        followers.retain(|follower| follower.strong_count() > 0);
        followers.push(Arc::downgrade(&place));
        place
    }

    /// Puts newer sets in the place of those that wait, for every replica.
    pub fn put(
        &self,
        sets: &[(kubeng_config::name::BackendId, Arc<kubeng_config::endpoint::EndpointSet>)],
        received: std::time::Instant,
    ) {
        let followers = self.followers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for follower in followers.iter().filter_map(std::sync::Weak::upgrade) {
            follower.put(sets.to_vec(), received);
        }
    }
}
