//! Heartbeats: what a replica says of itself, whether it is asked or not.

use serde::{Deserialize, Serialize};

use crate::canonical::Digest;
use crate::position::Position;
use crate::problem::Problem;
use crate::statement::Epoch;

/// What a replica really runs, told every few seconds.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Heartbeat {
    /// The newest epoch that it has heard of.
    pub epoch: Epoch,
    /// The Position of what it has acknowledged.
    pub position: Position,
    /// The digest that it acknowledged last, or loaded from disk; the empty Snapshot's before both.
    pub acknowledged: Digest,
    /// Its last answer, if that was no.
    pub rejected: Option<Rejected>,
    /// What it runs.
    pub running: Running,
    /// The digest over the Endpoints of all Backends, by name.
    pub endpoints: Digest,
    /// Where what it serves came from.
    pub origin: Origin,
    /// What it keeps for a start without a controller; absent where it keeps nothing.
    pub last_known_good: Option<LastKnownGood>,
    /// A change that somebody made on the machine itself and that is in force.
    pub emergency: Option<Emergency>,
    /// The program.
    pub build: Build,
    /// What it uses.
    pub resources: Resources,
    /// What is wrong at the replica although it serves: ports, names.
    pub problems: Vec<ReportedProblem>,
}

/// The digest of what requests are decided by, computed from the Table itself.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Running {
    /// Of every Part, written again from what requests use.
    pub digest: Digest,
    /// How long ago it was computed.
    pub age_seconds: u32,
}

/// Why the last Delta is not served.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rejected {
    /// What it would have led to.
    pub target: Digest,
    /// Why not.
    pub problems: Vec<ReportedProblem>,
}

/// Where what is served came from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// Nothing is served yet.
    #[default]
    Nothing,
    /// A controller has said it since the process began.
    Controller,
    /// It was read from disk at the start, and no controller has been heard since.
    Disk,
}

/// The file that a replica starts from when there is no controller.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LastKnownGood {
    /// The digest of the Snapshot that was written last.
    pub kept: Digest,
    /// How the file is now.
    pub file: FileState,
}

/// How a file is, compared with what was written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FileState {
    /// As it was written.
    Intact,
    /// Somebody else has changed it, or it is gone; in plain words.
    Altered(String),
    /// It could not be written, in plain words: the disk is full or read-only.
    Unwritable(String),
}

/// A change on the machine itself.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Emergency {
    /// Who made it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it ends, in seconds since 1970.
    pub until: i64,
}

/// The program of a replica.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Build {
    /// Its version.
    pub version: String,
    /// SHA-256 of the file that is running.
    pub sha256: Digest,
    /// The newest version of the model that it reads.
    pub model_version: u32,
}

/// What a process uses.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Resources {
    /// How long it has been running.
    pub uptime_seconds: u64,
    /// Memory in RAM in KiB.
    pub rss_kib: u64,
    /// Open files.
    pub open_files: u64,
    /// Open connections of clients.
    pub connections: u64,
}

/// A Problem as another process tells it.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ReportedProblem {
    /// Its code: `KNG-1703`.
    pub code: String,
    /// What it is about.
    pub object: String,
    /// The field; empty for the whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub remedy: String,
}

impl From<&Problem> for ReportedProblem {
    fn from(problem: &Problem) -> Self {
        Self {
            code: problem.code.to_string(),
            object: problem.subject.to_string(),
            field: problem.field.clone(),
            message: problem.message.clone(),
            remedy: problem.remedy.clone(),
        }
    }
}
