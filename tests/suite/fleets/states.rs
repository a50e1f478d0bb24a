//! The states of replicas that nobody has tampered with.

use kubeng_harness::fleet::Member;
use rustix::process::Signal;

use super::rig::{CLOSELY, Rig, WAIT, ask};

/// A replica is not missed for long here, so that what waits for it is seen.
const PATIENT: &str = "  drift: {heartbeatEvery: 60s}\n  rollout: {applyTimeout: 10m}\n";
const HASTY: &str = "  drift: {heartbeatEvery: 60s}\n  rollout: {applyTimeout: 1s}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_not_arrived_and_who_is_away_is_listed() {
    let rig = Rig::start(&[("prod", CLOSELY), ("patient", PATIENT), ("hasty", HASTY)]).await;
    let mut gone = rig.replica("prod", "r1", &[]).await;
    let slow = rig.replica("patient", "r2", &[]).await;
    let late = rig.replica("hasty", "r3", &[]).await;
    for stopped in [&slow, &late] {
        stopped.signal(Signal::STOP).unwrap();
    }
    let before = rig.shown("patient/r2").await.unwrap().digest;
    rig.route("/", "other");
    // Until its line ends, 10 to 15 s after it has stopped.
    let applying = rig.until("patient/r2", "Applying").await;
    assert!(applying.text.starts_with("Applying "), "{applying:?}");
    let stale = rig.until("hasty/r3", "Stale").await;
    assert!(stale.text.starts_with("No acknowledgement of "), "{stale:?}");
    let served = rig.until("prod/r1", "InSync").await.digest;
    gone.kill().await.unwrap();
    // Nobody is offered anything without a line.
    for replica in ["patient/r2", "hasty/r3"] {
        let pending = rig.until(replica, "Pending").await;
        assert!(pending.text.starts_with("Waiting for "), "{pending:?}");
        assert!(pending.text.ends_with(&format!("serves {}", pending.digest)), "{pending:?}");
    }
    let unreachable = rig.until("prod/r1", "Unreachable").await;
    assert!(unreachable.text.starts_with("Not reporting since "), "{unreachable:?}");
    assert!(unreachable.text.ends_with(&format!("(last: {served})")), "{unreachable:?}");

    for stopped in [&slow, &late] {
        stopped.signal(Signal::CONT).unwrap();
    }
    gone.start_again().unwrap();
    for replica in ["prod/r1", "patient/r2", "hasty/r3"] {
        let shown = rig.until(replica, "InSync").await;
        assert_eq!(shown.text, format!("In sync, serves {}", shown.digest));
        assert_ne!(shown.digest, before);
    }
    // None of it is drift.
    assert_eq!(rig.kubeng(&["drift", "list", "--all"]).await.out.lines().count(), 1);
}

/// Has a replica that has ended believe another key than that of its controllers, and forget what it
/// kept; gives what its identity was.
fn mislead(rig: &Rig, replica: &Member) -> String {
    let data = rig.fleet.data(&replica.name);
    let identity = data.join("identity.pem");
    let before = std::fs::read_to_string(&identity).unwrap();
    let line = before.lines().find(|line| line.starts_with("signing-key ")).unwrap();
    let other = format!("signing-key {}", "5a".repeat(32));
    std::fs::write(&identity, before.replace(line, &other)).unwrap();
    std::fs::remove_dir_all(data.join("last-known-good")).unwrap();
    before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_rejects_says_why_and_harms_nobody_else() {
    let rig = Rig::start(&[("prod", CLOSELY)]).await;
    let sound = rig.replica("prod", "r1", &[]).await;
    let mut misled = rig.replica("prod", "r2", &[]).await;
    misled.stop(WAIT).await.unwrap();
    let identity = mislead(&rig, &misled);
    misled.start_again().unwrap();
    let rejected = rig.until("prod/r2", "Rejected").await;
    for word in ["Rejected ", " at replica: ", "is not signed by a key that is believed"] {
        assert!(rejected.text.contains(word), "{word:?} is not in {rejected:?}");
    }
    assert_eq!(misled.admin("/readyz").await.unwrap().status, 503, "it serves nothing");
    rig.until_told("KNG-1701", "prod/r2", true).await;

    let before = rig.until("prod/r1", "InSync").await.digest;
    // Who runs what, and that something is wrong, stands beside the fleet.
    let listed = rig.kubeng(&["fleet", "list"]).await;
    let line = listed.out.lines().find(|line| line.starts_with("prod ")).unwrap();
    let running = super::rig::cell(&listed.out, line, "RUNNING");
    assert!(running.contains(&format!("1 runs {before}")), "{listed:?}");
    assert_eq!(running.matches("1 runs ").count(), 2, "{listed:?}");
    assert_ne!(super::rig::cell(&listed.out, line, "PROBLEMS"), "0", "{listed:?}");
    let told = rig.controllers[0].json("/api/v1/fleets/prod").await.unwrap();
    let groups = told["running"].as_array().cloned().unwrap_or_default();
    let of_fleet = groups.iter().find(|group| group["digest"] == told["digest"]);
    assert_eq!(of_fleet.map(|group| &group["replicas"]), Some(&1.into()), "{told}");

    rig.route("/", "other");
    super::rig::until(&rig.controllers[0], "prod/r1", |shown| {
        shown.state == "InSync" && shown.digest != before
    })
    .await;
    assert_eq!(ask(&sound, "prod").await, 503, "the change is served: its Service is not there");
    rig.until("prod/r2", "Rejected").await;

    misled.stop(WAIT).await.unwrap();
    std::fs::write(rig.fleet.data("r2").join("identity.pem"), identity).unwrap();
    misled.start_again().unwrap();
    rig.until("prod/r2", "InSync").await;
}

/// The program under test, but of another version.
fn other_version(rig: &Rig, version: &str) -> std::path::PathBuf {
    let ours = env!("CARGO_PKG_VERSION");
    assert_eq!(ours.len(), version.len(), "nothing in the file may move");
    let program = rig.scratch().join("other-version");
    std::fs::copy(env!("CARGO_BIN_EXE_kubeng"), &program).unwrap();
    let replace = format!("s/{}/{version}/g", ours.replace('.', "\\."));
    let mut sed = std::process::Command::new("sed");
    let edited = sed.env("LC_ALL", "C").args(["-i", &replace]).arg(&program).status();
    assert!(edited.unwrap().success());
    program
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_of_another_version_is_skewed_and_serves_on() {
    let rig = Rig::start(&[("prod", CLOSELY)]).await;
    let _sound = rig.replica("prod", "r1", &[]).await;
    let mut older = rig.replica("prod", "r2", &[]).await;
    older.stop(WAIT).await.unwrap();
    rig.exchange_program(other_version(&rig, "0.0.9"));
    older.start_again().unwrap();
    older.until_ready(WAIT).await.unwrap();
    let skewed = rig.until("prod/r2", "Skewed").await;
    for word in ["Version skew: ", "0.0.9", env!("CARGO_PKG_VERSION")] {
        assert!(skewed.text.contains(word), "{word:?} is not in {skewed:?}");
    }
    assert_eq!(ask(&older, "prod").await, 200);
    rig.until_told("KNG-1744", "prod/r2", true).await;
    assert_eq!(rig.kubeng(&["compare", "prod/r1", "prod/r2"]).await.code, Some(0));
    rig.until("prod/r1", "InSync").await;
    assert_eq!(rig.kubeng(&["drift", "list"]).await.code, Some(0), "nobody has done anything");
    older.stop(WAIT).await.unwrap();
    rig.exchange_program(env!("CARGO_BIN_EXE_kubeng").into());
    older.start_again().unwrap();
    rig.until("prod/r2", "InSync").await;
    rig.until_told("KNG-1744", "prod/r2", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_on_one_machine_is_told_of_there_alone() {
    let rig = Rig::start(&[("prod", CLOSELY)]).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut place = kubeng_harness::fleet::placed::Place::anywhere().unwrap();
    place.address = taken.local_addr().unwrap();
    let controllers: Vec<&Member> = rig.controllers.iter().collect();
    let more = ["--heartbeat", "1", "--drain", "1"];
    let replica = rig.fleet.replica_placed(("prod", "r1"), &controllers, &place, &more);
    let mut replica = replica.await.unwrap();
    // It runs what it should, but for the port, which its balancer learns from /readyz.
    rig.until("prod/r1", "InSync").await;
    rig.until_told("KNG-1703", "prod/r1", true).await;
    assert_eq!(replica.admin("/readyz").await.unwrap().status, 503);
    drop(taken);
    replica.until_ready(WAIT).await.unwrap();
    assert_eq!(ask(&replica, "prod").await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_a_fleet_that_does_not_exist_is_told_of_until_it_does() {
    let rig = Rig::start(&[("prod", CLOSELY)]).await;
    let controllers: Vec<&Member> = rig.controllers.iter().collect();
    let more = ["--heartbeat", "1"];
    let began = std::time::Instant::now();
    let mut replica = rig.fleet.replica("r1", "shop", &controllers, &more).await.unwrap();
    // The first time it is told, and only once a minute from then on.
    rig.until_told("KNG-1747", "fleet shop", true).await;
    let problem = rig.problems("KNG-1747").await.remove(0);
    for (member, word) in [("message", "r1 at 127.0.0.1"), ("remedy", "write the Fleet shop")] {
        let text = problem[member].as_str().unwrap_or_default();
        assert!(text.contains(word), "{word:?} is not in {problem}");
    }
    let words = ["replica shop/r1 at 127.0.0.1 is turned away since", "write a Fleet of this name"];
    for list in [["replica", "list"], ["fleet", "list"]] {
        let said = rig.kubeng(&list).await;
        for word in words {
            assert!(said.err.contains(word), "{word:?} is not in {said:?}");
        }
    }
    let log = rig.controllers[0].log();
    let lines = log.iter().filter(|line| line.contains("a replica is turned away"));
    let lines: Vec<&String> = lines.collect();
    let minutes = usize::try_from(began.elapsed().as_secs() / 60).unwrap();
    assert!((1..=1 + minutes).contains(&lines.len()), "{log:?}");
    for word in ["shop", "r1", "127.0.0.1", "write a Fleet object of this name"] {
        assert!(lines[0].contains(word), "{word:?} is not in {lines:?}");
    }
    rig.fleet.write_fleet("shop", "").unwrap();
    replica.until_ready(WAIT).await.unwrap();
    rig.until("shop/r1", "InSync").await;
    rig.until_told("KNG-1747", "fleet shop", false).await;
    assert!(!rig.kubeng(&["replica", "list"]).await.err.contains("turned away"));
}
