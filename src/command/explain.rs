//! `kubeng explain`: which rule serves a request.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue};
use kubeng_config::explain::{Outcome, explain};
use kubeng_config::request::RequestKey;

use super::load::{self, Reading};
use super::say::{say, say_line, tell_line};
use super::{Finding, Output};

/// Say which rule would serve a request, and why each other one lost.
#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 a route serves it, 1 it is refused or no route fits, \
                        2 wrong usage.")]
pub(super) struct Explain {
    /// File or folder; may be repeated
    #[arg(long, required = true, value_name = "DIR")]
    manifests: Vec<PathBuf>,
    /// The request
    #[arg(help = "The request, for instance 'GET https://shop.example.com/cart'")]
    request: String,
    /// Header of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    #[command(flatten)]
    reading: Reading,
    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Explain {
    pub(super) fn run(self) -> anyhow::Result<Finding> {
        let request = RequestKey::parse(&self.request, headers(&self.headers)?)?;
        let loaded = load::load(&self.manifests, &self.reading)?;
        let explanation = explain(loaded.snapshot(), &request);
        let overrides = explanation.route.as_ref().map(|id| loaded.state().overrides_of(id));
        let overrides = overrides.unwrap_or_default();
        match self.output {
            Output::Json => {
                let mut value = serde_json::to_value(&explanation)?;
                if !overrides.is_empty() {
                    value["overrides"] = serde_json::to_value(&overrides)?;
                }
                say_line(serde_json::to_string_pretty(&value)?)?;
            }
            Output::Text => {
                say(format_args!("{explanation}"))?;
                let from = explanation.route.as_ref().and_then(load::provenance_of(&loaded));
                if let Some(from) = from {
                    say_line(format_args!("from      {from}"))?;
                }
                for layered in &overrides {
                    say_line(format_args!("override  {layered}"))?;
                }
                for problem in loaded.problems() {
                    tell_line(problem);
                }
            }
        }
        Ok(match explanation.outcome {
            Outcome::Answered | Outcome::Forwarded { .. } => Finding::Fine,
            Outcome::NoListener | Outcome::NoRoute | Outcome::Refused { .. } => Finding::Problems,
        })
    }
}

fn headers(lines: &[String]) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let wrong = || format!("{line:?} is not a header; write -H 'Name: value'");
        let (name, value) = line.split_once(':').with_context(wrong)?;
        let name: HeaderName = name.trim().parse().with_context(wrong)?;
        headers.append(name, HeaderValue::from_str(value.trim()).with_context(wrong)?);
    }
    Ok(headers)
}
