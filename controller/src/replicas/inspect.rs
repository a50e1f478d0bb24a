//! Looking into a deviation: first the evidence is stored, then it is told.

use std::collections::BTreeSet;
use std::time::Duration;

use kubeng_config::canonical::Digest;
use kubeng_config::compare::{Comparison, Side, compare};
use kubeng_config::drift::{Moment, ReplicaState, Sign};
use kubeng_config::export::Export;
use serde::Serialize;
use tracing::warn;

use super::Replicas;
use super::entry::{ReplicaId, ReplicaView};
use super::record::{DriftRecord, Resolution};
use super::registry::now;
use super::store;

/// What a deviation looks like from outside; when it changes it is looked into anew.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Look {
    state: ReplicaState,
    signs: Vec<Sign>,
    running: Option<Digest>,
    divergence: Option<String>,
}

/// How `view` looks; none where it is no Drift.
pub(super) fn look(replicas: &Replicas, id: &ReplicaId, view: &ReplicaView) -> Option<Look> {
    if !view.state.is_drift() {
        return None;
    }
    let signs = signs(replicas, id);
    let divergence = replicas.registry.with(id, |entry| entry.divergence.clone()).flatten();
    let divergence = divergence.map(|found| format!("{found:?}"));
    Some(Look { state: view.state, signs, running: view.running, divergence })
}

fn signs(replicas: &Replicas, id: &ReplicaId) -> Vec<Sign> {
    let wanted = replicas.registry.wanted();
    let care = wanted.get(&id.fleet).map(|wanted| wanted.care.clone()).unwrap_or_default();
    let own = replicas.registry.own();
    replicas.registry.with(id, |entry| entry.signs(&care, own)).unwrap_or_default()
}

/// Stores the evidence of a deviation, then opens a record of it, unless one stands for the same.
pub(super) async fn inspect(replicas: Replicas, id: ReplicaId, look: Look) {
    let dump = replicas.running(&id).await;
    let intended = replicas.intended(&id.fleet);
    if let Err(error) = &dump {
        warn!(replica = %id, %error, "what a replica runs is not known");
    }
    let stored = tokio::task::spawn_blocking(move || {
        let difference = match (&intended, &dump) {
            (Some(intended), Ok(running)) => Some(compare(intended, running)),
            (None, _) | (_, Err(_)) => None,
        };
        file(&replicas, &id, &look, difference, dump.ok());
    });
    if stored.await.is_err() {
        warn!("the evidence of a deviation could not be stored");
    }
}

fn file(
    replicas: &Replicas,
    id: &ReplicaId,
    look: &Look,
    difference: Option<Comparison>,
    running: Option<Side>,
) {
    let places = difference.as_ref().map(Comparison::places);
    replicas.registry.with(id, |entry| entry.differences = places);
    let fingerprint = fingerprint(look, difference.as_ref());
    if let Some(standing) = replicas.book.standing(id, look.state) {
        if standing.fingerprint == fingerprint {
            return;
        }
        if standing.is_open() {
            let reason = "the evidence has changed";
            let _over =
                replicas.book.resolve(&standing.id, None, Resolution::Gone, "controller", reason);
        }
    }
    // It may have been mended while the evidence was gathered; then there is nothing to tell.
    let Some(view) = replicas.get(id).filter(|view| view.state == look.state) else { return };
    let now = now();
    let named = format!("{id} {} {fingerprint} {}", look.state, now.as_nanos());
    let number = Digest::of([named.as_bytes()]).short();
    let evidence = replicas.book.folder().map(|folder| {
        let put = |name: &str, value: &dyn Evidence| value.put(folder, &number, name);
        let running = running.map(|running| Export::of_parts(&running.parts));
        put("running.json", &running);
        put("heartbeat.json", &view.heartbeat);
        put("statement.json", &replicas.registry.with(id, |entry| entry.statement.clone()));
        put("difference.json", &difference);
        folder.join("drift").join(&number).display().to_string()
    });
    let record = DriftRecord {
        id: number,
        replica: id.clone(),
        state: look.state,
        text: view.text,
        since: Moment(now).to_string(),
        since_seconds: now.as_secs(),
        fingerprint,
        difference,
        evidence,
        is_healable: look.signs.iter().all(Sign::is_healable),
        resolution: None,
    };
    warn!(replica = %id, state = %record.state, drift = %record.id, text = %record.text, "drift");
    replicas.metrics.found.inc();
    replicas.book.put(record);
}

/// One piece of evidence.
trait Evidence {
    fn put(&self, folder: &std::path::Path, id: &str, name: &str);
}

impl<T: Serialize> Evidence for Option<T> {
    fn put(&self, folder: &std::path::Path, id: &str, name: &str) {
        if let Some(value) = self {
            store::write_evidence(folder, id, name, value);
        }
    }
}

/// Over what a deviation consists in: what differs where that is known, whatever else is served.
fn fingerprint(look: &Look, difference: Option<&Comparison>) -> Digest {
    let Look { state, signs, running, divergence } = look;
    let differing = difference.map(|is| (&is.differences, &is.only_left, &is.only_right));
    // Without a dump the digest has to do.
    let running = if differing.is_some() { None } else { *running };
    let bytes = kubeng_config::canonical::to_bytes(&(state, signs, divergence, running, differing));
    Digest::of([bytes.as_slice()])
}

/// Ends the records of what is gone by itself, as `views` were at `taken`, and of replicas that have
/// `moved` to another controller: that one keeps records of its own.
pub(super) fn close_gone(
    replicas: &Replicas,
    views: &[ReplicaView],
    moved: &BTreeSet<ReplicaId>,
    taken: Duration,
) {
    // What was found after they were taken is not in them.
    let is_older = |record: &DriftRecord| record.since_seconds < taken.as_secs();
    let open = replicas.book.list().into_iter().filter(DriftRecord::is_open);
    for record in open.filter(is_older) {
        let view = views
            .iter()
            .find(|view| view.fleet == record.replica.fleet && view.name == record.replica.name);
        let (is_over, reason) = match view {
            None if moved.contains(&record.replica) => (true, "another controller looks after it"),
            None => (true, "the replica was forgotten"),
            // Who does not report may still be so.
            Some(view) if view.state == ReplicaState::Unreachable => (false, ""),
            Some(view) => (
                view.state != record.state && !view.marks.contains(&record.state),
                "the replica is as it should be",
            ),
        };
        if is_over {
            let done =
                replicas.book.resolve(&record.id, None, Resolution::Gone, "controller", reason);
            if done.is_ok() {
                tracing::info!(replica = %record.replica, drift = %record.id, "drift is gone");
            }
        }
    }
}
