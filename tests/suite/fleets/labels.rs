//! Labels of replicas: those of their join tokens, and what their own settings add.

use std::time::{Duration, Instant};

use kubeng_harness::fleet::Member;
use serde_json::{Value, json};

use super::rig::{CLOSELY, Rig, WAIT};

/// What is told of the replica, once it is there and serves what it should. What a controller only
/// remembers of it has no labels.
async fn told(rig: &Rig) -> Value {
    let began = Instant::now();
    loop {
        let found = rig.controllers[0].json("/api/v1/replicas/prod/r1").await.unwrap_or_default();
        if found["connected"] == true && found["state"] == "InSync" {
            return found;
        }
        assert!(began.elapsed() < WAIT, "{found}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn start(rig: &Rig, token: Option<&str>, labels: &[&str]) -> Member {
    let addresses = [rig.controllers[0].address];
    rig.fleet.replica_at(("prod", "r1"), &addresses, token, labels).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_has_the_labels_of_its_token_whatever_its_settings_say() {
    let mut rig = Rig::start(&[("prod", CLOSELY)]).await;
    let more = ["--label", "zone=a", "--label", "tier=gold"];
    let token = rig.fleet.token_with("prod", &more).await.unwrap();
    let own = ["--label", "zone=b", "--label", "rack=7"];
    let mut replica = start(&rig, Some(&token), &own);
    replica.until_ready(WAIT).await.unwrap();
    let found = told(&rig).await;
    let wanted = json!({"zone": "a", "tier": "gold", "rack": "7"});
    assert_eq!(found["labels"], wanted, "{found}");
    assert_eq!(found["certifiedLabels"], json!(["tier", "zone"]), "{found}");
    let shown = rig.shown("prod/r1").await.unwrap();
    assert!(shown.text.ends_with(" [rack=7,tier=gold,zone=a]"), "{shown:?}");

    // They are part of what it is, for another controller process and without the token too.
    replica.stop(WAIT).await.unwrap();
    rig.controllers[0].stop(WAIT).await.unwrap();
    rig.controllers[0].start_again().unwrap();
    rig.controllers[0].until_ready(WAIT).await.unwrap();
    let mut replica = start(&rig, None, &["--label", "tier=silver"]);
    replica.until_ready(WAIT).await.unwrap();
    let found = told(&rig).await;
    assert_eq!(found["labels"], json!({"zone": "a", "tier": "gold"}), "{found}");
    assert_eq!(found["certifiedLabels"], json!(["tier", "zone"]), "{found}");

    let wrong = rig.fleet.token_with("prod", &["--label", "zone"]).await.unwrap_err().to_string();
    assert!(wrong.contains("NAME=VALUE"), "{wrong}");
}
