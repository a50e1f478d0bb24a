//! Memory of 5,000 routes.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use kubeng_harness::process::Kubeng;
use kubeng_harness::usage::Usage;

use crate::manifest::{self, Folder};
use crate::program::{Setting, until_answered};
use crate::report::Report;

/// How much there is.
#[derive(Clone, Copy, Debug)]
struct Size {
    ingresses: usize,
    services: usize,
}

pub(crate) async fn run(setting: &Setting) -> Result<Vec<Report>> {
    let full = Size { ingresses: 5_000, services: 500 };
    let size = setting.pick(full, Size { ingresses: 100, services: 10 });
    let Size { ingresses, services } = size;
    let title = format!(
        "memory: {ingresses} Ingresses of one host each, {services} Services with EndpointSlices"
    );
    let mut report = Report::new(&title, ["process", "VmRSS MiB", "PSS MiB", "RSS growth MiB"]);
    let manifests = tempfile::tempdir()?;
    // One at a time: a second one would share pages with it, which PSS then divides.
    let mut empty = setting.start(manifests.path(), None).await?;
    let base = settle(&empty, setting).await?;
    row(&mut report, "empty", base, base);
    write(manifests.path(), size)?;
    serves_last(&empty, size).await?;
    let after = settle(&empty, setting).await?;
    row(&mut report, "the same, after they were saved", after, base);
    empty.terminate()?;
    empty.wait_for_end(Duration::from_secs(20)).await?;

    let loaded = setting.start(manifests.path(), None).await?;
    serves_last(&loaded, size).await?;
    let fresh = settle(&loaded, setting).await?;
    row(&mut report, "started with them", fresh, base);

    let growth = growth_mib(fresh, base);
    let text = format!("started with them it is at most 32 MiB larger ({growth:.1})");
    report.speed_goal(text, growth <= 32.0);
    let growth = growth_mib(after, base);
    let text = format!("the empty process grows by at most 32 MiB ({growth:.1})");
    report.speed_goal(text, growth <= 32.0);
    Ok(vec![report])
}

/// Writes the manifests: a folder for each 100 Ingresses, a file for each.
fn write(path: &Path, size: Size) -> Result<()> {
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
        let service = ingress % size.services;
        let namespace = format!("team-{}", service % namespaces(size));
        let (name, host) = (format!("app-{ingress}"), host(ingress));
        let service = format!("service-{service}");
        let paths = [("/".to_owned(), service.as_str())];
        let text = manifest::ingress(&namespace, &name, &host, &paths, None);
        folder.save(&format!("{namespace}/{name}.yaml"), &text)?;
    }
    Ok(())
}

fn namespaces(size: Size) -> usize {
    (size.services / 10).max(1)
}

fn host(ingress: usize) -> String {
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

fn row(report: &mut Report, name: &str, usage: Usage, base: Usage) {
    let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
    let growth = format!("{:.1}", growth_mib(usage, base));
    report.row([name.to_owned(), mib(usage.rss_kib), mib(usage.pss_kib), growth]);
}

fn growth_mib(usage: Usage, base: Usage) -> f64 {
    (usage.rss_kib as f64 - base.rss_kib as f64) / 1024.0
}
