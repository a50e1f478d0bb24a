//! The hub: takes replicas in, and drives one publisher for each.

mod session;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use kubeng_config::statement::SignedStatement;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::distribution::Hello;
use crate::distribution::feed::FleetFeed;
use crate::distribution::line::{Hub, Identified, LINE_MESSAGES_MAX, Line, TurnedAway};
use crate::distribution::publisher::Publisher;
use crate::replicas::entry::ReplicaId;
use crate::replicas::metrics::ReplicaMetrics;
use crate::replicas::registry::Registry;
use session::Session;

/// Makes the publisher of a replica that has said Hello; it is told how many replicas are there.
pub type MakePublisher =
    Arc<dyn Fn(&Hello, &FleetFeed, watch::Receiver<NonZeroU32>) -> Publisher + Send + Sync>;

/// Whether a controller stands for a Statement.
pub type Believes = Arc<dyn Fn(&SignedStatement) -> bool + Send + Sync>;

/// Takes replicas in. The newest line of one name wins, and ends the older one.
pub struct ReplicaHub {
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Arc<ReplicaMetrics>,
    pub(crate) publisher: MakePublisher,
    pub(crate) believes: Believes,
    pub(crate) sessions: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Hub for ReplicaHub {
    async fn join(&self, identified: Identified, hello: Hello) -> Result<Line, TurnedAway> {
        if self.stop.is_cancelled() {
            return Err(TurnedAway::NotReady);
        }
        if identified.fleet != hello.fleet || identified.replica != hello.replica {
            return Err(TurnedAway::Mistaken(identified));
        }
        let feeds = self.registry.feeds();
        let Some(feed) = feeds.get(&hello.fleet) else {
            return Err(if self.registry.knows_all_fleets() {
                TurnedAway::UnknownFleet(hello.fleet)
            } else {
                TurnedAway::NotReady
            });
        };
        let is_believed = hello.serves.as_ref().is_none_or(|signed| (self.believes)(signed));
        let id = ReplicaId { fleet: hello.fleet.clone(), name: hello.replica.clone() };
        let joined = self.registry.join(&hello, is_believed).ok_or(TurnedAway::NotReady)?;
        let publisher = (self.publisher)(&hello, feed, joined.count.clone());
        let (to, to_replica) = mpsc::channel(LINE_MESSAGES_MAX);
        let (from_replica, from) = mpsc::channel(LINE_MESSAGES_MAX);
        let registry = Arc::clone(&self.registry);
        let metrics = Arc::clone(&self.metrics);
        let session = Session { id, registry, metrics, publisher, joined, to, from };
        self.sessions.spawn(session.run(self.stop.clone()));
        Ok(Line { to: to_replica, from: from_replica })
    }

    fn turned_away(&self, identified: Identified, address: IpAddr, why: &TurnedAway) {
        match why {
            TurnedAway::UnknownFleet(_) => {
                let id = ReplicaId { fleet: identified.fleet, name: identified.replica };
                if self.registry.turned_away(&id, address) {
                    warn!(fleet = %id.fleet, replica = %id.name, %address, error = %why,
                        "a replica is turned away");
                }
            }
            // It says so itself, or asks elsewhere and again.
            TurnedAway::Mistaken(_) | TurnedAway::NotReady => {}
        }
    }
}

#[cfg(test)]
mod tests;
