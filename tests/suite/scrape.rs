//! What `/metrics` gives is in the classic text format, whoever gives it.

use kubeng_harness::fleet::FleetRig;
use kubeng_harness::metrics::{misnamed, samples};

use crate::support::{SOON, get, ingress, serve, service};

#[track_caller]
fn check(text: &str, counters: &[&str]) {
    let faults = misnamed(text);
    assert!(faults.is_empty(), "{faults:#?}");
    let all = samples(text);
    for name in counters {
        assert!(all.iter().any(|sample| sample.name == *name), "{name} is not in {text}");
        let head = format!("# TYPE {name} counter");
        assert!(text.lines().any(|line| line == head), "{head} is not in {text}");
    }
}

const OF_LOOP: &[&str] = &[
    "kubeng_configurations_applied_total",
    "kubeng_configurations_rejected_total",
    "kubeng_statuses_written_total",
    "kubeng_statuses_failed_total",
    "kubeng_events_written_total",
    "kubeng_events_dropped_total",
];

#[tokio::test]
async fn a_process_for_itself_names_its_metrics_as_readers_expect() {
    let web = kubeng_harness::backend::Backend::start("web").await.unwrap();
    let text = service("web", &[&web]) + &ingress("web", "a.example", &[("/", "Prefix", "web")]);
    let (kubeng, _folder) = serve(&[("a.yaml", text)]).await;
    assert_eq!(get(&kubeng, "a.example", "/").await.status, 200);
    let text = kubeng.metrics().await.unwrap();
    check(&text, OF_LOOP);
    check(&text, &["kubeng_requests_total"]);
}

#[tokio::test]
async fn controllers_and_replicas_name_their_metrics_as_readers_expect() {
    let rig = FleetRig::new(env!("CARGO_BIN_EXE_kubeng")).unwrap();
    rig.write_fleet("prod", "").unwrap();
    let mut controller = rig.controller("c1", &[]).unwrap();
    controller.until_ready(SOON).await.unwrap();
    let mut replica = rig.replica("r1", "prod", &[&controller], &[]).await.unwrap();
    replica.until_ready(SOON).await.unwrap();
    let scraped = async |member: &kubeng_harness::fleet::Member| {
        String::from_utf8(member.admin("/metrics").await.unwrap().body.to_vec()).unwrap()
    };
    let text = scraped(&controller).await;
    check(&text, OF_LOOP);
    check(&text, &["kubeng_drift_found_total", "kubeng_drift_healed_total"]);
    check(&scraped(&replica).await, &["kubeng_connections_total"]);
}
