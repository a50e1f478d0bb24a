//! `kubeng controller`: translates for any number of fleets, whose replicas are other processes.

use std::path::PathBuf;

use clap::Args;

use super::Finding;
use crate::settings::controller::GivenController;
use crate::{telemetry, wiring};

/// Tell the replicas of all fleets what to serve, by what manifests or a cluster say.
#[derive(Debug, Args)]
#[command(after_help = "Every flag can also be given as the environment variable that stands \
                        beside it, or as a line of the settings file; flags win over the \
                        environment, and that over the file.")]
pub(super) struct Controller {
    /// Settings file in TOML
    #[arg(long, value_name = "FILE", env = "KUBENG_SETTINGS")]
    settings: Option<PathBuf>,
    #[command(flatten)]
    given: GivenController,
}

impl Controller {
    pub(super) fn run(self) -> anyhow::Result<Finding> {
        let given = match &self.settings {
            Some(path) => self.given.with_file(path)?,
            None => self.given,
        };
        let settings = given.settle()?;
        let _log = telemetry::start(settings.common.log_format);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("control")
            .enable_all()
            .build()?;
        runtime.block_on(wiring::controller::serve(settings))?;
        Ok(Finding::Fine)
    }
}
