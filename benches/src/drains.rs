//! Replicas come and go behind a balancer that asks for their readiness: no failed request.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kubeng_harness::backend::Backend;
use kubeng_harness::process::{Kubeng, Launch};

use crate::asking::{Asking, DEFAULT_CERTIFICATE, Front, write_site};
use crate::program::Setting;
use crate::report::Report;
use crate::samples::{Samples, millis};

pub(crate) async fn run(setting: &Setting) -> Result<Vec<Report>> {
    let backend = Backend::start("app").await?;
    let folder = tempfile::tempdir()?;
    write_site(folder.path(), &[backend.address])?;
    let make = || {
        let launch = Launch::new(&setting.kubeng).arg("--workers").arg("1");
        let launch = launch.arg("--drain-delay").arg("1").arg("--drain").arg("10");
        let launch = launch.manifests(folder.path());
        launch.arg("--default-certificate").arg(DEFAULT_CERTIFICATE)
    };
    let mut serving = Launch::start_until_ready(make, WITHIN).await?;
    let asking = Asking::start(Front::of(&serving));
    let drains = setting.count(20, 2);
    let mut took = Samples::default();
    for _ in 0..drains {
        let next = Launch::start_until_ready(make, WITHIN).await?;
        let mut leaving = std::mem::replace(&mut serving, next);
        leaving.terminate()?;
        let began = Instant::now();
        until_not_ready(&leaving).await?;
        asking.move_to(Front::of(&serving));
        let ended = leaving.wait_for_end(WITHIN).await?;
        ensure!(ended.success(), "a replica ended with {ended}");
        took.push(began.elapsed());
    }
    let title = format!("drains: {drains} replicas told to stop behind a balancer, under load");
    let mut report = Report::new(&title, Asking::HEAD);
    asking.end(&mut report).await?;
    report.note(format!(
        "from SIGTERM to the end, 1 s of delay in it: median {} ms, greatest {} ms",
        millis(took.at_most(0.5)),
        millis(took.max())
    ));
    Ok(vec![report])
}

/// As a balancer does it: asks every 100 ms.
async fn until_not_ready(kubeng: &Kubeng) -> Result<()> {
    let until = Instant::now() + WITHIN;
    while kubeng.admin("/readyz").await.is_ok_and(|answer| answer.status == 200) {
        ensure!(Instant::now() < until, "a replica that was told to stop stays ready");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

const WITHIN: Duration = Duration::from_secs(30);
