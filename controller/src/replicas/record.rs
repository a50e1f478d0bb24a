//! Records of Drift: what was found, the evidence, and what became of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kubeng_config::canonical::Digest;
use kubeng_config::compare::Comparison;
use kubeng_config::drift::{Moment, ReplicaState};
use serde::{Deserialize, Serialize};

use super::entry::ReplicaId;
use super::registry::now;
use super::store;

/// How many records are kept; of more the oldest that are resolved go first.
pub const RECORDS_MAX: usize = 200;

/// How long a record is kept after it was resolved.
pub const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// One deviation of one replica.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DriftRecord {
    /// Names it.
    pub id: String,
    /// The replica.
    pub replica: ReplicaId,
    /// What it was found to be.
    pub state: ReplicaState,
    /// What and why, in one line.
    pub text: String,
    /// When it was found, RFC 3339.
    pub since: String,
    /// The same in seconds since 1970.
    pub since_seconds: u64,
    /// Changes with the evidence.
    pub fingerprint: Digest,
    /// In what the replica differs from what is intended; none where it could not be asked.
    pub difference: Option<Comparison>,
    /// The folder of the evidence; none where nothing is kept on disk.
    pub evidence: Option<String>,
    /// Whether the replica can mend it itself.
    pub is_healable: bool,
    /// What became of it; none while it is open.
    pub resolution: Option<Resolved>,
}

/// What became of a deviation.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Resolved {
    /// What.
    pub resolution: Resolution,
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, RFC 3339.
    pub at: String,
    /// The same in seconds since 1970.
    pub at_seconds: u64,
}

/// How a deviation ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Resolution {
    /// The replica made anew what it runs.
    Healed,
    /// What differs was written as overrides.
    Adopted,
    /// Somebody said that it is well. It lasts until the evidence changes.
    Dismissed,
    /// It was gone by itself.
    Gone,
}

impl DriftRecord {
    /// The tag of this version of the record, for conditional requests (RFC 9110 section 8.8.3).
    #[must_use]
    pub fn etag(&self) -> String {
        let bytes = kubeng_config::canonical::to_bytes(self);
        format!("\"{}\"", Digest::of([bytes.as_slice()]).short())
    }

    /// Whether nothing has become of it yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.resolution.is_none()
    }
}

/// Why a record is not changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// There is none.
    #[error("there is no drift record {0}")]
    Unknown(String),
    /// It has been changed since it was read. It is to be read again.
    #[error("drift record {id} has changed since: its tag is {etag}")]
    Stale {
        /// The record.
        id: String,
        /// Its tag.
        etag: String,
    },
    /// It is over.
    #[error("drift record {id} is not open any more: it was {was}")]
    Over {
        /// The record.
        id: String,
        /// What became of it.
        was: String,
    },
}

/// All records, in memory and, where there is a folder, on disk.
pub(crate) struct Book {
    records: Mutex<BTreeMap<String, DriftRecord>>,
    folder: Option<PathBuf>,
}

impl Book {
    /// Reads what is on disk; what cannot be read is left out, and said in the log.
    pub(crate) fn open(folder: Option<PathBuf>) -> Self {
        let records = folder.as_deref().map(store::records).unwrap_or_default();
        let records = records.into_iter().map(|record| (record.id.clone(), record)).collect();
        Self { records: Mutex::new(records), folder }
    }

    pub(crate) fn folder(&self) -> Option<&PathBuf> {
        self.folder.as_ref()
    }

    /// All records, the newest first.
    pub(crate) fn list(&self) -> Vec<DriftRecord> {
        let mut all: Vec<DriftRecord> = self.lock().values().cloned().collect();
        all.sort_by(|a, b| (b.since_seconds, &b.id).cmp(&(a.since_seconds, &a.id)));
        all
    }

    /// Whether any record is open.
    pub(crate) fn has_open(&self) -> bool {
        self.lock().values().any(DriftRecord::is_open)
    }

    pub(crate) fn get(&self, id: &str) -> Option<DriftRecord> {
        self.lock().get(id).cloned()
    }

    /// The record of a replica that counts: the one that is open, else what was dismissed
    /// or adopted last.
    pub(crate) fn standing(&self, replica: &ReplicaId, state: ReplicaState) -> Option<DriftRecord> {
        let stands = |record: &DriftRecord| match &record.resolution {
            None => true,
            Some(resolved) => match resolved.resolution {
                // Until the overrides are there and served, it goes on.
                Resolution::Dismissed | Resolution::Adopted => true,
                Resolution::Healed | Resolution::Gone => false,
            },
        };
        let records = self.lock();
        let of_it = records
            .values()
            .filter(|record| record.replica == *replica && record.state == state && stands(record));
        of_it.max_by_key(|record| (record.is_open(), record.since_seconds)).cloned()
    }

    /// Puts a record in, and thins out what is old.
    pub(crate) fn put(&self, record: DriftRecord) {
        // Kept before it is told.
        if let Some(folder) = &self.folder {
            store::write_record(folder, &record);
        }
        let gone = {
            let mut records = self.lock();
            records.insert(record.id.clone(), record);
            thin(&mut records, now())
        };
        if let Some(folder) = &self.folder {
            gone.iter().for_each(|id| store::remove_record(folder, id));
        }
    }

    /// Ends a record, if its tag is still `etag`; without one whatever it is.
    pub(crate) fn resolve(
        &self,
        id: &str,
        etag: Option<&str>,
        resolution: Resolution,
        by: &str,
        reason: &str,
    ) -> Result<DriftRecord, RecordError> {
        let now = now();
        let record = {
            let mut records = self.lock();
            let record = records.get_mut(id).ok_or_else(|| RecordError::Unknown(id.to_owned()))?;
            // What was healed may have been seen to be well before the replica had replied.
            let is_gone = |over: &Resolved| over.resolution == Resolution::Gone;
            let is_seen = record.resolution.as_ref().is_some_and(is_gone);
            if resolution != Resolution::Healed || !is_seen {
                check(record, etag)?;
            }
            record.resolution = Some(Resolved {
                resolution,
                by: by.to_owned(),
                reason: reason.to_owned(),
                at: Moment(now).to_string(),
                at_seconds: now.as_secs(),
            });
            record.clone()
        };
        if let Some(folder) = &self.folder {
            store::write_record(folder, &record);
        }
        Ok(record)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, DriftRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `record` may be changed by who has seen it as `etag`.
pub(crate) fn check(record: &DriftRecord, etag: Option<&str>) -> Result<(), RecordError> {
    let id = record.id.clone();
    let is = record.etag();
    if etag.is_some_and(|etag| etag != is && etag != "*") {
        return Err(RecordError::Stale { id, etag: is });
    }
    match &record.resolution {
        None => Ok(()),
        Some(resolved) => Err(RecordError::Over { id, was: word(resolved.resolution).to_owned() }),
    }
}

/// In one word.
pub(crate) fn word(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Healed => "healed",
        Resolution::Adopted => "adopted",
        Resolution::Dismissed => "dismissed",
        Resolution::Gone => "gone",
    }
}

/// Takes out what is over for long, and the oldest of too many; gives their ids.
fn thin(records: &mut BTreeMap<String, DriftRecord>, now: Duration) -> Vec<String> {
    let mut by_age: Vec<(bool, u64, String)> = records
        .values()
        .map(|record| (record.is_open(), record.since_seconds, record.id.clone()))
        .collect();
    by_age.sort();
    let too_many = by_age.len().saturating_sub(RECORDS_MAX);
    let is_old = |record: &DriftRecord| {
        record
            .resolution
            .as_ref()
            .is_some_and(|over| over.at_seconds.saturating_add(KEPT_FOR.as_secs()) < now.as_secs())
    };
    let mut gone: Vec<String> = by_age.into_iter().take(too_many).map(|(_, _, id)| id).collect();
    gone.extend(records.values().filter(|record| is_old(record)).map(|record| record.id.clone()));
    gone.iter().for_each(|id| drop(records.remove(id)));
    gone
}

#[cfg(test)]
mod tests;
