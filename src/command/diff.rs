//! `kubeng diff`: in what two configurations differ.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use http::{Method, StatusCode};
use kubeng_admin::{AdminClient, ClientError};
use kubeng_config::difference::{differences, endpoints};
use kubeng_config::endpoint::Endpoint;
use kubeng_config::export::Export;
use kubeng_config::name::{BackendId, FleetName};
use kubeng_config::snapshot::Snapshot;
use serde_json::Value;

use super::load::{self, Reading};
use super::remote::{encoded, list, text};
use super::say::{say, say_line, tell_line};
use super::{Finding, Output};

/// Show in what two configurations differ.
///
/// Each side is a folder or file of manifests, a file that `kubeng export` wrote,
/// or the address of an admin listener, such as `http://127.0.0.1:9180`. Manifests
/// are compared as the fleet of the other side, where that says which one it is.
#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 no difference, 1 they differ, 2 wrong usage.")]
pub(super) struct Diff {
    /// The first side
    before: String,
    /// The second side
    after: String,
    #[command(flatten)]
    reading: Reading,
    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What a side says.
struct Told<'a> {
    side: &'a str,
    snapshot: Snapshot,
    /// The fleet that it is for, if it says so.
    fleet: Option<FleetName>,
    /// None where it tells nothing of Endpoints.
    endpoints: Option<BTreeMap<BackendId, Vec<Endpoint>>>,
}

impl Diff {
    pub(super) fn run(self) -> anyhow::Result<Finding> {
        let (before, after) = match (self.ready(&self.before)?, self.ready(&self.after)?) {
            (Some(before), Some(after)) => (before, after),
            // What settings describe has no ports in manifests: it is compared on those of the other.
            (Some(before), None) => {
                let after = self.manifests(&self.after, Some(&before))?;
                (before, after)
            }
            (None, Some(after)) => (self.manifests(&self.before, Some(&after))?, after),
            (None, None) => {
                (self.manifests(&self.before, None)?, self.manifests(&self.after, None)?)
            }
        };
        tell_what_is_compared(&before, &after);
        let mut found = differences(&before.snapshot, &after.snapshot);
        if let (Some(before), Some(after)) = (&before.endpoints, &after.endpoints) {
            found.extend(endpoints::differences(before, after));
        }
        match self.output {
            Output::Json => say_line(serde_json::to_string_pretty(&found)?)?,
            Output::Text => {
                for difference in &found {
                    say(format_args!("{difference}"))?;
                }
                say_line(format_args!("{} parts differ", found.len()))?;
            }
        }
        Ok(if found.is_empty() { Finding::Fine } else { Finding::Problems })
    }

    /// What a side says that is a Snapshot already; `None` for manifests.
    fn ready<'a>(&self, side: &'a str) -> anyhow::Result<Option<Told<'a>>> {
        if side.starts_with("https://") {
            bail!("{side}: the admin listener speaks http only");
        }
        if side.starts_with("http://") {
            let fetched = fetch(side, self.reading.fleet());
            return fetched.map(Some).with_context(|| format!("cannot fetch what {side} serves"));
        }
        let path = Path::new(side);
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if !text.contains(kubeng_config::export::FORMAT) {
            return Ok(None);
        }
        read(side, &text).map(Some).with_context(|| format!("cannot use {}", path.display()))
    }

    fn manifests<'a>(&self, side: &'a str, beside: Option<&Told<'_>>) -> anyhow::Result<Told<'a>> {
        let paths = [Path::new(side).to_path_buf()];
        let loaded = match beside {
            Some(Told { snapshot, fleet, .. }) => {
                let fleet = fleet.as_ref().map(FleetName::as_str);
                load::load_beside(&paths, &self.reading, snapshot, fleet)
            }
            None => load::load(&paths, &self.reading),
        };
        let loaded = loaded.with_context(|| format!("cannot use {side}"))?;
        for problem in loaded.problems() {
            tell_line(problem);
        }
        let Export { fleet, endpoints, .. } = loaded.state().export();
        // Manifests that are copied to a cluster hold no EndpointSlices: pods make those.
        let endpoints = endpoints.filter(|_| beside.is_none() || loaded.tells_endpoints());
        Ok(Told { side, snapshot: loaded.snapshot().clone(), fleet, endpoints })
    }
}

/// Says what could be taken for something else. It is no difference, so it stands beside the answer.
fn tell_what_is_compared(before: &Told<'_>, after: &Told<'_>) {
    if let (Some(first), Some(second)) = (&before.fleet, &after.fleet)
        && first != second
    {
        let (one, other) = (before.side, after.side);
        tell_line(format_args!(
            "fleet {first} of {one} is compared with fleet {second} of {other}"
        ));
    }
    for told in [before, after].iter().filter(|told| told.endpoints.is_none()) {
        tell_line(format_args!("endpoints are not compared: {} tells none", told.side));
    }
}

fn read<'a>(side: &'a str, text: &str) -> anyhow::Result<Told<'a>> {
    let mut export = Export::read(text)?;
    let (fleet, endpoints) = (export.fleet.take(), export.endpoints.take());
    Ok(Told { side, snapshot: export.into_snapshot()?, fleet, endpoints })
}

/// Asks an admin listener for what its only fleet serves, or the one of this name.
fn fetch<'a>(side: &'a str, fleet: Option<&str>) -> anyhow::Result<Told<'a>> {
    let client = AdminClient::new(side)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ask = |path: String| {
        let asked = client.ask(Method::GET, &path, None, None, WITHIN);
        runtime.block_on(asked).map(|answer| answer.body)
    };
    let query = match fleet {
        Some(fleet) => format!("&fleet={}", encoded(fleet)),
        None => match ask("/fleets".to_owned()) {
            Ok(answer) => format!("&fleet={}", encoded(&the_only_fleet(&answer)?)),
            // The process serves one fleet by itself.
            Err(ClientError::Refused { status: StatusCode::NOT_FOUND, .. }) => String::new(),
            Err(error) => return Err(error.into()),
        },
    };
    read(side, &ask(format!("/snapshot?format=json{query}"))?)
}

fn the_only_fleet(answer: &str) -> anyhow::Result<String> {
    let answer: Value = serde_json::from_str(answer).context("the answer is not JSON")?;
    let names: Vec<&str> =
        list(&answer, "fleets").iter().map(|fleet| text(fleet, "name")).collect();
    match names.as_slice() {
        [name] => Ok((*name).to_owned()),
        [] => bail!("it has no fleet"),
        names => bail!("it has several fleets, say --fleet NAME: {}", names.join(", ")),
    }
}

const WITHIN: Duration = Duration::from_secs(30);
