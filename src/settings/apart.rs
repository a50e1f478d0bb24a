//! A settings file whose lines belong to two: those of all processes, and those of one role.

use std::path::Path;

use anyhow::Context as _;
use serde::de::DeserializeOwned;

use super::given::Given;

/// Reads the lines called `names` as `T`, and all others as those of every process.
///
/// # Errors
/// When the file cannot be read, or a line is unknown or no value of its kind.
pub(super) fn read<T: DeserializeOwned>(path: &Path, names: &[&str]) -> anyhow::Result<(T, Given)> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the settings file {shown}"))?;
    let cannot = || format!("cannot use the settings file {shown}");
    let all: toml::Table = toml::from_str(&text).with_context(cannot)?;
    let (ours, rest): (toml::Table, toml::Table) =
        all.into_iter().partition(|(name, _)| names.contains(&name.as_str()));
    let ours: T = ours.try_into().with_context(cannot)?;
    let rest: Given = rest.try_into().with_context(cannot)?;
    Ok((ours, rest))
}
