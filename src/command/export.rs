//! `kubeng export`: the effective configuration.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use kubeng_config::export::nginx;

use super::Finding;
use super::load::{self, Reading};
use super::say::{say, tell_line};

/// Write the effective configuration, without secrets.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// File or folder; may be repeated
    #[arg(long, required = true, value_name = "DIR")]
    manifests: Vec<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    /// Form of the output; nginx is for reading only
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    #[default]
    Yaml,
    Json,
    Nginx,
}

impl Export {
    pub(super) fn run(self) -> anyhow::Result<Finding> {
        let loaded = load::load(&self.manifests, &self.reading)?;
        let document = loaded.state().export();
        match self.format {
            Format::Yaml => say(document.to_yaml()?)?,
            Format::Json => say(document.to_json())?,
            Format::Nginx => {
                let endpoints_of = |id: &_| loaded.state().endpoints_of(id).cloned();
                let from = load::provenance_of(&loaded);
                say(nginx::to_text(loaded.snapshot(), &from, &endpoints_of))?;
            }
        }
        for problem in loaded.problems() {
            tell_line(problem);
        }
        Ok(if loaded.problems().is_empty() { Finding::Fine } else { Finding::Problems })
    }
}
