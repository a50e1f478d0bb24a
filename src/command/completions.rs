//! `kubeng completions`: from the same definitions as the command line itself.

use clap::{Args, CommandFactory};

use super::say::say;
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
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut command, "kubeng", &mut text);
        say(String::from_utf8_lossy(&text))?;
        Ok(Finding::Fine)
    }
}
