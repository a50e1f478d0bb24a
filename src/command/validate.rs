//! `kubeng validate`: everything that is wrong, in one run.

use std::path::PathBuf;

use clap::Args;
use kubeng_config::problem::Severity;

use super::load::{self, Reading};
use super::say::say_line;
use super::{Finding, Output};

/// Check manifests and say what is wrong with them.
#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 nothing is wrong, 1 problems were found, 2 wrong usage.")]
pub(super) struct Validate {
    /// Files or folders
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    /// End with 0 when there are warnings only
    #[arg(long)]
    allow_warnings: bool,
    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Validate {
    pub(super) fn run(self) -> anyhow::Result<Finding> {
        let loaded = load::load(&self.paths, &self.reading)?;
        let problems = loaded.problems();
        let errors =
            problems.iter().filter(|problem| problem.severity() == Severity::Error).count();
        let warnings = problems.len() - errors;
        match self.output {
            Output::Json => say_line(serde_json::to_string_pretty(problems)?)?,
            Output::Text => {
                for problem in problems {
                    say_line(format_args!("{problem}"))?;
                }
                let routes = loaded.snapshot().routes().len();
                say_line(format_args!("{routes} routes, {errors} errors, {warnings} warnings"))?;
            }
        }
        if errors > 0 || (warnings > 0 && !self.allow_warnings) {
            Ok(Finding::Problems)
        } else {
            Ok(Finding::Fine)
        }
    }
}
