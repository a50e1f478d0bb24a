//! Two controllers that read the same: they intend the same, and a replica moves from one that is gone
//! to the other one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kubeng_harness::client::{Client, Counts};
use kubeng_harness::fleet::Member;
use tokio::task::JoinSet;

use super::rig::{CLOSELY, Rig, WAIT, cell, host, kubeng, until};

/// Within so long a replica is at another controller.
const MOVED_WITHIN: Duration = Duration::from_secs(5);

/// What `kubeng fleet list` shows as the digest of the fleet.
async fn intended(controller: &Member) -> String {
    let listed = kubeng(controller, &["fleet", "list"]).await;
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let line = listed.out.lines().find(|line| line.starts_with("prod ")).unwrap_or_default();
    cell(&listed.out, line, "DIGEST")
}

/// Waits until both intend the same, and something else than `before`.
async fn agreed(controllers: &[Member], before: &str) -> String {
    let began = Instant::now();
    loop {
        let (one, other) = (intended(&controllers[0]).await, intended(&controllers[1]).await);
        if one == other && one != before && one.len() == 12 {
            return one;
        }
        assert!(began.elapsed() < WAIT, "one intends {one}, the other {other}, before {before}");
    }
}

async fn load(to: std::net::SocketAddr, is_over: Arc<AtomicBool>) -> (Counts, u64) {
    let mut client = Client::plain(to);
    let mut not_ok = 0;
    while !is_over.load(Ordering::Relaxed) {
        let answer = client.get(&host("prod"), "/").await;
        not_ok += u64::from(!answer.is_ok_and(|answer| answer.status == 200));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (client.counts().await, not_ok)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controllers_intend_the_same_and_a_replica_moves_when_its_own_is_killed() {
    let mut rig = Rig::start(&[("prod", CLOSELY)]).await;
    rig.one_more_controller().await;
    let first = agreed(&rig.controllers, "").await;
    // The first one leads. It alone is there when the replica comes, so that one is followed.
    rig.controllers[1].kill().await.unwrap();
    let replica = rig.replica("prod", "r1", &[]).await;
    rig.controllers[1].start_again().unwrap();
    rig.controllers[1].until_ready(WAIT).await.unwrap();

    let is_over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    clients.spawn(load(replica.address, Arc::clone(&is_over)));
    rig.controllers[0].kill().await.unwrap();
    let killed = Instant::now();
    let is_there = |shown: &super::rig::Shown| shown.state == "InSync";
    let moved = until(&rig.controllers[1], "prod/r1", is_there).await;
    let took = killed.elapsed();
    is_over.store(true, Ordering::Relaxed);
    let (counts, not_ok) = clients.join_next().await.unwrap().unwrap();
    assert!(took < MOVED_WITHIN, "it took {took:?}");
    assert_eq!(moved.digest, first, "it serves on, and what it should");
    assert!(counts.answered > 0, "{counts:?}");
    assert_eq!((counts.failed, counts.closed, not_ok), (0, 0, 0), "{counts:?}");

    rig.route("/", "other");
    let is_changed = |shown: &super::rig::Shown| shown.state == "InSync" && shown.digest != first;
    let second = until(&rig.controllers[1], "prod/r1", is_changed).await.digest;
    assert_eq!(super::rig::ask(&replica, "prod").await, 503, "its Service is not there");
    rig.controllers[0].start_again().unwrap();
    rig.controllers[0].until_ready(WAIT).await.unwrap();
    assert_eq!(agreed(&rig.controllers, &first).await, second);
}
