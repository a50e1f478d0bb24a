//! One controller and one replica: memory, bytes of one change, and a start without any controller.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kubeng_harness::client::Client;
use kubeng_harness::fleet::{FleetRig, Member};
use kubeng_harness::relay::Relay;

use super::{FLEET, READY_WITHIN};
use crate::memory::{self, Size};
use crate::program::{Setting, until_answered};
use crate::report::Report;
use crate::samples::{Samples, median, millis};

/// What was measured at one size.
struct Figures {
    routes: usize,
    controller_mib: f64,
    replica_mib: f64,
    /// Towards the replica, for each changed route.
    bytes: Vec<f64>,
    /// From the start of the process to its first answer, without a controller.
    cold: Samples,
}

pub(super) async fn run(setting: &Setting) -> Result<Report> {
    let sizes = setting.pick([5_000, 40_000], [100, 200]);
    let head = [
        "routes",
        "controller RSS MiB",
        "replica RSS MiB",
        "bytes of one changed route: median",
        "greatest",
        "cold start ms: median",
        "greatest",
    ];
    let mut report = Report::new("fleet: one controller, one replica", head);
    for (at, routes) in sizes.into_iter().enumerate() {
        let Figures { routes, controller_mib, replica_mib, bytes, cold } =
            measure(setting, routes).await?;
        let greatest = bytes.iter().copied().fold(0.0, f64::max);
        report.row([
            routes.to_string(),
            format!("{controller_mib:.1}"),
            format!("{replica_mib:.1}"),
            format!("{:.0}", median(&bytes)),
            format!("{greatest:.0}"),
            millis(cold.at_most(0.5)),
            millis(cold.max()),
        ]);
        let replica_max = [40.0, 150.0][at];
        report.speed_goal(
            format!("{routes} routes: a replica takes <= {replica_max} MiB ({replica_mib:.1})"),
            replica_mib <= replica_max,
        );
        if at == 0 {
            report.speed_goal(
                format!("{routes} routes: a controller takes <= 100 MiB ({controller_mib:.1})"),
                controller_mib <= 100.0,
            );
        }
        report.goal(
            format!("{routes} routes: one changed route sends <= 4 KiB ({greatest:.0} bytes)"),
            greatest <= 4096.0,
        );
        report.speed_goal(
            format!("{routes} routes: a replica serves within 1 s without a controller"),
            cold.max() <= Duration::from_secs(1),
        );
    }
    report.note("each Ingress has a host of its own; RSS is VmRSS, some seconds after the start");
    report.note("bytes are those on the socket, with TLS and HTTP/2 around them");
    Ok(report)
}

async fn measure(setting: &Setting, routes: usize) -> Result<Figures> {
    let size = Size { ingresses: routes, services: routes / 10 };
    let rig = FleetRig::new(&setting.kubeng)?;
    rig.write_fleet(FLEET, "")?;
    memory::write(&rig.manifests(), size)?;
    let mut controller = rig.controller("controller-1", &[])?;
    controller.until_ready(READY_WITHIN).await?;
    let relay = Relay::start(controller.address).await?;
    let mut replica = rig.replica_through("r1", FLEET, &[relay.address], &[]).await?;
    replica.until_ready(READY_WITHIN).await?;
    let last = memory::host(routes - 1);
    until_answered(replica.address, &last, "/", |answer| answer.status != 404).await?;
    tokio::time::sleep(setting.pick(Duration::from_secs(10), Duration::from_millis(500))).await;
    let mib = |member: &Member| anyhow::Ok(member.usage()?.rss_kib as f64 / 1024.0);
    let (controller_mib, replica_mib) = (mib(&controller)?, mib(&replica)?);
    let mut bytes = Vec::new();
    for number in 0..setting.pick(10, 2) {
        let before = relay.passed_back();
        let other = (number + memory::namespaces(size)) % size.services;
        memory::point(&rig.manifests(), size, number, other)?;
        bytes.push(quiet(&relay, before).await? as f64);
    }
    until_kept(&replica).await?;
    controller.kill().await?;
    let mut cold = Samples::default();
    for _ in 0..setting.pick(5, 1) {
        replica.kill().await?;
        let began = Instant::now();
        replica.start_again()?;
        serves(&replica, &last).await?;
        cold.push(began.elapsed());
    }
    Ok(Figures { routes, controller_mib, replica_mib, bytes, cold })
}

/// Waits until something was told, and then nothing more for a second; gives how much it was.
async fn quiet(relay: &Relay, before: u64) -> Result<u64> {
    let until = Instant::now() + Duration::from_secs(20);
    let mut told = before;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = relay.passed_back();
        if now > before && now == told {
            return Ok(now - before);
        }
        told = now;
        ensure!(Instant::now() < until, "a changed route is not told, or without an end");
    }
}

/// Waits until it answers for `host` otherwise than with 404, looking every millisecond.
async fn serves(replica: &Member, host: &str) -> Result<()> {
    let until = Instant::now() + READY_WITHIN;
    while Instant::now() < until {
        let answer = Client::plain(replica.address).get(host, "/").await;
        if answer.is_ok_and(|answer| answer.status != 404) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None.with_context(|| format!("{} does not serve {host}\n{}", replica.name, replica.log_end()))
}

/// Waits until what it serves lies on its disk.
async fn until_kept(replica: &Member) -> Result<()> {
    let until = Instant::now() + READY_WITHIN;
    loop {
        let heartbeat = replica.json("/api/v1/heartbeat").await.unwrap_or_default();
        let kept = &heartbeat["lastKnownGood"]["kept"];
        if kept.is_string() && *kept == heartbeat["acknowledged"] {
            return Ok(());
        }
        ensure!(Instant::now() < until, "nothing is kept: {heartbeat}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
