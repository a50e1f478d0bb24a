//! The program under test, and the cores it is measured on.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use kubeng_harness::client::{Answer, Client};
use kubeng_harness::cores;
use kubeng_harness::process::{Kubeng, Launch};

/// What all benchmarks share.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The program.
    pub(crate) kubeng: PathBuf,
    /// Whether to show only that it works.
    pub(crate) is_quick: bool,
    /// How often something is done, where that was asked for.
    pub(crate) count: Option<usize>,
    /// The core of what is measured, and that of the load; none where there is only one.
    pub(crate) cores: Option<[usize; 2]>,
}

impl Setting {
    /// Takes the program that `KUBENG` names, or builds that of the workspace.
    pub(crate) fn find(is_quick: bool, count: Option<usize>) -> Result<Self> {
        let kubeng = match env::var_os("KUBENG") {
            Some(program) => PathBuf::from(program),
            None => build()?,
        };
        ensure!(kubeng.is_file(), "there is no program {}", kubeng.display());
        let cores = match cores::usable().as_slice() {
            [first, second, ..] => Some([*first, *second]),
            _ => None,
        };
        Ok(Self { kubeng: kubeng.canonicalize()?, is_quick, count, cores })
    }

    /// `full`, or `quick` if that is asked for.
    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.is_quick { quick } else { full }
    }

    /// How often something is done: as asked for, or `full`, or `quick`.
    pub(crate) fn count(&self, full: usize, quick: usize) -> usize {
        self.count.unwrap_or_else(|| self.pick(full, quick))
    }

    /// How to start the program with one worker.
    pub(crate) fn launch(&self) -> Launch {
        Launch::new(&self.kubeng).arg("--workers").arg("1").arg("--drain").arg("1")
    }

    /// Starts it with one worker on `folder`, and waits until it is ready.
    pub(crate) async fn start(&self, folder: &Path, core: Option<usize>) -> Result<Kubeng> {
        let make = || self.launch().manifests(folder).on_core(core);
        Launch::start_until_ready(make, READY_WITHIN).await
    }

    pub(crate) fn proxy_core(&self) -> Option<usize> {
        self.cores.map(|[proxy, _]| proxy)
    }

    pub(crate) fn load_core(&self) -> Option<usize> {
        self.cores.map(|[_, load]| load)
    }
}

/// Builds the program with the profile of this one, beside which it then lies.
fn build() -> Result<PathBuf> {
    let ours = env::current_exe()?;
    let folder = ours.parent().context("this program lies in no folder")?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "kubeng", "--bin", "kubeng"]);
    command.arg("--manifest-path").arg(workspace().join("Cargo.toml"));
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    ensure!(command.status()?.success(), "kubeng does not build; KUBENG=PATH names another one");
    Ok(folder.join("kubeng"))
}

/// Asks over and over until the answer is the one that is wanted.
pub(crate) async fn until_answered(
    to: SocketAddr,
    host: &str,
    path: &str,
    is_wanted: impl Fn(&Answer) -> bool,
) -> Result<()> {
    let mut client = Client::plain(to);
    let until = Instant::now() + READY_WITHIN;
    while Instant::now() < until {
        if client.get(host, path).await.is_ok_and(|answer| is_wanted(&answer)) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("{host}{path} is not served after {READY_WITHIN:?}")
}

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The longest wait until it is ready, 50,000 routes included.
const READY_WITHIN: Duration = Duration::from_secs(120);
