//! `kubeng validate`: everything that is wrong, in one run.

use std::path::PathBuf;

use clap::Args;
use kubeng_config::problem::Severity;
use kubeng_controller::control::ControlState;

use super::load::{self, Reading};
use super::say::say_line;
use super::{Finding, Output};

/// Check manifests and say what is wrong with them: for every Fleet that they describe, or without one
/// for what `kubeng run` serves.
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
        let loaded = load::load_all(&self.paths, &self.reading)?;
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
                let routes_of = |state: &ControlState| state.snapshot().routes().len();
                if loaded.states().nth(1).is_some() {
                    for state in loaded.states() {
                        say_line(format_args!(
                            "fleet {}: {} routes",
                            state.fleet(),
                            routes_of(state)
                        ))?;
                    }
                }
                let routes: usize = loaded.states().map(routes_of).sum();
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
