//! A configuration that one replica cannot serve.

use kubeng_harness::fleet::faults::{Under, hooks};
use kubeng_harness::load::Load;

use super::rig::{HOST, SOON, Site, in_state, served, shows, status, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_one_replica_rejects_costs_no_request_and_holds_nobody_up() {
    let site = Site::new().await;
    let controller = site.controller("c1").await;
    let r1 = site.replica("r1", &[controller.address]).await;
    let r2 = site.replica("r2", &[controller.address]).await;
    let token = site.rig.token("prod").await.unwrap();
    let picky =
        site.rig.replica_under(&Under::Hooks, ("prod", "picky"), &[controller.address], &token);
    let mut picky = picky.unwrap();
    picky.until_ready(SOON).await.unwrap();
    served([&r1, &r2, &picky], HOST).await;
    let load = Load::start(&[r1.address, r2.address, picky.address], HOST);

    let hooks = hooks(&site.rig.data("picky"));
    std::fs::create_dir(&hooks).unwrap();
    std::fs::write(hooks.join("reject"), "no such curve").unwrap();
    site.serve("bad.example");
    served([&r1, &r2], "bad.example").await;
    let view = in_state(&[&controller], &["picky"], "Rejected").await;
    let text = view["text"].as_str().unwrap();
    assert!(text.contains("listener http") && text.contains("no such curve"), "{text}");
    assert_eq!(status(&picky, "bad.example").await, 404, "what was served is served");
    shows(&picky, &["no such curve"]).await;
    in_state(&[&controller], &["r1", "r2"], "InSync").await;
    let problems = async || {
        let problems = controller.json("/api/v1/problems").await.map_err(|e| e.to_string())?;
        let text = problems.to_string();
        if text.contains("no such curve") { Ok(()) } else { Err(text) }
    };
    until("the controller tells of it", problems).await;

    // The next one is offered by itself, and is taken by all once it can be.
    std::fs::remove_file(hooks.join("reject")).unwrap();
    site.serve("good.example");
    served([&r1, &r2, &picky], "good.example").await;
    in_state(&[&controller], &["r1", "r2", "picky"], "InSync").await;
    load.stop_without_a_loss().await.unwrap();
}
