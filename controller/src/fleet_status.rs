//! Writes the status of the Fleets of a cluster: the leader only, differences only, paced.

pub mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kubeng_config::name::{FleetName, ObjectKey, ObjectKind};
use kubeng_config::problem::{Problem, Subject};
use kubeng_config::provenance::Provenance;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use crate::cluster::{ANSWER_WITHIN, Access, AskError, FIELD_MANAGER};
use crate::control::{Control, ControlState};
use crate::kind::Body;
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::pace::Backoff;
use crate::replicas::Replicas;
use crate::world::World;
use told::{FleetStatus, applied, status};

/// What is known of replicas, once somebody serves them.
pub type Served = watch::Receiver<Option<Replicas>>;

/// Writes for as long as it is let.
pub(crate) async fn run(
    access: Access,
    control: Control,
    mut served: Served,
    leadership: watch::Receiver<Leadership>,
    metrics: Arc<Metrics>,
) {
    let replicas = match served.wait_for(Option::is_some).await {
        Ok(replicas) => replicas.clone(),
        // Nobody serves replicas here.
        Err(_) => None,
    };
    let Some(replicas) = replicas else { return };
    let mut writer = Writer {
        access,
        metrics,
        written: BTreeMap::new(),
        trouble: Backoff::default(),
        last_error: None,
    };
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if leadership.borrow().epoch_at(Instant::now()).is_none() {
            // The next term begins with a look at what is there.
            writer.written.clear();
            continue;
        }
        let state = control.now();
        if !state.is_ready() {
            // Half of what there is says nothing about the rest.
            continue;
        }
        let wanted = wanted(&state, &replicas);
        writer.written.retain(|key, _| wanted.iter().any(|(wanted, ..)| wanted == key));
        for (key, generation, status) in wanted {
            if leadership.borrow().epoch_at(Instant::now()).is_none() {
                break;
            }
            writer.see_to(key, generation, status).await;
        }
    }
}

type Wanted = (ObjectKey, Option<i64>, FleetStatus);

/// What the status of each Fleet that the cluster has should be.
fn wanted(state: &ControlState, replicas: &Replicas) -> Vec<Wanted> {
    let fleets = replicas.fleets();
    let mut wanted = Vec::new();
    for (name, fleet) in &fleets {
        let key = key(name);
        let Some(object) = state.world().object(&key) else { continue };
        let Body::Fleet(written) = &object.body else { continue };
        if !is_of_cluster(&object.provenance) {
            // Of a folder, which nobody writes to.
            continue;
        }
        let target = Some(fleet.snapshot.digest());
        let (refused, problems) = (refused(state, name), problems(state, replicas, name));
        let status = status(target, &replicas.views(name), refused, problems);
        wanted.push((key, written.generation, status));
    }
    // Those that were never taken.
    for problem in &state.source_problems {
        let Subject::Object(key) = &problem.subject else { continue };
        let is_known = wanted.iter().any(|(known, ..)| known == key);
        let is_of_cluster = problem.provenance.as_ref().is_some_and(is_of_cluster);
        if key.kind == ObjectKind::Fleet && !is_known && is_of_cluster {
            wanted.push((key.clone(), None, status(None, &[], Some(problem), 1)));
        }
    }
    wanted
}

fn key(name: &FleetName) -> ObjectKey {
    crate::settings::TranslateSettings::fleet_key(name.as_str())
}

/// Why the newest form of a Fleet is not taken.
#[must_use]
pub fn refused<'a>(state: &'a ControlState, fleet: &FleetName) -> Option<&'a Problem> {
    let key = key(fleet);
    let is_about_it = |problem: &&Problem| match &problem.subject {
        Subject::Object(subject) => *subject == key,
        Subject::Other(_) => false,
    };
    state.source_problems.iter().find(is_about_it)
}

/// How many things are wrong with what is for a fleet, with the Fleet itself, and with its replicas. One
/// that concerns several fleets counts for each.
#[must_use]
pub fn problems(state: &ControlState, replicas: &Replicas, fleet: &FleetName) -> usize {
    let key = key(fleet);
    let is_about_it = |problem: &&Problem| match &problem.subject {
        Subject::Object(subject) => *subject == key,
        Subject::Other(_) => false,
    };
    let of_itself = state.source_problems.iter().filter(is_about_it);
    // Of half of what there is many would be wrong.
    let world = state.world_of(fleet).filter(|_| state.is_open);
    let of_objects = world.into_iter().flat_map(World::problems);
    let of_replicas = replicas.problems_of(fleet);
    let all: BTreeSet<&Problem> = of_itself.chain(of_objects).chain(&of_replicas).collect();
    all.len()
}

fn is_of_cluster(provenance: &Provenance) -> bool {
    matches!(provenance, Provenance::Cluster { .. })
}

struct Writer {
    access: Access,
    metrics: Arc<Metrics>,
    /// What was written in this term, and what the Fleet shows since.
    written: BTreeMap<ObjectKey, (Option<i64>, FleetStatus, Value)>,
    trouble: Backoff,
    /// Why the last write that failed did, so that the same is not logged again.
    last_error: Option<String>,
}

impl Writer {
    /// Writes the status if it differs from what was written.
    async fn see_to(&mut self, key: ObjectKey, generation: Option<i64>, status: FleetStatus) {
        let before = self.written.get(&key);
        let is_written =
            before.is_some_and(|(known, told, _)| *known == generation && *told == status);
        if is_written || !self.trouble.wait(Instant::now()).is_zero() {
            return;
        }
        let before = before.map(|(.., shows)| shows.clone());
        match self.write(&key, generation, &status, before).await {
            Ok(shows) => {
                debug!(object = %key, "status written");
                self.metrics.statuses_written.inc();
                self.trouble.succeeded();
                self.last_error = None;
                self.written.insert(key, (generation, status, shows));
            }
            // It is gone, and the watch will say so.
            Err(error) if error.code() == Some(404) => {}
            Err(error) => self.failed(&key, &error),
        }
    }

    /// Applies it to the Fleet; gives what the Fleet shows after that. By force: that the status is
    /// ours to write is not disputed.
    async fn write(
        &self,
        key: &ObjectKey,
        generation: Option<i64>,
        status: &FleetStatus,
        before: Option<Value>,
    ) -> Result<Value, AskError> {
        let name = &*key.name;
        let before = match before {
            Some(before) => before,
            None => {
                let get = |client| async move { fleets(client).get_status(name).await };
                shown(self.access.ask(ANSWER_WITHIN, get).await?)
            }
        };
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let body = applied(name, generation, status, &before, &now);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let apply = |client| async move {
            fleets(client).patch_status(name, &params, &Patch::Apply(body)).await
        };
        self.access.ask(ANSWER_WITHIN, apply).await.map(shown)
    }

    fn failed(&mut self, key: &ObjectKey, error: &AskError) {
        self.trouble.failed(Instant::now());
        self.metrics.statuses_failed.inc();
        let error = error.to_string();
        if self.last_error.as_ref() != Some(&error) {
            warn!(object = %key, error, "status not written");
            self.last_error = Some(error);
        }
    }
}

fn fleets(client: kube::Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("kubeng.io", "v1alpha1", "Fleet");
    Api::all_with(client, &ApiResource::from_gvk_with_plural(&kind, "fleets"))
}

fn shown(object: DynamicObject) -> Value {
    object.data.get("status").cloned().unwrap_or_default()
}

/// How often what should be told is compared with what was.
const LOOK_EVERY: Duration = Duration::from_secs(1);
