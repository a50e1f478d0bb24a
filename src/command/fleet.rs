//! `kubeng fleet`: the fleets of a controller.

use clap::{Args, Subcommand};

use super::remote::{self, Remote, list, short, text};
use super::say::{say, say_line};
use super::{Finding, Output};

/// Show the fleets of a controller.
#[derive(Debug, Args)]
pub(super) struct Fleet {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List fleets with what they should serve, and how many replicas do
    List(List),
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    remote: Remote,
}

impl Fleet {
    pub(super) fn run(self) -> anyhow::Result<Finding> {
        let Verb::List(List { remote }) = self.verb;
        let answer = remote.read_json("/fleets")?;
        match remote.output {
            Output::Json => say_line(serde_json::to_string_pretty(&answer)?)?,
            Output::Text => {
                let row = |fleet: &serde_json::Value| {
                    vec![
                        text(fleet, "name").to_owned(),
                        text(fleet, "class").to_owned(),
                        short(fleet, "digest").to_owned(),
                        fleet["routes"].to_string(),
                        fleet["replicas"].to_string(),
                        fleet["states"]["InSync"].as_u64().unwrap_or(0).to_string(),
                        text(fleet, "displayName").to_owned(),
                    ]
                };
                let rows: Vec<_> = list(&answer, "fleets").iter().map(row).collect();
                let head = ["NAME", "CLASS", "DIGEST", "ROUTES", "REPLICAS", "INSYNC", "TITLE"];
                say(remote::table(&head, &rows))?;
            }
        }
        Ok(Finding::Fine)
    }
}
