//! What is kept on disk: replicas that are known, and the evidence of Drift.
//!
//! A folder that cannot be written is no reason to stop watching: it is said in the log, and what was
//! found is kept in memory.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use kubeng_config::canonical::Digest;
use kubeng_config::heartbeat::Build;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::entry::{Entry, ReplicaId};
use super::record::DriftRecord;

/// A replica as it is remembered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Known {
    replica: ReplicaId,
    /// When it last told of itself, in seconds since 1970.
    heard: u64,
    acknowledged: Option<Digest>,
    build: Build,
}

impl From<&Entry> for Known {
    fn from(entry: &Entry) -> Self {
        Self {
            replica: entry.id.clone(),
            heard: entry.heard.as_secs(),
            acknowledged: entry.acknowledged,
            build: entry.build.clone(),
        }
    }
}

impl From<Known> for Entry {
    fn from(known: Known) -> Self {
        let Known { replica, heard, acknowledged, build } = known;
        let mut entry = Self::new(replica, build, Duration::from_secs(heard));
        entry.acknowledged = acknowledged;
        entry
    }
}

/// The replicas that were known when the process ended.
pub(crate) fn known(folder: &Path) -> Vec<Known> {
    read(&folder.join(KNOWN)).unwrap_or_default()
}

/// Writes which replicas are known.
pub(crate) fn write_known(folder: &Path, known: &[Known]) {
    report(folder, write(folder, KNOWN, &known));
}

/// All records below `folder`.
pub(crate) fn records(folder: &Path) -> Vec<DriftRecord> {
    let Ok(entries) = fs::read_dir(folder.join(DRIFT)) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path().join(RECORD));
    paths.filter(|path| path.exists()).filter_map(|path| read(&path)).collect()
}

/// Writes a record.
pub(crate) fn write_record(folder: &Path, record: &DriftRecord) {
    let folder = folder.join(DRIFT).join(&record.id);
    report(&folder, make(&folder).and_then(|()| write(&folder, RECORD, record)));
}

/// Writes one piece of the evidence of a record.
pub(crate) fn write_evidence(folder: &Path, id: &str, name: &str, value: &impl Serialize) {
    let folder = folder.join(DRIFT).join(id);
    report(&folder, make(&folder).and_then(|()| write(&folder, name, value)));
}

/// Removes a record with its evidence.
pub(crate) fn remove_record(folder: &Path, id: &str) {
    let folder = folder.join(DRIFT).join(id);
    report(&folder, fs::remove_dir_all(&folder));
}

fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            warn!(path = %path.display(), %error, "cannot be read, and is left out");
            return None;
        }
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            warn!(path = %path.display(), %error, "is not what was written, and is left out");
            None
        }
    }
}

/// Writes a file as a whole or not at all.
fn write(folder: &Path, name: &str, value: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(value)?;
    let scratch = folder.join(format!(".{name}.new"));
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(&scratch)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&scratch, folder.join(name))?;
    fs::File::open(folder)?.sync_all()
}

fn report(folder: &Path, result: io::Result<()>) {
    if let Err(error) = result {
        warn!(folder = %folder.display(), %error, "cannot be written");
    }
}

const KNOWN: &str = "replicas.json";
const DRIFT: &str = "drift";
const RECORD: &str = "record.json";

#[cfg(test)]
mod tests {
    use kubeng_config::drift::ReplicaState;

    use super::*;

    fn id() -> ReplicaId {
        ReplicaId { fleet: "prod".parse().unwrap(), name: "r1".parse().unwrap() }
    }

    #[test]
    fn what_was_known_is_known_again_and_a_damaged_file_harms_nobody() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(known(folder.path()), []);
        let build = Build { version: "1".into(), sha256: Digest::default(), model_version: 1 };
        let entry = Entry::new(id(), build, Duration::from_secs(7));
        let all = [Known::from(&entry)];
        write_known(folder.path(), &all);
        assert_eq!(known(folder.path()), all);
        fs::write(folder.path().join(KNOWN), "{").unwrap();
        assert_eq!(known(folder.path()), []);
    }

    #[test]
    fn evidence_lies_beside_its_record_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let record = DriftRecord {
            id: "0a".into(),
            replica: id(),
            state: ReplicaState::Drifted,
            text: "t".into(),
            since: "s".into(),
            since_seconds: 1,
            fingerprint: Digest::default(),
            difference: None,
            evidence: None,
            is_healable: true,
            resolution: None,
        };
        write_record(folder.path(), &record);
        write_evidence(folder.path(), "0a", "heartbeat.json", &1);
        assert_eq!(records(folder.path()).len(), 1);
        assert!(folder.path().join("drift/0a/heartbeat.json").exists());
        remove_record(folder.path(), "0a");
        assert!(records(folder.path()).is_empty());
    }
}
