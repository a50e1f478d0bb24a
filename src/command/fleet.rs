//! `kubeng fleet`: the fleets of a controller.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::remote::{self, Remote, list, short, text};
use super::say::{say, say_line, tell_line};
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
                let rows: Vec<_> = list(&answer, "fleets").iter().map(row).collect();
                say(remote::table(&HEAD, &rows))?;
                for line in trouble(&answer) {
                    tell_line(line);
                }
            }
        }
        Ok(Finding::Fine)
    }
}

/// The columns of the list.
const HEAD: [&str; 12] = [
    "NAME",
    "CLASS",
    "DIGEST",
    "ROUTES",
    "REPLICAS",
    "INSYNC",
    "OTHERS",
    "PROBLEMS",
    "STATUS",
    "ENVIRONMENT",
    "RUNNING",
    "TITLE",
];

fn row(fleet: &Value) -> Vec<String> {
    vec![
        text(fleet, "name").to_owned(),
        text(fleet, "class").to_owned(),
        short(fleet, "digest").to_owned(),
        fleet["routes"].to_string(),
        fleet["replicas"].to_string(),
        fleet["states"]["InSync"].as_u64().unwrap_or(0).to_string(),
        others(fleet),
        fleet["problems"].as_u64().unwrap_or(0).to_string(),
        status(fleet),
        text(fleet, "environment").to_owned(),
        text(fleet, "summary").to_owned(),
        text(fleet, "displayName").to_owned(),
    ]
}

/// How many replicas are in each other state.
fn others(fleet: &Value) -> String {
    let states = fleet["states"].as_object().into_iter().flatten();
    let others = states.filter(|(state, _)| *state != "InSync");
    let others: Vec<String> = others.map(|(state, count)| format!("{count} {state}")).collect();
    if others.is_empty() { "-".to_owned() } else { others.join(",") }
}

/// The reason of the first condition that does not hold, or of the last.
fn status(fleet: &Value) -> String {
    let conditions = list(fleet, "conditions");
    let failing = conditions.iter().find(|condition| condition["status"] != "True");
    let told = failing.or(conditions.last());
    told.map_or("-", |condition| text(condition, "reason")).to_owned()
}

/// Who of the other controllers does not answer, or intends something else.
fn trouble(answer: &Value) -> Vec<String> {
    let peers = remote::silent(answer);
    let fleets = list(answer, "fleets").iter().flat_map(|fleet| {
        let others = list(fleet, "elsewhere").iter().filter(|other| other["same"] == false);
        others.map(move |other| {
            let (name, controller) = (text(fleet, "name"), text(other, "controller"));
            format!("fleet {name}: controller {controller} intends {}", short(other, "digest"))
        })
    });
    remote::turned_away(answer).into_iter().chain(peers).chain(fleets).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_says_how_many_serve_and_what_does_not_hold() {
        let mut fleet = json!({
            "name": "prod", "class": "shared", "environment": "test", "digest": "0123456789abcdef",
            "routes": 3, "replicas": 3, "states": {"InSync": 2, "Drifted": 1}, "displayName": "P",
            "problems": 4, "summary": "2 run 0123456789ab, 1 runs 90ab4d1c22f7",
            "conditions": [
                {"type": "Accepted", "status": "True", "reason": "Accepted"},
                {"type": "Programmed", "status": "False", "reason": "Pending"},
            ],
        });
        let digest = "0123456789ab";
        let runs = "2 run 0123456789ab, 1 runs 90ab4d1c22f7";
        let expected = [
            "prod",
            "shared",
            digest,
            "3",
            "3",
            "2",
            "1 Drifted",
            "4",
            "Pending",
            "test",
            runs,
            "P",
        ];
        assert_eq!(row(&fleet), expected);
        fleet["conditions"][1]["status"] = "True".into();
        fleet["conditions"][1]["reason"] = "Programmed".into();
        assert_eq!(status(&fleet), "Programmed");
        fleet["conditions"][0] = json!({"status": "False", "reason": "Invalid"});
        assert_eq!(status(&fleet), "Invalid");
    }

    #[test]
    fn other_controllers_that_differ_or_are_silent_are_named() {
        let answer = json!({
            "peers": [{"url": "http://b", "error": "cannot connect"}, {"url": "http://c"}],
            "fleets": [{"name": "prod", "elsewhere": [
                {"controller": "http://c", "digest": "0123456789abcdef", "same": false},
                {"controller": "http://d", "digest": "0123456789abcdef", "same": true},
            ]}],
        });
        let expected = [
            "controller http://b did not answer: cannot connect",
            "fleet prod: controller http://c intends 0123456789ab",
        ];
        assert_eq!(trouble(&answer), expected);
    }
}
