//! The one loop: Events in, Snapshots and Endpoints out.
//!
//! An event is handled at once when the loop is idle. What arrives during a
//! round is taken together in the next one; there is no timer on this path.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kubeng_config::canonical::Digest;
use kubeng_config::endpoint::EndpointSet;
use kubeng_config::name::{BackendId, ObjectKey, ObjectKind};
use kubeng_config::position::Position;
use kubeng_config::problem::{FLEET_NOT_FOUND, Problem, Subject};
use tokio::sync::{mpsc, watch};

use crate::control::{Answer, ControlState, Replica, SourceState};
use crate::endpoints::EndpointBook;
use crate::expiry;
use crate::expiry::overrides::Ends;
use crate::fleets::{Beside, Fleets};
use crate::intake::Intake;
use crate::object::{Change, Event, Object, SourceName};
use crate::published;
use crate::settings::TranslateSettings;
use crate::world::World;

/// One event with the source that told it and when its bytes had been read.
#[derive(Debug)]
pub struct Told {
    /// The number of the source in the order of the settings.
    pub source: usize,
    /// What it tells.
    pub event: Event,
    /// When the bytes had been read.
    pub at: Instant,
}

/// How many events wait for a round at most; sources wait when there are more.
pub const EVENTS_WAITING_MAX: usize = 4_096;

/// How many events one round takes at most, so that Endpoints never wait long.
const EVENTS_PER_ROUND_MAX: usize = 256;

/// What the loop reads and writes.
pub struct Channels {
    /// What sources tell.
    pub events: mpsc::Receiver<Told>,
    /// What the admin plane is answered from.
    pub state: watch::Sender<Arc<ControlState>>,
    /// The Secrets and ConfigMaps that are referred to, for the source that watches only those.
    pub referenced: watch::Sender<BTreeSet<ObjectKey>>,
    /// What replicas answered.
    pub answers: mpsc::Receiver<Answer>,
}

/// The state between two rounds.
pub struct Reconciler {
    fleets: Fleets,
    /// What is shown while there is no fleet.
    no_fleet: World,
    /// Whether the fleets that Objects describe have been made.
    are_described: bool,
    sources: Vec<SourceName>,
    /// The Service whose addresses statuses show.
    published: Option<ObjectKey>,
    intake: Intake,
    ends: Ends,
    /// The version of them of which is told.
    ends_told: u64,
    /// How far the sources have been read.
    position: Position,
    book: EndpointBook,
    endpoints: imbl::HashMap<BackendId, Arc<EndpointSet>>,
    replica_problems: Vec<Problem>,
    serving: Option<Digest>,
    is_open: bool,
    has_referred: bool,
    /// Counts the rounds after which other Problems are known than before.
    problems_version: u64,
    source_problems: Vec<Problem>,
    endpoint_problems: Vec<Problem>,
    expiry_problems: Vec<Problem>,
    /// The Certificates of which those tell.
    certificates: Option<Vec<Digest>>,
}

impl Reconciler {
    /// Starts with nothing known.
    #[must_use]
    pub fn new(sources: Vec<(SourceName, BTreeSet<ObjectKind>)>, fleets: Fleets) -> Self {
        let reserved = fleets.common().reserved.clone();
        Self {
            book: EndpointBook::new(reserved),
            no_fleet: World::new(fleets.common().clone()),
            fleets,
            are_described: false,
            position: Position::default(),
            sources: sources.iter().map(|(name, _)| name.clone()).collect(),
            published: None,
            intake: Intake::new(sources),
            ends: Ends::default(),
            ends_told: 0,
            endpoints: imbl::HashMap::new(),
            replica_problems: Vec::new(),
            serving: None,
            is_open: false,
            has_referred: false,
            problems_version: 0,
            source_problems: Vec::new(),
            endpoint_problems: Vec::new(),
            expiry_problems: Vec::new(),
            certificates: None,
        }
    }

    /// The same where statuses show the addresses of `service`: it is a Problem that it has none.
    #[must_use]
    pub fn publishing(self, service: Option<ObjectKey>) -> Self {
        Self { published: service, ..self }
    }

    /// Runs until every source has gone.
    pub async fn run(mut self, mut channels: Channels) {
        let mut round = Vec::with_capacity(EVENTS_PER_ROUND_MAX);
        self.tell(&channels);
        // Beside the path of a change: certificates end without one.
        let mut clock = tokio::time::interval(expiry::LOOKED_AT_EVERY);
        loop {
            tokio::select! {
                biased;
                // Answers first: the replica waits for room to give the next one.
                Some(answer) = channels.answers.recv() => self.hear(answer, &channels),
                // Before events, which may come without a pause.
                () = next_end(self.ends.next()) => self.end(&channels),
                taken = channels.events.recv_many(&mut round, EVENTS_PER_ROUND_MAX) => {
                    if taken == 0 {
                        return;
                    }
                    self.round(round.drain(..), &channels);
                }
                _ = clock.tick() => {
                    self.certificates = None;
                    self.tell(&channels);
                }
            }
        }
    }

    fn hear(&mut self, answer: Answer, channels: &Channels) {
        self.serving = answer.serving.or(self.serving);
        if answer.problems != self.replica_problems {
            self.problems_version += 1;
            self.replica_problems = answer.problems;
        }
        self.fleets.forget_when_served(self.serving);
        self.tell(channels);
    }

    /// Takes out the overrides and OCSP responses whose time has come.
    fn end(&mut self, channels: &Channels) {
        let changes = self.ends.due(unix_now());
        if !changes.is_empty() {
            self.certificates = None;
            self.take(&changes, Instant::now(), channels);
        }
    }

    fn round(&mut self, events: impl Iterator<Item = Told>, channels: &Channels) {
        let mut changes = Vec::new();
        let mut received = Instant::now();
        for told in events {
            let at = told.at;
            received = received.min(at);
            for event in told.event.apart() {
                if let (Event::ReadTo(at), Some(name)) = (&event, self.sources.get(told.source)) {
                    self.position.advance(&name.0, *at);
                }
                // By the clock of the source, which also paces its second list.
                let told = self.intake.take(told.source, event, at);
                changes.extend(told.into_iter().map(|change| self.ends.admit(change, unix_now())));
            }
        }
        self.take(&changes, received, channels);
    }

    fn take(&mut self, changes: &[Change], received: Instant, channels: &Channels) {
        // Endpoints first: they never wait for translation.
        let emptied = self.take_endpoints(changes, received);
        let configuration: Vec<Change> = changes
            .iter()
            .filter(|change| change.key().kind != ObjectKind::EndpointSlice)
            .cloned()
            .collect();
        let mut refers_differ =
            configuration.iter().any(|change| refers_to_secrets(change.key().kind));
        if !configuration.is_empty() {
            let step = self.fleets.step(&configuration, received);
            self.problems_version += u64::from(step.problems_differ);
            // An Ingress may become ours, or not, by a class that came or went.
            refers_differ |= step.standing_differs;
        }
        refers_differ |= self.describe_fleets(&configuration, received);
        self.is_open = self.is_open || self.intake.is_open();
        if self.is_open {
            self.fleets.publish(&Beside {
                endpoints: &self.endpoints,
                position: &self.position,
                serving: self.serving,
            });
            // What is published now may lead elsewhere.
            self.fleets.tell_endpoints(&emptied, received);
        }
        self.refer(channels, refers_differ);
        self.tell(channels);
    }

    /// Makes and drops fleets by what Objects say of them, from the moment when all but what is only
    /// referred to is known. Tells whether others may be referred to after it.
    fn describe_fleets(&mut self, changes: &[Change], received: Instant) -> bool {
        let is_fleet = |key: &ObjectKey| key.kind == ObjectKind::Fleet;
        let changes: Vec<Change> = if self.are_described {
            changes.iter().filter(|change| is_fleet(change.key())).cloned().collect()
        } else if self.intake.awaited().all(|(_, kind)| kind.is_referenced()) {
            self.are_described = true;
            let fleets = self.intake.objects().filter(|object| is_fleet(&object.key));
            fleets.cloned().map(Change::Upsert).collect()
        } else {
            return false;
        };
        if changes.is_empty() {
            return false;
        }
        let (intake, ends) = (&self.intake, &self.ends);
        let objects = || intake.objects().filter_map(|object| ends.admitted(object));
        let stepped = self.fleets.describe(changes, objects, received);
        self.problems_version += u64::from(stepped.problems_differ);
        stepped.standing_differs
    }

    /// Tells the source of Secrets and ConfigMaps which ones are referred to.
    ///
    /// The first set, which may be empty, is told when everything but those is
    /// known: it is complete then, and the gate can wait for just these.
    fn refer(&mut self, channels: &Channels, may_differ: bool) {
        if self.has_referred {
            if may_differ {
                let referenced = self.fleets.referenced();
                channels.referenced.send_if_modified(|known| {
                    let differs = *known != referenced;
                    *known = referenced;
                    differs
                });
            }
        } else if self.intake.awaited().all(|(_, kind)| kind.is_referenced()) {
            self.has_referred = true;
            channels.referenced.send_replace(self.fleets.referenced());
        }
    }

    /// Tells newer Endpoints, but for Backends that lose their last one: gives those, to be told when
    /// what they may be replaced by has been published.
    fn take_endpoints(
        &mut self,
        changes: &[Change],
        received: Instant,
    ) -> Vec<(BackendId, Arc<EndpointSet>)> {
        let mut sets = Vec::new();
        for change in changes {
            sets.extend(self.book.take(change));
        }
        if sets.is_empty() {
            return sets;
        }
        for (id, set) in &sets {
            if set.as_slice().is_empty() {
                self.endpoints.remove(id);
            } else {
                self.endpoints.insert(id.clone(), Arc::clone(set));
            }
        }
        self.fleets.keep_endpoints(&self.endpoints);
        let (emptied, others): (Vec<_>, Vec<_>) =
            sets.into_iter().partition(|(_, set)| set.as_slice().is_empty());
        if self.is_open {
            self.fleets.tell_endpoints(&others, received);
        }
        emptied
    }

    /// Tells the admin plane what is known.
    fn tell(&mut self, channels: &Channels) {
        let mut source_problems = self.intake.problems();
        source_problems.extend(self.missing_fleet());
        source_problems.extend(self.unpublished());
        let endpoint_problems: Vec<Problem> = self.book.problems().cloned().collect();
        let expiry_problems = self.expiry_problems();
        if source_problems != self.source_problems
            || endpoint_problems != self.endpoint_problems
            || expiry_problems != self.expiry_problems
        {
            self.problems_version += 1;
        }
        self.expiry_problems = expiry_problems;
        self.source_problems = source_problems;
        self.endpoint_problems = endpoint_problems;
        let mut worlds = self.fleets.worlds().cloned();
        let world = worlds.next().unwrap_or_else(|| self.no_fleet.clone());
        let others = worlds.collect();
        let state = ControlState {
            world,
            others,
            replica: if self.fleets.are_elsewhere() { Replica::Elsewhere } else { Replica::Here },
            position: self.position.clone(),
            endpoints: self.endpoints.clone(),
            endpoint_problems: self.endpoint_problems.clone(),
            source_problems: self.source_problems.clone(),
            replica_problems: self.replica_problems.clone(),
            expiry_problems: self.expiry_problems.clone(),
            problems_version: self.problems_version,
            sources: self.source_states(),
            is_open: self.is_open,
            serving: self.serving,
        };
        channels.state.send_replace(Arc::new(state));
    }

    /// That the fleet which is to be served does not exist, once all of them are known.
    fn missing_fleet(&self) -> Option<Problem> {
        let missing = self.fleets.missing().filter(|_| self.are_described)?;
        let is_fleet = |object: &&Arc<Object>| object.key.kind == ObjectKind::Fleet;
        let there = self.intake.objects().filter(is_fleet).map(|object| &*object.key.name);
        let mut there: Vec<&str> = there.take(NAMED_MAX).collect();
        there.sort_unstable();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        Some(Problem {
            subject: Subject::Object(TranslateSettings::fleet_key(missing.as_str())),
            field: String::new(),
            code: FLEET_NOT_FOUND,
            message: format!(
                "fleet {missing} is to be served and does not exist; there is {there}"
            ),
            remedy: "create the Fleet, or name one that exists with --fleet".to_owned(),
            provenance: None,
        })
    }

    /// That statuses show nothing because a Service has no address, once all Services are known.
    fn unpublished(&self) -> Option<Problem> {
        let key = self.published.as_ref().filter(|_| self.is_open)?;
        published::problem(key, self.intake.object(key).map(AsRef::as_ref))
    }

    /// Looked for anew only when the Certificates differ, or after the clock has asked for it.
    fn expiry_problems(&mut self) -> Vec<Problem> {
        let digests = |world: &World| world.own_snapshot().certificates().digest();
        let digests = Some(self.fleets.worlds().map(digests).collect());
        if digests == self.certificates && self.ends.version() == self.ends_told {
            return self.expiry_problems.clone();
        }
        self.certificates = digests;
        self.ends_told = self.ends.version();
        let now = unix_now();
        let mut problems: Vec<Problem> =
            self.fleets.worlds().flat_map(|world| expiry::problems(world, now)).collect();
        problems.extend(self.ends.problems(now));
        problems
    }

    fn source_states(&self) -> Vec<SourceState> {
        let state = |name: &SourceName| SourceState {
            name: name.clone(),
            awaited: self
                .intake
                .awaited()
                .filter(|(source, _)| *source == name)
                .map(|(_, kind)| kind)
                .collect(),
        };
        self.sources.iter().map(state).collect()
    }
}

/// Waits until the next override ends; the clock of the machine may be set meanwhile.
async fn next_end(end: Option<i64>) {
    let Some(end) = end else { return std::future::pending().await };
    let left = u64::try_from(end.saturating_sub(unix_now())).unwrap_or_default();
    // A second begins with its first instant, so what is left of this one is waited for in steps.
    let wait = if left <= 1 { END_LOOKED_AT_EVERY } else { Duration::from_secs(left - 1) };
    tokio::time::sleep(wait.min(expiry::LOOKED_AT_EVERY)).await;
}

/// In seconds since 1970.
fn unix_now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Whether Objects of a kind name Secrets.
fn refers_to_secrets(kind: ObjectKind) -> bool {
    match kind {
        ObjectKind::Ingress
        | ObjectKind::RouteOverride
        | ObjectKind::Upstream
        | ObjectKind::Fleet => true,
        ObjectKind::IngressClass
        | ObjectKind::Service
        | ObjectKind::EndpointSlice
        | ObjectKind::Secret
        | ObjectKind::ConfigMap => false,
    }
}

/// How many fleets are named where another one is missing.
const NAMED_MAX: usize = 20;

/// How often the clock is looked at in the last second before an override ends.
const END_LOOKED_AT_EVERY: Duration = Duration::from_millis(50);
