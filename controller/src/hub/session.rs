//! One line: what its publisher says, what is asked, and what the replica tells.

use std::sync::Arc;
use std::time::Duration;

use kubeng_config::name::{FleetName, ReplicaName};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::distribution::publisher::Publisher;
use crate::distribution::{FromReplica, ToReplica};
use crate::replicas::entry::ReplicaId;
use crate::replicas::metrics::ReplicaMetrics;
use crate::replicas::registry::{Joined, Registry};

/// How long a replica may leave unread what it is told. Then the line ends, and it joins again.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// The line to one replica while it lasts.
pub(super) struct Session {
    pub(super) id: ReplicaId,
    pub(super) registry: Arc<Registry>,
    pub(super) metrics: Arc<ReplicaMetrics>,
    pub(super) publisher: Publisher,
    pub(super) joined: Joined,
    pub(super) to: mpsc::Sender<ToReplica>,
    pub(super) from: mpsc::Receiver<FromReplica>,
}

/// Why a line ends.
#[derive(Debug)]
enum End {
    Stopped,
    Replaced,
    Gone,
    Unread,
    FleetGone,
}

impl Session {
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let ReplicaId { fleet, name } = &self.id;
        let (fleet, name): (FleetName, ReplicaName) = (fleet.clone(), name.clone());
        info!(%fleet, replica = %name, "replica joined");
        let end = self.drive(stop).await;
        self.registry.left(&self.id, self.joined.connection);
        match end {
            End::Unread => warn!(%fleet, replica = %name, "replica reads nothing; its line ends"),
            End::Stopped | End::Replaced | End::Gone | End::FleetGone => {
                debug!(%fleet, replica = %name, ?end, "line to replica ended");
            }
        }
    }

    async fn drive(&mut self, stop: CancellationToken) -> End {
        let mut had_room = Instant::now();
        let mut on_the_way = OnTheWay::since(had_room.into_std());
        loop {
            if self.to.capacity() > 0 {
                had_room = Instant::now();
            }
            let ended = self.joined.ended.clone();
            let (publisher, joined) = (&mut self.publisher, &mut self.joined);
            let said = Said { publisher, joined, on_the_way: &mut on_the_way };
            let (to, registry, id) = (&self.to, &self.registry, &self.id);
            let told = tokio::select! {
                // Who was replaced says nothing more that counts.
                biased;
                () = stop.cancelled() => return End::Stopped,
                () = ended.cancelled() => return End::Replaced,
                told = self.from.recv() => told,
                end = said.pass_on(to, registry, id, had_room + UNREAD_MAX) => match end {
                    Some(end) => return end,
                    None => continue,
                },
            };
            match told {
                None => return End::Gone,
                Some(FromReplica::Reply { id, reply }) => {
                    self.registry.replied(&self.id, id, reply);
                }
                Some(message) => {
                    if let Some(received) = on_the_way.arrived(&message) {
                        self.metrics.propagated(&self.id.fleet, received.elapsed());
                    }
                    self.registry.told(&self.id, &message);
                    self.publisher.heard(&message);
                }
            }
        }
    }
}

/// All that may be said to the replica.
struct Said<'a> {
    publisher: &'a mut Publisher,
    joined: &'a mut Joined,
    on_the_way: &'a mut OnTheWay,
}

impl Said<'_> {
    /// Says one thing as soon as there is room and something to say. Cancel safe: what was taken is
    /// said without waiting.
    async fn pass_on(
        self,
        to: &mpsc::Sender<ToReplica>,
        registry: &Registry,
        id: &ReplicaId,
        until: Instant,
    ) -> Option<End> {
        let Joined { connection: _, ended: _, asked, count: _ } = self.joined;
        let room = match tokio::time::timeout_at(until, to.reserve()).await {
            Ok(Ok(room)) => room,
            Ok(Err(_)) => return Some(End::Gone),
            Err(_) => return Some(End::Unread),
        };
        let message = tokio::select! {
            () = to.closed() => return Some(End::Gone),
            message = self.publisher.next() => match message {
                None => return Some(End::FleetGone),
                Some(message) => message,
            },
            Some((id, question)) = asked.recv() => ToReplica::Ask { id, question },
        };
        self.on_the_way.sent(&message);
        registry.sent(id, &message);
        room.send(message);
        None
    }
}

/// The Offer that is not answered, to measure how long it took.
struct OnTheWay {
    began: std::time::Instant,
    offer: Option<(u64, std::time::Instant)>,
}

impl OnTheWay {
    fn since(began: std::time::Instant) -> Self {
        Self { began, offer: None }
    }

    fn sent(&mut self, message: &ToReplica) {
        if let ToReplica::Offer(offer) = message {
            // What had been read before the replica came is not late for it.
            let received = offer.received.filter(|received| *received >= self.began);
            self.offer = received.map(|received| (offer.nonce, received));
        }
    }

    /// When the oldest event had been read of what `message` says is served.
    fn arrived(&mut self, message: &FromReplica) -> Option<std::time::Instant> {
        let FromReplica::Ack { nonce, .. } = message else { return None };
        self.offer.take_if(|(sent, _)| sent == nonce).map(|(_, received)| received)
    }
}
