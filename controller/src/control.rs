//! The controller's questions and their answers; the admin plane asks nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kubeng_config::backend::EndpointSource;
use kubeng_config::canonical::Digest;
use kubeng_config::delta::AnyPart;
use kubeng_config::endpoint::EndpointSet;
use kubeng_config::explain::{Explanation, explain};
use kubeng_config::export::Export;
use kubeng_config::name::{BackendId, FleetName, ObjectKey, ObjectKind, RouteId};
use kubeng_config::position::Position;
use kubeng_config::problem::{self, Problem, Subject};
use kubeng_config::provenance::Provenance;
use kubeng_config::request::RequestKey;
use kubeng_config::snapshot::Snapshot;
use tokio::sync::watch;

use crate::endpoints::EndpointBook;
use crate::object::SourceName;
use crate::replicas;
use crate::translate::verdict::Verdict;
use crate::world::World;

/// What a replica answered, as the loop keeps it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The digest that it serves; `None` when it goes on with what it had.
    pub serving: Option<Digest>,
    /// All that is wrong there.
    pub problems: Vec<Problem>,
}

/// How far a source has got.
#[derive(Clone, Debug)]
pub struct SourceState {
    /// Its name.
    pub name: SourceName,
    /// The kinds that it has not told yet; none when all is known.
    pub awaited: Vec<ObjectKind>,
}

impl std::fmt::Display for SourceState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.name)?;
        if self.awaited.is_empty() {
            return f.write_str("read");
        }
        let kinds: Vec<&str> = self.awaited.iter().map(|kind| kind.as_str()).collect();
        write!(f, "waiting for {}", kinds.join(", "))
    }
}

/// Where the replicas are that serve what is published.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replica {
    /// One is in this process, and answers.
    Here,
    /// In other processes.
    Elsewhere,
}

/// All that is known after a round. A clone of its parts is cheap.
#[derive(Clone)]
pub struct ControlState {
    pub(crate) world: World,
    /// Of the other fleets, by their names.
    pub(crate) others: Vec<World>,
    pub(crate) replica: Replica,
    pub(crate) position: Position,
    pub(crate) endpoints: imbl::HashMap<BackendId, Arc<EndpointSet>>,
    pub(crate) endpoint_problems: Vec<Problem>,
    pub(crate) source_problems: Vec<Problem>,
    pub(crate) replica_problems: Vec<Problem>,
    pub(crate) expiry_problems: Vec<Problem>,
    pub(crate) problems_version: u64,
    pub(crate) sources: Vec<SourceState>,
    pub(crate) is_open: bool,
    pub(crate) serving: Option<Digest>,
}

/// A cheap handle with the controller's questions.
#[derive(Clone)]
pub struct Control {
    state: watch::Receiver<Arc<ControlState>>,
}

impl Control {
    /// A handle on what the loop tells.
    #[must_use]
    pub fn new(state: watch::Receiver<Arc<ControlState>>) -> Self {
        Self { state }
    }

    /// What is known at this moment: one answer holds together.
    #[must_use]
    pub fn now(&self) -> Arc<ControlState> {
        Arc::clone(&self.state.borrow())
    }

    /// Waits for the next round; `false` when there will be none.
    pub async fn changed(&mut self) -> bool {
        self.state.changed().await.is_ok()
    }
}

impl ControlState {
    /// The state before the first round.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self {
            world,
            others: Vec::new(),
            replica: Replica::Here,
            position: Position::default(),
            endpoints: imbl::HashMap::new(),
            endpoint_problems: Vec::new(),
            source_problems: Vec::new(),
            replica_problems: Vec::new(),
            expiry_problems: Vec::new(),
            problems_version: 0,
            sources: Vec::new(),
            is_open: false,
            serving: None,
        }
    }

    /// The fleet; of several the first by name.
    #[must_use]
    pub fn fleet(&self) -> &FleetName {
        &self.world.settings().fleet
    }

    /// The same, of a World that was made of everything there is.
    #[must_use]
    pub fn complete(self) -> Self {
        Self { is_open: true, ..self }
    }

    /// The same, where these Endpoints are known.
    #[must_use]
    pub fn with_endpoints(self, book: &EndpointBook) -> Self {
        let known = book.iter().filter(|(_, set)| !set.as_slice().is_empty());
        let endpoints = known.map(|(id, set)| (id.clone(), Arc::clone(set))).collect();
        Self { endpoints, ..self }
    }

    /// The Snapshot as a document, with the fleet and the Endpoints of its Backends that are discovered.
    #[must_use]
    pub fn export(&self) -> Export {
        let backends = self.snapshot().backends().iter();
        let discovered = backends.filter(|(_, part)| match part.value().endpoints {
            EndpointSource::Discovered => true,
            EndpointSource::Written(_) => false,
        });
        let endpoints = discovered.map(|(id, _)| {
            let known = self.endpoints_of(id).map(|set| set.as_slice().to_vec());
            (id.clone(), known.unwrap_or_default())
        });
        Export {
            fleet: Some(self.fleet().clone()),
            endpoints: Some(endpoints.collect()),
            ..Export::from(self.snapshot())
        }
    }

    /// The Endpoints of those of these Backends that discover theirs: none where none is known.
    #[must_use]
    pub fn endpoints_of_parts(&self, parts: &[AnyPart]) -> BTreeMap<BackendId, Arc<EndpointSet>> {
        let known =
            |id: &BackendId| (id.clone(), self.endpoints_of(id).cloned().unwrap_or_default());
        parts.iter().filter_map(replicas::discovering).map(known).collect()
    }

    /// All fleets, by name.
    pub fn fleets(&self) -> impl Iterator<Item = &FleetName> {
        self.worlds().map(|world| &world.settings().fleet)
    }

    /// The same with the eyes of one of the fleets; none if there is none of that name.
    #[must_use]
    pub fn of_fleet(&self, name: &FleetName) -> Option<Self> {
        let world = self.world_of(name)?.clone();
        Some(Self { world, others: Vec::new(), ..self.clone() })
    }

    /// How far the sources had been read.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The World of a fleet.
    pub(crate) fn world_of(&self, name: &FleetName) -> Option<&World> {
        self.worlds().find(|world| world.settings().fleet == *name)
    }

    fn worlds(&self) -> impl Iterator<Item = &World> {
        std::iter::once(&self.world).chain(&self.others)
    }

    /// What became of the Ingress of `key` in the fleet that it is for.
    #[must_use]
    pub fn verdict(&self, key: &ObjectKey) -> Option<Verdict<'_>> {
        self.world.verdict(key).map(|verdict| self.verdict_of_all(key, verdict))
    }

    /// What became of every Ingress, by key.
    pub fn verdicts(&self) -> impl Iterator<Item = (&ObjectKey, Verdict<'_>)> {
        self.world.verdicts().map(|(key, verdict)| (key, self.verdict_of_all(key, verdict)))
    }

    /// What is wrong with the Upstream of `key` in any fleet, and with its newest form where that is
    /// not taken.
    pub(crate) fn problems_of_upstream(&self, key: &ObjectKey) -> Vec<Problem> {
        let is_about_it = |problem: &&Problem| match &problem.subject {
            Subject::Object(subject) => subject == key,
            Subject::Other(_) => false,
        };
        let of_sources = self.source_problems.iter().filter(is_about_it);
        let translated = self.worlds().flat_map(|world| world.problems_of_upstream(key));
        let all: BTreeSet<&Problem> = of_sources.chain(translated).collect();
        all.into_iter().cloned().collect()
    }

    /// An Ingress is for one fleet at most, so the first that says it is its own is right.
    fn verdict_of_all<'a>(&'a self, key: &ObjectKey, first: Verdict<'a>) -> Verdict<'a> {
        match first {
            Verdict::Ours { .. } => first,
            Verdict::Foreign => {
                let others = self.others.iter().filter_map(|world| world.verdict(key));
                let mut ours = others.filter(|verdict| match verdict {
                    Verdict::Ours { .. } => true,
                    Verdict::Foreign => false,
                });
                ours.next().unwrap_or(first)
            }
        }
    }

    /// The Snapshot that should be served.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        self.world.own_snapshot()
    }

    /// The world behind the Snapshot.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The digest that the replica says it serves.
    #[must_use]
    pub fn serving(&self) -> Option<Digest> {
        self.serving
    }

    /// Whether requests can be served: every source has told everything, and the replica in this
    /// process, if there is one, serves a Snapshot on all of its ports.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let is_bound = |problem: &Problem| problem.code != problem::PORT_NOT_BOUND;
        let serves = match self.replica {
            Replica::Here => self.serving.is_some(),
            Replica::Elsewhere => true,
        };
        self.is_open && serves && self.replica_problems.iter().all(is_bound)
    }

    /// The sources, in the order of the settings.
    #[must_use]
    pub fn sources(&self) -> &[SourceState] {
        &self.sources
    }

    /// The Endpoints of a discovered Backend.
    #[must_use]
    pub fn endpoints_of(&self, id: &BackendId) -> Option<&Arc<EndpointSet>> {
        self.endpoints.get(id)
    }

    /// Grows whenever [`problems`](Self::problems) may give something else than before.
    #[must_use]
    pub fn problems_version(&self) -> u64 {
        self.problems_version
    }

    /// Everything that is wrong, the worst first, then by Object and field.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut all: Vec<Problem> = self.source_problems.clone();
        // Of half of what there is many would be wrong.
        if self.is_open {
            all.extend(self.worlds().flat_map(World::problems).cloned());
        }
        all.extend(self.endpoint_problems.iter().cloned());
        all.extend(self.replica_problems.iter().cloned());
        all.extend(self.expiry_problems.iter().cloned());
        all.sort_by_cached_key(|problem| (problem.severity(), problem.clone()));
        all.dedup();
        all
    }

    /// Where the Object of a Route was read.
    #[must_use]
    pub fn provenance_of(&self, id: &RouteId) -> Option<Provenance> {
        self.world.object(&id.object).map(|object| object.provenance.clone())
    }

    /// Says which Route would serve `request`, and why each other one lost.
    #[must_use]
    pub fn explain(&self, request: &RequestKey) -> Explanation {
        explain(self.snapshot(), request)
    }
}
