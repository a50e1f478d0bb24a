//! Disks that are full or read-only.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use kubeng_harness::fleet::Member;
use kubeng_harness::fleet::faults::{SmallDisk, Under};
use kubeng_harness::load::Load;

use crate::fleet_faults::rig::{HOST, SOON, Site, in_state, served, shows, until};

/// Whether a test can be run; says why not.
async fn can_be(under: Under) -> bool {
    let reason = under.reason_against().await;
    if let Some(reason) = &reason {
        // Not by `println`, which is shown only when a test fails.
        let _ = writeln!(std::io::stderr(), "skipped, for {under:?} cannot be had: {reason}");
    }
    reason.is_none()
}

/// What is wrong with the disk of `r1` is told by it and by the controller, while everything is
/// served; and it is over once `mend` was done.
async fn told_and_mended(
    site: &Site,
    controller: &mut Member,
    replicas: [&Member; 2],
    cause: &str,
    mend: impl FnOnce(),
) {
    let [good, r1] = replicas;
    site.serve("meanwhile.example");
    served([good, r1], "meanwhile.example").await;
    shows(r1, &["UNWRITABLE", cause, "KNG-1723", "it is tried again"]).await;
    assert_eq!(r1.admin("/readyz").await.unwrap().status, 200);
    problems(controller, "KNG-1723", true).await;
    in_state(&[&*controller], &["good", "r1"], "InSync").await;
    // Another term begins, which cannot be written down either.
    controller.kill().await.unwrap();
    controller.start_again().unwrap();
    controller.until_ready(SOON).await.unwrap();
    site.serve("later.example");
    served([good, r1], "later.example").await;
    mend();
    shows(r1, &["(intact)"]).await;
    problems(controller, "KNG-1723", false).await;
    in_state(&[&*controller], &["good", "r1"], "InSync").await;
}

async fn problems(controller: &Member, words: &str, wanted: bool) {
    let ask = async || {
        let told = controller.json("/api/v1/problems").await.map_err(|error| error.to_string())?;
        let text = told.to_string();
        if text.contains(words) == wanted { Ok(()) } else { Err(text) }
    };
    until(&format!("{words:?} is among the problems: {wanted}"), ask).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_on_a_full_disk_serves_on_and_says_so() {
    let under = Under::SmallDisk { bytes: 512 * 1024 };
    if !can_be(under).await {
        return;
    }
    let site = Site::new().await;
    let mut controller = site.controller("c1").await;
    let good = site.replica("good", &[controller.address]).await;
    let token = site.rig.token("prod").await.unwrap();
    let r1 = site.rig.replica_under(&under, ("prod", "r1"), &[controller.address], &token);
    let mut r1 = r1.unwrap();
    r1.until_ready(SOON).await.unwrap();
    served([&good, &r1], HOST).await;
    shows(&r1, &["(intact)"]).await;
    let load = Load::start(&[good.address, r1.address], HOST);
    let filler = SmallDisk::of(&r1, site.rig.data("r1")).unwrap().fill().unwrap();
    let mend = || std::fs::remove_file(filler).unwrap();
    told_and_mended(&site, &mut controller, [&good, &r1], "No space left", mend).await;
    load.stop_without_a_loss().await.unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_may_not_write_serves_on_and_says_so() {
    if !can_be(Under::NoPrivileges).await {
        return;
    }
    let site = Site::new().await;
    let mut controller = site.controller("c1").await;
    let good = site.replica("good", &[controller.address]).await;
    let token = site.rig.token("prod").await.unwrap();
    let under = Under::NoPrivileges;
    let r1 = site.rig.replica_under(&under, ("prod", "r1"), &[controller.address], &token);
    let mut r1 = r1.unwrap();
    r1.until_ready(SOON).await.unwrap();
    served([&good, &r1], HOST).await;
    shows(&r1, &["(intact)"]).await;
    let load = Load::start(&[good.address, r1.address], HOST);
    let folder = site.rig.data("r1").join("last-known-good");
    set_mode(&folder, 0o500);
    let mend = || set_mode(&folder, 0o700);
    told_and_mended(&site, &mut controller, [&good, &r1], "Permission denied", mend).await;
    load.stop_without_a_loss().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_starts_from_a_disk_that_became_read_only() {
    if !can_be(Under::ReadOnlyDisk).await {
        return;
    }
    let site = Site::new().await;
    let mut controller = site.controller("c1").await;
    let good = site.replica("good", &[controller.address]).await;
    let mut r1 = site.replica("r1", &[controller.address]).await;
    served([&good, &r1], HOST).await;
    shows(&r1, &["(intact)"]).await;
    controller.kill().await.unwrap();
    r1.kill().await.unwrap();
    r1.start_again_under(&Under::ReadOnlyDisk, &site.rig.data("r1")).unwrap();
    r1.until_ready(SOON).await.unwrap();
    shows(&r1, &["from disk, no controller heard"]).await;
    served([&r1], HOST).await;
    controller.start_again().unwrap();
    controller.until_ready(SOON).await.unwrap();
    site.serve("later.example");
    served([&good, &r1], "later.example").await;
    shows(&r1, &["UNWRITABLE", "Read-only file system", "KNG-1723"]).await;
    in_state(&[&controller], &["good", "r1"], "InSync").await;
    // Nobody else may use the folder meanwhile.
    let mut second = site.rig.replica_at(("prod", "r1"), &[controller.address], None, &[]).unwrap();
    assert!(!second.until_end(SOON).await.unwrap().success());
    let log = second.log().join("\n");
    assert!(log.contains("another process holds the data folder"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_can_keep_nothing_from_the_beginning_does_not_start() {
    let site = Site::new().await;
    let controller = site.controller("c1").await;
    let good = site.replica("good", &[controller.address]).await;
    for (name, under, words) in [
        ("ro", Under::ReadOnlyDisk, ["cannot write to the data folder", "Read-only file system"]),
        // Room for the key that it joins with, and no more.
        ("full", Under::SmallDisk { bytes: 4096 }, ["identity.pem", "No space left"]),
    ] {
        if !can_be(under).await {
            continue;
        }
        let token = site.rig.token("prod").await.unwrap();
        let new = site.rig.replica_under(&under, ("prod", name), &[controller.address], &token);
        let mut new = new.unwrap();
        let ended = new.until_end(SOON).await.unwrap();
        assert!(!ended.success(), "{ended}");
        let log = new.log().join("\n");
        assert!(words.iter().all(|word| log.contains(word)), "{words:?}:\n{log}");
    }
    site.serve("after.example");
    served([&good], "after.example").await;
    in_state(&[&controller], &["good"], "InSync").await;
}
