//! `kubeng man`: the manual, from the same definitions as the command line itself.

use std::io::Write as _;

use clap::{Arg, Args, CommandFactory};

use super::{CommandLine, Finding};

/// Print the manual page.
#[derive(Debug, Args)]
pub(super) struct Man {
    /// The command that the page is about; the whole program if absent
    command: Option<String>,
}

impl Man {
    pub(super) fn run(self) -> anyhow::Result<Finding> {
        let mut program = CommandLine::command();
        program.build();
        let page = match &self.command {
            None => program,
            Some(name) => program
                .find_subcommand(name)
                .cloned()
                .ok_or_else(|| anyhow::anyhow!("there is no command {name:?}; see kubeng help"))?
                .display_name(format!("kubeng-{name}")),
        };
        let mut text = Vec::new();
        clap_mangen::Man::new(page.mut_args(with_environment)).render(&mut text)?;
        std::io::stdout().write_all(&text)?;
        Ok(Finding::Fine)
    }
}

/// Names the environment variable of a flag, which the generator leaves out.
fn with_environment(flag: Arg) -> Arg {
    let Some(variable) = flag.get_env().map(|name| name.to_string_lossy().into_owned()) else {
        return flag;
    };
    let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
    flag.help(format!("{help} [env: {variable}]"))
}
