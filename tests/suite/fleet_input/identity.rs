//! Certificates that are those of somebody else.

use std::path::Path;

use kubeng_harness::fleet::FleetRig;

use crate::fleet_faults::rig::{HOST, SOON, Site, in_state, served, shows};

/// Takes who it is from one replica and gives it to another one.
fn give(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::copy(from.join("identity.pem"), to.join("identity.pem")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_fleet_or_replica_is_refused_at_the_start() {
    let site = Site::new().await;
    site.rig.write_fleet("test", "").unwrap();
    let controller = site.controller("c1").await;
    let good = site.replica("good", &[controller.address]).await;
    served([&good], HOST).await;
    let token = site.rig.token("test").await.unwrap();
    let of_test = site.rig.replica_at(("test", "r1"), &[controller.address], Some(&token), &[]);
    let mut of_test = of_test.unwrap();
    shows(&of_test, &["controller   https://"]).await;
    of_test.kill().await.unwrap();
    // What lies in the folder of r1 is of the fleet test; r2 is given the same.
    give(&site.rig.data("r1"), &site.rig.data("r2"));
    for (fleet, name) in [("prod", "r1"), ("test", "r2")] {
        let thief = site.rig.replica_at((fleet, name), &[controller.address], None, &[]);
        let mut thief = thief.unwrap();
        let ended = thief.until_end(SOON).await.unwrap();
        assert!(!ended.success(), "{ended}");
        let log = thief.log().join("\n");
        let words = format!("is for replica r1 of fleet test, but this is {name} of {fleet}");
        assert!(log.contains(&words) && log.contains("--fleet test --name r1"), "{log}");
    }
    in_state(&[&controller], &["good"], "InSync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_is_refused_by_the_controller() {
    let site = Site::new().await;
    let controller = site.controller("c1").await;
    let good = site.replica("good", &[controller.address]).await;
    let elsewhere = FleetRig::new(env!("CARGO_BIN_EXE_kubeng")).unwrap();
    elsewhere.write_fleet("prod", "").unwrap();
    let mut other = elsewhere.controller("other", &[]).unwrap();
    other.until_ready(SOON).await.unwrap();
    let mut stranger = elsewhere.replica("r1", "prod", &[&other], &[]).await.unwrap();
    stranger.until_ready(SOON).await.unwrap();
    shows(&stranger, &["kept ", "(intact)"]).await;
    stranger.kill().await.unwrap();

    // It believes the controller, but is not believed.
    let mixed = std::fs::read_to_string(elsewhere.data("r1").join("identity.pem")).unwrap();
    let ours = std::fs::read_to_string(site.rig.authority().join("ca.crt")).unwrap();
    let pinned = mixed.rfind("-----BEGIN CERTIFICATE-----").unwrap();
    std::fs::write(
        elsewhere.data("r1").join("identity.pem"),
        format!("{}{ours}", &mixed[..pinned]),
    )
    .unwrap();
    let url = format!("https://{}", controller.address);
    stranger.exchange("--controller", &url).unwrap();
    stranger.start_again().unwrap();
    let words = ["does not take the certificate of this replica", "join again with a new token"];
    shows(&stranger, &words).await;
    let listed = controller.json("/api/v1/replicas").await.unwrap();
    assert_eq!(listed["replicas"].as_array().map(Vec::len), Some(1), "{listed}");

    // It is believed, but does not believe the controller.
    stranger.kill().await.unwrap();
    std::fs::write(elsewhere.data("r1").join("identity.pem"), &mixed).unwrap();
    stranger.start_again().unwrap();
    shows(&stranger, &["no authority that this replica believes", "invalid peer certificate"])
        .await;
    // What it serves is from its disk, and goes on.
    assert_eq!(stranger.admin("/readyz").await.unwrap().status, 200);
    site.serve("after.example");
    served([&good], "after.example").await;
    in_state(&[&controller], &["good"], "InSync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_that_is_in_use_is_refused_and_its_holder_goes_on() {
    let site = Site::new().await;
    let controller = site.controller("c1").await;
    let good = site.replica("good", &[controller.address]).await;
    served([&good], HOST).await;
    let mut second =
        site.rig.replica_at(("prod", "good"), &[controller.address], None, &[]).unwrap();
    let ended = second.until_end(SOON).await.unwrap();
    assert!(!ended.success(), "{ended}");
    let log = second.log().join("\n");
    assert!(log.contains("another process holds the data folder"), "{log}");
    assert!(log.contains("give each its own --data"), "{log}");
    site.serve("after.example");
    served([&good], "after.example").await;
    in_state(&[&controller], &["good"], "InSync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_believes_another_signing_key_takes_nothing_and_says_so() {
    let site = Site::new().await;
    let controller = site.controller("c1").await;
    let good = site.replica("good", &[controller.address]).await;
    let mut doubtful = site.replica("doubtful", &[controller.address]).await;
    served([&good, &doubtful], HOST).await;
    doubtful.kill().await.unwrap();
    let path = site.rig.data("doubtful").join("identity.pem");
    let text = std::fs::read_to_string(&path).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    assert!(first.starts_with("signing-key "), "{first}");
    // A good key, but nobody's here: that of the generator of RFC 8032 section 7.1, test 1.
    let other = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    std::fs::write(&path, format!("signing-key {other}\n{rest}")).unwrap();
    doubtful.start_again().unwrap();
    let view = in_state(&[&controller], &["doubtful"], "Rejected").await;
    let text = view.to_string();
    assert!(text.contains("is not signed by a key that is believed"), "{text}");
    assert_eq!(doubtful.admin("/readyz").await.unwrap().status, 503);
    site.serve("after.example");
    served([&good], "after.example").await;
    in_state(&[&controller], &["good"], "InSync").await;
}
