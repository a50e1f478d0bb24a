//! What one replica is told next, decided without a channel and without a clock.
//!
//! One Session lives as long as one connection. Its inputs are what the replica says and what is
//! newest in the fleet; its output is the next message. It never has more than one Offer or question
//! for holdings open, so nothing queues: what changed meanwhile is in the next difference.

mod due;
mod held;

use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use kubeng_config::backend::EndpointSource;
use kubeng_config::canonical::Digest;
use kubeng_config::delta::{AnyPart, Delta, PartKey};
use kubeng_config::endpoint::EndpointSet;
use kubeng_config::fleet::Pulse;
use kubeng_config::name::{BackendId, FleetName};
use kubeng_config::snapshot::Snapshot;
use kubeng_config::statement::{Epoch, MODEL_VERSION, SignedStatement, Statement};

use super::history::History;
use super::publisher::Published;
use super::signing::SigningKey;
use super::{FromReplica, NackReason, Offer, ToReplica};
use due::DueEndpoints;
use held::Held;

/// The conversation with one replica, from its Hello to the end of the connection.
pub struct Session {
    fleet: FleetName,
    signer: Option<Arc<SigningKey>>,
    history: Arc<History>,
    epoch: Epoch,
    newest: Option<Newest>,
    /// What the replica serves, as far as it is known what that consists of.
    held: Held,
    /// The Statement behind it: what it has acknowledged, or said in its Hello.
    serves: Option<Statement>,
    awaited: Option<Awaited>,
    nonce: u64,
    /// An epoch that the replica has heard of. While ours is older, we are deposed.
    heard: Epoch,
    /// The last Offer that was not taken, until one is.
    refused: Option<(NackReason, Statement)>,
    /// For which target its holdings were asked since it took something last.
    asked_for: Option<(Epoch, Digest)>,
    due: DueEndpoints,
    live: Option<NonZeroU32>,
    told_live: Option<NonZeroU32>,
    told_pulse: Option<Pulse>,
}

/// What is to be served. Its digest is made once, for it is looked at whenever anything happens.
struct Newest {
    published: Arc<Published>,
    target: Digest,
}

/// What the replica has not answered yet.
#[expect(clippy::large_enum_variant, reason = "there is one for each replica")]
enum Awaited {
    Holdings,
    Answer { snapshot: Snapshot, statement: Statement },
}

impl Session {
    /// A conversation with a replica of `fleet` that says that it serves `serves`, or nothing.
    ///
    /// If `history` has that Snapshot, the first Delta starts from it. Otherwise the replica is asked
    /// for its holdings. Without a `signer` nothing is signed, as inside one process.
    #[must_use]
    pub fn new(
        fleet: FleetName,
        serves: Option<&SignedStatement>,
        history: Arc<History>,
        signer: Option<Arc<SigningKey>>,
    ) -> Self {
        let serves = serves.map(|signed| signed.statement.clone());
        let held = match &serves {
            None => Held::of(NOTHING.clone()),
            Some(statement) => history.find(statement.target).map_or(Held::Unknown, Held::of),
        };
        Self {
            fleet,
            signer,
            history,
            epoch: Epoch::default(),
            newest: None,
            held,
            heard: serves.as_ref().map_or_else(Epoch::default, |statement| statement.epoch),
            // They may have changed since it heard of them last.
            due: DueEndpoints::of_a_replica(serves.is_some()),
            serves,
            awaited: None,
            nonce: 0,
            refused: None,
            asked_for: None,
            live: None,
            told_live: None,
            told_pulse: None,
        }
    }

    /// Takes in what is to be served, and the Endpoints beside it.
    pub fn published(&mut self, newest: Arc<Published>) {
        if self.newest.as_ref().is_none_or(|known| !Arc::ptr_eq(&known.published, &newest)) {
            let target = newest.snapshot.digest();
            self.newest = Some(Newest { published: newest, target });
        }
    }

    /// Takes in Endpoints that have changed. They do not wait, but for one: a Backend loses its last
    /// Endpoint after the replica has answered what is newest now, for that may lead elsewhere.
    /// What is to be served must have been taken in after them,
    /// so that those of Backends that are not served yet are in it.
    pub fn endpoints(
        &mut self,
        sets: impl IntoIterator<Item = (BackendId, Arc<EndpointSet>)>,
        received: Option<Instant>,
    ) {
        let sets: Vec<_> = sets.into_iter().filter(|(id, _)| self.may_serve(id)).collect();
        if !sets.is_empty() {
            let behind = self.next_answer();
            self.due.put(sets, received, behind);
        }
    }

    /// The Offer after whose answer the replica serves what is newest now; none when it does already,
    /// or will not.
    fn next_answer(&self) -> Option<u64> {
        let Newest { published, target } = self.newest.as_ref()?;
        match &self.awaited {
            Some(Awaited::Answer { statement, .. }) => {
                Some(if statement.target == *target { self.nonce } else { self.nonce + 1 })
            }
            Some(Awaited::Holdings) => None,
            None => {
                let is_served = self.held.digest() == Some(*target) && self.is_told(*target);
                let is_refused = || self.is_refused(&self.statement(published, *target));
                (!is_served && !self.is_deposed() && !is_refused()).then_some(self.nonce + 1)
            }
        }
    }

    fn statement(&self, newest: &Published, target: Digest) -> Statement {
        Statement {
            fleet: self.fleet.clone(),
            epoch: self.epoch,
            position: newest.position.clone(),
            target,
            model_version: MODEL_VERSION,
        }
    }

    /// Takes in the term of leadership.
    pub fn epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// Takes in how many replicas the fleet has.
    pub fn replicas(&mut self, live: NonZeroU32) {
        self.live = Some(live);
    }

    /// What the replica has acknowledged last, or said in its Hello.
    #[must_use]
    pub fn serves(&self) -> Option<&Statement> {
        self.serves.as_ref()
    }

    /// What it was offered and has not answered.
    #[must_use]
    pub fn offered(&self) -> Option<&Statement> {
        match &self.awaited {
            Some(Awaited::Answer { statement, .. }) => Some(statement),
            Some(Awaited::Holdings) | None => None,
        }
    }

    /// Whether the replica has heard of a newer epoch. Then it is told nothing until ours rises: not
    /// even Endpoints, for who does not know the leader may not know them either.
    #[must_use]
    pub fn is_deposed(&self) -> bool {
        self.epoch < self.heard
    }

    /// What to tell the replica; none while there is nothing, or an answer must come first.
    pub fn say(&mut self) -> Option<ToReplica> {
        if self.live != self.told_live {
            self.told_live = self.live;
            return self.live.map(ToReplica::Replicas);
        }
        let Newest { published, target } = self.newest.as_ref()?;
        let (newest, target) = (Arc::clone(published), *target);
        if self.is_deposed() || is_nothing(&newest) {
            return None;
        }
        if newest.pulse != self.told_pulse {
            self.told_pulse = newest.pulse;
            if let Some(pulse) = newest.pulse {
                return Some(ToReplica::Pulse(pulse));
            }
        }
        // They never wait for a configuration.
        if let Some(message) = self.due.message(&self.held, &newest) {
            return Some(message);
        }
        if self.awaited.is_some() {
            return None;
        }
        let next = match self.held.digest() {
            None => self.ask(target),
            Some(held) if held == target && self.is_told(target) => None,
            Some(_) => self.offer(&newest, target),
        };
        if next.is_some() {
            return next;
        }
        // The Offer that they waited for is not made: what was newest then is so no more.
        self.due.answered(u64::MAX);
        self.due.message(&self.held, &newest)
    }

    /// Takes in what the replica says.
    pub fn heard(&mut self, message: &FromReplica) {
        match message {
            FromReplica::Ack { nonce, digest, problems: _ } if *nonce == self.nonce => {
                self.acknowledged(*digest);
            }
            FromReplica::Nack { nonce, reason, problems: _ } if *nonce == self.nonce => {
                self.not_taken(*reason);
            }
            FromReplica::Holdings(digest, parts) => self.told_holdings(*digest, parts),
            FromReplica::Heartbeat(heartbeat) => self.heard = self.heard.max(heartbeat.epoch),
            // Of an Offer that nobody waits for, or for others to hear.
            FromReplica::Ack { .. }
            | FromReplica::Nack { .. }
            | FromReplica::Hello(_)
            | FromReplica::Unread(_)
            | FromReplica::Reply { .. } => {}
        }
    }

    fn acknowledged(&mut self, digest: Digest) {
        let Some((snapshot, statement)) = self.answered() else { return };
        if digest == statement.target {
            self.held = Held::Snapshot { digest, snapshot };
            self.serves = Some(statement);
            self.refused = None;
            self.asked_for = None;
        } else {
            // It says that it serves something else: then it must tell what.
            self.held = Held::Unknown;
        }
    }

    fn not_taken(&mut self, reason: NackReason) {
        let Some((_, statement)) = self.answered() else { return };
        match reason {
            NackReason::Base => self.held = Held::Unknown,
            NackReason::Epoch => {
                self.heard = self.heard.max(Epoch(statement.epoch.0.saturating_add(1)));
            }
            NackReason::Rejected | NackReason::Behind | NackReason::Unbelieved => {
                self.refused = Some((reason, statement));
            }
        }
    }

    fn answered(&mut self) -> Option<(Snapshot, Statement)> {
        match self.awaited.take() {
            Some(Awaited::Answer { snapshot, statement }) => {
                self.due.answered(self.nonce);
                Some((snapshot, statement))
            }
            other @ (Some(Awaited::Holdings) | None) => {
                self.awaited = other;
                None
            }
        }
    }

    fn told_holdings(&mut self, digest: Digest, parts: &[(PartKey, Digest)]) {
        if !matches!(self.awaited, Some(Awaited::Holdings)) {
            return;
        }
        self.awaited = None;
        self.held = match self.history.find(digest) {
            Some(snapshot) => Held::Snapshot { digest, snapshot },
            None => Held::Parts { digest, parts: parts.iter().cloned().collect() },
        };
        self.due.all();
    }

    /// Whether the replica serves the Backend, or will when it has taken what it was sent.
    fn may_serve(&self, id: &BackendId) -> bool {
        let is_sent = match &self.awaited {
            Some(Awaited::Answer { snapshot, .. }) => snapshot.backends().contains(id),
            Some(Awaited::Holdings) | None => false,
        };
        let newest = || {
            let newest = self.newest.as_ref();
            newest.is_some_and(|newest| newest.published.snapshot.backends().contains(id))
        };
        is_sent || self.held.has_backend(id).unwrap_or_else(newest)
    }

    /// Asks for its holdings: once for each target, until it has taken something. A replica whose
    /// holdings lead to nothing would be asked in a circle otherwise.
    fn ask(&mut self, target: Digest) -> Option<ToReplica> {
        let asked_for = Some((self.epoch, target));
        if self.asked_for == asked_for {
            return None;
        }
        self.asked_for = asked_for;
        self.awaited = Some(Awaited::Holdings);
        Some(ToReplica::TellHoldings)
    }

    fn offer(&mut self, newest: &Published, target: Digest) -> Option<ToReplica> {
        let statement = self.statement(newest, target);
        if self.is_refused(&statement) {
            return None;
        }
        let mut delta = self.held.delta_to(&newest.snapshot)?;
        complete(&mut delta, newest);
        self.nonce += 1;
        let snapshot = newest.snapshot.clone();
        self.awaited = Some(Awaited::Answer { snapshot, statement: statement.clone() });
        let statement = match &self.signer {
            Some(key) => key.sign(statement),
            None => SignedStatement { statement, signature: None },
        };
        let offer = Offer { nonce: self.nonce, delta, statement, received: newest.received };
        Some(ToReplica::Offer(Box::new(offer)))
    }

    /// Whether the replica knows that `target` is wanted. Of a new epoch it is told also when no Part
    /// changes, so that it hears no earlier leader any more.
    fn is_told(&self, target: Digest) -> bool {
        match &self.serves {
            Some(serves) => serves.target == target && serves.epoch == self.epoch,
            None => true,
        }
    }

    /// Whether the replica would not take `next`, by what it serves and has answered.
    fn is_refused(&self, next: &Statement) -> bool {
        let is_behind = |serves: &Statement| {
            serves.epoch == next.epoch && next.position.is_behind(&serves.position)
        };
        if self.serves.as_ref().is_some_and(is_behind) {
            return true;
        }
        let Some((reason, refused)) = &self.refused else { return false };
        // In a new epoch it is asked once more: it must hear of it anyway.
        refused.epoch == next.epoch
            && match reason {
                NackReason::Rejected | NackReason::Unbelieved => refused.target == next.target,
                NackReason::Behind => !refused.position.is_behind(&next.position),
                NackReason::Base | NackReason::Epoch => false,
            }
    }
}

/// Whether nothing has been published yet: then what is served stays.
fn is_nothing(published: &Published) -> bool {
    let Published { snapshot, world, endpoints: _, position: _, received: _, pulse: _ } = published;
    world.is_none()
        && snapshot.listeners().is_empty()
        && snapshot.routes().is_empty()
        && snapshot.backends().is_empty()
        && snapshot.policies().is_empty()
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

/// What a replica holds before it is told anything.
static NOTHING: LazyLock<Snapshot> = LazyLock::new(Snapshot::default);

#[cfg(test)]
mod tests;
