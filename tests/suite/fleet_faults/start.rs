//! Replicas that start where no controller is.

use std::time::{Duration, Instant};

use kubeng_harness::load::Load;

use super::rig::{HOST, SOON, Site, in_state, served, shows};

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_starts_from_its_disk_when_no_controller_is_there() {
    let site = Site::new().await;
    let mut controller = site.controller("c1").await;
    let mut r1 = site.replica("r1", &[controller.address]).await;
    let r2 = site.replica("r2", &[controller.address]).await;
    served([&r1, &r2], HOST).await;
    // What was served is on disk before everything is taken away.
    shows(&r1, &["kept", "(intact)"]).await;
    controller.kill().await.unwrap();
    let load = Load::start(&[r2.address], HOST);
    r1.kill().await.unwrap();

    let began = Instant::now();
    r1.start_again().unwrap();
    r1.until_ready(SOON).await.unwrap();
    let took = began.elapsed();
    // A second is the goal of a release build on an idle machine; the bench measures it.
    assert!(took < Duration::from_secs(30), "{took:?}");
    let of_r1 = Load::start(&[r1.address], HOST);
    let ready = r1.admin("/readyz").await.unwrap();
    let ready = String::from_utf8_lossy(&ready.body).into_owned();
    assert!(ready.contains("serving from disk, no controller heard"), "{ready}");
    shows(&r1, &["from disk, no controller heard", "controller   none for"]).await;

    // One that comes finds it as it is, and it goes on.
    controller.start_again().unwrap();
    controller.until_ready(SOON).await.unwrap();
    site.serve("later.example");
    served([&r1, &r2], "later.example").await;
    in_state(&[&controller], &["r1", "r2"], "InSync").await;
    shows(&r1, &["serving ", "(from a controller"]).await;
    load.stop_without_a_loss().await.unwrap();
    of_r1.stop_without_a_loss().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_fleet_starts_at_once_without_any_controller() {
    let site = Site::new().await;
    let mut controller = site.controller("c1").await;
    let mut replicas = Vec::new();
    for name in ["r1", "r2", "r3"] {
        replicas.push(site.replica(name, &[controller.address]).await);
    }
    served(&replicas, HOST).await;
    for replica in &replicas {
        shows(replica, &["kept", "(intact)"]).await;
    }
    controller.kill().await.unwrap();
    for replica in &mut replicas {
        replica.kill().await.unwrap();
    }
    for replica in &mut replicas {
        replica.start_again().unwrap();
    }
    for replica in &mut replicas {
        replica.until_ready(SOON).await.unwrap();
    }
    served(&replicas, HOST).await;
    controller.start_again().unwrap();
    controller.until_ready(SOON).await.unwrap();
    in_state(&[&controller], &["r1", "r2", "r3"], "InSync").await;
}
