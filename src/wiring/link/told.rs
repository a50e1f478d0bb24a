//! Who tells the replica in this process what to serve.

use std::sync::Arc;

use kubeng_config::name::FleetName;
use kubeng_controller::distribution::feed::FleetFeeds;
use kubeng_controller::distribution::publisher::Publisher;
use kubeng_controller::distribution::{FromReplica, ToReplica};
use tokio::sync::watch;

/// Who tells it.
pub(in crate::wiring) enum Teller {
    /// The fleet that settings describe, which is always there.
    Settings(Publisher),
    /// The fleet of this name that an Object describes. It may come and go; while it is gone, what
    /// is served stays.
    Object(FleetName, watch::Receiver<Arc<FleetFeeds>>, Option<Publisher>),
}

impl Teller {
    /// What to tell the replica next; none when there will be nothing more. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<ToReplica> {
        match self {
            Self::Settings(publisher) => publisher.next().await,
            Self::Object(name, feeds, publisher) => loop {
                let known = feeds.borrow_and_update().get(name).cloned();
                if let (None, Some(feed)) = (&publisher, known) {
                    let endpoints = feed.endpoints.follow();
                    *publisher = Some(Publisher::inside(name.clone(), feed.newest, endpoints));
                }
                if let Some(there) = publisher {
                    if let Some(message) = there.next().await {
                        return Some(message);
                    }
                    *publisher = None;
                }
                // Until it comes, or comes again.
                feeds.changed().await.ok()?;
            },
        }
    }

    /// Takes in what the replica says.
    pub(super) fn heard(&mut self, message: &FromReplica) {
        match self {
            Self::Settings(publisher) => publisher.heard(message),
            Self::Object(_, _, publisher) => {
                if let Some(publisher) = publisher {
                    publisher.heard(message);
                }
            }
        }
    }
}
