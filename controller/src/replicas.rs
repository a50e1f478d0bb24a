//! Replicas: what is known of them, what is asked of them, and the care that is taken of them.

mod action;
mod care;
pub mod entry;
mod inspect;
pub(crate) mod metrics;
pub mod peers;
mod probe;
pub mod record;
pub(crate) mod registry;
mod reported;
mod store;
pub(crate) mod strangers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kubeng_config::backend::EndpointSource;
use kubeng_config::compare::Side;
use kubeng_config::delta::AnyPart;
use kubeng_config::endpoint::EndpointSet;
use kubeng_config::export::Export;
use kubeng_config::fleet::FleetFacts;
use kubeng_config::heartbeat::Build;
use kubeng_config::name::{BackendId, FleetName};
use kubeng_config::position::Position;
use kubeng_config::problem::Problem;
use kubeng_config::snapshot::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::distribution::feed::FleetFeeds;
use crate::distribution::{Question, Reply};
use crate::hub::{Believes, MakePublisher, ReplicaHub};
use care::Care;
use entry::{ReplicaId, ReplicaView};
use metrics::ReplicaMetrics;
use peers::{Intent, Located, PeerReport, Peers};
use record::{Book, DriftRecord};
use registry::Registry;

pub use action::ActError;
pub use registry::{AskError, KNOWN_MAX, REPLICAS_MAX};
pub use strangers::Stranger;

/// How long a replica may take to write down all that it runs.
pub const DUMP_WITHIN: Duration = Duration::from_secs(20);

/// What a controller gives to have its replicas cared for.
pub struct Inputs {
    /// The newest of each fleet.
    pub feeds: watch::Receiver<Arc<FleetFeeds>>,
    /// Makes the publisher of a replica.
    pub publisher: MakePublisher,
    /// Whether a controller stands for what a replica says that it serves.
    pub believes: Believes,
    /// The program of this controller.
    pub own: Build,
    /// The folder for what must outlive the process; none: it is kept in memory.
    pub data: Option<PathBuf>,
    /// When to stop.
    pub stop: CancellationToken,
}

/// A cheap handle on all that is known of replicas.
#[derive(Clone)]
pub struct Replicas {
    registry: Arc<Registry>,
    book: Arc<Book>,
    metrics: Arc<ReplicaMetrics>,
    peers: Arc<Peers>,
    problems: watch::Receiver<Arc<Vec<Problem>>>,
}

/// A fleet as it is told to people and programs.
pub struct FleetView {
    /// What people are shown of it, and how it is cared for.
    pub facts: Arc<FleetFacts>,
    /// What it should serve.
    pub snapshot: Snapshot,
    /// How far the sources had been read for it.
    pub position: Position,
}

impl Replicas {
    /// Makes the hub, the handle, and the one task that cares for replicas and for their lines. It
    /// ends when all of these have ended, after `stop`.
    pub fn start(inputs: Inputs) -> (Arc<ReplicaHub>, Self, impl Future<Output = ()> + Send) {
        let Inputs { feeds, publisher, believes, own, data, stop } = inputs;
        let registry = Arc::new(Registry::new(feeds, own));
        if let Some(folder) = &data {
            registry.remember(store::known(folder).into_iter().map(Into::into));
        }
        let book = Arc::new(Book::open(data));
        let metrics = Arc::new(ReplicaMetrics::default());
        let (problems, told) = watch::channel(Arc::default());
        let sessions = TaskTracker::new();
        let hub = Arc::new(ReplicaHub {
            registry: Arc::clone(&registry),
            metrics: Arc::clone(&metrics),
            publisher,
            believes,
            sessions: sessions.clone(),
            stop: stop.clone(),
        });
        let replicas = Self {
            registry: Arc::clone(&registry),
            book: Arc::clone(&book),
            metrics,
            peers: Arc::default(),
            problems: told,
        };
        let care = Care::new(replicas.clone(), problems);
        let run = async move {
            care.run(stop).await;
            sessions.close();
            sessions.wait().await;
        };
        (hub, replicas, run)
    }

    /// All replicas, or those of one fleet, judged at this moment, in order of their names.
    #[must_use]
    pub fn list(&self, fleet: Option<&FleetName>) -> Vec<ReplicaView> {
        self.registry.list(fleet)
    }

    /// One replica, judged at this moment.
    #[must_use]
    pub fn get(&self, id: &ReplicaId) -> Option<ReplicaView> {
        self.registry.get(id)
    }

    /// Replicas that are turned away because their fleet does not exist.
    #[must_use]
    pub fn strangers(&self) -> Vec<Stranger> {
        self.registry.strangers()
    }

    /// Asks a replica, and waits for its reply.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn ask(
        &self,
        id: &ReplicaId,
        question: Question,
        within: Duration,
    ) -> Result<Reply, AskError> {
        self.registry.ask(id, question, within).await
    }

    /// Forgets a replica that is not there; `false` when it is, or nothing is known of it.
    pub fn forget(&self, id: &ReplicaId) -> bool {
        self.registry.forget(id)
    }

    /// What a replica runs, from its Table.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn running(&self, id: &ReplicaId) -> Result<Side, AskError> {
        let reply = self.ask(id, Question::Parts, DUMP_WITHIN).await?;
        let Reply::Parts { parts, endpoints } = reply else {
            let why = "it replied to another question".to_owned();
            return Err(AskError::Refused { replica: id.clone(), why });
        };
        let discovering: BTreeSet<&BackendId> = parts.iter().filter_map(discovering).collect();
        // What is written is configuration, and names in it resolve for each replica by itself.
        let endpoints = endpoints.into_iter().filter(|(id, _)| discovering.contains(id)).collect();
        Ok(Side { name: format!("replica:{id}"), parts, endpoints: Some(endpoints) })
    }

    /// What a fleet should serve; `None` when there is no such fleet.
    #[must_use]
    pub fn intended(&self, fleet: &FleetName) -> Option<Side> {
        let view = self.fleet(fleet)?;
        Some(Side {
            name: format!("intended:{fleet}"),
            parts: parts(&view.snapshot),
            endpoints: None,
        })
    }

    /// All fleets by name.
    #[must_use]
    pub fn fleets(&self) -> BTreeMap<FleetName, FleetView> {
        let feeds = self.registry.feeds();
        let view = |feed: &crate::distribution::feed::FleetFeed| {
            let newest = Arc::clone(&feed.newest.borrow());
            FleetView {
                facts: Arc::clone(&feed.facts),
                snapshot: newest.snapshot.clone(),
                position: newest.position.clone(),
            }
        };
        feeds.iter().map(|(name, feed)| (name.clone(), view(feed))).collect()
    }

    /// One fleet.
    #[must_use]
    pub fn fleet(&self, fleet: &FleetName) -> Option<FleetView> {
        self.fleets().remove(fleet)
    }

    /// All records of Drift, the newest first.
    #[must_use]
    pub fn drift(&self) -> Vec<DriftRecord> {
        self.book.list()
    }

    /// One record of Drift.
    #[must_use]
    pub fn drift_record(&self, id: &str) -> Option<DriftRecord> {
        self.book.get(id)
    }

    /// What is wrong with replicas, the worst first.
    #[must_use]
    pub fn problems(&self) -> Arc<Vec<Problem>> {
        Arc::clone(&self.problems.borrow())
    }

    /// What is wrong with the replicas of a fleet, whichever controller tells of them. Whether a
    /// deviation was dismissed at another one is not known here.
    #[must_use]
    pub fn problems_of(&self, fleet: &FleetName) -> Vec<Problem> {
        let others = self.located(Some(fleet)).into_iter().filter(|one| one.controller.is_some());
        let others: Vec<ReplicaView> = others.map(|one| one.view).collect();
        let mut all = reported::problems(&others, |_, _| false);
        let told = self.problems();
        all.extend(told.iter().filter(|problem| reported::is_about(problem, fleet)).cloned());
        all
    }

    /// The metrics of replicas in the text format of Prometheus.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.metrics.render()
    }

    /// All of them once, for the page that describes them.
    #[must_use]
    pub fn described_metrics() -> String {
        let metrics = ReplicaMetrics::default();
        let fleet = "example".parse().expect("the name is not empty");
        metrics.count(&[fleet].into(), &[]);
        metrics.render()
    }

    /// Changes whenever something is noted of a replica.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.registry.changes()
    }

    /// All replicas that this or another controller tells of, each once.
    #[must_use]
    pub fn located(&self, fleet: Option<&FleetName>) -> Vec<Located> {
        let mut all = peers::located(self.list(None), &self.peers.now());
        all.retain(|one| fleet.is_none_or(|fleet| one.view.fleet == *fleet));
        all
    }

    /// The replicas of a fleet, whichever controller tells of them.
    #[must_use]
    pub fn views(&self, fleet: &FleetName) -> Vec<ReplicaView> {
        self.located(Some(fleet)).into_iter().map(|located| located.view).collect()
    }

    /// The address of the other controller that a replica is connected to; none where there is no such.
    #[must_use]
    pub fn elsewhere(&self, id: &ReplicaId) -> Option<String> {
        let mut located = self.located(Some(&id.fleet)).into_iter();
        let there = located.find(|one| one.view.name == id.name && one.view.connected);
        there.and_then(|one| one.controller)
    }

    /// What other controllers said last.
    #[must_use]
    pub fn peers(&self) -> Arc<Vec<PeerReport>> {
        self.peers.now()
    }

    /// Notes what other controllers said. What replicas share out among them is divided by all.
    pub fn set_peers(&self, reports: Vec<PeerReport>) {
        let here = self.list(None);
        let is_here = |view: &ReplicaView| {
            here.iter().any(|own| own.connected && own.fleet == view.fleet && own.name == view.name)
        };
        let mut elsewhere: BTreeMap<FleetName, u32> = BTreeMap::new();
        for view in reports.iter().flat_map(|report| &report.replicas) {
            if view.connected && !is_here(view) {
                *elsewhere.entry(view.fleet.clone()).or_default() += 1;
            }
        }
        self.registry.set_elsewhere(elsewhere);
        self.peers.set(reports);
    }

    /// What this controller intends for every fleet.
    #[must_use]
    pub fn intents(&self) -> Vec<Intent> {
        let intent = |(name, fleet): (FleetName, FleetView)| Intent {
            name,
            digest: fleet.snapshot.digest(),
            position: fleet.position,
        };
        self.fleets().into_iter().map(intent).collect()
    }
}

/// The Backend, if it discovers its Endpoints.
pub(crate) fn discovering(part: &AnyPart) -> Option<&BackendId> {
    let AnyPart::Backend(id, part) = part else { return None };
    match part.value().endpoints {
        EndpointSource::Discovered => Some(id),
        EndpointSource::Written(_) => None,
    }
}

/// All Parts of a Snapshot.
fn parts(snapshot: &Snapshot) -> Vec<AnyPart> {
    Snapshot::default().delta_to(snapshot).upserts
}

/// What a replica runs as a document, with the Endpoints that it has.
#[must_use]
pub fn export(side: &Side) -> Export {
    let written =
        |(id, set): (&BackendId, &Arc<EndpointSet>)| (id.clone(), set.as_slice().to_vec());
    let endpoints = side.endpoints.as_ref().map(|sets| sets.iter().map(written).collect());
    Export { endpoints, ..Export::of_parts(&side.parts) }
}
