//! What other controllers say of their replicas, and whether they intend the same.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

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
        let id = ReplicaId { fleet: one.view.fleet.clone(), name: one.view.name.clone() };
        // RFC 3339 in UTC by the second is in the order of time as text.
        let rank = |one: &Located| (one.view.connected, one.view.heard.clone());
        match all.get(&id) {
            Some(known) if rank(known) >= rank(&one) => {}
            Some(_) | None => drop(all.insert(id, one)),
        }
    }
    all.into_values().collect()
}

/// Where another controller has read equally far and intends something else.
pub(super) fn disagreements(own: &[Intent], peers: &[PeerReport]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for peer in peers {
        for theirs in &peer.fleets {
            let ours = own.iter().find(|ours| ours.name == theirs.name);
            let Some(ours) = ours.filter(|ours| ours.position == theirs.position) else { continue };
            if ours.digest != theirs.digest {
                problems.push(Problem {
                    subject: Subject::Other(format!("fleet {}", ours.name)),
                    field: String::new(),
                    code: CONTROLLERS_DISAGREE,
                    message: format!(
                        "this controller intends {}, {} intends {}, both at position {}",
                        ours.digest.short(),
                        peer.url,
                        theirs.digest.short(),
                        ours.position
                    ),
                    remedy: "give all controllers the same settings, version and manifests".into(),
                    provenance: None,
                });
            }
        }
    }
    problems
}

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

    fn intent(digest: &str, at: u64) -> Intent {
        let mut position = Position::default();
        position.advance("folder", at);
        Intent { name: "prod".parse().unwrap(), digest: Digest::of([digest.as_bytes()]), position }
    }

    #[test]
    fn controllers_disagree_only_where_they_have_read_equally_far() {
        for (digest, at, count) in [("a", 1, 0), ("b", 1, 1), ("b", 2, 0), ("a", 2, 0)] {
            let found =
                disagreements(&[intent("a", 1)], &[peer(Vec::new(), vec![intent(digest, at)])]);
            assert_eq!(found.len(), count, "{digest} at {at}: {found:?}");
            assert!(found.iter().all(|problem| problem.code == CONTROLLERS_DISAGREE));
        }
        assert!(disagreements(&[], &[peer(Vec::new(), vec![intent("a", 1)])]).is_empty());
    }
}
