//! Replicas whose program is of another version than the controller.

use super::*;

/// A replica that has joined as `build` and serves what is wanted.
async fn served_by(rig: &Rig, name: &str, build: &Build) -> Fake {
    let identified = Identified { fleet: "prod".parse().unwrap(), replica: name.parse().unwrap() };
    let hello = Hello { build: build.clone(), ..hello("prod", name) };
    let line = rig.hub.join(identified, hello).await.unwrap();
    let mut replica = Fake { line, runs: Snapshot::default() };
    let offer = replica.offer().await;
    replica.ack(&offer).await;
    replica
}

fn told(rig: &Rig) -> Vec<(problem::Code, String)> {
    let problems = rig.replicas.problems();
    problems.iter().map(|problem| (problem.code, problem.to_string())).collect()
}

#[tokio::test]
async fn an_older_and_a_newer_replica_are_skewed_and_told_of_and_others_are_not_harmed() {
    let rig = Rig::start(calm(), None);
    let ours = served(&rig).await;
    let older = Build { version: "0.9.0".into(), ..build("older") };
    let newer = Build { version: "2.0.0".into(), model_version: 2, ..build("newer") };
    let older = (served_by(&rig, "older", &older).await, older);
    let newer = (served_by(&rig, "newer", &newer).await, newer);
    for (name, (replica, build)) in [("older", &older), ("newer", &newer)] {
        // Before and after its first heartbeat.
        rig.until(name, ReplicaState::Skewed).await;
        replica.beat(|beat| beat.build = build.clone()).await;
        let text = rig.until(name, ReplicaState::Skewed).await;
        assert!(text.contains(&build.version) && text.contains("controller is 1.0.0"), "{text}");
    }
    let both = |problems: &[(problem::Code, String)]| {
        ["prod/older", "prod/newer"].iter().all(|name| {
            let is_told = |(code, text): &(problem::Code, String)| {
                *code == problem::REPLICA_SKEWED && text.contains(name)
            };
            problems.iter().any(is_told)
        })
    };
    rig.wait(|rig| both(&told(rig)).then_some(())).await;
    assert!(told(&rig).iter().all(|(_, text)| !text.contains("prod/r1")), "{:?}", told(&rig));
    rig.until("r1", ReplicaState::InSync).await;
    drop((ours, older, newer));
    rig.end().await;
}

#[tokio::test]
async fn a_replica_that_rejects_what_it_cannot_read_is_told_to_be_of_another_version_too() {
    let rig = Rig::start(calm(), None);
    let older = Build { version: "0.9.0".into(), ..build("older") };
    let mut replica = served_by(&rig, "older", &older).await;
    rig.until("older", ReplicaState::Skewed).await;
    rig.published.send_modify(|published| Arc::make_mut(published).snapshot = snapshot(2));
    let offer = replica.offer().await;
    let (nonce, reason) = (offer.nonce, NackReason::Rejected);
    replica.tell(FromReplica::Nack { nonce, reason, problems: Vec::new() }).await;
    rig.until("older", ReplicaState::Rejected).await;
    let view = rig.replicas.get(&id("older")).unwrap();
    assert_eq!(view.marks, [ReplicaState::Pending, ReplicaState::Skewed]);
    let is_told = |code: problem::Code| told(&rig).iter().any(|(told, _)| *told == code);
    rig.wait(|_| (is_told(problem::REJECTED) && is_told(problem::REPLICA_SKEWED)).then_some(()))
        .await;
    rig.end().await;
}

#[tokio::test]
async fn what_a_newer_replica_tells_in_other_words_does_not_make_it_unreachable() {
    let rig = Rig::start(calm(), None);
    let replica = served(&rig).await;
    replica.tell(FromReplica::Unread("unknown field `mood`".into())).await;
    let text = rig.until("r1", ReplicaState::Skewed).await;
    assert!(text.contains("cannot be read: unknown field `mood`"), "{text}");
    replica.beat(|_| {}).await;
    rig.until("r1", ReplicaState::InSync).await;
    rig.end().await;
}
