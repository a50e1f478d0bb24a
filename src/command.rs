//! The list of commands; one file each.

mod compare;
mod completions;
mod controller;
mod demo;
mod diff;
mod drift;
mod explain;
mod export;
mod fleet;
mod load;
mod man;
mod proxy;
mod remote;
mod replica;
mod run;
mod say;
mod token;
mod upgrade;
mod validate;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Ingress layer of a multi-tenant container platform.
#[derive(Debug, Parser)]
#[command(name = "kubeng", version, max_term_width = 100)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve traffic by what manifests or a cluster say: all roles in one process
    Run(Box<run::Run>),
    /// Tell the replicas of all fleets what to serve, by what manifests or a cluster say
    Controller(Box<controller::Controller>),
    /// Serve what controllers say: one replica of a fleet
    Proxy(Box<proxy::Proxy>),
    /// Start sample services and serve them from a scratch folder of sample manifests
    Demo(demo::Demo),
    /// Check manifests and say what is wrong with them
    Validate(validate::Validate),
    /// Say which rule would serve a request, and why each other one lost
    Explain(explain::Explain),
    /// Show in what two configurations differ
    Diff(diff::Diff),
    /// Write the effective configuration, without secrets
    Export(export::Export),
    /// Show the fleets of a controller
    Fleet(fleet::Fleet),
    /// Show how replicas are, and what they run
    Replica(replica::Replica),
    /// Show in what replicas differ, from each other or from what they should serve
    Compare(compare::Compare),
    /// Show deviations of replicas, and do something about them
    Drift(drift::Drift),
    /// Exchange the program of a running process under load, and wait until the next one serves
    Upgrade(upgrade::Upgrade),
    /// Make tokens that replicas join a fleet with
    Token(token::Token),
    /// Print the completions of a shell
    Completions(completions::Completions),
    /// Print the manual page
    Man(man::Man),
}

/// How a command writes what programs may read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What a command found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Finding {
    /// All is well: exit code 0.
    Fine,
    /// Something is wrong with what was asked about, or differs: exit code 1.
    Problems,
}

/// Runs the command of the command line. Wrong usage ends with 2.
pub(crate) fn run() -> ExitCode {
    let line = CommandLine::parse();
    let result = match line.command {
        Command::Run(command) => command.run(),
        Command::Controller(command) => command.run(),
        Command::Proxy(command) => command.run(),
        Command::Demo(command) => command.run(),
        Command::Validate(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Diff(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Fleet(command) => command.run(),
        Command::Replica(command) => command.run(),
        Command::Compare(command) => command.run(),
        Command::Drift(command) => command.run(),
        Command::Upgrade(command) => command.run(),
        Command::Token(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    };
    match result {
        Ok(Finding::Fine) => ExitCode::SUCCESS,
        Ok(Finding::Problems) => ExitCode::from(1),
        Err(error) => {
            // Nobody may read it any more.
            let _ = writeln!(std::io::stderr(), "kubeng: {error:#}");
            ExitCode::from(2)
        }
    }
}
