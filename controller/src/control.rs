//! The controller's questions and their answers; the admin plane asks nothing else.

use std::sync::Arc;

use kubeng_config::canonical::Digest;
use kubeng_config::endpoint::EndpointSet;
use kubeng_config::explain::{Explanation, explain};
use kubeng_config::name::{BackendId, FleetName, ObjectKind, RouteId};
use kubeng_config::problem::{self, Problem};
use kubeng_config::provenance::Provenance;
use kubeng_config::request::RequestKey;
use kubeng_config::snapshot::Snapshot;
use tokio::sync::watch;

use crate::object::SourceName;
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

/// All that is known after a round. A clone of its parts is cheap.
#[derive(Clone)]
pub struct ControlState {
    pub(crate) fleet: FleetName,
    pub(crate) world: World,
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
    pub fn new(fleet: FleetName, world: World) -> Self {
        Self {
            fleet,
            world,
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

    /// The fleet.
    #[must_use]
    pub fn fleet(&self) -> &FleetName {
        &self.fleet
    }

    /// The Snapshot that should be served.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        self.world.snapshot(&self.fleet).expect("the fleet is that of the world")
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

    /// Whether requests can be served: every source has told everything, a replica
    /// serves a Snapshot, and all of its ports are open.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let is_bound = |problem: &Problem| problem.code != problem::PORT_NOT_BOUND;
        self.is_open && self.serving.is_some() && self.replica_problems.iter().all(is_bound)
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
        let mut all: Vec<Problem> = self.world.problems().cloned().collect();
        all.extend(self.source_problems.iter().cloned());
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
