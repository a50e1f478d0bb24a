//! Benchmarks of the running program. `README.md` beside this says what each measures.
#![allow(clippy::print_stdout, reason = "the tables are what this program is for")]

mod asking;
mod changes;
mod drains;
mod fleet;
mod leader_kills;
mod lookup;
mod manifest;
mod memory;
mod peers;
mod program;
mod propagation;
mod raw;
mod refusals;
mod report;
mod rollouts;
mod rows;
mod samples;
mod upgrades;
#[allow(dead_code, reason = "its main is for when it is a program of its own")]
#[path = "../peers/upstream.rs"]
mod upstream;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use program::Setting;
use report::Report;

/// Measures Kubeng on loopback and prints small tables
///
/// Exits 0 if all goals are met, 1 if one is missed or nothing could be measured.
#[derive(Parser)]
#[command(about, long_about)]
struct Arguments {
    /// What to measure
    name: Name,
    /// Only shows that it works: short, and figures of speed are not judged
    #[arg(long)]
    quick: bool,
    /// How many changes, upgrades, drains, rollouts or kills, in place of the usual number
    #[arg(long)]
    count: Option<usize>,
}

#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
enum Name {
    /// Requests and connections over 1,000 changes
    Changes,
    /// Time from a saved manifest to the first answer by it
    Propagation,
    /// Memory of 5,000 routes
    Memory,
    /// Cost of a request at 10 and at 50,000 routes
    Lookup,
    /// Throughput beside nginx, Envoy and others
    Peers,
    /// HTTPS keep-alive beside nginx and others
    Https,
    /// HTTP/2 over TLS beside nginx and others
    Http2,
    /// CPU of a new TLS connection beside nginx and others
    Handshake,
    /// Memory of idle connections beside nginx
    Idle,
    /// What a connection above the limit costs
    Refusals,
    /// Requests over 20 binary upgrades
    Upgrades,
    /// Requests over 20 drains, behind a balancer
    Drains,
    /// Requests over 50 rolling upgrades of 20 endpoints
    Rollouts,
    /// Time, bytes and memory of a fleet of replicas
    Fleet,
    /// Requests to three replicas while the leading controller is killed 100 times
    LeaderKills,
    /// All of them
    All,
    /// The same with writes to an API server; part of `propagation`
    #[value(hide = true)]
    PropagationOfApi,
    /// The part of that which runs within its network namespace
    #[value(hide = true)]
    PropagationInCluster,
}

const ALL: &[Name] = &[
    Name::Changes,
    Name::Propagation,
    Name::PropagationOfApi,
    Name::Memory,
    Name::Lookup,
    Name::Peers,
    Name::Https,
    Name::Http2,
    Name::Handshake,
    Name::Idle,
    Name::Refusals,
    Name::Upgrades,
    Name::Drains,
    Name::Rollouts,
    Name::Fleet,
    Name::LeaderKills,
];
const PROPAGATION: &[Name] = &[Name::Propagation, Name::PropagationOfApi];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let one = &[arguments.name];
    let names = match arguments.name {
        Name::All => ALL,
        Name::Propagation => PROPAGATION,
        Name::Changes
        | Name::Memory
        | Name::Lookup
        | Name::Peers
        | Name::Https
        | Name::Http2
        | Name::Handshake
        | Name::Idle
        | Name::Refusals
        | Name::Upgrades
        | Name::Drains
        | Name::Rollouts
        | Name::Fleet
        | Name::LeaderKills
        | Name::PropagationOfApi
        | Name::PropagationInCluster => one,
    };
    let setting = match Setting::find(arguments.quick, arguments.count) {
        Ok(setting) => setting,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut all_met = true;
    for name in names {
        match run(*name, &setting) {
            Ok(reports) => {
                for report in reports {
                    println!("{report}");
                    all_met &= report.is_met(setting.is_quick);
                }
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                all_met = false;
            }
        }
    }
    if all_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(name: Name, setting: &Setting) -> Result<Vec<Report>> {
    match name {
        Name::Changes => until_interrupted(changes::run(setting)),
        Name::Propagation => until_interrupted(propagation::run(setting)),
        Name::PropagationOfApi => Ok(vec![propagation::cluster::enter(setting)?]),
        Name::PropagationInCluster => until_interrupted(propagation::cluster::run(setting)),
        Name::Memory => until_interrupted(memory::run(setting)),
        Name::Lookup => until_interrupted(lookup::run(setting)),
        Name::Peers => peers::run(setting),
        Name::Https => rows::https(setting),
        Name::Http2 => rows::http2(setting),
        Name::Handshake => rows::handshake(setting),
        Name::Idle => rows::idle(setting),
        Name::Refusals => until_interrupted(refusals::run(setting)),
        Name::Upgrades => until_interrupted(upgrades::run(setting)),
        Name::Drains => until_interrupted(drains::run(setting)),
        Name::Rollouts => until_interrupted(rollouts::run(setting)),
        Name::Fleet => until_interrupted(fleet::run(setting)),
        Name::LeaderKills => until_interrupted(leader_kills::run(setting)),
        Name::All => Ok(Vec::new()),
    }
}

/// Runs `work`, and drops it on Ctrl-C or SIGTERM, so that what it started is ended.
fn until_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime?.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            done = work => done,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("terminated"),
        }
    })
}
