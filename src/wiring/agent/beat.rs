//! What the replica says of itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kubeng_config::canonical::Digest;
use kubeng_config::heartbeat::{
    Build, Heartbeat, LastKnownGood, Origin, ReportedProblem, Resources, Running,
};
use kubeng_config::name::{FleetName, ReplicaName};
use kubeng_config::statement::SignedStatement;
use kubeng_controller::distribution::Hello;
use kubeng_controller::distribution::follower::Follower;
use kubeng_controller::distribution::signing::VerifyingKeys;
use kubeng_proxy::ProxyFacts;
use std::time::SystemTime;

use super::Agent;

/// Who it is, for as long as the process runs.
#[derive(Clone, Debug)]
pub(in crate::wiring) struct Who {
    pub(in crate::wiring) replica: ReplicaName,
    pub(in crate::wiring) fleet: FleetName,
    pub(in crate::wiring) build: Build,
    pub(in crate::wiring) admin: Option<SocketAddr>,
    pub(in crate::wiring) labels: BTreeMap<String, String>,
}

impl Agent {
    /// The first message of a connection.
    pub(in crate::wiring) fn hello(&self, who: &Who) -> Hello {
        let Who { replica, fleet, build, admin, labels } = who.clone();
        let (certified, serves) = (BTreeMap::new(), self.follower.serves().cloned());
        Hello { replica, fleet, build, admin, labels, certified, serves }
    }

    /// What it really runs; none before it has looked for the first time, or again after a heal.
    pub(in crate::wiring) fn heartbeat(
        &self,
        who: &Who,
        endpoints: Digest,
        resources: Resources,
    ) -> Option<Heartbeat> {
        let (walked, at) = self.walking.newest()?;
        let acknowledged = self.writer.snapshot().digest();
        let age = at.elapsed();
        // What was found before the last change is at least as old as it says.
        let is_older = walked.meant != acknowledged;
        let age_seconds = age.as_secs() + u64::from(is_older);
        let serves = self.follower.serves();
        Some(Heartbeat {
            epoch: self.follower.epoch(),
            position: serves.map(|signed| signed.statement.position.clone()).unwrap_or_default(),
            acknowledged,
            rejected: self.rejected.clone(),
            running: Running {
                digest: walked.digest,
                age_seconds: u32::try_from(age_seconds).unwrap_or(u32::MAX),
            },
            endpoints,
            origin: self.origin,
            last_known_good: self.kept(),
            emergency: self.emergency.as_ref().map(|in_force| in_force.told.clone()),
            build: who.build.clone(),
            resources,
            problems: self.known.all().iter().map(ReportedProblem::from).collect(),
        })
    }

    /// What lies on disk.
    pub(in crate::wiring) fn kept(&self) -> Option<LastKnownGood> {
        self.keeping.as_ref().and_then(|keeping| keeping.state.borrow().clone())
    }

    /// Where what is served came from, and since when it is served.
    pub(in crate::wiring) fn origin(&self) -> (Origin, SystemTime) {
        (self.origin, self.since)
    }

    /// What it serves.
    pub(in crate::wiring) fn serves(&self) -> Option<&SignedStatement> {
        self.follower.serves()
    }

    /// Whether it serves something, and all of its ports are open or were once: a port that comes
    /// later and cannot be opened takes nothing away from those that serve.
    pub(in crate::wiring) fn is_ready(&self) -> bool {
        self.follower.serves().is_some() && (self.was_ready || self.known.unbound.is_empty())
    }

    /// What can be asked of the replica from elsewhere.
    pub(in crate::wiring) fn facts(&self) -> ProxyFacts {
        self.facts.clone()
    }

    /// Believes these keys from here on.
    pub(in crate::wiring) fn believe(&mut self, keys: VerifyingKeys) {
        if self.believed.as_ref() == Some(&keys) {
            return;
        }
        let (fleet, serves) = (self.fleet.clone(), self.follower.serves().cloned());
        let heard = self.follower.epoch();
        self.believed = Some(keys.clone());
        self.follower = Follower::new(fleet, Some(keys), serves).having_heard(heard);
    }
}
