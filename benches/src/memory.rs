//! Memory of 5,000 routes.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use kubeng_harness::process::Kubeng;
use kubeng_harness::usage::Usage;

use crate::manifest::{self, Folder};
use crate::program::{Setting, until_answered};
use crate::report::Report;
use crate::samples::median;

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) ingresses: usize,
    pub(crate) services: usize,
}

/// What the processes of one round used.
#[derive(Clone, Copy, Debug)]
struct Round {
    empty: Usage,
    saved: Usage,
    started: Usage,
}

pub(crate) async fn run(setting: &Setting) -> Result<Vec<Report>> {
    let full = Size { ingresses: 5_000, services: 500 };
    let size = setting.pick(full, Size { ingresses: 100, services: 10 });
    let mut rounds = Vec::new();
    for _ in 0..setting.count(5, 1) {
        rounds.push(round(setting, size).await?);
    }
    let Size { ingresses, services } = size;
    let title = format!(
        "memory: {ingresses} Ingresses of one host each, {services} Services with EndpointSlices, \
         medians of {} rounds",
        rounds.len()
    );
    let head = ["process", "VmRSS MiB", "PSS MiB", "RSS growth MiB", "least..greatest"];
    let mut report = Report::new(&title, head);
    row(&mut report, "empty", &rounds, |round| round.empty);
    let started = row(&mut report, "started with them", &rounds, |round| round.started);
    let saved = row(&mut report, "empty, after they were saved", &rounds, |round| round.saved);
    let text = format!("started with them it is at most 32 MiB larger ({started:.1})");
    report.speed_goal(text, started <= 32.0);
    let text = format!("the empty process grows by at most 32 MiB ({saved:.1})");
    report.speed_goal(text, saved <= 32.0);
    Ok(vec![report])
}

async fn round(setting: &Setting, size: Size) -> Result<Round> {
    let manifests = tempfile::tempdir()?;
    // One at a time: a second one would share pages with it, which PSS then divides.
    let mut kubeng = setting.start(manifests.path(), None).await?;
    let empty = settle(&kubeng, setting).await?;
    write(manifests.path(), size)?;
    serves_last(&kubeng, size).await?;
    let saved = settle(&kubeng, setting).await?;
    kubeng.terminate()?;
    kubeng.wait_for_end(Duration::from_secs(20)).await?;

    let loaded = setting.start(manifests.path(), None).await?;
    serves_last(&loaded, size).await?;
    let started = settle(&loaded, setting).await?;
    Ok(Round { empty, saved, started })
}

/// Writes the manifests: a folder for each 100 Ingresses, a file for each.
pub(crate) fn write(path: &Path, size: Size) -> Result<()> {
    let folder = Folder::new(path);
    for service in 0..size.services {
        let namespace = format!("team-{}", service % namespaces(size));
        let name = format!("service-{service}");
        let [_, _, high, low] = u32::try_from(service)?.to_be_bytes();
        let addresses = [1, 2].map(|net| (([127, net, high, low], 8080).into(), true));
        let text = manifest::service(&namespace, &name)
            + &manifest::slice(&namespace, &name, &name, &addresses);
        folder.save(&format!("{namespace}/{name}.yaml"), &text)?;
    }
    for ingress in 0..size.ingresses {
        point(path, size, ingress, ingress % size.services)?;
    }
    Ok(())
}

/// Writes an Ingress that leads to the Service with this number, of the namespace that it is in.
pub(crate) fn point(path: &Path, size: Size, ingress: usize, service: usize) -> Result<()> {
    let namespace = format!("team-{}", ingress % size.services % namespaces(size));
    let (name, host) = (format!("app-{ingress}"), host(ingress));
    let service = format!("service-{service}");
    let paths = [("/".to_owned(), service.as_str())];
    let text = manifest::ingress(&namespace, &name, &host, &paths, None);
    Folder::new(path).save(&format!("{namespace}/{name}.yaml"), &text)?;
    Ok(())
}

/// How many namespaces the Services are spread over: the number of one modulo this is its namespace.
pub(crate) fn namespaces(size: Size) -> usize {
    (size.services / 10).max(1)
}

pub(crate) fn host(ingress: usize) -> String {
    format!("app-{ingress}.apps.example.com")
}

/// Waits until the last of them is served. Nobody listens at its endpoints, so any answer but 404 will do.
async fn serves_last(kubeng: &Kubeng, size: Size) -> Result<()> {
    let host = host(size.ingresses - 1);
    until_answered(kubeng.http, &host, "/", |answer| answer.status != 404).await
}

/// What it uses once it uses no more and no less.
async fn settle(kubeng: &Kubeng, setting: &Setting) -> Result<Usage> {
    tokio::time::sleep(setting.pick(Duration::from_secs(5), Duration::from_millis(500))).await;
    kubeng.usage()
}

/// Puts a row in; returns the median of the growth in MiB.
fn row(report: &mut Report, name: &str, rounds: &[Round], of: impl Fn(&Round) -> Usage) -> f64 {
    let mib = |kib: u64| kib as f64 / 1024.0;
    let all = |figure: &dyn Fn(&Round) -> f64| rounds.iter().map(figure).collect::<Vec<f64>>();
    let growth = all(&|round| mib(of(round).rss_kib) - mib(round.empty.rss_kib));
    let least = growth.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = growth.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    report.row([
        name.to_owned(),
        format!("{:.1}", median(&all(&|round| mib(of(round).rss_kib)))),
        format!("{:.1}", median(&all(&|round| mib(of(round).pss_kib)))),
        format!("{:.1}", median(&growth)),
        format!("{least:.1}..{greatest:.1}"),
    ]);
    median(&growth)
}
