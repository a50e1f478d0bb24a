//! A fleet of replicas in processes of their own: how soon a change is served by all, how many bytes
//! it takes, what they use, and how soon one serves that starts alone.

mod one;

use std::time::Duration;

use anyhow::{Context as _, Result};
use kubeng_harness::backend::Backend;
use kubeng_harness::fleet::{FleetRig, Member};
use kubeng_harness::metrics::Histogram;

use crate::program::{Setting, until_answered};
use crate::propagation::store::{self, Color, Place, Store};
use crate::propagation::{first_answer, of_histogram, of_samples};
use crate::raw;
use crate::report::Report;
use crate::samples::Samples;

/// The name of the fleet.
const FLEET: &str = "edge";

pub(crate) async fn run(setting: &Setting) -> Result<Vec<Report>> {
    Ok(vec![propagation(setting).await?, one::run(setting).await?])
}

/// How soon all replicas serve what was saved.
async fn propagation(setting: &Setting) -> Result<Report> {
    let backends = Backend::start_group(&[Color::Red.name(), Color::Blue.name()]).await?;
    let [red, blue] = [&backends[0], &backends[1]].map(|backend| backend.address);
    let rig = FleetRig::new(&setting.kubeng)?;
    rig.write_fleet(FLEET, "")?;
    let place = Place { routes: setting.pick(3_000, 100), red, blue };
    let store = Store::folder(&rig.manifests(), place);
    store.fill().await?;
    let mut controller = rig.controller("controller-1", &[])?;
    controller.until_ready(READY_WITHIN).await?;
    let mut replicas = Vec::new();
    for number in 0..setting.pick(20, 3) {
        let mut replica = rig.replica(&format!("r{number}"), FLEET, &[&controller], &[]).await?;
        replica.until_ready(READY_WITHIN).await?;
        replicas.push(replica);
    }
    let last = store::host(place.routes - 1);
    for replica in &replicas {
        until_answered(replica.address, &last, "/", |answer| answer.status == 200).await?;
    }
    // Until what was left to do after the start is done.
    tokio::time::sleep(setting.pick(Duration::from_secs(5), Duration::from_millis(200))).await;
    let changes = setting.count(200, 10);
    let before = served(&controller).await?;
    let mut seen = Samples::default();
    for number in 0..changes {
        let replica = &replicas[number % replicas.len()];
        seen.push(change(&store, replica, number).await?);
        // Of different length, so as not to fall in step with anything.
        tokio::time::sleep(Duration::from_millis(100 + number as u64 % 7 * 9)).await;
    }
    let told = served(&controller).await?.since(&before);
    let title = format!(
        "fleet: {changes} changes, one after the other, on {} replicas, {} routes",
        replicas.len(),
        place.routes
    );
    let head = ["phase", "measured", "events", "mean ms", "p50 ms", "p99 ms", "max ms"];
    let mut report = Report::new(&title, head);
    let seen_by = "client of one replica: from the end of the rename".to_owned();
    report.row(of_samples("idle", seen_by, &seen));
    report.row(of_histogram("idle", "controller: every replica serves it".to_owned(), &told));
    let expected = (changes * replicas.len()) as f64;
    report.goal(
        format!("every replica answered for every change ({:.0} of {expected:.0})", told.count),
        told.count >= expected * 0.99,
    );
    let is_met = told.mean() <= MEAN_MAX && told.at_most(0.99).is_some_and(|p99| p99 <= P99_MAX);
    report.speed_goal("mean <= 10 ms, p99 <= 30 ms until a replica says that it serves it", is_met);
    report.note(
        "from the moment when the event had been read by the controller to the answer of each \
         replica that it serves it; all processes share the cores of this machine",
    );
    Ok(report)
}

/// Changes one route, and says how long after the save a client of `replica` saw it.
async fn change(store: &Store, replica: &Member, number: usize) -> Result<Duration> {
    let is_new = number.is_multiple_of(2);
    let (host, color) = if is_new {
        (format!("new-{number}.example.com"), Color::Red)
    } else {
        (store::host(number), Color::Blue)
    };
    let request = raw::request(&host, "/");
    let connection = raw::Connection::open(replica.address)?;
    let watch = tokio::task::spawn_blocking(move || {
        first_answer(connection, &request, color).map(|(at, _)| at)
    });
    if is_new {
        store.add(&format!("new-{number}"), &host, color).await?;
    } else {
        store.point(number, color).await?;
    }
    let done = std::time::Instant::now();
    let answered = watch.await?.with_context(|| format!("{host} at {}", replica.name))?;
    Ok(answered.saturating_duration_since(done))
}

/// What the controller says of how soon replicas serve.
async fn served(controller: &Member) -> Result<Histogram> {
    let answer = controller.admin("/metrics").await?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    Ok(Histogram::read(&text, "kubeng_replica_propagation_seconds").unwrap_or_default())
}

const READY_WITHIN: Duration = Duration::from_secs(120);
const MEAN_MAX: Duration = Duration::from_millis(10);
const P99_MAX: Duration = Duration::from_millis(30);
