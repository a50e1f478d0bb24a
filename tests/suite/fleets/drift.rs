//! What somebody changes on the machine of a replica is found within seconds, explained, and healed,
//! by commands alone.

use std::path::{Path, PathBuf};
use std::time::Instant;

use kubeng_harness::fleet::Member;
use serde_json::Value;

use super::rig::{CLOSELY, FOUND_WITHIN, Rig, Shown, WAIT, ask, kubeng};

/// Waits until a replica is shown as tampered with, within the time that this may take.
async fn found(rig: &Rig, replica: &str, since: Instant) -> Shown {
    let shown = rig.until(replica, "Tampered").await;
    let took = since.elapsed();
    assert!(took < FOUND_WITHIN, "it took {took:?}");
    assert!(shown.text.starts_with("Changed on the machine: "), "{shown:?}");
    shown
}

async fn refuse(replica: &Member, route: &str, reason: &str) {
    let said = ["replica", "emergency", "--refuse", route, "--reason", reason, "--by", "eve"];
    let said = kubeng(replica, &said).await;
    assert_eq!(said.code, Some(0), "{said:?}");
}

/// One piece of the evidence of a deviation, from the data folder of the controller.
fn evidence(rig: &Rig, id: &str, piece: &str) -> Value {
    let folder = rig.fleet.data("controller-1").join("drift").join(id);
    let path = folder.join(format!("{piece}.json"));
    let text = std::fs::read_to_string(&path);
    serde_json::from_str(&text.unwrap_or_else(|_| panic!("{}", path.display()))).unwrap()
}

/// The file that a replica wrote last of those that it starts from.
fn newest_file(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder.join("last-known-good")).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "kept"));
    files.sort();
    files.pop().unwrap()
}

fn alter(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_on_a_machine_is_found_compared_explained_and_healed() {
    let rig = Rig::start(&[("prod", CLOSELY)]).await;
    let sound = rig.replica("prod", "r1", &[]).await;
    let changed = rig.replica("prod", "r2", &[]).await;
    let route = rig.route_name("prod").await;
    let began = Instant::now();
    refuse(&changed, &route, "it leaks").await;
    let shown = found(&rig, "prod/r2", began).await;
    for word in ["an emergency change by eve until ", "it leaks", &route] {
        assert!(shown.text.contains(word), "{word:?} is not in {shown:?}");
    }
    assert_eq!(
        (ask(&sound, "prod").await.as_u16(), ask(&changed, "prod").await.as_u16()),
        (200, 503)
    );

    let id = rig.open_drift("prod/r2").await;
    rig.until_told("KNG-1740", "prod/r2", true).await;
    let compared = rig.kubeng(&["compare", "prod/r1", "prod/r2"]).await;
    assert_eq!(compared.code, Some(1), "{compared:?}");
    for word in ["fleet prod: 1 runs ", "(intended): r1", &route, "/action"] {
        assert!(compared.out.contains(word), "{word:?} is not in {compared:?}");
    }
    let explained = rig.kubeng(&["drift", "show", &id]).await;
    assert_eq!(explained.code, Some(1), "{explained:?}");
    for word in ["replica   prod/r2", "evidence  ", &route, "/action/refuse: intended null", "eve"]
    {
        assert!(explained.out.contains(word), "{word:?} is not in {explained:?}");
    }
    // No override can say that a route is refused.
    let adopted = rig.kubeng(&["drift", "adopt", &id]).await;
    assert_eq!(adopted.code, Some(1), "{adopted:?}");
    assert!(adopted.err.contains("cannot be adopted"), "{adopted:?}");

    // What is kept of it was there before it was healed, and stays.
    let kept = |piece| evidence(&rig, &id, piece);
    assert_eq!(kept("heartbeat")["emergency"]["by"], "eve");
    assert!(kept("difference").to_string().contains(&route));
    assert_ne!(kept("statement")["statement"]["target"], kept("heartbeat")["running"]["digest"]);
    rig.heal(&id).await;
    rig.until("prod/r2", "InSync").await;
    assert_eq!(ask(&changed, "prod").await, 200);
    assert_eq!(rig.kubeng(&["compare", "prod/r1", "prod/r2"]).await.code, Some(0));
    assert!(kept("running").to_string().contains("KNG-"), "it refused with a code");
    rig.until_told("KNG-1740", "prod/r2", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_altered_file_is_found_never_started_from_and_written_again() {
    let rig = Rig::start(&[("prod", CLOSELY)]).await;
    let mut replica = rig.replica("prod", "r1", &[]).await;
    let data = rig.fleet.data("r1");
    let file = newest_file(&data);
    let began = Instant::now();
    alter(&file);
    let shown = found(&rig, "prod/r1", began).await;
    let name = file.file_name().unwrap().to_str().unwrap();
    for word in ["its saved configuration: ", name] {
        assert!(shown.text.contains(word), "{word:?} is not in {shown:?}");
    }
    assert_eq!(ask(&replica, "prod").await, 200);
    let id = rig.open_drift("prod/r1").await;
    assert!(evidence(&rig, &id, "heartbeat")["lastKnownGood"].to_string().contains(name));
    let adopted = rig.kubeng(&["drift", "adopt", &id]).await;
    assert_eq!(adopted.code, Some(1), "{adopted:?}");
    assert!(adopted.err.contains("nothing to adopt"), "{adopted:?}");
    rig.heal(&id).await;
    rig.until("prod/r1", "InSync").await;

    let file = newest_file(&data);
    alter(&file);
    rig.until("prod/r1", "Tampered").await;
    replica.kill().await.unwrap();
    replica.start_again().unwrap();
    replica.until_ready(WAIT).await.unwrap();
    assert_eq!(ask(&replica, "prod").await, 200);
    let name = file.file_name().unwrap().to_str().unwrap();
    let refused = replica.log().into_iter().find(|line| line.contains("cannot be used"));
    assert!(refused.as_ref().is_some_and(|line| line.contains(name)), "{:?}", replica.log());
    // A generation before it was whole, or a controller has sent everything; it is written again with
    // the next change at the latest.
    rig.route("/", "web");
    rig.route("/again", "web");
    rig.until("prod/r1", "InSync").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_program_is_found_and_cannot_be_healed_from_afar() {
    let rig = Rig::start(&[("prod", CLOSELY)]).await;
    let mut replica = rig.replica("prod", "r1", &[]).await;
    let patched = rig.scratch().join("patched");
    std::fs::copy(env!("CARGO_BIN_EXE_kubeng"), &patched).unwrap();
    let mut file = std::fs::File::options().append(true).open(&patched).unwrap();
    std::io::Write::write_all(&mut file, b"patched").unwrap();
    drop(file);
    replica.stop(WAIT).await.unwrap();
    rig.exchange_program(patched);
    replica.start_again().unwrap();
    replica.until_ready(WAIT).await.unwrap();
    let shown = found(&rig, "prod/r1", Instant::now()).await;
    assert!(shown.text.contains("its program "), "{shown:?}");
    assert!(shown.text.contains("is not one that it may be"), "{shown:?}");
    assert_eq!(ask(&replica, "prod").await, 200);
    let id = rig.open_drift("prod/r1").await;
    let healed = rig.kubeng(&["drift", "heal", &id]).await;
    assert_eq!(healed.code, Some(2), "{healed:?}");
    assert!(healed.err.contains("install the right one and restart it"), "{healed:?}");

    replica.stop(WAIT).await.unwrap();
    rig.exchange_program(env!("CARGO_BIN_EXE_kubeng").into());
    replica.start_again().unwrap();
    rig.until("prod/r1", "InSync").await;
    let began = Instant::now();
    while rig.kubeng(&["drift", "list"]).await.code != Some(0) {
        assert!(began.elapsed() < WAIT, "it is still open");
    }
    let all = rig.kubeng(&["drift", "list", "--all"]).await;
    let line = all.out.lines().find(|line| line.starts_with(&id)).unwrap_or_default();
    assert!(line.contains("gone"), "{all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dismissed_is_told_no_more_until_it_changes() {
    let rig = Rig::start(&[("prod", CLOSELY)]).await;
    let replica = rig.replica("prod", "r1", &[]).await;
    let route = rig.route_name("prod").await;
    refuse(&replica, &route, "an attack").await;
    let id = rig.open_drift("prod/r1").await;
    rig.until_told("KNG-1740", "prod/r1", true).await;
    let unexplained = rig.kubeng(&["drift", "dismiss", &id]).await;
    assert_eq!(unexplained.code, Some(2), "{unexplained:?}");
    assert!(unexplained.err.contains("reason is missing"), "{unexplained:?}");
    let dismissed = rig.kubeng(&["drift", "dismiss", &id, "--reason", "agreed with ann"]).await;
    assert_eq!(dismissed.code, Some(0), "{dismissed:?}");
    assert_eq!(rig.kubeng(&["drift", "list"]).await.code, Some(0));
    rig.until_told("KNG-1740", "prod/r1", false).await;
    rig.until("prod/r1", "Tampered").await;
    assert_eq!(rig.kubeng(&["drift", "list"]).await.code, Some(0), "it stays dismissed");

    refuse(&replica, &route, "another attack").await;
    assert_ne!(rig.open_drift("prod/r1").await, id);
    rig.until_told("KNG-1740", "prod/r1", true).await;
    let ended = kubeng(&replica, &["replica", "emergency", "--end"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    rig.until("prod/r1", "InSync").await;
    rig.until_told("KNG-1740", "prod/r1", false).await;
}
