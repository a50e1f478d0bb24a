//! What other controllers say of their replicas, and whether they intend the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use kubeng_config::canonical::Digest;
use kubeng_config::name::FleetName;
use kubeng_config::position::Position;
use kubeng_config::problem::{CONTROLLERS_DISAGREE, Problem, Subject};
use serde::{Deserialize, Serialize};

use super::entry::{ReplicaId, ReplicaView};

/// What another controller said last.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerReport {
    /// The address of its admin listener.
    pub url: String,
    /// Why it did not answer; none where it did.
    pub error: Option<String>,
    /// Its replicas.
    #[serde(skip)]
    pub replicas: Vec<ReplicaView>,
    /// What it intends.
    #[serde(skip)]
    pub fleets: Vec<Intent>,
}

/// What a controller intends for a fleet.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// The fleet.
    pub name: FleetName,
    /// The digest of its Snapshot.
    pub digest: Digest,
    /// How far the sources had been read for it.
    pub position: Position,
}

/// A replica, and which controller tells of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Located {
    /// The address of the controller; none for the one that was asked.
    pub controller: Option<String>,
    /// The replica.
    #[serde(flatten)]
    pub view: ReplicaView,
}

/// What all other controllers said last.
#[derive(Default)]
pub(super) struct Peers(RwLock<Arc<Vec<PeerReport>>>);

impl Peers {
    pub(super) fn set(&self, reports: Vec<PeerReport>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(reports);
    }

    pub(super) fn now(&self) -> Arc<Vec<PeerReport>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// All replicas by name, each told by the controller that it is connected to, or, without a line to
/// any, by the one that heard of it last.
pub(super) fn located(own: Vec<ReplicaView>, peers: &[PeerReport]) -> Vec<Located> {
    let own = own.into_iter().map(|view| Located { controller: None, view });
    let others = peers.iter().flat_map(|peer| {
        let url = &peer.url;
        peer.replicas
            .iter()
            .map(move |view| Located { controller: Some(url.clone()), view: view.clone() })
    });
    let mut all: BTreeMap<ReplicaId, Located> = BTreeMap::new();
    for one in own.chain(others) {
        let id = id_of(&one.view);
        // RFC 3339 in UTC by the second is in the order of time as text.
        let rank = |one: &Located| (one.view.connected, one.view.heard.clone());
        match all.get(&id) {
            Some(known) if rank(known) >= rank(&one) => {}
            Some(_) | None => drop(all.insert(id, one)),
        }
    }
    all.into_values().collect()
}

/// Those of `own` that are connected to another controller, which looks after them.
pub(super) fn moved(own: &[ReplicaView], peers: &[PeerReport]) -> BTreeSet<ReplicaId> {
    let there = peers.iter().flat_map(|peer| &peer.replicas).filter(|view| view.connected);
    let there: BTreeSet<ReplicaId> = there.map(id_of).collect();
    own.iter().filter(|view| !view.connected).map(id_of).filter(|id| there.contains(id)).collect()
}

pub(super) fn id_of(view: &ReplicaView) -> ReplicaId {
    ReplicaId { fleet: view.fleet.clone(), name: view.name.clone() }
}

/// Where other controllers intend something else, and since when.
#[derive(Default)]
pub(super) struct Disagreements(BTreeMap<(String, FleetName), Differing>);

/// What differs between two controllers.
#[derive(Clone, Copy)]
struct Differing {
    since: Instant,
    /// Since when both have read equally far.
    equally_far: Option<Instant>,
}

impl Disagreements {
    /// Compares what is intended here at `now` with what others said last. What differs is a Problem
    /// after a while: at once it may be that one of the two has only been asked earlier.
    pub(super) fn look(
        &mut self,
        own: &[Intent],
        peers: &[PeerReport],
        now: Instant,
    ) -> Vec<Problem> {
        let mut differing = BTreeMap::new();
        let mut problems = Vec::new();
        for (peer, theirs) in
            peers.iter().flat_map(|peer| peer.fleets.iter().map(move |f| (peer, f)))
        {
            let ours = own.iter().find(|ours| ours.name == theirs.name);
            if ours.is_some_and(|ours| ours.digest == theirs.digest) {
                continue;
            }
            let key = (peer.url.clone(), theirs.name.clone());
            let known = self.0.get(&key);
            let is_equally_far = ours.is_some_and(|ours| ours.position == theirs.position);
            let found = Differing {
                since: known.map_or(now, |known| known.since),
                equally_far: is_equally_far
                    .then(|| known.and_then(|known| known.equally_far).unwrap_or(now)),
            };
            let is_over = |since: Instant, bound| now.saturating_duration_since(since) >= bound;
            if found.equally_far.is_some_and(|since| is_over(since, EQUALLY_FAR_FOR))
                || is_over(found.since, DIFFERENT_FOR)
            {
                problems.push(disagreement(ours, theirs, &peer.url));
            }
            differing.insert(key, found);
        }
        self.0 = differing;
        problems
    }
}

fn disagreement(ours: Option<&Intent>, theirs: &Intent, url: &str) -> Problem {
    let Intent { name, digest, position } = theirs;
    let digest = digest.short();
    let message = match ours {
        None => format!("{url} serves it, this controller does not know it"),
        Some(ours) if ours.position == *position => format!(
            "this controller intends {}, {url} intends {digest}, both at position {position}",
            ours.digest.short(),
        ),
        Some(ours) => format!(
            "this controller intends {} at position {}, {url} intends {digest} at position {position}, \
             for more than {} s",
            ours.digest.short(),
            ours.position,
            DIFFERENT_FOR.as_secs(),
        ),
    };
    Problem {
        subject: Subject::Other(format!("fleet {name}")),
        field: String::new(),
        code: CONTROLLERS_DISAGREE,
        message,
        remedy: "give all controllers the same settings, version and manifests".into(),
        provenance: None,
    }
}

/// How long two that have read equally far may differ: one of them was asked a moment earlier.
const EQUALLY_FAR_FOR: Duration = Duration::from_secs(10);

/// How long two may differ at all: one of them may be slow, or have no way to a source.
const DIFFERENT_FOR: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use kubeng_config::drift::ReplicaState;

    use super::*;

    fn view(name: &str, connected: bool, heard: &str) -> ReplicaView {
        ReplicaView {
            name: name.parse().unwrap(),
            fleet: "prod".parse().unwrap(),
            state: ReplicaState::InSync,
            marks: Vec::new(),
            text: String::new(),
            since: String::new(),
            heard: heard.into(),
            connected,
            running: None,
            acknowledged: None,
            target: None,
            version: String::new(),
            skew: None,
            labels: BTreeMap::new(),
            certified_labels: Default::default(),
            admin: None,
            heartbeat: None,
        }
    }

    fn peer(replicas: Vec<ReplicaView>, fleets: Vec<Intent>) -> PeerReport {
        PeerReport { url: "http://peer".into(), error: None, replicas, fleets }
    }

    #[test]
    fn a_replica_is_told_by_the_controller_that_it_is_connected_to() {
        let own = vec![view("r1", true, "1"), view("r2", false, "2"), view("r3", false, "3")];
        let theirs = vec![
            view("r1", false, "9"),
            view("r2", true, "1"),
            view("r3", false, "4"),
            view("r4", true, "1"),
        ];
        let all = located(own, &[peer(theirs, Vec::new())]);
        let by: Vec<(String, bool)> =
            all.iter().map(|one| (one.view.name.to_string(), one.controller.is_some())).collect();
        let expected = [("r1", false), ("r2", true), ("r3", true), ("r4", true)];
        assert_eq!(by, expected.map(|(name, is)| (name.to_owned(), is)));
    }

    #[test]
    fn a_replica_has_moved_when_another_controller_has_its_line() {
        let own = [view("r1", true, "1"), view("r2", false, "2"), view("r3", false, "3")];
        let theirs = ["r1", "r2", "r4"].map(|name| view(name, true, "1"));
        let away = view("r3", false, "9");
        let peers = [peer(theirs.into_iter().chain([away]).collect(), Vec::new())];
        let moved: Vec<String> = moved(&own, &peers).iter().map(ToString::to_string).collect();
        assert_eq!(moved, ["prod/r2"]);
    }

    fn intent(digest: &str, at: u64) -> Intent {
        let mut position = Position::default();
        position.advance("folder", at);
        Intent { name: "prod".parse().unwrap(), digest: Digest::of([digest.as_bytes()]), position }
    }

    /// Whether it is a Problem after each of these seconds, with `theirs` intended by another one.
    #[track_caller]
    fn check(ours: &[Intent], theirs: &Intent, told: [(u64, bool); 3]) {
        let (mut disagreements, began) = (Disagreements::default(), Instant::now());
        for (second, is_told) in told {
            let peers = [peer(Vec::new(), vec![theirs.clone()])];
            let problems = disagreements.look(ours, &peers, began + Duration::from_secs(second));
            assert_eq!(problems.len(), usize::from(is_told), "at {second}: {problems:?}");
            assert!(problems.iter().all(|problem| problem.code == CONTROLLERS_DISAGREE));
        }
    }

    #[test]
    fn controllers_disagree_when_they_differ_for_longer_than_they_may() {
        let ours = [intent("a", 1)];
        check(&ours, &intent("a", 1), [(0, false), (9, false), (999, false)]);
        check(&ours, &intent("a", 2), [(0, false), (9, false), (999, false)]);
        check(&ours, &intent("b", 1), [(0, false), (9, false), (10, true)]);
        check(&ours, &intent("b", 2), [(0, false), (59, false), (60, true)]);
        check(&[], &intent("a", 1), [(0, false), (59, false), (60, true)]);
    }

    #[test]
    fn what_was_mended_begins_anew() {
        let (mut disagreements, now) = (Disagreements::default(), Instant::now());
        let mut look = |digest: &str, second: u64| {
            let peers = [peer(Vec::new(), vec![intent(digest, 1)])];
            disagreements.look(&[intent("a", 1)], &peers, now + Duration::from_secs(second)).len()
        };
        assert_eq!((look("b", 0), look("b", 10)), (0, 1));
        assert_eq!((look("a", 11), look("b", 12), look("b", 21), look("b", 22)), (0, 0, 0, 1));
    }
}
