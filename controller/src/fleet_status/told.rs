//! What the status of a Fleet says: values in, values out.

use std::collections::BTreeMap;

use kubeng_config::canonical::Digest;
use kubeng_config::compare::{self, Group};
use kubeng_config::drift::ReplicaState;
use kubeng_config::problem::Problem;
use serde::Serialize;
use serde_json::{Value, json};

use crate::replicas::entry::ReplicaView;

/// What is told of a Fleet.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetStatus {
    /// Whether it is taken as it is written, and whether its replicas serve it.
    pub conditions: Vec<Condition>,
    /// How many replicas it has.
    pub replicas: ReplicaCounts,
    /// What it should serve; none for a Fleet that was never taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration_digest: Option<Digest>,
    /// What its replicas run, and how many of them, the most first.
    pub running: Vec<Runs>,
    /// How many things are wrong with what is for it, with itself and with its replicas.
    pub problems: usize,
}

/// How many replicas run the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Runs {
    /// What they run; none where they have not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// How many.
    pub replicas: usize,
}

/// Replicas by what they run, the most first, as they are compared.
#[must_use]
pub fn groups(views: &[ReplicaView]) -> Vec<Group> {
    compare::groups(views.iter().map(|view| (view.name.to_string(), view.running)))
}

/// One condition, as Kubernetes writes them.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Condition {
    /// Its name.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `True` or `False`.
    pub status: &'static str,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in words.
    pub message: String,
}

/// Replicas by how they are.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaCounts {
    /// All that are known.
    pub known: usize,
    /// Those that serve what they should.
    pub in_sync: usize,
    /// All others.
    pub not_in_sync: usize,
    /// Each state that any of them is in.
    pub states: BTreeMap<&'static str, usize>,
}

impl ReplicaCounts {
    fn of(views: &[ReplicaView]) -> Self {
        let mut states = BTreeMap::new();
        for view in views {
            *states.entry(view.state.as_str()).or_default() += 1;
        }
        let in_sync = states.get(ReplicaState::InSync.as_str()).copied().unwrap_or(0);
        Self { known: views.len(), in_sync, not_in_sync: views.len() - in_sync, states }
    }
}

/// The status of a Fleet with these replicas and so many `problems`. `refused` is why its newest form is
/// not taken; without a `target` none ever was.
#[must_use]
pub fn status(
    target: Option<Digest>,
    views: &[ReplicaView],
    refused: Option<&Problem>,
    problems: usize,
) -> FleetStatus {
    let accepted = match refused {
        None => condition("Accepted", true, "Accepted", "it is served as it is written".into()),
        Some(problem) => {
            let Problem { code, field, message, remedy, .. } = problem;
            let former = match target {
                Some(_) => "; what was read of it before is served",
                None => "",
            };
            let message = format!("{code} {field}: {message}; {remedy}{former}");
            condition("Accepted", false, "Invalid", shortened(message))
        }
    };
    let runs = |group: &Group| Runs { digest: group.digest, replicas: group.replicas.len() };
    FleetStatus {
        conditions: vec![accepted, programmed(target, views)],
        replicas: ReplicaCounts::of(views),
        configuration_digest: target,
        running: groups(views).iter().take(RUNNING_MAX).map(runs).collect(),
        problems,
    }
}

/// Whether every replica that is there serves what it should.
fn programmed(target: Option<Digest>, views: &[ReplicaView]) -> Condition {
    let told = |is_true, reason, message| condition("Programmed", is_true, reason, message);
    let Some(target) = target else {
        return told(false, "Invalid", "nothing is served by it".into());
    };
    let live: Vec<&ReplicaView> =
        views.iter().filter(|view| view.state != ReplicaState::Unreachable).collect();
    let target = target.short();
    let Some(others) = serving_otherwise(&live) else {
        return match views.len() {
            0 => told(false, "NoReplicas", "no replica has joined it".into()),
            known => {
                told(false, "Unreachable", format!("none of {known} replicas tells of itself"))
            }
        };
    };
    match others.first() {
        None => told(true, "Programmed", format!("{} replicas serve {target}", live.len())),
        Some(first) => {
            let served = live.len() - others.len();
            let (count, name, text) = (live.len(), &first.name, &first.text);
            let message = format!("{served} of {count} replicas serve {target}; {name}: {text}");
            told(false, "Pending", shortened(message))
        }
    }
}

/// Those of the replicas that are there that do not serve what they should; none when there is none.
fn serving_otherwise<'a>(live: &[&'a ReplicaView]) -> Option<Vec<&'a ReplicaView>> {
    let serves = |view: &ReplicaView| match view.state {
        ReplicaState::InSync | ReplicaState::Skewed => true,
        ReplicaState::Unreachable
        | ReplicaState::Tampered
        | ReplicaState::Rejected
        | ReplicaState::Drifted
        | ReplicaState::Divergent
        | ReplicaState::Stale
        | ReplicaState::Applying
        | ReplicaState::Pending => false,
    };
    (!live.is_empty()).then(|| live.iter().copied().filter(|view| !serves(view)).collect())
}

fn condition(
    kind: &'static str,
    is_true: bool,
    reason: &'static str,
    message: String,
) -> Condition {
    let status = if is_true { "True" } else { "False" };
    Condition { kind, status, reason, message }
}

/// As long as the API server takes it.
fn shortened(message: String) -> String {
    if message.chars().count() <= MESSAGE_CHARS_MAX {
        return message;
    }
    message.chars().take(MESSAGE_CHARS_MAX).chain("...".chars()).collect()
}

/// What is applied to the Fleet `name`. A condition keeps the time of its last change from `before`,
/// the status that the Fleet has, as long as it is the same; else it changed at `now`, as RFC 3339.
pub(super) fn applied(
    name: &str,
    generation: Option<i64>,
    status: &FleetStatus,
    before: &Value,
    now: &str,
) -> Value {
    let mut told = json!(status);
    if let Some(conditions) = told["conditions"].as_array_mut() {
        for condition in conditions {
            let former = before["conditions"].as_array().into_iter().flatten().find(|former| {
                former["type"] == condition["type"] && former["status"] == condition["status"]
            });
            let since = former.and_then(|former| former["lastTransitionTime"].as_str());
            condition["lastTransitionTime"] = since.unwrap_or(now).into();
            if let Some(generation) = generation {
                condition["observedGeneration"] = generation.into();
            }
        }
    }
    if let Some(generation) = generation {
        told["observedGeneration"] = generation.into();
    }
    json!({
        "apiVersion": "kubeng.io/v1alpha1",
        "kind": "Fleet",
        "metadata": { "name": name },
        "status": told,
    })
}

const MESSAGE_CHARS_MAX: usize = 2_000;

/// How many different configurations a status names.
const RUNNING_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use kubeng_config::problem::{BAD_VALUE, Subject};

    use super::*;

    fn view(name: &str, state: ReplicaState) -> ReplicaView {
        ReplicaView {
            name: name.parse().unwrap(),
            fleet: "prod".parse().unwrap(),
            state,
            marks: Vec::new(),
            text: format!("{name} is {state}"),
            since: String::new(),
            heard: String::new(),
            connected: true,
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

    fn target() -> Option<Digest> {
        Some(Digest::of([b"a".as_slice()]))
    }

    #[track_caller]
    fn check(states: &[ReplicaState], status_and_reason: (&str, &str), text: &str) {
        let views: Vec<ReplicaView> = states
            .iter()
            .enumerate()
            .map(|(nth, state)| view(&format!("r{nth}"), *state))
            .collect();
        let told = status(target(), &views, None, 0);
        let [accepted, programmed] = &told.conditions[..] else { panic!("{told:?}") };
        assert_eq!((accepted.kind, accepted.status), ("Accepted", "True"));
        assert_eq!((programmed.status, programmed.reason), status_and_reason, "{programmed:?}");
        assert!(programmed.message.contains(text), "{programmed:?}");
        let ReplicaCounts { known, in_sync, not_in_sync, states } = told.replicas;
        assert_eq!((known, in_sync + not_in_sync), (views.len(), known));
        assert_eq!(states.values().sum::<usize>(), known);
    }

    #[test]
    fn a_fleet_is_programmed_when_every_replica_that_is_there_serves_it() {
        use ReplicaState::{Applying, Drifted, InSync, Pending, Skewed, Unreachable};
        check(&[], ("False", "NoReplicas"), "no replica");
        check(&[Unreachable, Unreachable], ("False", "Unreachable"), "none of 2");
        check(&[InSync, Skewed, InSync], ("True", "Programmed"), "3 replicas serve");
        check(&[InSync, Unreachable], ("True", "Programmed"), "1 replicas serve");
        check(&[InSync, Pending, Applying], ("False", "Pending"), "1 of 3 replicas serve");
        check(&[Drifted], ("False", "Pending"), "r0: r0 is Drifted");
    }

    #[test]
    fn what_is_not_taken_says_why_and_what_is_served_instead() {
        let problem = Problem {
            subject: Subject::Object("Fleet/prod".parse().unwrap()),
            field: "/spec/class".into(),
            code: BAD_VALUE,
            message: "class \"x\" is unknown".into(),
            remedy: "write shared or dedicated".into(),
            provenance: None,
        };
        let told = status(target(), &[], Some(&problem), 1);
        let accepted = &told.conditions[0];
        assert_eq!((accepted.status, accepted.reason), ("False", "Invalid"));
        for words in ["/spec/class", "class \"x\" is unknown", "write shared", "before is served"] {
            assert!(accepted.message.contains(words), "{accepted:?}");
        }
        let told = status(None, &[], Some(&problem), 1);
        assert!(!told.conditions[0].message.contains("before"), "{told:?}");
        assert_eq!(told.conditions[1].reason, "Invalid");
        assert_eq!(told.configuration_digest, None);
    }

    #[test]
    fn replicas_are_grouped_by_what_they_run_the_most_first() {
        let runs = |name: &str, running: Option<&str>| ReplicaView {
            running: running.map(|what| Digest::of([what.as_bytes()])),
            ..view(name, ReplicaState::InSync)
        };
        let views =
            [runs("r1", Some("b")), runs("r2", Some("a")), runs("r3", None), runs("r4", Some("a"))];
        let told = json!(status(target(), &views, None, 0));
        let counts: Vec<(Option<&str>, &Value)> = told["running"]
            .as_array()
            .unwrap()
            .iter()
            .map(|group| (group["digest"].as_str(), &group["replicas"]))
            .collect();
        let [a, b] = ["a", "b"].map(|what| Digest::of([what.as_bytes()]).to_string());
        assert_eq!(counts[0], (Some(a.as_str()), &json!(2)));
        assert!(counts.contains(&(Some(b.as_str()), &json!(1))), "{counts:?}");
        assert!(counts.contains(&(None, &json!(1))), "who has not said: {counts:?}");
        let many: Vec<ReplicaView> =
            (0..50).map(|nth| runs(&format!("r{nth}"), Some(&nth.to_string()))).collect();
        assert_eq!(status(target(), &many, None, 0).running.len(), RUNNING_MAX);
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_changes() {
        let told = status(target(), &[view("r0", ReplicaState::InSync)], None, 2);
        let first = applied("prod", Some(3), &told, &Value::Null, "t1");
        assert_eq!(first["status"]["conditions"][1]["lastTransitionTime"], "t1");
        assert_eq!(first["status"]["conditions"][1]["observedGeneration"], 3);
        assert_eq!(first["status"]["observedGeneration"], 3);
        assert_eq!(first["status"]["replicas"]["inSync"], 1);
        assert_eq!(first["status"]["problems"], 2);
        let told = status(target(), &[], None, 0);
        let second = applied("prod", None, &told, &first["status"], "t2");
        assert_eq!(second["status"]["conditions"][0]["lastTransitionTime"], "t1", "it is the same");
        assert_eq!(second["status"]["conditions"][1]["lastTransitionTime"], "t2", "it changed");
        assert!(second["status"].get("observedGeneration").is_none());
    }
}
