//! How long it takes until a change is served: what clients see, and what the process says.

pub(crate) mod cluster;
pub(crate) mod store;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use kubeng_harness::backend::Backend;
use kubeng_harness::metrics::Histogram;
use kubeng_harness::process::Kubeng;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::program::{Setting, until_answered};
use crate::raw;
use crate::report::Report;
use crate::samples::{Samples, millis};
use store::{Color, Place, Store};

/// What was measured in one phase.
struct Phase {
    name: &'static str,
    /// From the beginning of the write to the first answer by it.
    since_begun: Samples,
    /// From the end of the write to the first answer by it; zero if it came before.
    since_done: Samples,
    routes: Histogram,
    endpoints: Histogram,
    /// Changes written besides those that are measured, for each second.
    churn: f64,
    /// How long the phase took, in seconds.
    seconds: f64,
}

pub(crate) async fn run(setting: &Setting) -> Result<Vec<Report>> {
    let backends = Backend::start_group(&[Color::Red.name(), Color::Blue.name()]).await?;
    let [red, blue] = [&backends[0], &backends[1]].map(|backend| backend.address);
    let manifests = tempfile::tempdir()?;
    let place = Place { routes: routes(setting), red, blue };
    let store = Store::folder(manifests.path(), place);
    store.fill().await?;
    let mut kubeng = setting.start(manifests.path(), None).await?;
    let phases = measure(setting, &store, &kubeng).await?;
    kubeng.terminate()?;
    kubeng.wait_for_end(Duration::from_secs(20)).await?;
    let title = format!("propagation: a saved manifest, {} routes", place.routes);
    Ok(vec![report(&title, "rename", phases)])
}

fn routes(setting: &Setting) -> usize {
    setting.pick(3_000, 100)
}

/// Measures idle, and again during churn.
async fn measure(setting: &Setting, store: &Store, kubeng: &Kubeng) -> Result<[Phase; 2]> {
    let last = store::host(store.place().routes - 1);
    until_answered(kubeng.http, &last, "/", |answer| answer.status == 200).await?;
    let written = Arc::new(AtomicU64::new(0));
    let idle = phase("idle", setting, store, kubeng, &written).await?;
    let mut churn = JoinSet::new();
    churn.spawn(make_churn(store.clone(), Arc::clone(&written)));
    // Until it goes at its pace.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let busy = phase("churn", setting, store, kubeng, &written).await?;
    if let Some(ended) = churn.try_join_next() {
        let never = ended??;
        match never {}
    }
    Ok([idle, busy])
}

/// Makes 100 changes a second, routes and endpoints by turns, until it is dropped.
async fn make_churn(store: Store, written: Arc<AtomicU64>) -> Result<Infallible> {
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    // A write to an API server takes a while; several may be under way.
    let mut writes = JoinSet::new();
    for number in 0_usize.. {
        pace.tick().await;
        let (store, written) = (store.clone(), Arc::clone(&written));
        writes.spawn(async move {
            written.fetch_add(1, Ordering::Relaxed);
            store.churn(number).await
        });
        while writes.len() > WRITES_MAX
            && let Some(done) = writes.join_next().await
        {
            done??;
        }
    }
    bail!("the numbers have run out")
}

/// Writes changes one after the other and watches for each.
async fn phase(
    name: &'static str,
    setting: &Setting,
    store: &Store,
    kubeng: &Kubeng,
    written: &AtomicU64,
) -> Result<Phase> {
    let before = figures(kubeng).await?;
    let written_before = written.load(Ordering::Relaxed);
    let started = Instant::now();
    let mut since_begun = Samples::default();
    let mut since_done = Samples::default();
    let mut connection = raw::Connection::open(kubeng.http)?;
    for number in 0..setting.pick(400, 20) {
        let is_new = number % 2 == 0;
        let (host, color) = if is_new {
            (format!("new-{name}-{number}.example.com"), Color::Red)
        } else {
            (store::host(number), if name == "idle" { Color::Blue } else { Color::Red })
        };
        let request = raw::request(&host, "/");
        let watch = tokio::task::spawn_blocking(move || first_answer(connection, &request, color));
        let begun = Instant::now();
        let change = if is_new {
            store.add(&format!("new-{name}-{number}"), &host, color).await
        } else {
            store.point(number, color).await
        };
        let done = Instant::now();
        change?;
        let (answered, same) = watch.await?.with_context(|| host.clone())?;
        connection = same;
        since_begun.push(answered - begun);
        since_done.push(answered.saturating_duration_since(done));
        // Of different length, so as not to fall in step with anything.
        tokio::time::sleep(Duration::from_millis(10 + number as u64 % 7 * 4)).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    let churn = (written.load(Ordering::Relaxed) - written_before) as f64 / seconds;
    let after = figures(kubeng).await?;
    let [routes, endpoints] = [0, 1].map(|at: usize| after[at].since(&before[at]));
    Ok(Phase { name, since_begun, since_done, routes, endpoints, churn, seconds })
}

/// Asks until the backend of this colour answers, and says when it did.
pub(crate) fn first_answer(
    mut connection: raw::Connection,
    request: &[u8],
    color: Color,
) -> Result<(Instant, raw::Connection)> {
    let until = Instant::now() + SERVED_WITHIN;
    while Instant::now() < until {
        let answer = connection.ask(request)?;
        if answer.status == 200 && answer.backend == Some(color.name()) {
            return Ok((Instant::now(), connection));
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    bail!("the change is not served after {SERVED_WITHIN:?}")
}

/// What the process says of routes and of endpoints.
async fn figures(kubeng: &Kubeng) -> Result<[Histogram; 2]> {
    let text = kubeng.metrics().await?;
    let read = |name| {
        Histogram::read(&text, name).with_context(|| format!("/metrics has no histogram {name}"))
    };
    Ok([read("kubeng_propagation_seconds")?, read("kubeng_endpoint_propagation_seconds")?])
}

fn report(title: &str, end_of_write: &str, phases: [Phase; 2]) -> Report {
    let head = ["phase", "measured", "events", "mean ms", "p50 ms", "p99 ms", "max ms"];
    let mut report = Report::new(title, head);
    for phase in phases {
        let Phase { name, since_begun, since_done, routes, endpoints, churn, seconds } = phase;
        let seen = format!("client: from the end of the {end_of_write}");
        report.row(of_samples(name, seen, &since_done));
        let seen = "client: from the beginning of the write".to_owned();
        report.row(of_samples(name, seen, &since_begun));
        for (what, histogram) in [("routes", &routes), ("endpoints", &endpoints)] {
            report.row(of_histogram(name, format!("process: {what}"), histogram));
            let p99 = histogram.at_most(0.99);
            if histogram.count > 0.0 {
                let is_met = histogram.mean() <= MEAN_MAX && p99.is_some_and(|t| t <= P99_MAX);
                let text = format!("{name}, {what}: mean <= 5 ms, p99 <= 15 ms in the process");
                report.speed_goal(text, is_met);
            }
        }
        let [routes, endpoints] = [&routes, &endpoints].map(|served| served.count / seconds);
        report.note(format!(
            "{name}: {churn:.0} other changes a second were written; the process put {routes:.0} \
             tables and {endpoints:.0} endpoint sets a second in place"
        ));
    }
    report
        .note("clients look every 0.2 ms; figures of the process are upper bounds of its buckets");
    report
}

pub(crate) fn of_samples(phase: &str, measured: String, samples: &Samples) -> [String; 7] {
    [
        phase.to_owned(),
        measured,
        samples.len().to_string(),
        millis(samples.mean()),
        millis(samples.at_most(0.5)),
        millis(samples.at_most(0.99)),
        millis(samples.max()),
    ]
}

pub(crate) fn of_histogram(phase: &str, measured: String, histogram: &Histogram) -> [String; 7] {
    let at_most = |share| {
        let bound = histogram.at_most(share);
        bound.map_or_else(|| "above all".to_owned(), |bound| format!("<= {}", millis(bound)))
    };
    [
        phase.to_owned(),
        measured,
        format!("{:.0}", histogram.count),
        millis(histogram.mean()),
        at_most(0.5),
        at_most(0.99),
        at_most(1.0),
    ]
}

const MEAN_MAX: Duration = Duration::from_millis(5);
const P99_MAX: Duration = Duration::from_millis(15);
const SERVED_WITHIN: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_micros(200);
const WRITES_MAX: usize = 16;
