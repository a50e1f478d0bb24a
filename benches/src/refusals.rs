//! What a connection costs that comes above the limit, beside one that is served.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kubeng_harness::backend::Backend;
use kubeng_harness::cores;
use kubeng_harness::process::{Kubeng, Launch};

use crate::asking::{HOST, write_site};
use crate::program::Setting;
use crate::raw;
use crate::report::Report;
use crate::samples::median;

pub(crate) async fn run(setting: &Setting) -> Result<Vec<Report>> {
    let backend = Backend::start("app").await?;
    let folder = tempfile::tempdir()?;
    write_site(folder.path(), &[backend.address])?;
    let scripts = tempfile::tempdir()?;
    let few_files = with_few_files(scripts.path(), &setting.kubeng)?;
    let make = || {
        let launch = Launch::new(&few_files).arg("--workers").arg("1").arg("--drain").arg("1");
        launch.manifests(folder.path()).on_core(setting.proxy_core())
    };
    let kubeng = Launch::start_until_ready(make, Duration::from_secs(30)).await?;
    let rounds = setting.pick(8, 2);
    let (mut served, mut refused) = (Vec::new(), Vec::new());
    let mut open_failed = 0;
    for _ in 0..rounds {
        served.push(cost(&kubeng, setting, Deed::Ask).await?);
        let mut held = fill(kubeng.http).await?;
        refused.push(cost(&kubeng, setting, Deed::BeRefused).await?);
        open_failed += held.iter_mut().filter_map(|one| one.ask(&request()).err()).count();
        drop(held);
        until_free(kubeng.http).await?;
    }
    let title = format!("refusals: {FILES} files, a connection above the limit, {rounds} rounds");
    let head = ["connection", "CPU us, median", "least..greatest", "ratio"];
    let mut report = Report::new(&title, head);
    let base = median(&served);
    for (name, values) in [("new, one request", &served), ("refused", &refused)] {
        let [least, greatest] = [f64::min as fn(f64, f64) -> f64, f64::max]
            .map(|pick| values.iter().copied().reduce(pick).unwrap_or_default());
        let middle = median(values);
        report.row([
            name.into(),
            format!("{middle:.1}"),
            format!("{least:.1}..{greatest:.1}"),
            format!("{:.2}", middle / base),
        ]);
    }
    let ratio = median(&refused) / base;
    report.speed_goal(format!("at most half of one that is served ({ratio:.2})"), ratio <= 0.5);
    let text = format!("0 of the open connections fail meanwhile ({open_failed} did)");
    report.goal(text, open_failed == 0);
    Ok(vec![report])
}

/// A script that starts the program with a low limit of open files, from which its own limits follow.
fn with_few_files(folder: &Path, kubeng: &Path) -> Result<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let script = folder.join("few-files");
    let text = format!("#!/bin/sh\nulimit -n {FILES}\nexec '{}' \"$@\"\n", kubeng.display());
    std::fs::write(&script, text)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// Opens connections, each of which has had an answer, until one is refused.
async fn fill(to: SocketAddr) -> Result<Vec<raw::Connection>> {
    let fill = move || {
        let mut held = Vec::new();
        while held.len() < FILES {
            let mut one = raw::Connection::open(to)?;
            match one.ask(&request()) {
                Ok(answer) => ensure!(answer.status == 200, "status {}", answer.status),
                Err(_) => return Ok(held),
            }
            held.push(one);
        }
        anyhow::bail!("none of {FILES} connections is refused")
    };
    tokio::task::spawn_blocking(fill).await?
}

/// Waits until connections are taken again.
async fn until_free(to: SocketAddr) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(10);
    let is_free =
        move || raw::Connection::open(to).and_then(|mut one| one.ask(&request()).map(drop));
    while tokio::task::spawn_blocking(is_free).await?.is_err() {
        ensure!(Instant::now() < until, "no connection is taken after the others have gone");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// What is done with a new connection.
#[derive(Clone, Copy)]
enum Deed {
    Ask,
    BeRefused,
}

/// CPU of the program for one connection, in microseconds.
async fn cost(kubeng: &Kubeng, setting: &Setting, deed: Deed) -> Result<f64> {
    let duration = setting.pick(Duration::from_secs(2), Duration::from_millis(300));
    let (to, core) = (kubeng.http, setting.load_core());
    let before = kubeng.usage()?.cpu;
    let work = move || {
        cores::on_core(core, || {
            let until = Instant::now() + duration;
            let mut count = 0_u32;
            while Instant::now() < until {
                once(to, deed)?;
                count += 1;
            }
            Ok::<_, anyhow::Error>(count)
        })
    };
    let count = tokio::task::spawn_blocking(work).await??;
    let used = kubeng.usage()?.cpu.checked_sub(before).context("time went back")?;
    ensure!(count > 0, "no connection was made");
    Ok(used.as_secs_f64() * 1e6 / f64::from(count))
}

fn once(to: SocketAddr, deed: Deed) -> Result<()> {
    let mut tcp = TcpStream::connect(to)?;
    tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut space = [0; 4096];
    match deed {
        Deed::Ask => {
            let head = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
            tcp.write_all(head.as_bytes())?;
            while tcp.read(&mut space)? > 0 {}
        }
        // The end, or a reset.
        Deed::BeRefused => ensure!(tcp.read(&mut space).unwrap_or(0) == 0, "it was not refused"),
    }
    Ok(())
}

fn request() -> Vec<u8> {
    raw::request(HOST, "/")
}

/// The limit of open files of the program.
const FILES: usize = 1024;
