//! The Worlds of all fleets, one for each, stepped with the same changes.
//!
//! Which fleets there are is said by the settings of the process, or by Fleet Objects: one that comes
//! makes a World, one that changes makes it anew, one that goes drops it. Other fleets are not touched.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use kubeng_config::canonical::Digest;
use kubeng_config::endpoint::EndpointSet;
use kubeng_config::fleet::FleetFacts;
use kubeng_config::name::{BackendId, FleetName, ObjectKey};
use kubeng_config::position::Position;
use tokio::sync::watch;

use crate::distribution::feed::{EndpointBoard, FleetFeed, FleetFeeds};
use crate::distribution::history::History;
use crate::distribution::publisher::Published;
use crate::kind::Body;
use crate::kind::fleet::Fleet;
use crate::object::{Change, Object};
use crate::settings::TranslateSettings;
use crate::world::World;

/// Every fleet with its World, and what is told to those who deliver.
pub struct Fleets {
    described_by: Describer,
    all: BTreeMap<FleetName, Served>,
    feeds: watch::Sender<Arc<FleetFeeds>>,
    /// Whether other fleets are there, or other facts of them, than was told.
    are_others: bool,
}

/// Who says which fleets there are.
enum Describer {
    /// The settings: one, which is always there.
    Settings(FleetName),
    /// Fleet Objects; what all have in common is here.
    Objects(Box<TranslateSettings>),
    /// A Fleet Object, whose replica is in this process; others are not looked at.
    Object(Box<TranslateSettings>, FleetName),
}

/// One fleet.
struct Served {
    world: World,
    facts: Arc<FleetFacts>,
    published: watch::Sender<Arc<Published>>,
    endpoints: Arc<EndpointBoard>,
    /// For replicas in other processes, which come back.
    history: Arc<History>,
    /// When the oldest event had been read whose effect is not served yet.
    waiting_since: Option<Instant>,
}

/// What a step has changed in any fleet.
#[derive(Debug, Default)]
pub(crate) struct Stepped {
    /// Whether other Problems are known.
    pub(crate) problems_differ: bool,
    /// Whether an Object may be ours, or not, that was not before.
    pub(crate) standing_differs: bool,
}

/// What is published beside a Snapshot.
pub(crate) struct Beside<'a> {
    pub(crate) endpoints: &'a imbl::HashMap<BackendId, Arc<EndpointSet>>,
    pub(crate) position: &'a Position,
    /// What the replica in this process serves, if there is one.
    pub(crate) serving: Option<Digest>,
}

impl Fleets {
    /// The one fleet that settings describe.
    #[must_use]
    pub fn of_settings(world: World) -> Self {
        let name = world.settings().fleet.clone();
        let facts = FleetFacts::new(name.clone());
        let mut fleets = Self::new(Describer::Settings(name.clone()));
        fleets.all.insert(name, Served::new(world, facts));
        fleets
    }

    /// All fleets that Objects describe. What concerns the process as a whole is as in `common`.
    #[must_use]
    pub fn of_objects(mut common: TranslateSettings) -> Self {
        common.home = None;
        Self::new(Describer::Objects(Box::new(common)))
    }

    /// The one fleet of this name that an Object describes, or none while there is no such Object.
    #[must_use]
    pub fn of_object(mut common: TranslateSettings, fleet: FleetName) -> Self {
        common.home = None;
        Self::new(Describer::Object(Box::new(common), fleet))
    }

    /// All fleets that these Objects describe, computed once.
    #[must_use]
    pub fn of_all(common: TranslateSettings, objects: &[Arc<Object>]) -> Self {
        let mut fleets = Self::of_objects(common);
        let described = objects.iter().filter(|object| fleet_of(object).is_some());
        let changes: Vec<Change> = described.cloned().map(Change::Upsert).collect();
        fleets.describe(changes, || objects.iter(), Instant::now());
        fleets
    }

    /// The fleet that is to be served and that no Object describes.
    pub(crate) fn missing(&self) -> Option<&FleetName> {
        match &self.described_by {
            Describer::Object(_, name) => Some(name).filter(|name| !self.all.contains_key(*name)),
            Describer::Settings(_) | Describer::Objects(_) => None,
        }
    }

    fn new(described_by: Describer) -> Self {
        let (feeds, _) = watch::channel(Arc::default());
        Self { described_by, all: BTreeMap::new(), feeds, are_others: true }
    }

    /// What is delivered to replicas; empty until everything has been read once.
    #[must_use]
    pub fn feeds(&self) -> watch::Receiver<Arc<FleetFeeds>> {
        self.feeds.subscribe()
    }

    /// The fleet that settings describe, for the replica in this process.
    #[must_use]
    pub fn home(&self) -> Option<FleetFeed> {
        match &self.described_by {
            Describer::Settings(name) => self.all.get(name).map(Served::feed),
            Describer::Objects(_) | Describer::Object(..) => None,
        }
    }

    /// Settings that all fleets have in common.
    pub(crate) fn common(&self) -> &TranslateSettings {
        match &self.described_by {
            Describer::Settings(name) => {
                self.all.get(name).expect("this fleet is never dropped").world.settings()
            }
            Describer::Objects(common) | Describer::Object(common, _) => common,
        }
    }

    /// Whether replicas are in other processes.
    pub(crate) fn are_elsewhere(&self) -> bool {
        match self.described_by {
            Describer::Settings(_) | Describer::Object(..) => false,
            Describer::Objects(_) => true,
        }
    }

    /// The Worlds by the names of their fleets.
    pub fn worlds(&self) -> impl Iterator<Item = &World> {
        self.all.values().map(|served| &served.world)
    }

    /// The Secrets and ConfigMaps that something of any fleet names.
    pub(crate) fn referenced(&self) -> BTreeSet<ObjectKey> {
        self.worlds().flat_map(World::referenced).collect()
    }

    /// Takes `changes` over, which had been read at `received`, in every fleet.
    pub(crate) fn step(&mut self, changes: &[Change], received: Instant) -> Stepped {
        let mut stepped = Stepped::default();
        for served in self.all.values_mut() {
            let step = served.world.step(changes);
            served.world = step.world;
            stepped.problems_differ |= step.problems_differ;
            stepped.standing_differs |= !step.judged.is_empty();
            served.wait_since(received);
        }
        stepped
    }

    /// Makes, changes and drops the fleets of these Fleet Objects. `objects` gives everything that is
    /// known; it is asked for only where a World has to be made.
    pub(crate) fn describe<'a, I: IntoIterator<Item = &'a Arc<Object>>>(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
        objects: impl Fn() -> I,
        received: Instant,
    ) -> Stepped {
        let mut stepped = Stepped::default();
        let (common, only) = match &self.described_by {
            Describer::Objects(common) => (common, None),
            Describer::Object(common, only) => (common, Some(only)),
            Describer::Settings(_) => return stepped,
        };
        for change in changes {
            let Ok(name) = change.key().name.parse::<FleetName>() else { continue };
            if only.is_some_and(|only| *only != name) {
                continue;
            }
            let fleet = match &change {
                Change::Upsert(object) => fleet_of(object),
                Change::Remove(_) => None,
            };
            let Some(fleet) = fleet else {
                let is_gone = self.all.remove(&name).is_some();
                self.are_others |= is_gone;
                stepped.problems_differ |= is_gone;
                stepped.standing_differs |= is_gone;
                continue;
            };
            let settings = common.of_fleet(change.key(), fleet);
            if let Some(served) = self.all.get_mut(&name) {
                let facts = fleet.facts();
                if *served.facts != facts {
                    served.facts = Arc::new(facts);
                    self.are_others = true;
                }
                if *served.world.settings() == settings {
                    continue;
                }
            }
            let world = World::rebuild(settings, objects().into_iter().cloned());
            stepped.problems_differ = true;
            stepped.standing_differs = true;
            match self.all.get_mut(&name) {
                Some(served) => {
                    served.world = world;
                    served.wait_since(received);
                }
                None => {
                    let served = Served::new(world, fleet.facts());
                    self.all.insert(name, served);
                    self.are_others = true;
                }
            }
        }
        stepped
    }

    /// Puts newer Endpoints where Deltas take them from; a Backend that is not served yet gets them
    /// there, and the message of [`tell_endpoints`](Self::tell_endpoints) passes it over.
    pub(crate) fn keep_endpoints(&self, all: &imbl::HashMap<BackendId, Arc<EndpointSet>>) {
        for served in self.all.values() {
            served.published.send_if_modified(|published| {
                Arc::make_mut(published).endpoints = all.clone();
                false
            });
        }
    }

    /// Tells newer Endpoints to every replica. What it does not serve it is not told: only its
    /// publisher knows what that is, for it may be behind the newest.
    pub(crate) fn tell_endpoints(&self, sets: &[(BackendId, Arc<EndpointSet>)], received: Instant) {
        for served in self.all.values() {
            served.endpoints.put(sets, received);
        }
    }

    /// Publishes the newest of every fleet, and which fleets there are.
    pub(crate) fn publish(&mut self, beside: &Beside<'_>) {
        for served in self.all.values_mut() {
            served.publish(beside);
        }
        match self.described_by {
            Describer::Settings(_) | Describer::Object(..) => {
                self.forget_when_served(beside.serving);
            }
            Describer::Objects(_) => {
                for served in self.all.values_mut() {
                    served.history.note(served.world.own_snapshot());
                    // Publishers measure from here on.
                    served.waiting_since = None;
                }
            }
        }
        if std::mem::take(&mut self.are_others) {
            let feeds = self.all.iter().map(|(name, served)| (name.clone(), served.feed()));
            self.feeds.send_replace(Arc::new(feeds.collect()));
        }
    }

    /// What is served waits no more. Until then its clock runs on, through newer rounds too.
    pub(crate) fn forget_when_served(&mut self, serving: Option<Digest>) {
        for served in self.all.values_mut() {
            if serving == Some(served.digest()) {
                served.waiting_since = None;
            }
        }
    }
}

impl Served {
    fn new(world: World, facts: FleetFacts) -> Self {
        let (published, _) = watch::channel(Arc::new(Published::default()));
        let (facts, endpoints, history) = (Arc::new(facts), Arc::default(), Arc::default());
        Self { world, facts, published, endpoints, history, waiting_since: None }
    }

    fn feed(&self) -> FleetFeed {
        FleetFeed {
            facts: Arc::clone(&self.facts),
            newest: self.published.subscribe(),
            endpoints: Arc::clone(&self.endpoints),
            history: Arc::clone(&self.history),
        }
    }

    fn digest(&self) -> Digest {
        self.world.own_snapshot().digest()
    }

    fn wait_since(&mut self, received: Instant) {
        self.waiting_since = Some(self.waiting_since.map_or(received, |old| old.min(received)));
    }

    fn publish(&self, beside: &Beside<'_>) {
        let snapshot = self.world.own_snapshot();
        let digest = snapshot.digest();
        self.published.send_if_modified(|published| {
            let differs = published.snapshot.digest() != digest;
            // A replica that has been further elsewhere waits for the Position alone.
            let is_further = published.position != *beside.position;
            let pulse = Some(self.facts.care.pulse());
            let is_cared_for_otherwise = published.pulse != pulse;
            *published = Arc::new(Published {
                snapshot: snapshot.clone(),
                world: Some(self.world.clone()),
                endpoints: beside.endpoints.clone(),
                position: beside.position.clone(),
                received: if differs { self.waiting_since } else { published.received },
                pulse,
            });
            differs || is_further || is_cared_for_otherwise
        });
    }
}

/// The Fleet of `object`.
fn fleet_of(object: &Object) -> Option<&Fleet> {
    match &object.body {
        Body::Fleet(fleet) => Some(fleet),
        Body::Ingress(_)
        | Body::IngressClass(_)
        | Body::Service(_)
        | Body::EndpointSlice(_)
        | Body::Secret(_)
        | Body::Upstream(_)
        | Body::ConfigMap(_)
        | Body::RouteOverride(_) => None,
    }
}
