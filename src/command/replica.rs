//! `kubeng replica`: how replicas are, and what they run.

mod emergency;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::remote::{self, Remote, encoded, list, short, text};
use super::say::{say, say_line, tell_line};
use super::{Finding, Output};

/// Show how replicas are, and what they run.
#[derive(Debug, Args)]
pub(super) struct Replica {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List replicas with their states
    List(List),
    /// Write what a replica runs, read from the replica itself, without secrets
    Export(Export),
    /// Take a replica off the list that does not run any more
    Forget(Forget),
    /// Refuse a route on one replica alone, for a limited time; its controllers see that and by whom
    Emergency(emergency::Emergency),
}

#[derive(Debug, Args)]
struct List {
    /// Only replicas of this fleet
    #[arg(long, value_name = "NAME")]
    fleet: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
struct Export {
    /// The replica
    #[arg(value_name = "FLEET/NAME")]
    replica: String,
    /// Form of the export; nginx is for reading only
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
struct Forget {
    /// The replica
    #[arg(value_name = "FLEET/NAME")]
    replica: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    #[default]
    Yaml,
    Json,
    Nginx,
}

impl Replica {
    pub(super) fn run(self) -> anyhow::Result<Finding> {
        match self.verb {
            Verb::List(list) => list.run(),
            Verb::Emergency(emergency) => emergency.run(),
            Verb::Export(export) => {
                let format = match export.format {
                    Format::Yaml => "yaml",
                    Format::Json => "json",
                    Format::Nginx => "nginx",
                };
                let path = format!("{}/export?format={format}", path(&export.replica)?);
                say(export.remote.read(&path)?.body)?;
                Ok(Finding::Fine)
            }
            Verb::Forget(forget) => {
                forget.remote.remove(&path(&forget.replica)?)?;
                say_line(format_args!("{} is forgotten", forget.replica))?;
                Ok(Finding::Fine)
            }
        }
    }
}

impl List {
    fn run(self) -> anyhow::Result<Finding> {
        let query = self.fleet.map(|fleet| format!("?fleet={}", encoded(&fleet)));
        let answer = self.remote.read_json(&format!("/replicas{}", query.unwrap_or_default()))?;
        match self.remote.output {
            Output::Json => say_line(serde_json::to_string_pretty(&answer)?)?,
            Output::Text => {
                let rows: Vec<_> = list(&answer, "replicas").iter().map(row).collect();
                let head = ["NAME", "FLEET", "STATE", "DIGEST", "SINCE", "VERSION", "TEXT"];
                say(remote::table(&head, &rows))?;
                remote::turned_away(&answer).iter().for_each(tell_line);
                remote::silent(&answer).iter().for_each(tell_line);
            }
        }
        Ok(Finding::Fine)
    }
}

fn row(replica: &Value) -> Vec<String> {
    let marks: Vec<&str> = list(replica, "marks").iter().filter_map(Value::as_str).collect();
    let also =
        if marks.is_empty() { String::new() } else { format!(" [also {}]", marks.join(", ")) };
    let digest = match short(replica, "running") {
        "-" => short(replica, "acknowledged"),
        running => running,
    };
    vec![
        text(replica, "name").to_owned(),
        text(replica, "fleet").to_owned(),
        text(replica, "state").to_owned(),
        digest.to_owned(),
        text(replica, "since").to_owned(),
        text(replica, "version").to_owned(),
        format!("{}{also}{}", text(replica, "text"), labels(replica)),
    ]
}

/// What its own settings say of it, as `kubectl` writes labels.
fn labels(replica: &Value) -> String {
    let labels = replica["labels"].as_object().into_iter().flatten();
    let labels: Vec<String> =
        labels.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or("-"))).collect();
    if labels.is_empty() { String::new() } else { format!(" [{}]", labels.join(",")) }
}

/// The path of `FLEET/NAME`.
pub(super) fn path(replica: &str) -> anyhow::Result<String> {
    let (fleet, name) = replica
        .split_once('/')
        .with_context(|| format!("{replica:?} is no replica; write FLEET/NAME"))?;
    Ok(format!("/replicas/{}/{}", encoded(fleet), encoded(name)))
}
