//! What a replica kept, cut short, altered, or of another fleet.

use std::path::{Path, PathBuf};

use kubeng_harness::fleet::Member;
use kubeng_harness::load::Load;

use crate::fleet_faults::rig::{HOST, SOON, Site, in_state, served, shows, status, until};

/// The files that were kept in a data folder, the oldest first.
fn files(data: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data.join("last-known-good")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "kept")).collect();
    files.sort();
    files
}

/// Waits until what the replica serves is what lies on its disk.
async fn kept(replica: &Member) {
    let word = |screen: &str, name: &str| {
        let line = screen.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1).map(str::to_owned)
    };
    let ask = async || {
        let screen = replica.screen().await.map_err(|error| error.to_string())?;
        let is_kept = word(&screen, "kept ") == word(&screen, "serving ");
        if is_kept && screen.contains("(intact)") { Ok(()) } else { Err(screen) }
    };
    until("what is served is kept", ask).await;
}

/// What is done to a file.
type Harm = (&'static str, fn(&mut Vec<u8>));

const HARMS: &[Harm] = &[
    ("cut short", |bytes| bytes.truncate(bytes.len() / 2)),
    ("emptied", Vec::clear),
    ("altered", |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }),
];

fn harm(path: &Path, act: fn(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    act(&mut bytes);
    // In place: mode and owner stay.
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_file_that_is_damaged_is_named_and_the_one_before_it_is_served() {
    let site = Site::new().await;
    let mut controller = site.controller("c1").await;
    let good = site.replica("good", &[controller.address]).await;
    let mut r1 = site.replica("r1", &[controller.address]).await;
    served([&good, &r1], HOST).await;
    kept(&r1).await;
    let load = Load::start(&[good.address], HOST);
    for (nth, (how, act)) in HARMS.iter().enumerate() {
        let newer = format!("newer-{nth}.example");
        site.serve(&newer);
        served([&good, &r1], &newer).await;
        kept(&r1).await;
        controller.kill().await.unwrap();
        r1.kill().await.unwrap();
        let newest = files(&site.rig.data("r1")).pop().unwrap();
        harm(&newest, *act);
        r1.start_again().unwrap();
        r1.until_ready(SOON).await.unwrap();
        assert_eq!(status(&r1, HOST).await, 200, "{how}: the one before is served");
        assert_eq!(status(&r1, &newer).await, 404, "{how}: the damaged one is not");
        let name = newest.file_name().unwrap().to_str().unwrap();
        shows(&r1, &["KNG-1722", name, "written again with the next change"]).await;

        controller.start_again().unwrap();
        controller.until_ready(SOON).await.unwrap();
        served([&r1], &newer).await;
        kept(&r1).await;
        in_state(&[&controller], &["good", "r1"], "InSync").await;
        let screen = r1.screen().await.unwrap();
        assert!(!screen.contains("KNG-1722"), "{how}: it is mended, and still told:\n{screen}");
    }
    load.stop_without_a_loss().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_files_are_all_useless_waits_for_a_controller_and_says_why() {
    let site = Site::new().await;
    let mut controller = site.controller("c1").await;
    let good = site.replica("good", &[controller.address]).await;
    let mut r1 = site.replica("r1", &[controller.address]).await;
    served([&good, &r1], HOST).await;
    kept(&r1).await;
    controller.kill().await.unwrap();
    r1.kill().await.unwrap();
    for path in files(&site.rig.data("r1")) {
        harm(&path, |bytes| bytes.truncate(100));
    }
    r1.start_again().unwrap();
    shows(&r1, &["serving      nothing yet", "KNG-1722", "its checksum does not fit"]).await;
    let ready = r1.admin("/readyz").await.unwrap();
    let text = String::from_utf8_lossy(&ready.body).into_owned();
    assert_eq!(ready.status, 503, "{text}");
    assert!(text.contains("nothing is served yet") && text.contains("KNG-1722"), "{text}");
    assert_eq!(status(&good, HOST).await, 200);

    controller.start_again().unwrap();
    controller.until_ready(SOON).await.unwrap();
    served([&r1], HOST).await;
    kept(&r1).await;
    in_state(&[&controller], &["good", "r1"], "InSync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_file_of_another_fleet_is_not_served() {
    let site = Site::new().await;
    let other = "apiVersion: kubeng.io/v1alpha1\nkind: Fleet\nmetadata: { name: test }\nspec:\n  \
                 serves: { ingressClasses: [other] }\n  listeners:\n  \
                 - { name: http, port: 80, protocol: HTTP }\n";
    crate::support::save(&site.rig.manifests(), "fleet-test.yaml", other);
    let mut controller = site.controller("c1").await;
    let good = site.replica("good", &[controller.address]).await;
    let mut r1 = site.replica("r1", &[controller.address]).await;
    let token = site.rig.token("test").await.unwrap();
    let of_test = site.rig.replica_at(("test", "t1"), &[controller.address], Some(&token), &[]);
    let mut of_test = of_test.unwrap();
    of_test.until_ready(SOON).await.unwrap();
    served([&good, &r1], HOST).await;
    kept(&of_test).await;
    kept(&r1).await;
    controller.kill().await.unwrap();
    r1.kill().await.unwrap();
    for path in files(&site.rig.data("r1")) {
        std::fs::remove_file(path).unwrap();
    }
    let foreign = files(&site.rig.data("t1")).pop().unwrap();
    let place = site.rig.data("r1").join("last-known-good").join(foreign.file_name().unwrap());
    std::fs::copy(&foreign, place).unwrap();
    r1.start_again().unwrap();
    let words = ["serving      nothing yet", "it is of fleet test, and this replica is of prod"];
    shows(&r1, &words).await;
    controller.start_again().unwrap();
    controller.until_ready(SOON).await.unwrap();
    served([&good, &r1], HOST).await;
    kept(&r1).await;
    in_state(&[&controller], &["good", "r1"], "InSync").await;
}
