//! One publisher per replica: always the difference to the newest, never a queue.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use kubeng_config::endpoint::EndpointSet;
use kubeng_config::fleet::Pulse;
use kubeng_config::name::{BackendId, FleetName};
use kubeng_config::position::Position;
use kubeng_config::snapshot::Snapshot;
use kubeng_config::statement::Epoch;
use tokio::sync::{Notify, watch};

use super::feed::FleetFeed;
use super::history::History;
use super::session::Session;
use super::signing::SigningKey;
use super::{FromReplica, Hello, ToReplica};
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
    /// What replicas carry out by themselves; none: they are not told.
    pub pulse: Option<Pulse>,
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

/// Tells one replica what to serve, as its [`Session`] decides.
pub struct Publisher {
    session: Session,
    /// Where a replica that comes back finds its Snapshot; absent where none ever comes back.
    history: Option<Arc<History>>,
    newest: watch::Receiver<Arc<Published>>,
    endpoints: Arc<PendingEndpoints>,
    epoch: watch::Receiver<Epoch>,
    replicas: Option<watch::Receiver<NonZeroU32>>,
}

impl Publisher {
    /// A publisher for a replica of the fleet of `feed` that has said `hello`.
    ///
    /// What it says is of the term of leadership in `epoch` and signed by `signer`. `replicas` says
    /// how many are there.
    #[must_use]
    pub fn new(
        feed: &FleetFeed,
        hello: &Hello,
        epoch: watch::Receiver<Epoch>,
        signer: Option<Arc<SigningKey>>,
        replicas: watch::Receiver<NonZeroU32>,
    ) -> Self {
        let FleetFeed { facts, newest, endpoints, history } = feed;
        // Followed before the newest is looked at, so that nothing falls between.
        let (endpoints, mut newest) = (endpoints.follow(), newest.clone());
        history.note(&newest.borrow_and_update().snapshot);
        let history = Arc::clone(history);
        let serves = hello.serves.as_ref();
        let session = Session::new(facts.name.clone(), serves, Arc::clone(&history), signer);
        let history = Some(history);
        Self { session, history, newest, endpoints, epoch, replicas: Some(replicas) }
    }

    /// A publisher for the only replica, in the same process: nothing is signed, nobody else leads, and
    /// the replica serves nothing yet.
    #[must_use]
    pub fn inside(
        fleet: FleetName,
        newest: watch::Receiver<Arc<Published>>,
        endpoints: Arc<PendingEndpoints>,
    ) -> Self {
        let session = Session::new(fleet, None, Arc::default(), None);
        let (_, epoch) = watch::channel(Epoch::default());
        Self { session, history: None, newest, endpoints, epoch, replicas: None }
    }

    /// What to tell the replica next; `None` when there will be nothing more.
    ///
    /// Endpoints never wait for a configuration. Cancel safe.
    pub async fn next(&mut self) -> Option<ToReplica> {
        loop {
            self.look();
            if let Some(message) = self.session.say() {
                return Some(message);
            }
            tokio::select! {
                () = self.endpoints.arrived.notified() => {}
                changed = self.newest.changed() => changed.ok()?,
                () = changed(&mut self.epoch) => {}
                () = replicas_changed(&mut self.replicas) => {}
            }
        }
    }

    /// Takes in what the replica says.
    pub fn heard(&mut self, message: &FromReplica) {
        self.session.heard(message);
    }

    /// The conversation, to see how far it is.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Takes in all that has come. Endpoints first: what is newest then has them as well.
    fn look(&mut self) {
        let Waiting { sets, received } = self.endpoints.take();
        let newest = Arc::clone(&self.newest.borrow_and_update());
        if let Some(history) = &self.history {
            history.note(&newest.snapshot);
        }
        self.session.published(newest);
        self.session.endpoints(sets, received);
        self.session.epoch(*self.epoch.borrow_and_update());
        if let Some(replicas) = &mut self.replicas {
            self.session.replicas(*replicas.borrow_and_update());
        }
    }
}

/// Waits for another value; for ever when nobody can send one any more.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn replicas_changed(replicas: &mut Option<watch::Receiver<NonZeroU32>>) {
    match replicas {
        Some(replicas) => changed(replicas).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use kubeng_config::address::AddressRule;
    use kubeng_config::backend::{Backend, BackendProtocol, EndpointSource};
    use kubeng_config::canonical::Digest;
    use kubeng_config::delta::AnyPart;
    use kubeng_config::endpoint::Endpoint;
    use kubeng_config::fleet::FleetFacts;
    use kubeng_config::heartbeat::Build;
    use kubeng_config::part::Part;
    use kubeng_config::statement::MODEL_VERSION;

    use super::super::Offer;
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
        Publisher::inside("default".parse().unwrap(), newest, Arc::clone(pending))
    }

    fn ack(offer: &Offer) -> FromReplica {
        FromReplica::Ack { nonce: offer.nonce, digest: offer.delta.target, problems: Vec::new() }
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
        publisher.heard(&ack(&offer));
        tell(&published, &pending, vec![(id.clone(), set(3))]);
        let Some(ToReplica::Endpoints { sets, .. }) = publisher.next().await else {
            panic!("a served Backend gets its Endpoints by themselves")
        };
        assert_eq!(sets, [(id, set(3))]);
    }

    #[tokio::test]
    async fn nothing_more_comes_when_nobody_publishes_any_more() {
        let (_, snapshot) = backend();
        let (published, newest) = watch::channel(Arc::new(Published::default()));
        let mut publisher = publisher(newest, &Arc::default());
        published.send_modify(|published| Arc::make_mut(published).snapshot = snapshot);
        drop(published);
        let Some(ToReplica::Offer(offer)) = publisher.next().await else {
            panic!("what was published last is told")
        };
        publisher.heard(&ack(&offer));
        assert!(publisher.next().await.is_none());
    }

    #[tokio::test]
    async fn what_changes_beside_the_configuration_is_told_at_once() {
        let (_, snapshot) = backend();
        let first = Published { snapshot, ..Published::default() };
        let (published, newest) = watch::channel(Arc::new(first));
        let facts = FleetFacts::new("default".parse().unwrap());
        let (endpoints, history) = Default::default();
        let feed = FleetFeed { facts: Arc::new(facts), newest, endpoints, history };
        let (epoch, told_epoch) = watch::channel(Epoch(1));
        let (live, told_live) = watch::channel(NonZeroU32::MIN);
        let hello = Hello {
            replica: "one".parse().unwrap(),
            fleet: "default".parse().unwrap(),
            build: Build {
                version: "1".into(),
                sha256: Digest::default(),
                model_version: MODEL_VERSION,
            },
            admin: None,
            labels: Default::default(),
            certified: Default::default(),
            serves: None,
        };
        let mut publisher = Publisher::new(&feed, &hello, told_epoch, None, told_live);
        let next = publisher.next().await;
        assert!(matches!(next, Some(ToReplica::Replicas(NonZeroU32::MIN))), "{next:?}");
        for term in 1..=3 {
            let Some(ToReplica::Offer(offer)) = publisher.next().await else {
                panic!("term {term} is told")
            };
            assert_eq!(offer.statement.statement.epoch, Epoch(term));
            assert_eq!(offer.delta.upserts.len(), usize::from(term == 1), "no Part changes then");
            publisher.heard(&ack(&offer));
            epoch.send_replace(Epoch(term + 1));
        }
        drop(publisher.next().await);
        let two = NonZeroU32::new(2).unwrap();
        let (told, _) = tokio::join!(publisher.next(), async { live.send_replace(two) });
        assert!(matches!(told, Some(ToReplica::Replicas(live)) if live == two), "{told:?}");
        drop(published);
    }
}
