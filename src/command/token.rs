//! `kubeng token`: lets replicas into a fleet.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::ensure;
use clap::{Args, Subcommand};
use kubeng_config::name::FleetName;
use kubeng_controller::distribution::authority::Authority;

use super::Finding;
use super::say::say_line;
use crate::settings::replica::labels;

/// Make tokens that replicas join a fleet with
#[derive(Debug, Args)]
pub(super) struct Token {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Print a token that lets replicas join a fleet. It is a secret: whoever has it can join
    Create(Create),
}

#[derive(Debug, Args)]
struct Create {
    /// The folder of the authority, which the controllers share
    #[arg(long, value_name = "DIR")]
    authority: PathBuf,
    /// The fleet that it lets into
    #[arg(long, value_name = "NAME")]
    fleet: FleetName,
    /// How long it is good for: a number with s, m or h, at most 24h
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = duration)]
    life: Duration,
    /// How many replicas may join with it
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    uses: u16,
    /// Label that the replicas that join with it have from then on, such as zone=a, whatever their own
    /// settings say; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
}

impl Token {
    pub(super) fn run(self) -> anyhow::Result<Finding> {
        match self.command {
            TokenCommand::Create(create) => create.run(),
        }
    }
}

impl Create {
    fn run(self) -> anyhow::Result<Finding> {
        // A token of an authority that was made just here would be of use to nobody.
        ensure!(
            self.authority.join("ca.key").exists(),
            "{} holds no authority: name the folder that the controllers share; the first one that \
             starts makes it",
            self.authority.display()
        );
        let labels = labels(&self.labels)?;
        let authority = Authority::open(&self.authority)?;
        let (fleet, now) = (&self.fleet, SystemTime::now());
        let token = authority.create_labelled_token(fleet, labels, self.life, self.uses, now)?;
        say_line(token)?;
        Ok(Finding::Fine)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 30m");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(wrong()),
    };
    let count: u64 = text.trim_end_matches(unit).parse().map_err(|_| wrong())?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("24h", 86_400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "1", "h", "1d", "-1h", "1.5h", "99999999999999999999h", "1hh "] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }
}
