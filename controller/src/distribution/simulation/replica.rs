//! One replica: a Follower, what it holds, and a disk. It checks itself against what was promised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kubeng_config::canonical::Digest;
use kubeng_config::delta::PartKey;
use kubeng_config::endpoint::EndpointSet;
use kubeng_config::name::BackendId;
use kubeng_config::position::Position;
use kubeng_config::snapshot::Snapshot;
use kubeng_config::statement::{Epoch, SignedStatement, Statement};

use super::super::follower::Follower;
use super::super::signing::VerifyingKeys;
use super::super::{FromReplica, NackReason, Offer, ToReplica};
use super::library::Library;
use super::{Carried, Sabotage};

pub(super) struct Replica {
    pub(super) follower: Follower,
    pub(super) snapshot: Snapshot,
    pub(super) endpoints: BTreeMap<BackendId, Arc<EndpointSet>>,
    pub(super) connection: Option<u32>,
    /// Whether it rejects what is poisoned.
    pub(super) is_picky: bool,
    believed: Option<VerifyingKeys>,
    disk: Disk,
    sabotage: Sabotage,
    /// The newest epoch that it has been told by a controller, however it answered.
    told: Epoch,
    /// What it served at the last check.
    served: Option<Statement>,
}

/// What survives a restart.
#[derive(Clone)]
struct Disk {
    heard: Epoch,
    serves: Option<SignedStatement>,
    snapshot: Snapshot,
    endpoints: BTreeMap<BackendId, Arc<EndpointSet>>,
}

impl Replica {
    pub(super) fn new(library: &Library, is_signed: bool, sabotage: Sabotage) -> Self {
        let believed = is_signed.then(|| library.believed.clone());
        let snapshot = library.nothing.clone();
        let endpoints = BTreeMap::new();
        let (heard, serves) = (Epoch(0), None);
        Self {
            follower: Follower::new("prod".parse().unwrap(), believed.clone(), None),
            snapshot: snapshot.clone(),
            endpoints: endpoints.clone(),
            connection: None,
            is_picky: false,
            believed,
            disk: Disk { heard, serves, snapshot, endpoints },
            sabotage,
            told: Epoch(0),
            served: None,
        }
    }

    /// Writes what it serves, some time after it was applied.
    pub(super) fn persist(&mut self) {
        self.disk = Disk {
            heard: self.follower.epoch(),
            serves: self.follower.serves().cloned(),
            snapshot: self.snapshot.clone(),
            endpoints: self.endpoints.clone(),
        };
    }

    /// Begins again from disk.
    pub(super) fn restart(&mut self) {
        let Disk { heard, serves, snapshot, endpoints } = self.disk.clone();
        self.served = serves.as_ref().map(|signed| signed.statement.clone());
        let fleet = "prod".parse().unwrap();
        self.follower = Follower::new(fleet, self.believed.clone(), serves);
        if self.sabotage != Sabotage::ForgetsEpochs {
            self.follower = self.follower.clone().having_heard(heard);
        }
        (self.snapshot, self.endpoints, self.connection) = (snapshot, endpoints, None);
    }

    /// Begins again on another disk.
    pub(super) fn replace(&mut self, library: &Library) {
        let (is_picky, is_signed) = (self.is_picky, self.believed.is_some());
        *self = Self { is_picky, ..Self::new(library, is_signed, self.sabotage) };
    }

    /// What its Hello says.
    pub(super) fn says_it_serves(&self) -> Option<SignedStatement> {
        let mut serves = self.follower.serves().cloned();
        if let (Some(signed), Sabotage::GoesBack) = (&mut serves, self.sabotage) {
            signed.statement.position = Position::default();
        }
        serves
    }

    /// Takes a message in, and answers.
    pub(super) fn take(
        &mut self,
        carried: &Carried,
        library: &Library,
    ) -> Result<Option<FromReplica>, String> {
        match &*carried.message {
            ToReplica::Offer(offer) => {
                let answer = self.take_offer(offer, library);
                if carried.is_genuine {
                    self.told = self.told.max(offer.statement.statement.epoch);
                } else if matches!(answer, FromReplica::Ack { .. }) {
                    return Err("a forged Offer was taken".into());
                }
                Ok(Some(answer))
            }
            ToReplica::Endpoints { .. } if self.sabotage == Sabotage::DropsEndpoints => Ok(None),
            ToReplica::Endpoints { sets, received: _ } => {
                for (id, set) in sets {
                    if let Some(held) = self.endpoints.get_mut(id) {
                        held.clone_from(set);
                    }
                }
                Ok(None)
            }
            ToReplica::TellHoldings => Ok(Some(self.holdings(library))),
            ToReplica::Replicas(_) | ToReplica::Pulse(_) | ToReplica::Ask { .. } => Ok(None),
        }
    }

    fn holdings(&self, library: &Library) -> FromReplica {
        let parts = library.nothing.delta_to(&self.snapshot).upserts;
        let parts = parts.iter().map(|part| (part.key(), part.digest())).collect();
        FromReplica::Holdings(self.snapshot.digest(), parts)
    }

    fn take_offer(&mut self, offer: &Offer, library: &Library) -> FromReplica {
        let nack = |reason| FromReplica::Nack { nonce: offer.nonce, reason, problems: Vec::new() };
        let judged = self.follower.judge(offer, self.snapshot.digest());
        self.disk.heard = self.disk.heard.max(self.follower.epoch());
        let is_let_through = match (self.sabotage, judged) {
            (_, Ok(())) => true,
            (Sabotage::TakesOlderEpochs, Err(NackReason::Epoch))
            | (Sabotage::GoesBack, Err(NackReason::Behind))
            | (Sabotage::BelievesAll, Err(NackReason::Unbelieved)) => {
                offer.delta.base == self.snapshot.digest()
            }
            (_, Err(_)) => false,
        };
        if let (Err(reason), false) = (judged, is_let_through) {
            return nack(reason);
        }
        if self.is_picky && library.is_poisoned(offer.delta.target) {
            return nack(NackReason::Rejected);
        }
        let Ok(newer) = library.with(&self.snapshot, &offer.delta) else {
            return nack(NackReason::Rejected);
        };
        self.put(offer, newer);
        self.follower.applied(offer);
        let digest = self.snapshot.digest();
        FromReplica::Ack { nonce: offer.nonce, digest, problems: Vec::new() }
    }

    fn put(&mut self, offer: &Offer, newer: Snapshot) {
        self.snapshot = match (self.sabotage, offer.delta.upserts.split_last()) {
            // Where the rest does not stand by itself, all of it.
            (Sabotage::AppliesHalf, Some((_, most))) => {
                self.snapshot.edited(most.iter().cloned(), []).unwrap_or(newer)
            }
            _ => newer,
        };
        let snapshot = &self.snapshot;
        self.endpoints.retain(|id, _| snapshot.backends().contains(id));
        self.endpoints.extend(offer.delta.endpoints.iter().cloned());
    }

    /// Whether all promises are kept.
    pub(super) fn check(&mut self, published: &BTreeSet<Digest>) -> Result<(), String> {
        let now = self.follower.serves().map(|signed| &signed.statement);
        if now == self.served.as_ref() {
            return Ok(());
        }
        let now = now.ok_or("it forgot what it serves")?.clone();
        if now.epoch < self.told {
            return Err(format!("epoch {} was taken, {} had been heard", now.epoch, self.told));
        }
        if let Some(before) = &self.served
            && before.epoch == now.epoch
            && now.position.is_behind(&before.position)
        {
            return Err(format!("it went back from {} to {}", before.position, now.position));
        }
        let digest = self.snapshot.digest();
        if digest != now.target || !published.contains(&digest) {
            return Err(format!("it runs {digest:?}, which nobody published"));
        }
        let has_endpoints = |id: &BackendId| self.endpoints.contains_key(id);
        if let Some((id, _)) = self.snapshot.backends().iter().find(|(id, _)| !has_endpoints(id)) {
            return Err(format!("{} is served without Endpoints", PartKey::Backend(id.clone())));
        }
        self.served = Some(now);
        Ok(())
    }
}
