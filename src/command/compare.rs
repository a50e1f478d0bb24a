//! `kubeng compare`: in what two replicas differ, or one from what it should serve.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Args;
use kubeng_config::compare::{self, Comparison, Side};
use kubeng_config::export::Export;
use serde_json::Value;

use super::remote::{Remote, encoded, list, text};
use super::replica;
use super::say::{say, say_line};
use super::{Finding, Output};

/// Show in what replicas differ, from each other or from what they should serve.
///
/// First the replicas of the fleet are grouped by what they run; then it says in what the two sides
/// differ, field by field and as text. A side is `FLEET/NAME` or `replica:FLEET/NAME`,
/// `intended:FLEET`, or a file that `kubeng replica export` or `kubeng export` wrote.
#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 no difference, 1 they differ, 2 wrong usage.")]
pub(super) struct Compare {
    /// The first side
    left: String,
    /// The second side
    right: String,
    #[command(flatten)]
    remote: Remote,
}

/// A side as it is written.
enum Written<'a> {
    Replica(&'a str),
    Intended(&'a str),
    File(&'a Path),
}

impl Compare {
    pub(super) fn run(self) -> anyhow::Result<Finding> {
        let (left, right) = (parse(&self.left)?, parse(&self.right)?);
        let mut groups = Vec::new();
        for fleet in fleets(&[&left, &right]) {
            groups.push(self.remote.read_json(&format!("/compare?fleet={}", encoded(fleet)))?);
        }
        let (found, text) = match (left.remote(), right.remote()) {
            (Some(left), Some(right)) => {
                let path = format!("/compare?left={}&right={}", encoded(&left), encoded(&right));
                let mut answer = self.remote.read_json(&path)?;
                let text = answer["text"].take();
                let found: Comparison =
                    serde_json::from_value(answer).context("the answer is no comparison")?;
                (found, text.as_str().unwrap_or_default().to_owned())
            }
            (None, _) | (_, None) => {
                let (left, right) = (self.side(&left)?, self.side(&right)?);
                (compare::compare(&left, &right), compare::text(&left, &right))
            }
        };
        match self.remote.output {
            Output::Json => {
                let value = serde_json::json!({"groups": groups, "comparison": found});
                say_line(serde_json::to_string_pretty(&value)?)?;
            }
            Output::Text => {
                groups.iter().try_for_each(say_groups)?;
                say_comparison(&found, &text)?;
            }
        }
        Ok(if found.equal { Finding::Fine } else { Finding::Problems })
    }

    fn side(&self, written: &Written<'_>) -> anyhow::Result<Side> {
        let (name, body) = match written {
            Written::Replica(id) => {
                let path = format!("{}/export?format=json", replica::path(id)?);
                (format!("replica:{id}"), self.remote.read(&path)?.body)
            }
            Written::Intended(fleet) => {
                let path = format!("/fleets/{}/export?format=json", encoded(fleet));
                (format!("intended:{fleet}"), self.remote.read(&path)?.body)
            }
            Written::File(path) => {
                let body = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                (path.display().to_string(), body)
            }
        };
        let export = Export::read(&body).with_context(|| format!("cannot use {name}"))?;
        Ok(Side { name, parts: export.into_parts(), endpoints: None })
    }
}

impl Written<'_> {
    /// As the controller knows it; `None` for a file.
    fn remote(&self) -> Option<String> {
        match self {
            Self::Replica(id) => Some(format!("replica:{id}")),
            Self::Intended(fleet) => Some(format!("intended:{fleet}")),
            Self::File(_) => None,
        }
    }
}

fn parse(side: &str) -> anyhow::Result<Written<'_>> {
    if let Some(fleet) = side.strip_prefix("intended:") {
        return Ok(Written::Intended(fleet));
    }
    if let Some(id) = side.strip_prefix("replica:") {
        return Ok(Written::Replica(id));
    }
    let path = Path::new(side);
    if path.is_file() {
        return Ok(Written::File(path));
    }
    // A name has no more than one slash and no dot in front.
    if side.split('/').count() == 2 && !side.starts_with(['.', '/']) {
        return Ok(Written::Replica(side));
    }
    bail!("{side:?} is no side: write FLEET/NAME, intended:FLEET, or a file that was exported")
}

/// The fleets that are asked about, each once.
fn fleets<'a>(sides: &[&Written<'a>]) -> Vec<&'a str> {
    let mut fleets: Vec<&str> = sides
        .iter()
        .filter_map(|side| match side {
            Written::Replica(id) => id.split_once('/').map(|(fleet, _)| fleet),
            Written::Intended(fleet) => Some(*fleet),
            Written::File(_) => None,
        })
        .collect();
    fleets.sort_unstable();
    fleets.dedup();
    fleets
}

fn say_groups(groups: &Value) -> anyhow::Result<()> {
    say_line(format_args!("fleet {}: {}", text(groups, "fleet"), text(groups, "summary")))?;
    for group in list(groups, "groups") {
        let names: Vec<&str> = list(group, "replicas").iter().filter_map(Value::as_str).collect();
        let digest = group["digest"].as_str();
        let is_intended = digest.is_some() && digest == groups["intended"].as_str();
        let shown = digest.and_then(|digest| digest.get(..12)).unwrap_or("not known");
        let mark = if is_intended { " (intended)" } else { "" };
        say_line(format_args!("  {shown}{mark}: {}", names.join(", ")))?;
    }
    Ok(())
}

fn say_comparison(found: &Comparison, text: &str) -> anyhow::Result<()> {
    let Comparison { left, right, equal, differences, only_left, only_right, endpoints } = found;
    say_line("")?;
    if *equal {
        say_line(format_args!("{left} and {right} are equal"))?;
    } else {
        let places = found.places();
        say_line(format_args!("{left} and {right} differ in {places} places"))?;
    }
    for field in differences {
        let (key, pointer) = (&field.key, &field.pointer);
        say_line(format_args!("~ {key} {pointer}: {} -> {}", field.left, field.right))?;
    }
    only_left.iter().try_for_each(|key| say_line(format_args!("- {key}: only in {left}")))?;
    only_right.iter().try_for_each(|key| say_line(format_args!("+ {key}: only in {right}")))?;
    if let Some(endpoints) = endpoints.filter(|endpoints| !endpoints.equal) {
        let count = endpoints.differences;
        say_line(format_args!("endpoints of {count} backends differ; they follow by themselves"))?;
    }
    if *equal { Ok(()) } else { say(format_args!("\n{text}")) }
}
