//! `kubeng run`: all roles in one process.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use super::Finding;
use crate::settings::Settings;
use crate::settings::given::Given;
use crate::settings::home::{GivenHome, Home};
use crate::{telemetry, wiring};

/// Serve traffic by what manifests or a cluster say: all roles in one process.
#[derive(Debug, Args)]
#[command(after_help = "Every flag can also be given as the environment variable that stands \
                        beside it, or as a line of the settings file; flags win over the \
                        environment, and that over the file.")]
pub(super) struct Run {
    /// Settings file in TOML
    #[arg(long, value_name = "FILE", env = "KUBENG_SETTINGS")]
    settings: Option<PathBuf>,
    #[command(flatten)]
    home: GivenHome,
    #[command(flatten)]
    given: Given,
}

impl Run {
    pub(super) fn run(self) -> anyhow::Result<Finding> {
        let (home, given) = match &self.settings {
            Some(path) => self.home.with_file(self.given, path)?,
            None => (self.home, self.given),
        };
        let (settings, home) = home.settle(given)?;
        if settings.manifests.is_empty() && settings.kubernetes.is_none() {
            bail!("nothing to serve: say --manifests DIR, --kubernetes, or both; see kubeng demo");
        }
        let _log = telemetry::start(settings.log_format);
        serve(settings, home)?;
        Ok(Finding::Fine)
    }
}

/// Serves on a runtime of its own; requests are served by threads of the proxy.
pub(super) fn serve(settings: Settings, home: Option<Home>) -> anyhow::Result<()> {
    on_runtime(wiring::serve(settings, home))
}

/// Runs a role on a runtime of its own.
pub(super) fn on_runtime(role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()?;
    runtime.block_on(role)
}

/// One for the loop of the controller, one for everything beside it.
const CONTROL_THREADS: usize = 2;
