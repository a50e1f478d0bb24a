//! Leaders that are killed in the middle of their work.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use kubeng_harness::fleet::Member;
use kubeng_harness::load::Load;

use super::rig::{HOST, SOON, Site, in_state, served, told, until};

/// Whether the controller leads, as far as it has said.
fn leads(controller: &Member) -> bool {
    let log = controller.log();
    let said = log.iter().rev().find(|line| line.contains("leadership by the folder"));
    said.is_some_and(|line| line.contains("leads=true"))
}

/// How many leaders are killed here; the bench `leader-kills` kills 100.
const KILLS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_while_it_delivers_costs_no_request() {
    let site = Site::new().await;
    let mut controllers = [site.controller("c1").await, site.controller("c2").await];
    let addresses = [controllers[0].address, controllers[1].address];
    let mut replicas = Vec::new();
    for name in ["r1", "r2", "r3"] {
        replicas.push(site.replica(name, &addresses).await);
    }
    served(&replicas, HOST).await;
    let servers: Vec<_> = replicas.iter().map(|replica| replica.address).collect();
    let load = Load::start(&servers, HOST);

    for nth in 0..KILLS {
        let leader = until("one of two leads", async || {
            controllers.iter().position(leads).ok_or_else(|| "nobody does".to_owned())
        });
        let leader = leader.await;
        // While the change is read, translated, sent or acknowledged: whichever it is this time.
        let host = format!("kill-{nth}.example");
        site.serve(&host);
        let random = RandomState::new().hash_one(nth) % 60;
        tokio::time::sleep(Duration::from_millis(random)).await;
        controllers[leader].kill().await.unwrap();
        served(&replicas, &host).await;
        controllers[leader].start_again().unwrap();
        controllers[leader].until_ready(SOON).await.unwrap();
    }
    load.stop_without_a_loss().await.unwrap();
    let controllers: Vec<&Member> = controllers.iter().collect();
    in_state(&controllers, &["r1", "r2", "r3"], "InSync").await;
    let in_last_term = async || {
        let view = told(&controllers, "prod", "r1").await?;
        let epoch = view["heartbeat"]["epoch"].as_u64();
        if epoch > Some(KILLS as u64) { Ok(()) } else { Err(view.to_string()) }
    };
    until("each kill began another term", in_last_term).await;
}
