//! Faults that nobody can cause from outside: a test damages the running table of a replica, which
//! builds with debug assertions let it do by `KUBENG_TEST_TAMPER`; others have no such variable.

use std::path::{Path, PathBuf};

use kubeng_harness::fleet::Member;
use kubeng_harness::fleet::placed::Place;

use super::rig::{CLOSELY, Rig, WAIT, ask_at};
use crate::support::save;

const HEALING: &str = "  drift: {onDrift: heal, heartbeatEvery: 2s}\n";

/// A replica whose table a test can damage by a file in the folder that comes with it.
async fn damageable(rig: &Rig, fleet: &str, name: &str) -> (Member, PathBuf) {
    let folder = rig.scratch().join(format!("tamper-{name}"));
    std::fs::create_dir(&folder).unwrap();
    let mut place = Place::anywhere().unwrap();
    place.variables.push(("KUBENG_TEST_TAMPER", folder.clone().into()));
    let controllers: Vec<&Member> = rig.controllers.iter().collect();
    let more = ["--heartbeat", "1", "--drain", "1"];
    let replica = rig.fleet.replica_placed((fleet, name), &controllers, &place, &more);
    let mut replica = replica.await.unwrap();
    replica.until_ready(WAIT).await.unwrap();
    rig.until(&format!("{fleet}/{name}"), "InSync").await;
    (replica, folder)
}

/// Damages what serves `route`. It is looked for every few seconds.
fn damage(folder: &Path, how: &str, route: &str) {
    save(folder, how, route);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_damaged_in_memory_is_found_and_healed() {
    if cfg!(not(debug_assertions)) {
        eprintln!("skipped: this build has no way to damage a table");
        return;
    }
    let rig = Rig::start(&[("prod", CLOSELY), ("healing", HEALING)]).await;
    let _sound = rig.replica("prod", "r1", &[]).await;
    let (replica, folder) = damageable(&rig, "prod", "r2").await;
    // A prefix of no length would be found where no other one is.
    rig.route("/shop", "web");
    let route = rig.until_routed("prod", "/shop").await;

    damage(&folder, "drift", &route);
    let drifted = rig.until("prod/r2", "Drifted").await;
    assert!(drifted.text.starts_with("Acknowledged ") && drifted.text.contains(" but runs "));
    let id = rig.open_drift("prod/r2").await;
    let shown = rig.until("prod/r2", "Drifted").await;
    assert!(shown.text.contains("which differs in "), "{shown:?}");
    let explained = rig.kubeng(&["drift", "show", &id]).await;
    assert!(explained.out.contains(&format!("~ route {route} /action")), "{explained:?}");
    let compared = rig.kubeng(&["compare", "intended:prod", "prod/r2"]).await;
    assert_eq!(compared.code, Some(1), "{compared:?}");
    assert!(compared.out.contains(&route), "{compared:?}");
    assert_ne!(ask_at(&replica, "prod", "/shop").await, 200);
    rig.heal(&id).await;
    rig.until("prod/r2", "InSync").await;
    assert_eq!(ask_at(&replica, "prod", "/shop").await, 200);

    // What it runs is the same, part for part; it finds nothing of it.
    damage(&folder, "diverge", &route);
    let divergent = rig.until("prod/r2", "Divergent").await;
    assert_eq!(ask_at(&replica, "prod", "/shop").await, 404);
    let words =
        ["different answer: GET prod.example.com/shop", "goes to no route instead of ", &route];
    for word in words {
        assert!(divergent.text.contains(word), "{word:?} is not in {divergent:?}");
    }
    assert_eq!(rig.kubeng(&["compare", "intended:prod", "prod/r2"]).await.code, Some(0));
    let id = rig.open_drift("prod/r2").await;
    rig.heal(&id).await;
    rig.until("prod/r2", "InSync").await;
    assert_eq!(ask_at(&replica, "prod", "/shop").await, 200);

    // A fleet that is to heal by itself does, and keeps the evidence.
    let (replica, folder) = damageable(&rig, "healing", "r3").await;
    damage(&folder, "drift", &rig.route_name("healing").await);
    let line = healed_line(&rig, "healing/r3").await;
    let id = line.split_whitespace().next().unwrap();
    let kept = rig.fleet.data("controller-1").join("drift").join(id).join("running.json");
    assert!(kept.is_file(), "{}", kept.display());
    rig.until("healing/r3", "InSync").await;
    assert_eq!(ask_at(&replica, "healing", "/shop").await, 200);
}

/// The line of a deviation that was healed by itself.
async fn healed_line(rig: &Rig, replica: &str) -> String {
    let began = std::time::Instant::now();
    loop {
        let all = rig.kubeng(&["drift", "list", "--all"]).await;
        let line = all.out.lines().find(|line| line.contains(replica) && line.contains("healed"));
        if let Some(line) = line {
            return line.to_owned();
        }
        assert!(began.elapsed() < WAIT, "{all:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_was_changed_to_is_adopted_as_an_override_and_lasts() {
    if cfg!(not(debug_assertions)) {
        eprintln!("skipped: this build has no way to damage a table");
        return;
    }
    let rig = Rig::start(&[("prod", CLOSELY)]).await;
    let _sound = rig.replica("prod", "r1", &[]).await;
    let (mut replica, folder) = damageable(&rig, "prod", "r2").await;
    let before = rig.shown("prod/r2").await.unwrap().digest;
    damage(&folder, "slow", &rig.route_name("prod").await);
    rig.until("prod/r2", "Drifted").await;
    let id = rig.open_drift("prod/r2").await;
    let adopted = rig.kubeng(&["drift", "adopt", &id]).await;
    assert_eq!(adopted.code, Some(0), "{adopted:?}");
    for word in ["kind: RouteOverride", "request: 1m30s"] {
        assert!(adopted.out.contains(word), "{word:?} is not in {adopted:?}");
    }
    save(&rig.fleet.manifests(), "adopted.yaml", &adopted.out);
    let is_adopted = |shown: &super::rig::Shown| shown.state == "InSync" && shown.digest != before;
    let controller = &rig.controllers[0];
    let one = super::rig::until(controller, "prod/r1", is_adopted).await;
    let other = super::rig::until(controller, "prod/r2", is_adopted).await;
    assert_eq!(one.digest, other.digest);
    replica.stop(WAIT).await.unwrap();
    replica.start_again().unwrap();
    replica.until_ready(WAIT).await.unwrap();
    let again = super::rig::until(controller, "prod/r2", is_adopted).await;
    assert_eq!(again.digest, one.digest);
    let runs = rig.kubeng(&["replica", "export", "prod/r2"]).await;
    assert!(runs.out.contains("90000"), "{runs:?}");
    assert_eq!(rig.kubeng(&["drift", "list"]).await.code, Some(0));
}
