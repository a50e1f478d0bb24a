//! Leaders are killed with `kill -9` at random moments while replicas are asked: no failed request.

use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kubeng_harness::backend::Backend;
use kubeng_harness::client::Counts;
use kubeng_harness::fleet::{FleetRig, Member};
use kubeng_harness::load::{Load, Tally};

use crate::manifest::{self, Folder};
use crate::program::{Setting, until_answered};
use crate::report::Report;
use crate::samples::{Samples, millis};

pub(crate) async fn run(setting: &Setting) -> Result<Vec<Report>> {
    let backend = Backend::start("app").await?;
    let rig = FleetRig::new(&setting.kubeng)?;
    let site = Site::write(&rig, &backend)?;
    let mut controllers = Vec::new();
    for name in ["c1", "c2"] {
        let mut controller = rig.controller(name, &[])?;
        controller.until_ready(WITHIN).await?;
        controllers.push(controller);
    }
    let both: Vec<&Member> = controllers.iter().collect();
    let mut replicas = Vec::new();
    for name in ["r1", "r2", "r3"] {
        let mut replica = rig.replica(name, "prod", &both, &[]).await?;
        replica.until_ready(WITHIN).await?;
        until_answered(replica.address, HOST, "/", |answer| answer.status == 200).await?;
        replicas.push(replica);
    }
    let servers: Vec<_> = replicas.iter().map(|replica| replica.address).collect();
    let load = Load::start(&servers, HOST);
    let kills = setting.count(100, 3);
    let mut took = Samples::default();
    for nth in 0..kills {
        took.push(kill_one(&site, nth, &mut controllers, &replicas).await?);
    }
    let epoch = epoch(&rig.authority())?;
    let tally = load.stop().await?;
    let mut report = of_requests(kills, epoch, tally);
    report.note(format!(
        "from the kill to the change that it interrupted being served by the last replica: median \
         {} ms, greatest {} ms; a follower looks twice a second whether it is to lead",
        millis(took.at_most(0.5)),
        millis(took.max())
    ));
    Ok(vec![report])
}

/// What is served.
struct Site(Folder);

impl Site {
    fn write(rig: &FleetRig, backend: &Backend) -> Result<Self> {
        rig.write_fleet("prod", "")?;
        let folder = Folder::new(rig.manifests());
        let text = manifest::service("bench", "app")
            + &manifest::slice("bench", "app-1", "app", &[(backend.address, true)]);
        folder.save("site.yaml", &text)?;
        let site = Self(folder);
        site.serve("app", HOST)?;
        Ok(site)
    }

    fn serve(&self, name: &str, host: &str) -> Result<()> {
        let paths = [("/".to_owned(), "app")];
        let text = manifest::ingress("bench", name, host, &paths, None);
        self.0.save(&format!("{name}.yaml"), &text)?;
        Ok(())
    }
}

/// Saves a change, kills whoever leads while it is carried out, and starts it again; gives the time
/// until all replicas serve the change.
async fn kill_one(
    site: &Site,
    nth: usize,
    controllers: &mut [Member],
    replicas: &[Member],
) -> Result<Duration> {
    let leader = until_one_leads(controllers).await?;
    // The same few hosts by turns, so that the configuration does not grow.
    let (name, host) = (format!("kill-{}", nth % HOSTS), format!("kill-{nth}.bench.example"));
    site.serve(&name, &host)?;
    let random = RandomState::new().hash_one(nth) % RANDOM_MS;
    tokio::time::sleep(Duration::from_millis(random)).await;
    let leader = controllers.get_mut(leader).context("there are two")?;
    leader.kill().await?;
    let began = Instant::now();
    for replica in replicas {
        until_answered(replica.address, &host, "/", |answer| answer.status == 200).await?;
    }
    let took = began.elapsed();
    leader.start_again()?;
    leader.until_ready(WITHIN).await?;
    Ok(took)
}

async fn until_one_leads(controllers: &[Member]) -> Result<usize> {
    let leads = |controller: &Member| {
        let log = controller.log();
        let said = log.iter().rev().find(|line| line.contains("leadership by the folder"));
        said.is_some_and(|line| line.contains("leads=true"))
    };
    let until = Instant::now() + WITHIN;
    loop {
        if let Some(leader) = controllers.iter().position(leads) {
            return Ok(leader);
        }
        ensure!(Instant::now() < until, "nobody leads");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The number of the newest term.
fn epoch(authority: &Path) -> Result<usize> {
    let text = std::fs::read_to_string(authority.join("leader.epoch"))?;
    Ok(text.trim().parse()?)
}

fn of_requests(kills: usize, epoch: usize, tally: Tally) -> Report {
    let title = format!("leader-kills: {kills} times kill -9 at random moments, under load");
    let head = ["client", "sent", "200", "other status", "failed", "connections", "closed"];
    let mut report = Report::new(&title, head);
    let Tally { counts, not_ok, example } = tally;
    let Counts { sent, answered, failed, opened, closed, retired: _ } = counts;
    let figures = [sent, answered - not_ok, not_ok, failed, opened, closed];
    let figures = figures.map(|figure| figure.to_string());
    report.row(["HTTP/1.1 to three replicas".to_owned()].into_iter().chain(figures));
    if let Some(example) = example {
        report.note(example);
    }
    report.goal("every request is accounted for", sent == answered + failed);
    let wrong = failed + not_ok;
    report.goal(format!("0 failed requests ({wrong} were)"), wrong == 0 && sent > 0);
    report.goal(format!("0 closed keep-alive connections ({closed} were)"), closed == 0);
    report.goal(format!("each kill began another term (the last is {epoch})"), epoch > kills);
    report
}

const HOST: &str = "app.bench.example";
/// How many hosts come and go.
const HOSTS: usize = 5;
/// A kill comes at most so many milliseconds after a change was saved.
const RANDOM_MS: u64 = 80;
const WITHIN: Duration = Duration::from_secs(60);
