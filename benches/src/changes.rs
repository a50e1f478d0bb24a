//! 1,000 changes while clients ask: no failed request, no closed connection, no wrong backend.

mod ledger;
mod site;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use kubeng_harness::backend::Backend;
use kubeng_harness::client::{Client, Counts, REQUESTS_MAX};
use kubeng_harness::process::{Kubeng, Launch};
use tokio::task::JoinSet;

use crate::manifest::{CertificatePair, Folder};
use crate::program::Setting;
use crate::report::Report;
use crate::samples::millis;
use ledger::{Ledger, STALE_MAX, Seen};
use site::{BACKENDS, DEFAULT_CERTIFICATE, Ground, Site};

/// What the clients of one protocol saw.
#[derive(Clone, Debug, Default)]
struct Tally {
    counts: Counts,
    not_ok: u64,
    illegal: u64,
    /// The first thing that was wrong.
    example: Option<String>,
}

/// What changes and clients share about one site.
struct Shared {
    site: Site,
    ledger: Mutex<Ledger>,
}

pub(crate) async fn run(setting: &Setting) -> Result<Vec<Report>> {
    let names: Vec<String> = (0..BACKENDS).map(|at| at.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let backends = Backend::start_group(&names).await?;
    let folder = tempfile::tempdir()?;
    let ground = Ground {
        folder: Folder::new(folder.path()),
        backends: backends.iter().map(|backend| backend.address).collect(),
        certificates: [
            CertificatePair::make("*.bench.example")?,
            CertificatePair::make("*.bench.example")?,
        ],
    };
    ground.prepare()?;
    let make = || {
        let launch = setting.launch().manifests(folder.path());
        launch.arg("--default-certificate").arg(DEFAULT_CERTIFICATE)
    };
    let mut kubeng = Launch::start_until_ready(make, Duration::from_secs(30)).await?;

    let started = Instant::now();
    let open = |site: Site| {
        Arc::new(Shared { site, ledger: Mutex::new(Ledger::new(started, site.legal(0))) })
    };
    let sites = Site::ALL.map(open);
    let is_over = Arc::new(AtomicBool::new(false));
    let mut clients = start_clients(&sites, &kubeng, &is_over)?;
    let changes = setting.count(1_000, 80);
    let rotations = change(&ground, &sites, kubeng.https, changes).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    is_over.store(true, Ordering::Relaxed);
    let mut tallies = [Tally::default(), Tally::default()];
    while let Some(done) = clients.join_next().await {
        let (is_tls, tally) = done?;
        tallies[usize::from(is_tls)].add(tally);
    }
    let took = started.elapsed();
    kubeng.terminate()?;
    let ended = kubeng.wait_for_end(Duration::from_secs(20)).await?;
    let mut report = of_requests(changes, took, &tallies);
    report.goal(
        format!("it ends with exit code 0 on SIGTERM (it ended with {ended})"),
        ended.success(),
    );
    Ok(vec![report, of_sites(&sites, rotations)])
}

/// Makes the changes, one after the other at an even pace, and says which rotations were seen.
async fn change(
    ground: &Ground,
    sites: &[Arc<Shared>],
    https: SocketAddr,
    changes: usize,
) -> Result<Seen> {
    let mut pace = tokio::time::interval(BETWEEN_CHANGES);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut rotations = Seen::default();
    for number in 0..changes {
        pace.tick().await;
        let shared = &sites[number % sites.len()];
        let turn = number / sites.len() + 1;
        let legal = shared.site.legal(turn);
        // Before the save: it may be served the moment the file is in place.
        shared.ledger().change(Instant::now(), legal);
        ground.write(shared.site, turn)?;
        if shared.site == Site::Secret {
            rotations.visible += 1;
            let wanted = &ground.certificates[turn % 2].der;
            rotations.seen += usize::from(is_presented(https, wanted).await);
        }
    }
    Ok(rotations)
}

/// Whether a new connection gets this certificate in time.
async fn is_presented(https: SocketAddr, wanted: &[u8]) -> bool {
    let until = Instant::now() + STALE_MAX;
    let host = Site::Secret.host();
    while Instant::now() < until {
        let Ok(mut client) = Client::tls(https, &host) else { return false };
        if client.get(&host, "/").await.is_ok()
            && client.certificate().is_some_and(|presented| presented.as_ref() == wanted)
        {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    false
}

fn start_clients(
    sites: &[Arc<Shared>],
    kubeng: &Kubeng,
    is_over: &Arc<AtomicBool>,
) -> Result<JoinSet<(bool, Tally)>> {
    let mut clients = JoinSet::new();
    for shared in sites {
        for _ in 0..CLIENTS_EACH {
            let plain = Client::plain(kubeng.http);
            let tls = Client::tls(kubeng.https, &shared.site.host())?;
            for (is_tls, client) in [(false, plain), (true, tls)] {
                let (shared, is_over) = (Arc::clone(shared), Arc::clone(is_over));
                clients.spawn(async move { (is_tls, ask(client, &shared, &is_over).await) });
            }
        }
    }
    Ok(clients)
}

/// Asks one site again and again over one connection.
async fn ask(mut client: Client, shared: &Shared, is_over: &AtomicBool) -> Tally {
    let host = shared.site.host();
    let mut tally = Tally::default();
    while !is_over.load(Ordering::Relaxed) {
        let sent = Instant::now();
        match client.get(&host, shared.site.path()).await {
            Err(error) => tally.remember(|| format!("{host}: {error:#}")),
            Ok(answer) if answer.status != 200 => {
                tally.not_ok += 1;
                tally.remember(|| format!("{host}: status {}", answer.status));
            }
            Ok(answer) => {
                let backend = answer.backend().and_then(|name| name.parse().ok());
                let judge = |backend| shared.ledger().judge(sent, Instant::now(), backend);
                if !backend.is_some_and(judge) {
                    tally.illegal += 1;
                    tally.remember(|| format!("{host}: answered by backend {backend:?}"));
                }
            }
        }
        tokio::time::sleep(BETWEEN_REQUESTS).await;
    }
    tally.counts = client.counts().await;
    tally
}

impl Shared {
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn remember(&mut self, text: impl FnOnce() -> String) {
        self.example.get_or_insert_with(text);
    }

    fn add(&mut self, other: Self) {
        let Self { counts, not_ok, illegal, example } = other;
        self.counts += counts;
        self.not_ok += not_ok;
        self.illegal += illegal;
        self.example = self.example.take().or(example);
    }
}

fn of_requests(changes: usize, took: Duration, tallies: &[Tally; 2]) -> Report {
    let title = format!("changes: {changes} in {:.0} s, under load", took.as_secs_f64());
    let head = [
        "client",
        "sent",
        "200, right backend",
        "other status",
        "wrong backend",
        "failed",
        "connections",
        "closed",
        "of age",
    ];
    let mut report = Report::new(&title, head);
    let mut all = Tally::default();
    for (name, tally) in ["HTTP/1.1", "HTTPS"].iter().zip(tallies) {
        let Tally { counts, not_ok, illegal, example } = tally;
        let right = counts.answered - not_ok - illegal;
        let Counts { sent, failed, opened, closed, retired, answered: _ } = *counts;
        let figures = [sent, right, *not_ok, *illegal, failed, opened, closed, retired];
        let figures = figures.map(|figure| figure.to_string());
        report.row([(*name).to_owned()].into_iter().chain(figures));
        if let Some(example) = example {
            report.note(format!("{name}: {example}"));
        }
        all.add(tally.clone());
    }
    let Tally { counts, not_ok, illegal, example: _ } = all;
    report.note(format!(
        "a connection ends after {REQUESTS_MAX} requests, between two of them: \"of age\""
    ));
    report.goal("every request is accounted for", counts.sent == counts.answered + counts.failed);
    let wrong = counts.failed + not_ok + illegal;
    report.goal(format!("0 failed requests ({wrong} were)"), wrong == 0 && counts.sent > 0);
    let closed = counts.closed;
    report.goal(format!("0 closed keep-alive connections ({closed} were)"), closed == 0);
    report
}

fn of_sites(sites: &[Arc<Shared>], rotations: Seen) -> Report {
    let head = ["change", "visible to clients", "seen by them", "longest stale answer ms"];
    let mut report = Report::new("changes: whether they took effect", head);
    let mut all = Seen::default();
    for shared in sites {
        let ledger = shared.ledger();
        let seen = if shared.site == Site::Secret { rotations } else { ledger.seen() };
        let (name, stale) = (shared.site.name().to_owned(), millis(ledger.stale_max));
        report.row([name, seen.visible.to_string(), seen.seen.to_string(), stale]);
        all.visible += seen.visible;
        all.seen += seen.seen;
    }
    let Seen { visible, seen } = all;
    let text =
        format!("9 of 10 visible changes are seen before the next one ({seen} of {visible})");
    report.goal(text, visible > 0 && seen * 10 >= visible * 9);
    report
}

/// Each site changes every eighth time.
const BETWEEN_CHANGES: Duration = Duration::from_millis(20);
const BETWEEN_REQUESTS: Duration = Duration::from_millis(4);
/// Clients of each site and protocol.
const CLIENTS_EACH: usize = 2;
