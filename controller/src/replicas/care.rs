//! The care of replicas: judged every second, probed, looked into, healed. Not on the way of a change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kubeng_config::drift::ReplicaState;
use kubeng_config::fleet::OnDrift;
use kubeng_config::name::FleetName;
use kubeng_config::problem::{FLEET_ASKED_FOR, Problem};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Replicas;
use super::entry::{Entry, ReplicaId, ReplicaView};
use super::inspect::{self, Look};
use super::peers::{self, Disagreements, id_of};
use super::probe::{self, Probe, REQUESTS_MAX};
use super::record::Resolution;
use super::registry::now;
use super::store::{self, Known};
use super::strangers;
use crate::distribution::{Question, Reply};

/// How often replicas are judged.
const JUDGED_EVERY: Duration = Duration::from_secs(1);

/// How often it is written down which replicas are known.
const WRITTEN_EVERY: Duration = Duration::from_secs(30);

/// How long a replica may take to answer a probe.
const PROBE_WITHIN: Duration = Duration::from_secs(10);

/// How many things are done at one time.
const WORK_MAX: usize = 16;

/// How often a replica is healed by itself within [`HEALS_WITHIN`]; after that it is only told.
const HEALS_MAX: usize = 3;
const HEALS_WITHIN: Duration = Duration::from_secs(600);

/// What is remembered between rounds.
pub(super) struct Care {
    replicas: Replicas,
    problems: watch::Sender<Arc<Vec<Problem>>>,
    looks: BTreeMap<ReplicaId, Look>,
    busy: BTreeSet<ReplicaId>,
    heals: BTreeMap<ReplicaId, Vec<Instant>>,
    probed: BTreeMap<FleetName, (Instant, usize)>,
    written: Option<Instant>,
    disagreements: Disagreements,
}

impl Care {
    pub(super) fn new(replicas: Replicas, problems: watch::Sender<Arc<Vec<Problem>>>) -> Self {
        Self {
            replicas,
            problems,
            looks: BTreeMap::new(),
            busy: BTreeSet::new(),
            heals: BTreeMap::new(),
            probed: BTreeMap::new(),
            written: None,
            disagreements: Disagreements::default(),
        }
    }

    /// Cares until it is told to stop.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(JUDGED_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut work: JoinSet<Option<ReplicaId>> = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = tick.tick() => self.round(&mut work),
                Some(done) = work.join_next() => match done {
                    Ok(Some(id)) => drop(self.busy.remove(&id)),
                    Ok(None) => {}
                    Err(error) => {
                        warn!(%error, "looking after a replica failed");
                        // Nobody knows whose it was; each is looked into again.
                        self.busy.clear();
                    }
                },
            }
        }
        work.shutdown().await;
        // Nothing else is served any more that could wait for the disk.
        write(&self.replicas);
    }

    fn round(&mut self, work: &mut JoinSet<Option<ReplicaId>>) {
        let (mut views, taken) = (self.replicas.list(None), now());
        let moved = peers::moved(&views, &self.replicas.peers.now());
        // Who looks after them tells of them; here they are only remembered.
        views.retain(|view| !moved.contains(&id_of(view)));
        let views = Arc::new(views);
        let fleets: BTreeSet<FleetName> = self.replicas.fleets().into_keys().collect();
        self.replicas.metrics.count(&fleets, &views);
        if work.len() < WORK_MAX && self.replicas.book.has_open() {
            let (replicas, views) = (self.replicas.clone(), Arc::clone(&views));
            work.spawn_blocking(move || {
                inspect::close_gone(&replicas, &views, &moved, taken);
                None
            });
        }
        for view in views.iter() {
            self.look_into(view, work);
            self.heal(view, work);
        }
        self.probe(&views, work);
        self.tell(&views);
        if self.written.is_none_or(|written| written.elapsed() >= WRITTEN_EVERY) {
            self.written = Some(Instant::now());
            let replicas = self.replicas.clone();
            work.spawn_blocking(move || {
                write(&replicas);
                None
            });
        }
        let known = |id: &ReplicaId| views.iter().any(|view| id_of(view) == *id);
        self.looks.retain(|id, _| known(id));
        self.heals.retain(|id, _| known(id));
    }

    /// Has evidence stored of what looks otherwise than before.
    fn look_into(&mut self, view: &ReplicaView, work: &mut JoinSet<Option<ReplicaId>>) {
        let id = id_of(view);
        let Some(look) = inspect::look(&self.replicas, &id, view) else {
            self.looks.remove(&id);
            return;
        };
        // Who was healed and looks the same again is looked into again.
        let is_known = self.looks.get(&id) == Some(&look)
            && self.replicas.book.standing(&id, view.state).is_some();
        if is_known || self.busy.contains(&id) || work.len() >= WORK_MAX {
            return;
        }
        self.looks.insert(id.clone(), look.clone());
        self.busy.insert(id.clone());
        let replicas = self.replicas.clone();
        work.spawn(async move {
            inspect::inspect(replicas, id.clone(), look).await;
            Some(id)
        });
    }

    /// Heals what the fleet wants healed, and of which the evidence has been stored.
    fn heal(&mut self, view: &ReplicaView, work: &mut JoinSet<Option<ReplicaId>>) {
        let id = id_of(view);
        let is_wanted = self
            .replicas
            .fleet(&id.fleet)
            .is_some_and(|fleet| fleet.facts.care.on_drift == OnDrift::Heal);
        if !is_wanted || !view.connected || self.busy.contains(&id) || work.len() >= WORK_MAX {
            return;
        }
        let record = self.replicas.book.standing(&id, view.state);
        let Some(record) = record.filter(|record| record.is_open() && record.is_healable) else {
            return;
        };
        let heals = self.heals.entry(id.clone()).or_default();
        heals.retain(|at| at.elapsed() < HEALS_WITHIN);
        if heals.len() >= HEALS_MAX {
            return;
        }
        heals.push(Instant::now());
        if heals.len() == HEALS_MAX {
            warn!(replica = %id, "healed {HEALS_MAX} times within 10 minutes: from here on it is only told");
        }
        self.busy.insert(id.clone());
        let replicas = self.replicas.clone();
        work.spawn(async move {
            match replicas.heal(&record.id, None, "controller").await {
                Ok(_) => info!(replica = %id, drift = %record.id, "healed"),
                Err(error) => warn!(replica = %id, drift = %record.id, %error, "not healed"),
            }
            Some(id)
        });
    }

    /// Asks the replicas of each fleet that is due how they would answer.
    fn probe(&mut self, views: &[ReplicaView], work: &mut JoinSet<Option<ReplicaId>>) {
        let fleets = self.replicas.fleets();
        self.probed.retain(|name, _| fleets.contains_key(name));
        for (name, fleet) in fleets {
            let Some(every) = fleet.facts.care.probe_every else { continue };
            let last = self.probed.get(&name).copied();
            if last.is_some_and(|(at, _)| at.elapsed() < every) || work.len() >= WORK_MAX {
                continue;
            }
            // Who answered otherwise is asked the same again, until it answers as it should.
            let is_divergent = views.iter().any(|view| view.fleet == name && is_divergent(view));
            let step = if is_divergent { 0 } else { REQUESTS_MAX };
            let start = last.map_or(0, |(_, start)| start.wrapping_add(step));
            self.probed.insert(name.clone(), (Instant::now(), start));
            let ids: Vec<ReplicaId> = views
                .iter()
                .filter(|view| view.fleet == name && view.connected)
                .map(id_of)
                .collect();
            if ids.is_empty() {
                continue;
            }
            let replicas = self.replicas.clone();
            let snapshot = fleet.snapshot;
            work.spawn(async move {
                let target = snapshot.digest();
                let made = tokio::task::spawn_blocking(move || probe::probes(&snapshot, start));
                let Ok(probes) = made.await else { return None };
                let asked = ids.into_iter().map(|id| ask(&replicas, id, target, &probes));
                futures::future::join_all(asked).await;
                None
            });
        }
    }

    /// Tells what is wrong.
    fn tell(&mut self, views: &[ReplicaView]) {
        let book = Arc::clone(&self.replicas.book);
        let mut problems = super::reported::problems(views, |id, state| {
            book.standing(id, state)
                .and_then(|record| record.resolution)
                .is_some_and(|over| over.resolution == Resolution::Dismissed)
        });
        let peers = self.replicas.peers.now();
        let now = std::time::Instant::now();
        let disagreements = self.disagreements.look(&self.replicas.intents(), &peers, now);
        let count = i64::try_from(disagreements.len()).unwrap_or(i64::MAX);
        self.replicas.metrics.disagreements.set(count);
        problems.splice(0..0, disagreements);
        problems.extend(strangers::problems(&self.replicas.strangers()));
        self.problems.send_if_modified(|told| {
            // Who was turned away is told when it is, with what it said of itself.
            let is_told_here = |problem: &&Problem| problem.code != FLEET_ASKED_FOR;
            for problem in problems.iter().filter(|one| !told.contains(one)).filter(is_told_here) {
                warn!("{problem}");
            }
            let is_new = **told != problems;
            if is_new {
                *told = Arc::new(problems);
            }
            is_new
        });
    }
}

/// Writes down which replicas are known.
fn write(replicas: &Replicas) {
    if let Some(folder) = replicas.book.folder() {
        let known: Vec<Known> = replicas.registry.each(|entry: &Entry| Known::from(entry));
        store::write_known(folder, &known);
    }
}

/// Asks one replica, and notes whether it answers otherwise than `target` says.
async fn ask(
    replicas: &Replicas,
    id: ReplicaId,
    target: kubeng_config::canonical::Digest,
    probes: &[Probe],
) {
    let rests = |replicas: &Replicas| {
        replicas.registry.with(&id, |entry| entry.rests_on(target)).unwrap_or(false)
    };
    if !rests(replicas) {
        return;
    }
    let asked = now();
    let requests = probes.iter().map(|probe| probe.request.clone()).collect();
    let reply = replicas.ask(&id, Question::Probe(requests), PROBE_WITHIN).await;
    // Who has been offered something meanwhile may have answered from that.
    if let (Ok(Reply::Probe(answers)), true) = (&reply, rests(replicas)) {
        let found = probe::divergence(probes, answers);
        replicas.registry.with(&id, |entry| {
            // Who was healed meanwhile has answered from what is not there any more.
            if entry.healed.is_none_or(|healed| healed < asked) {
                entry.divergence = found;
            }
        });
    }
}

fn is_divergent(view: &ReplicaView) -> bool {
    view.state == ReplicaState::Divergent || view.marks.contains(&ReplicaState::Divergent)
}
