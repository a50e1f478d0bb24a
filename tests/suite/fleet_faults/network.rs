//! The network between controllers and replicas, in every way that it can be broken.

use kubeng_harness::load::Load;
use kubeng_harness::relay::{Relay, Way};

use super::rig::{HOST, Site, in_state, served, shows, status};

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_cut_or_silent_costs_no_request_and_heals() {
    let site = Site::new().await;
    let controller = site.controller("c1").await;
    let relay = Relay::start(controller.address).await.unwrap();
    let r1 = site.replica("r1", &[relay.address]).await;
    let r2 = site.replica("r2", &[relay.address]).await;
    // It goes another way, and is to notice nothing.
    let apart = site.replica("r3", &[controller.address]).await;
    let replicas = [&r1, &r2];
    served(replicas, HOST).await;
    let load = Load::start(&[r1.address, r2.address, apart.address], HOST);

    let ways = [Way::Cut, Way::Silent, Way::OnlyThere, Way::OnlyBack, Way::HalfOpen];
    for (nth, way) in ways.into_iter().enumerate() {
        let host = format!("way-{nth}.example");
        relay.set(way);
        site.serve(&host);
        served([&apart], &host).await;
        for replica in replicas {
            // They find out by themselves, whatever they are told.
            shows(replica, &["controller   none for"]).await;
            assert_eq!(replica.admin("/readyz").await.unwrap().status, 200, "{way:?}");
            // Who is heard but does not hear may still be told one thing.
            let is_told = way == Way::OnlyBack && status(replica, &host).await == 200;
            assert!(is_told || status(replica, &host).await == 404, "{way:?}: it came through");
        }
        relay.set(Way::Open);
        served(replicas, &host).await;
        in_state(&[&controller], &["r1", "r2", "r3"], "InSync").await;
    }
    load.stop_without_a_loss().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_loses_its_controller_silently_finds_the_other_one() {
    let site = Site::new().await;
    let first = site.controller("c1").await;
    let second = site.controller("c2").await;
    let relays =
        [Relay::start(first.address).await.unwrap(), Relay::start(second.address).await.unwrap()];
    let replica = site.replica("r1", &[relays[0].address, relays[1].address]).await;
    let load = Load::start(&[replica.address], HOST);
    for (nth, broken) in [0, 1, 0].into_iter().enumerate() {
        relays[broken].set(Way::HalfOpen);
        let host = format!("lost-{nth}.example");
        site.serve(&host);
        served([&replica], &host).await;
        let other = [&second, &first][broken];
        in_state(&[other], &["r1"], "InSync").await;
        relays[broken].set(Way::Open);
    }
    load.stop_without_a_loss().await.unwrap();
}
