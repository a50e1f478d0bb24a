//! Two controllers, and deviations that one of them keeps: whoever is asked says the same, and has
//! done something about them where that is no more than who asks could do himself.

use std::time::{Duration, Instant};

use kubeng_harness::backend::Backend;
use kubeng_harness::fleet::{FleetRig, Member};

use super::rig::{CLOSELY, Said, WAIT, ask, host, kubeng, until};
use crate::support::{ingress, save, service};

/// Two controllers of one fleet, of which the second one knows the first.
struct Pair {
    rig: FleetRig,
    first: Member,
    second: Member,
    web: Backend,
}

impl Pair {
    /// `of_first` makes the address under which the second one knows the first one of its port.
    async fn start(of_first: impl Fn(u16) -> String) -> Self {
        let rig = FleetRig::new(env!("CARGO_BIN_EXE_kubeng")).unwrap();
        let web = Backend::start("web").await.unwrap();
        rig.write_fleet("prod", CLOSELY).unwrap();
        save(&rig.manifests(), "service.yaml", &service("web", &[&web]));
        let route = ingress("web", &host("prod"), &[("/", "Prefix", "web")]);
        save(&rig.manifests(), "route.yaml", &route);
        let mut first = rig.controller("c1", &[]).unwrap();
        first.until_ready(WAIT).await.unwrap();
        let peer = of_first(first.admin.port());
        let mut second = rig.controller("c2", &["--peer-admin", &peer]).unwrap();
        second.until_ready(WAIT).await.unwrap();
        Self { rig, first, second, web }
    }

    /// A replica that follows these controllers, once both tell that it serves what it should.
    async fn replica(&self, controllers: &[&Member]) -> Member {
        let more = ["--heartbeat", "1"];
        let mut replica = self.rig.replica("r1", "prod", controllers, &more).await.unwrap();
        replica.until_ready(WAIT).await.unwrap();
        for controller in [&self.first, &self.second] {
            until(controller, "prod/r1", |shown| shown.state == "InSync").await;
        }
        replica
    }
}

/// Refuses the only route of the replica on its machine.
async fn refuse(pair: &Pair, replica: &Member, reason: &str) {
    let routes = pair.first.json("/api/v1/routes?fleet=prod").await.unwrap();
    let route = routes["routes"][0]["id"].as_str().unwrap().to_owned();
    let said = ["replica", "emergency", "--refuse", &route, "--reason", reason, "--by", "eve"];
    let said = kubeng(replica, &said).await;
    assert_eq!(said.code, Some(0), "{said:?}");
}

/// Lists deviations until this is told of them.
#[track_caller]
fn listed<'a>(
    controller: &'a Member,
    is_wanted: impl Fn(&Said) -> bool + 'a,
) -> impl Future<Output = Said> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let began = Instant::now();
        loop {
            let said = kubeng(controller, &["drift", "list"]).await;
            if is_wanted(&said) {
                return said;
            }
            assert!(began.elapsed() < WAIT, "{caller}: {said:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The open deviation of the replica, as this controller tells it.
async fn open(controller: &Member) -> String {
    let said =
        listed(controller, |said| said.code == Some(1) && said.out.contains("prod/r1")).await;
    let line = said.out.lines().find(|line| line.contains("prod/r1")).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_controller_keeps_is_listed_shown_adopted_dismissed_and_healed() {
    let pair = Pair::start(|port| format!("http://127.0.0.1:{port}")).await;
    let replica = pair.replica(&[&pair.first]).await;
    let second = &pair.second;
    refuse(&pair, &replica, "it leaks").await;
    let id = open(second).await;
    assert_eq!(open(&pair.first).await, id);
    let shown = kubeng(second, &["drift", "show", &id]).await;
    assert_eq!(shown.code, Some(1), "{shown:?}");
    let keeper = format!("kept by   http://{}", pair.first.admin);
    for word in ["replica   prod/r1", &keeper, "/action/refuse: intended null", "eve"] {
        assert!(shown.out.contains(word), "{word:?} is not in {shown:?}");
    }
    let own = kubeng(&pair.first, &["drift", "show", &id]).await;
    assert!(!own.out.contains("kept by"), "{own:?}");

    // What the one that keeps it refuses is said as it says it.
    let adopted = kubeng(second, &["drift", "adopt", &id]).await;
    assert_eq!(adopted.code, Some(1), "{adopted:?}");
    assert!(adopted.err.contains("cannot be adopted"), "{adopted:?}");
    let unexplained = kubeng(second, &["drift", "dismiss", &id]).await;
    assert_eq!(unexplained.code, Some(2), "{unexplained:?}");
    assert!(unexplained.err.contains("reason is missing"), "{unexplained:?}");
    let unknown = kubeng(second, &["drift", "heal", "0123456789ab"]).await;
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.err.contains("there is no drift record 0123456789ab"), "{unknown:?}");

    let forgotten = kubeng(second, &["replica", "forget", "prod/r1"]).await;
    assert_eq!(forgotten.code, Some(2), "{forgotten:?}");
    assert!(forgotten.err.contains("forget it there"), "{forgotten:?}");

    let said = kubeng(second, &["drift", "dismiss", &id, "--reason", "agreed"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    listed(&pair.first, |said| said.code == Some(0)).await;
    refuse(&pair, &replica, "it leaks again").await;
    let again = open(second).await;
    assert_ne!(again, id);
    let healed = kubeng(second, &["drift", "heal", &again, "--by", "ann"]).await;
    assert_eq!(healed.code, Some(0), "{healed:?}");
    assert_eq!(ask(&replica, "prod").await, 200);
    listed(second, |said| said.code == Some(0)).await;
    let all = kubeng(second, &["drift", "list", "--all"]).await;
    for (id, became) in [(&id, "dismissed"), (&again, "healed")] {
        let line = all.out.lines().find(|line| line.starts_with(id.as_str())).unwrap_or_default();
        assert!(line.contains(became), "{all:?}");
    }
    let record = pair.first.json(&format!("/api/v1/drift/{again}")).await.unwrap();
    assert_eq!(record["resolution"]["by"], "ann", "{record}");
    assert!(record["controller"].is_null(), "{record}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_runs_is_exported_with_its_endpoints_by_any_controller() {
    let pair = Pair::start(|port| format!("http://127.0.0.1:{port}")).await;
    let _replica = pair.replica(&[&pair.first]).await;
    let address = pair.web.address;
    for controller in [&pair.first, &pair.second] {
        let began = Instant::now();
        // Endpoints follow the configuration within milliseconds, and are no part of it.
        loop {
            let export = ["replica", "export", "prod/r1", "--format", "nginx"];
            let said = kubeng(controller, &export).await;
            assert_eq!(said.code, Some(0), "{said:?}");
            if said.out.contains(&format!("    server {address} weight=1;\n")) {
                break;
            }
            assert!(began.elapsed() < WAIT, "{said:?}");
        }
        let path = "/api/v1/replicas/prod/r1/export?format=json";
        let told = controller.json(path).await.unwrap();
        let endpoints = &told["endpoints"]["Service/shop/web:80"];
        assert_eq!(endpoints[0]["address"], address.to_string(), "{told}");
        let path = "/api/v1/fleets/prod/export?format=nginx";
        let intended = controller.admin(path).await.unwrap();
        let intended = String::from_utf8_lossy(&intended.body).into_owned();
        assert!(intended.contains(&format!("server {address} weight=1;")), "{intended}");
    }
    let compared = kubeng(&pair.second, &["compare", "intended:prod", "prod/r1"]).await;
    assert_eq!(compared.code, Some(0), "{compared:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_on_this_machine_is_named_and_left_alone() {
    // All addresses of a machine are no address of this one.
    let mut pair = Pair::start(|port| format!("http://0.0.0.0:{port}")).await;
    let replica = pair.replica(&[&pair.first]).await;
    refuse(&pair, &replica, "it leaks").await;
    let id = open(&pair.second).await;
    let keeper = format!("the controller at http://0.0.0.0:{}", pair.first.admin.port());
    for (verb, more) in [("heal", None), ("adopt", None), ("dismiss", Some("--reason=well"))] {
        let arguments = ["drift", verb, &id];
        let arguments: Vec<&str> = arguments.into_iter().chain(more).collect();
        let said = kubeng(&pair.second, &arguments).await;
        assert_eq!(said.code, Some(2), "{said:?}");
        for word in [keeper.as_str(), "from its own machine", &format!("kubeng drift {verb} {id}")]
        {
            assert!(said.err.contains(word), "{word:?} is not in {said:?}");
        }
    }
    let record = pair.first.json(&format!("/api/v1/drift/{id}")).await.unwrap();
    assert!(record["resolution"].is_null(), "{record}");

    // Who does not answer may keep one, so nothing is called fine.
    pair.first.kill().await.unwrap();
    let silent = listed(&pair.second, |said| said.err.contains("did not answer")).await;
    assert_eq!(silent.code, Some(1), "{silent:?}");
    let lost = kubeng(&pair.second, &["drift", "heal", &id]).await;
    assert_eq!(lost.code, Some(2), "{lost:?}");
    assert!(lost.err.contains("it is not known whether another controller does"), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_has_moved_is_judged_by_the_controller_that_it_moved_to() {
    let mut pair = Pair::start(|port| format!("http://127.0.0.1:{port}")).await;
    let mut replica = pair.replica(&[&pair.first]).await;
    refuse(&pair, &replica, "it leaks").await;
    let id = open(&pair.first).await;
    // The second one takes its place, and the first one comes back and knows of the second.
    let peer = format!("http://{}", pair.second.admin);
    replica.stop(WAIT).await.unwrap();
    pair.first.stop(WAIT).await.unwrap();
    let mut first = pair.rig.controller("c1", &["--peer-admin", &peer]).unwrap();
    first.until_ready(WAIT).await.unwrap();
    let mut replica = pair.rig.replica("r1", "prod", &[&pair.second], &[]).await.unwrap();
    replica.until_ready(WAIT).await.unwrap();
    until(&first, "prod/r1", |shown| shown.state == "InSync").await;
    // What it was is over, and nobody says that it does not report.
    let gone = listed(&first, |said| said.code == Some(0)).await;
    assert!(!gone.out.contains(&id), "{gone:?}");
    let all = kubeng(&first, &["drift", "list", "--all"]).await;
    let line = all.out.lines().find(|line| line.starts_with(&id)).unwrap_or_default();
    assert!(line.contains("gone"), "{all:?}");
    let began = Instant::now();
    loop {
        let told = first.json("/api/v1/problems").await.unwrap().to_string();
        if !told.contains("KNG-1745") && !told.contains("KNG-1740") {
            break;
        }
        assert!(began.elapsed() < WAIT, "{told}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let metrics = first.admin("/metrics").await.unwrap();
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    let unreachable = "kubeng_replicas{fleet=\"prod\",state=\"Unreachable\"} 0";
    assert!(metrics.contains(unreachable), "{metrics}");
}
