//! `kubeng drift`: deviations of replicas, and what is done about them.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::remote::{self, Remote, encoded, list, text};
use super::say::{say, say_line, tell_line};
use super::{Finding, Output};

/// Show deviations of replicas, and do something about them.
#[derive(Debug, Args)]
pub(super) struct Drift {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List deviations; exit code 1 when one is open, or another controller does not say
    List(List),
    /// Show one with what differs
    Show(One),
    /// Have the replica make anew what it runs
    Heal(Act),
    /// Write what differs as RouteOverrides, to be reviewed and applied
    Adopt(Act),
    /// Say that a deviation is well, until its evidence changes
    Dismiss(Act),
}

#[derive(Debug, Args)]
struct List {
    /// Those, too, that are not open any more
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
struct One {
    /// The deviation, as kubeng drift list names it
    id: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
struct Act {
    /// The deviation, as kubeng drift list names it
    id: String,
    /// Why; needed to dismiss it
    #[arg(long, default_value = "")]
    reason: String,
    /// Who does it
    #[arg(long, value_name = "NAME", env = "USER", default_value = "", hide_env_values = true)]
    by: String,
    #[command(flatten)]
    remote: Remote,
}

impl Drift {
    pub(super) fn run(self) -> anyhow::Result<Finding> {
        match self.verb {
            Verb::List(list) => list.run(),
            Verb::Show(one) => one.run(),
            Verb::Heal(act) => act.run("heal"),
            Verb::Adopt(act) => act.run("adopt"),
            Verb::Dismiss(act) => act.run("dismiss"),
        }
    }
}

impl List {
    fn run(self) -> anyhow::Result<Finding> {
        let answer = self.remote.read_json("/drift")?;
        let is_open = |record: &&Value| record["resolution"].is_null();
        let any_open = list(&answer, "drift").iter().any(|record| is_open(&record));
        match self.remote.output {
            Output::Json => say_line(serde_json::to_string_pretty(&answer)?)?,
            Output::Text => {
                let shown = list(&answer, "drift").iter().filter(|one| self.all || is_open(one));
                let rows: Vec<_> = shown.map(row).collect();
                let head = ["ID", "REPLICA", "STATE", "SINCE", "RESOLUTION", "TEXT"];
                say(remote::table(&head, &rows))?;
                remote::silent(&answer).iter().for_each(tell_line);
            }
        }
        // Who does not say may keep an open one.
        let is_fine = !any_open && remote::silent(&answer).is_empty();
        Ok(if is_fine { Finding::Fine } else { Finding::Problems })
    }
}

fn replica(record: &Value) -> String {
    let id = &record["replica"];
    format!("{}/{}", text(id, "fleet"), text(id, "name"))
}

fn row(record: &Value) -> Vec<String> {
    let resolution = text(&record["resolution"], "resolution");
    vec![
        text(record, "id").to_owned(),
        replica(record),
        text(record, "state").to_owned(),
        text(record, "since").to_owned(),
        if resolution == "-" { "open".to_owned() } else { resolution.to_owned() },
        text(record, "text").to_owned(),
    ]
}

impl One {
    fn run(self) -> anyhow::Result<Finding> {
        let record = self.remote.read_json(&format!("/drift/{}", encoded(&self.id)))?;
        match self.remote.output {
            Output::Json => say_line(serde_json::to_string_pretty(&record)?)?,
            Output::Text => show(&record)?,
        }
        Ok(if record["resolution"].is_null() { Finding::Problems } else { Finding::Fine })
    }
}

fn show(record: &Value) -> anyhow::Result<()> {
    say_line(format_args!("replica   {}", replica(record)))?;
    say_line(format_args!("state     {} since {}", text(record, "state"), text(record, "since")))?;
    say_line(text(record, "text"))?;
    if let Some(controller) = record["controller"].as_str() {
        say_line(format_args!("kept by   {controller}"))?;
    }
    if let Some(folder) = record["evidence"].as_str() {
        say_line(format_args!("evidence  {folder}"))?;
    }
    let over = &record["resolution"];
    if !over.is_null() {
        let (is, by) = (text(over, "resolution"), text(over, "by"));
        say_line(format_args!("{is} by {by} at {}: {}", text(over, "at"), text(over, "reason")))?;
    }
    let difference = &record["difference"];
    for field in list(difference, "differences") {
        let (key, pointer) = (text(field, "key"), text(field, "pointer"));
        let (is, runs) = (&field["left"], &field["right"]);
        say_line(format_args!("~ {key} {pointer}: intended {is}, runs {runs}"))?;
    }
    for key in list(difference, "onlyLeft").iter().filter_map(Value::as_str) {
        say_line(format_args!("- {key}: intended, and not there"))?;
    }
    for key in list(difference, "onlyRight").iter().filter_map(Value::as_str) {
        say_line(format_args!("+ {key}: there, and not intended"))?;
    }
    Ok(())
}

impl Act {
    fn run(self, verb: &str) -> anyhow::Result<Finding> {
        let path = format!("/drift/{}", encoded(&self.id));
        // What is done is done about what was just read.
        let etag = self.remote.read(&path)?.etag.context("the record has no tag")?;
        let body = json!({"reason": self.reason, "by": self.by});
        let answer = self.remote.change(&format!("{path}/{verb}"), &etag, &body)?;
        if self.remote.output == Output::Json {
            say_line(serde_json::to_string_pretty(&answer)?)?;
            return Ok(Finding::Fine);
        }
        let adoption = &answer["adoption"];
        if adoption.is_null() {
            say_line(format_args!("{} is {}", self.id, text(&answer["resolution"], "resolution")))?;
            return Ok(Finding::Fine);
        }
        for document in list(adoption, "overrides").iter().filter_map(Value::as_str) {
            say(format_args!("---\n{document}"))?;
        }
        for left in list(adoption, "leftOut") {
            let (key, pointer) = (text(left, "key"), text(left, "pointer"));
            tell_line(format_args!("cannot be adopted: {key} {pointer}: {}", text(left, "why")));
        }
        let is_whole = list(adoption, "leftOut").is_empty();
        if is_whole && list(adoption, "overrides").is_empty() {
            tell_line("there is nothing to adopt: it runs what is intended");
            return Ok(Finding::Problems);
        }
        Ok(if is_whole { Finding::Fine } else { Finding::Problems })
    }
}
