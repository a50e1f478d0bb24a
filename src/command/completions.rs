//! `kubeng completions`: from the same definitions as the command line itself.

use clap::{Args, CommandFactory};

use super::{CommandLine, Finding};

/// Print the completions of a shell.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

impl Completions {
    pub(super) fn run(self) -> anyhow::Result<Finding> {
        let mut command = CommandLine::command();
        clap_complete::generate(self.shell, &mut command, "kubeng", &mut std::io::stdout());
        Ok(Finding::Fine)
    }
}
