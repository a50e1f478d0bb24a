//! Rolling upgrades of what is behind: each endpoint is marked, then stopped: no failed request.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kubeng_harness::backend::{Backend, canned};
use kubeng_harness::process::Launch;

use crate::asking::{Asking, DEFAULT_CERTIFICATE, Front, write_site};
use crate::manifest::Folder;
use crate::program::Setting;
use crate::report::Report;

pub(crate) async fn run(setting: &Setting) -> Result<Vec<Report>> {
    let mut running = start_first().await?;
    let port = running.first().context("there are endpoints")?.address.port();
    let folder = tempfile::tempdir()?;
    let addresses: Vec<_> = running.iter().map(|backend| backend.address).collect();
    let manifests = write_site(folder.path(), &addresses)?;
    save(&manifests, &running, &[])?;
    let make = || {
        let launch = setting.launch().manifests(folder.path());
        launch.arg("--default-certificate").arg(DEFAULT_CERTIFICATE)
    };
    let kubeng = Launch::start_until_ready(make, Duration::from_secs(30)).await?;
    let asking = Asking::start(Front::of(&kubeng));
    let rollouts = setting.count(50, 2);
    let began = Instant::now();
    for rollout in 0..rollouts {
        for first in (0..ENDPOINTS).step_by(usize::from(AT_A_TIME)) {
            let mut leaving = Vec::new();
            for number in first..ENDPOINTS.min(first + AT_A_TIME) {
                let next = start_at(rollout + 1, number, port).await?;
                let one = running.get_mut(usize::from(number)).context("there are as many")?;
                leaving.push(std::mem::replace(one, next));
            }
            save(&manifests, &running, &leaving)?;
            // The hook of a Pod waits seconds; here it is propagation, and the requests in flight.
            tokio::time::sleep(MARKED).await;
            save(&manifests, &running, &[])?;
            // They end with their connections, also those that wait in a pool.
            drop(leaving);
        }
    }
    let took = began.elapsed().as_secs();
    let title =
        format!("rollouts: {rollouts} rolling upgrades of {ENDPOINTS} endpoints, under load");
    let mut report = Report::new(&title, Asking::HEAD);
    asking.end(&mut report).await?;
    let asked = running.iter().filter(|backend| backend.requests() > 0).count();
    report.note(format!("it took {took} s; an endpoint is stopped {MARKED:?} after it was marked"));
    report.goal(
        format!("the endpoints of the last rollout are asked ({asked} of {ENDPOINTS})"),
        asked == usize::from(ENDPOINTS),
    );
    Ok(vec![report])
}

/// The first generation, on a port that is free on all addresses of both.
async fn start_first() -> Result<Vec<Backend>> {
    let mut last = None;
    for _ in 0..10 {
        let mut all = vec![start_at(0, 0, 0).await?];
        let port = all[0].address.port();
        for number in 1..ENDPOINTS {
            match start_at(0, number, port).await {
                Ok(backend) => all.push(backend),
                Err(error) => last = Some(error),
            }
        }
        if all.len() == usize::from(ENDPOINTS) {
            return Ok(all);
        }
    }
    Err(last.context("no port is free")?)
}

/// Endpoint `number` of a generation; every other generation has the same addresses.
async fn start_at(generation: usize, number: u8, port: u16) -> Result<Backend> {
    let half = u8::from(!generation.is_multiple_of(2));
    let address = SocketAddr::new(IpAddr::from([127, 0, 10 + half, 1 + number]), port);
    Backend::start_with(&format!("{generation}-{number}"), address, canned).await
}

/// Saves the slice: all of `ready`, and those that end.
fn save(folder: &Folder, ready: &[Backend], ending: &[Backend]) -> Result<()> {
    let port = ready.first().map_or(0, |backend| backend.address.port());
    let mut text = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata:\n  name: app-1\n  namespace: bench\n  \
         labels: {{ kubernetes.io/service-name: app }}\n\
         addressType: IPv4\nports: [{{ name: http, port: {port}, protocol: TCP }}]\nendpoints:\n"
    );
    let line = |backend: &Backend, conditions: &str| {
        format!(
            "  - {{ addresses: [\"{}\"], conditions: {{ {conditions} }} }}\n",
            backend.address.ip()
        )
    };
    for backend in ready {
        text += &line(backend, "ready: true, serving: true, terminating: false");
    }
    for backend in ending {
        text += &line(backend, "ready: false, serving: true, terminating: true");
    }
    folder.save("slice.yaml", &text)?;
    Ok(())
}

const ENDPOINTS: u8 = 20;
/// Endpoints that are exchanged together.
const AT_A_TIME: u8 = 5;
/// From the mark to the end: far more than propagation takes, on a busy machine, too.
const MARKED: Duration = Duration::from_millis(300);
