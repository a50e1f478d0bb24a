//! The program is exchanged under load, again and again: no failed request.

use std::time::{Duration, Instant};

use anyhow::Result;
use kubeng_harness::backend::Backend;
use kubeng_harness::process::Launch;

use crate::asking::{Asking, DEFAULT_CERTIFICATE, Front, write_site};
use crate::program::Setting;
use crate::report::Report;
use crate::samples::{Samples, millis};

pub(crate) async fn run(setting: &Setting) -> Result<Vec<Report>> {
    let backend = Backend::start("app").await?;
    let folder = tempfile::tempdir()?;
    write_site(folder.path(), &[backend.address])?;
    let make = || {
        let launch = setting.launch().manifests(folder.path());
        launch.arg("--default-certificate").arg(DEFAULT_CERTIFICATE)
    };
    let mut kubeng = Launch::start_until_ready(make, WITHIN).await?;
    let asking = Asking::start(Front::of(&kubeng));
    let upgrades = setting.count(20, 3);
    let mut took = Samples::default();
    for _ in 0..upgrades {
        let began = Instant::now();
        kubeng.upgrade(WITHIN).await?;
        took.push(began.elapsed());
        tokio::time::sleep(BETWEEN).await;
    }
    let ended_well = kubeng.wait_for_replaced(WITHIN).await?;
    let title = format!("upgrades: {upgrades} exchanges of the program, under load");
    let mut report = Report::new(&title, Asking::HEAD);
    asking.end(&mut report).await?;
    report.note(format!(
        "from the signal until the next process serves: median {} ms, greatest {} ms",
        millis(took.at_most(0.5)),
        millis(took.max())
    ));
    report.goal("every process that was replaced ended well", ended_well);
    kubeng.terminate()?;
    let ended = kubeng.wait_for_end(WITHIN).await?;
    report.goal(format!("the last one ends with exit code 0 (it was {ended})"), ended.success());
    Ok(vec![report])
}

const WITHIN: Duration = Duration::from_secs(30);
const BETWEEN: Duration = Duration::from_millis(250);
