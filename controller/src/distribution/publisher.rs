//! One publisher per replica: always the difference to the newest, never a queue.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use kubeng_config::backend::EndpointSource;
use kubeng_config::delta::{AnyPart, Delta};
use kubeng_config::endpoint::EndpointSet;
use kubeng_config::name::{BackendId, FleetName};
use kubeng_config::position::Position;
use kubeng_config::snapshot::Snapshot;
use kubeng_config::statement::{Epoch, MODEL_VERSION, SignedStatement, Statement};
use tokio::sync::{Notify, watch};

use super::{FromReplica, Offer, ToReplica};
use crate::world::World;

/// A Snapshot with what travels beside it. A clone is a few pointers.
#[derive(Clone, Default)]
pub struct Published {
    /// The Snapshot.
    pub snapshot: Snapshot,
    /// The World that it comes from, which knows the private keys.
    pub world: Option<World>,
    /// The Endpoints of every Backend that has any.
    pub endpoints: imbl::HashMap<BackendId, Arc<EndpointSet>>,
    /// How far the sources had been read for it.
    pub position: Position,
    /// When the oldest event behind it that is not served yet had been read.
    pub received: Option<Instant>,
}

/// Endpoint sets that are waiting to be sent: the newest of each Backend.
///
/// It is bounded by the number of Backends.
#[derive(Default)]
pub struct PendingEndpoints {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    sets: HashMap<BackendId, Arc<EndpointSet>>,
    received: Option<Instant>,
}

impl PendingEndpoints {
    /// Puts newer sets in the place of those that wait.
    pub fn put(&self, sets: Vec<(BackendId, Arc<EndpointSet>)>, received: Instant) {
        if sets.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.sets.extend(sets);
        waiting.received = Some(waiting.received.map_or(received, |old| old.min(received)));
        drop(waiting);
        self.arrived.notify_one();
    }

    fn take(&self) -> Waiting {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Tells one replica what to serve, and remembers what it has acknowledged.
pub struct Publisher {
    newest: watch::Receiver<Arc<Published>>,
    endpoints: Arc<PendingEndpoints>,
    fleet: FleetName,
    epoch: Epoch,
    acknowledged: Snapshot,
    /// What was sent and is not answered.
    sent: Option<Snapshot>,
    /// Of the last Offer.
    nonce: u64,
}

impl Publisher {
    /// A publisher for a replica that serves nothing yet.
    #[must_use]
    pub fn new(
        fleet: FleetName,
        epoch: Epoch,
        mut newest: watch::Receiver<Arc<Published>>,
        endpoints: Arc<PendingEndpoints>,
    ) -> Self {
        newest.mark_changed();
        let acknowledged = Snapshot::default();
        Self { newest, endpoints, fleet, epoch, acknowledged, sent: None, nonce: 0 }
    }

    /// What to tell the replica next; `None` when there will be nothing more.
    ///
    /// Endpoints never wait for a configuration. Cancel safe.
    pub async fn next(&mut self) -> Option<ToReplica> {
        loop {
            tokio::select! {
                biased;
                () = self.endpoints.arrived.notified() => {
                    if let Some(message) = self.endpoint_message() {
                        return Some(message);
                    }
                }
                changed = self.newest.changed() => {
                    changed.ok()?;
                    if let Some(message) = self.delta_message() {
                        return Some(message);
                    }
                }
            }
        }
    }

    /// Takes the answer to the Offer that was sent.
    pub fn answered(&mut self, answer: &FromReplica) {
        match answer {
            FromReplica::Ack { nonce, .. } if *nonce == self.nonce => {
                if let Some(sent) = self.sent.take() {
                    self.acknowledged = sent;
                }
            }
            // The replica keeps what it had; the next Snapshot is compared with that.
            FromReplica::Nack { nonce, .. } if *nonce == self.nonce => self.sent = None,
            FromReplica::Ack { .. }
            | FromReplica::Nack { .. }
            | FromReplica::Hello(_)
            | FromReplica::Holdings(..)
            | FromReplica::Heartbeat(_)
            | FromReplica::Reply { .. } => {}
        }
    }

    fn endpoint_message(&self) -> Option<ToReplica> {
        let waiting = self.endpoints.take();
        let sets: Vec<_> = waiting
            .sets
            .into_iter()
            .filter(|(id, _)| self.acknowledged.backends().contains(id))
            .collect();
        // A Backend that is not served yet gets its newest set with the Delta that brings it.
        (!sets.is_empty()).then_some(ToReplica::Endpoints { sets, received: waiting.received })
    }

    fn delta_message(&mut self) -> Option<ToReplica> {
        let newest = Arc::clone(&self.newest.borrow_and_update());
        let mut delta = self.acknowledged.delta_to(&newest.snapshot);
        if delta.is_empty() {
            return None;
        }
        complete(&mut delta, &newest);
        self.sent = Some(newest.snapshot.clone());
        self.nonce += 1;
        let statement = Statement {
            fleet: self.fleet.clone(),
            epoch: self.epoch,
            position: newest.position.clone(),
            target: delta.target,
            model_version: MODEL_VERSION,
        };
        let statement = SignedStatement { statement, signature: None };
        let offer = Offer { nonce: self.nonce, delta, statement, received: newest.received };
        Some(ToReplica::Offer(Box::new(offer)))
    }
}

/// Adds the Endpoints of Backends and the keys of Certificates that come with the Delta.
fn complete(delta: &mut Delta, newest: &Published) {
    delta.secrets = newest.world.as_ref().map_or_else(Vec::new, |world| world.secrets_of(delta));
    for part in &delta.upserts {
        match part {
            AnyPart::Backend(id, part) => match part.value().endpoints {
                EndpointSource::Discovered => {
                    let set = newest.endpoints.get(id).cloned().unwrap_or_default();
                    delta.endpoints.push((id.clone(), set));
                }
                EndpointSource::Written(_) => {}
            },
            AnyPart::Certificate(..)
            | AnyPart::Listener(..)
            | AnyPart::Policy(..)
            | AnyPart::ServerName(..)
            | AnyPart::Route(..) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use kubeng_config::address::AddressRule;
    use kubeng_config::backend::{Backend, BackendProtocol};
    use kubeng_config::canonical::Digest;
    use kubeng_config::endpoint::Endpoint;
    use kubeng_config::part::Part;

    use super::super::NackReason;
    use super::*;

    fn backend() -> (BackendId, Snapshot) {
        let id: BackendId = "Service/shop/web:80".parse().unwrap();
        let backend = Part::new(Backend {
            protocol: BackendProtocol::Http1,
            tls: None,
            balance: Default::default(),
            affinity: None,
            resilience: None,
            endpoints: EndpointSource::Discovered,
            resolve: None,
            addresses: AddressRule::Tenant,
            proxy_protocol: None,
        });
        let parts = [AnyPart::Backend(id.clone(), backend)];
        (id, Snapshot::default().edited(parts, []).unwrap())
    }

    fn set(port: u16) -> Arc<EndpointSet> {
        Arc::new(EndpointSet::new(vec![Endpoint::new(([10, 0, 0, 1], port).into())]))
    }

    fn publisher(
        newest: watch::Receiver<Arc<Published>>,
        pending: &Arc<PendingEndpoints>,
    ) -> Publisher {
        Publisher::new("default".parse().unwrap(), Epoch(1), newest, Arc::clone(pending))
    }

    fn ack(nonce: u64) -> FromReplica {
        FromReplica::Ack { nonce, digest: Digest::default(), problems: Vec::new() }
    }

    fn nack(nonce: u64) -> FromReplica {
        FromReplica::Nack { nonce, reason: NackReason::Rejected, problems: Vec::new() }
    }

    /// As the loop does it: first where Deltas take them from, then the message.
    fn tell(
        published: &watch::Sender<Arc<Published>>,
        pending: &PendingEndpoints,
        sets: Vec<(BackendId, Arc<EndpointSet>)>,
    ) {
        published.send_if_modified(|published| {
            for (id, set) in &sets {
                Arc::make_mut(published).endpoints.insert(id.clone(), Arc::clone(set));
            }
            false
        });
        pending.put(sets, Instant::now());
    }

    #[tokio::test]
    async fn endpoints_that_come_before_their_backend_is_served_come_with_it() {
        let (id, snapshot) = backend();
        let (published, newest) = watch::channel(Arc::new(Published::default()));
        let pending = Arc::new(PendingEndpoints::default());
        let mut publisher = publisher(newest, &pending);
        tell(&published, &pending, vec![(id.clone(), set(1))]);
        published.send_modify(|published| Arc::make_mut(published).snapshot = snapshot);
        tell(&published, &pending, vec![(id.clone(), set(2))]);
        let Some(ToReplica::Offer(offer)) = publisher.next().await else {
            panic!("the configuration comes first: nothing else is served")
        };
        assert_eq!(offer.delta.endpoints, [(id.clone(), set(2))], "the newest set comes with it");
        publisher.answered(&ack(offer.nonce));
        tell(&published, &pending, vec![(id.clone(), set(3))]);
        let Some(ToReplica::Endpoints { sets, .. }) = publisher.next().await else {
            panic!("a served Backend gets its Endpoints by themselves")
        };
        assert_eq!(sets, [(id, set(3))]);
    }

    #[tokio::test]
    async fn what_was_rejected_is_compared_with_what_is_served() {
        let (_, snapshot) = backend();
        let (published, newest) = watch::channel(Arc::new(Published::default()));
        let mut publisher = publisher(newest, &Arc::default());
        published.send_modify(|published| Arc::make_mut(published).snapshot = snapshot.clone());
        for answer in [nack, ack] {
            let Some(ToReplica::Offer(offer)) = publisher.next().await else {
                panic!("there is a difference")
            };
            assert_eq!(offer.delta.upserts.len(), 1, "all of it is sent, also for the second time");
            publisher.answered(&answer(offer.nonce));
            published.send_modify(|_| ());
        }
        drop(published);
        assert!(publisher.next().await.is_none(), "nothing differs any more");
    }
}
