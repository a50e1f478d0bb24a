//! What replicas are not well: as Problems.

use kubeng_config::drift::ReplicaState;
use kubeng_config::heartbeat::ReportedProblem;
use kubeng_config::name::FleetName;
use kubeng_config::problem::{
    Code, Problem, REJECTED, REPLICA_DIVERGENT, REPLICA_DRIFTED, REPLICA_SKEWED, REPLICA_STALE,
    REPLICA_TAMPERED, REPLICA_UNREACHABLE, Subject,
};

use super::entry::{ReplicaId, ReplicaView};

/// How many Problems of its own one replica may tell.
const OF_ONE_MAX: usize = 20;

/// What is wrong with these replicas, the worst first. What `is_dismissed` says is left out.
pub(super) fn problems(
    views: &[ReplicaView],
    is_dismissed: impl Fn(&ReplicaId, ReplicaState) -> bool,
) -> Vec<Problem> {
    let mut all = Vec::new();
    for view in views {
        let id = ReplicaId { fleet: view.fleet.clone(), name: view.name.clone() };
        let subject = Subject::Other(format!("replica {id}"));
        if let Some((code, remedy)) = code(view.state)
            && !is_dismissed(&id, view.state)
        {
            all.push(problem(&subject, code, view.text.clone(), remedy));
        }
        if view.state != ReplicaState::Skewed && view.connected {
            let message = view.skew.clone();
            let skewed =
                message.map(|message| problem(&subject, REPLICA_SKEWED, message, ONE_VERSION));
            all.extend(skewed);
        }
        let told = view.heartbeat.iter().flat_map(|heartbeat| &heartbeat.problems);
        all.extend(told.take(OF_ONE_MAX).filter_map(|told| of_replica(told, &id)));
    }
    all.sort_by_cached_key(|problem| (problem.severity(), problem.clone()));
    all.dedup();
    all
}

/// Whether a Problem of [`problems`], or one of those that stand beside them, concerns this fleet.
pub(super) fn is_about(problem: &Problem, fleet: &FleetName) -> bool {
    match &problem.subject {
        Subject::Object(_) => false,
        Subject::Other(subject) => {
            let replica = subject.strip_prefix("replica ").and_then(|id| id.split_once('/'));
            let named = replica.map(|(fleet, _)| fleet).or(subject.strip_prefix("fleet "));
            named == Some(fleet.as_str())
        }
    }
}

fn problem(subject: &Subject, code: Code, message: String, remedy: &str) -> Problem {
    Problem {
        subject: subject.clone(),
        field: String::new(),
        code,
        message,
        remedy: remedy.to_owned(),
        provenance: None,
    }
}

fn of_replica(told: &ReportedProblem, id: &ReplicaId) -> Option<Problem> {
    let ReportedProblem { code, object, field, message, remedy } = told;
    Some(Problem {
        subject: Subject::Other(format!("replica {id}: {object}")),
        field: field.clone(),
        // A newer program may know codes that this one does not.
        code: code.parse().ok()?,
        message: message.clone(),
        remedy: remedy.clone(),
        provenance: None,
    })
}

fn code(state: ReplicaState) -> Option<(Code, &'static str)> {
    match state {
        ReplicaState::Tampered => {
            Some((REPLICA_TAMPERED, "see kubeng drift list, then heal it or dismiss it"))
        }
        ReplicaState::Drifted => {
            Some((REPLICA_DRIFTED, "see kubeng drift list, then heal it, adopt it or dismiss it"))
        }
        ReplicaState::Divergent => {
            Some((REPLICA_DIVERGENT, "see kubeng drift list, then heal it or dismiss it"))
        }
        ReplicaState::Rejected => Some((REJECTED, "mend what the message names")),
        ReplicaState::Stale => Some((REPLICA_STALE, "look at the log and the load of the replica")),
        ReplicaState::Skewed => Some((REPLICA_SKEWED, ONE_VERSION)),
        ReplicaState::Unreachable => Some((
            REPLICA_UNREACHABLE,
            "see whether it runs and reaches a controller; kubeng replica forget takes it off the list",
        )),
        ReplicaState::Applying | ReplicaState::Pending | ReplicaState::InSync => None,
    }
}

const ONE_VERSION: &str = "bring replicas and controllers to one version, the replicas first";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_about_the_fleet_that_its_subject_names() {
        let fleet: FleetName = "prod".parse().unwrap();
        for (subject, is_wanted) in [
            ("replica prod/r1", true),
            ("replica prod/r1: listener http", true),
            ("fleet prod", true),
            ("replica prod-2/r1", false),
            ("fleet prod-2", false),
            ("replica prod", false),
            ("listener prod/r1", false),
        ] {
            let subject = Subject::Other(subject.to_owned());
            let found = is_about(&problem(&subject, REJECTED, String::new(), ""), &fleet);
            assert_eq!(found, is_wanted, "{subject:?}");
        }
    }
}
