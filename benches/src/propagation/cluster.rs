//! The same against a real API server, in a network namespace of its own.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kubeng_harness::backend::{Backend, canned};
use kubeng_harness::process::Launch;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::store::{Color, Place, Store};
use super::{measure, report, routes};
use crate::program::{Setting, workspace};
use crate::report::Report;

/// Runs this program again beside an API server, or says why that cannot be.
///
/// API servers refuse endpoints on loopback, so it runs where other addresses are local.
pub(crate) fn enter(setting: &Setting) -> Result<Report> {
    let kubebox = match kubebox(setting)? {
        Ok(kubebox) => kubebox,
        Err(reason) => return Ok(skipped(&reason)),
    };
    let mut command = Command::new(workspace().join("tests/cluster/netns.sh"));
    command.args(["bench-propagation", ADDRESSES, "--"]).arg(env::current_exe()?);
    command.arg("propagation-in-cluster").args(setting.is_quick.then_some("--quick"));
    command.env("KUBEBOX", kubebox).env("KUBENG", &setting.kubeng);
    let ended = command.status()?;
    if is_skip(ended) {
        return Ok(skipped("there can be no network namespace"));
    }
    let mut report = Report::new(TITLE, ["exit code of the part with an API server"]);
    report.row([ended.code().map_or_else(|| "none".to_owned(), |code| code.to_string())]);
    report.goal("it meets its goals, see above", ended.success());
    Ok(report)
}

/// Measures; to be called within the namespace that [`enter`] makes.
pub(crate) async fn run(setting: &Setting) -> Result<Vec<Report>> {
    let kubebox = env::var_os("KUBEBOX").context("KUBEBOX names no program")?;
    let start = |color: Color, last| {
        Backend::start_with(color.name(), ([10, 50, 0, last], 0).into(), canned)
    };
    let (red, blue) = (start(Color::Red, 1).await?, start(Color::Blue, 2).await?);
    let scratch = tempfile::tempdir()?;
    let mut command = tokio::process::Command::new(kubebox);
    command.args(["up", "--controllers", "none", "--dir"]).arg(scratch.path());
    // It ends when its standard input does, at the latest with this process.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut server = command.spawn()?;
    let output = server.stdout.take().context("no output")?;
    let mut lines = BufReader::new(output).lines();
    let greeting = tokio::time::timeout(START_WITHIN, lines.next_line()).await;
    let greeting = greeting.context("the API server does not start")??;
    let greeting: serde_json::Value =
        serde_json::from_str(&greeting.context("the API server ended at once")?)?;
    let kubeconfig = greeting["kubeconfig"].as_str().context("no kubeconfig")?;

    let place = Place { routes: routes(setting), red: red.address, blue: blue.address };
    let store = Store::cluster(client(kubeconfig).await?, place);
    store.fill().await?;
    let make = || setting.launch().bare().arg("--kubernetes").arg("--kubeconfig").arg(kubeconfig);
    let mut kubeng = Launch::start_until_ready(make, START_WITHIN).await?;
    let phases = measure(setting, &store, &kubeng).await?;
    kubeng.terminate()?;
    kubeng.wait_for_end(Duration::from_secs(20)).await?;
    let title = format!("propagation: a write to an API server, {} routes", place.routes);
    Ok(vec![report(&title, "write, its answer", phases)])
}

async fn client(kubeconfig: &str) -> Result<Client> {
    // Another part may have chosen before; then it stays with that choice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let file = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// The program with the API server: given, or built; or why there is none.
fn kubebox(setting: &Setting) -> Result<Result<PathBuf, String>> {
    if let Some(given) = env::var_os("KUBEBOX") {
        return Ok(Ok(PathBuf::from(given)));
    }
    if setting.is_quick {
        return Ok(Err("--quick builds no API server; KUBEBOX=PATH names one".to_owned()));
    }
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| OsString::from("target"));
    let folder = workspace().join(target).join("kubebox");
    std::fs::create_dir_all(&folder)?;
    let kubebox = folder.join("kubebox");
    let mut build = Command::new(workspace().join("tests/cluster/build.sh"));
    let built = build.arg(&kubebox).stderr(Stdio::inherit()).output()?;
    if is_skip(built.status) {
        return Ok(Err(String::from_utf8_lossy(&built.stdout).trim().to_owned()));
    }
    if !built.status.success() {
        bail!("the API server does not build: {}", built.status);
    }
    Ok(Ok(kubebox))
}

/// Exit code 77: it cannot run here, and has said why.
fn is_skip(status: ExitStatus) -> bool {
    status.code() == Some(77)
}

fn skipped(reason: &str) -> Report {
    let mut report = Report::new(TITLE, ["skipped"]);
    report.row([reason.to_owned()]);
    report
}

const TITLE: &str = "propagation: a write to an API server";
const ADDRESSES: &str = "10.50.0.1..2";
const START_WITHIN: Duration = Duration::from_secs(120);
