//! Drift: whether a replica is as it should be, judged from what is known of it.
//!
//! Its state is what it runs, not what it was sent. Ten states are judged from the top; the first
//! that holds is the state, the others are marks beside it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::canonical::Digest;
use crate::fleet::FleetCare;
use crate::heartbeat::{Build, FileState, Heartbeat, Rejected};

/// How a replica is. In the order in which they are judged.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum ReplicaState {
    /// It has not told of itself for three heartbeats.
    Unreachable,
    /// Somebody has changed something on its machine.
    Tampered,
    /// Its last answer was no.
    Rejected,
    /// It runs something else than it acknowledged.
    Drifted,
    /// It runs what it acknowledged, and answers otherwise.
    Divergent,
    /// It has not answered in time.
    Stale,
    /// It has been offered something and has time left to answer.
    Applying,
    /// It serves something else than is wanted, and nothing is offered.
    Pending,
    /// It serves what is wanted, but its program is of another version than the controller, or cannot
    /// read some Parts.
    Skewed,
    /// It serves what is wanted.
    InSync,
}

impl ReplicaState {
    /// All of them, in order.
    pub const ALL: [Self; 10] = [
        Self::Unreachable,
        Self::Tampered,
        Self::Rejected,
        Self::Drifted,
        Self::Divergent,
        Self::Stale,
        Self::Applying,
        Self::Pending,
        Self::Skewed,
        Self::InSync,
    ];

    /// Its name, the same in tables, in JSON and in labels of metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "Unreachable",
            Self::Tampered => "Tampered",
            Self::Rejected => "Rejected",
            Self::Drifted => "Drifted",
            Self::Divergent => "Divergent",
            Self::Stale => "Stale",
            Self::Applying => "Applying",
            Self::Pending => "Pending",
            Self::Skewed => "Skewed",
            Self::InSync => "InSync",
        }
    }

    /// Whether it is Drift: a replica that is not what it says, of which evidence is kept.
    #[must_use]
    pub fn is_drift(self) -> bool {
        match self {
            Self::Tampered | Self::Drifted | Self::Divergent => true,
            Self::Unreachable
            | Self::Rejected
            | Self::Stale
            | Self::Applying
            | Self::Pending
            | Self::Skewed
            | Self::InSync => false,
        }
    }
}

impl fmt::Display for ReplicaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of a replica. All moments are times since 1970.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// When it last told of itself.
    pub heard: Duration,
    /// How often it should.
    pub heartbeat_every: Duration,
    /// How long it may take to answer.
    pub apply_timeout: Duration,
    /// What was changed on its machine.
    pub signs: Vec<Sign>,
    /// Its last answer, if that was no.
    pub rejected: Option<Rejected>,
    /// What it acknowledged, and what it ran at the same moment.
    pub ran: Option<Ran>,
    /// How a probe was answered otherwise.
    pub divergence: Option<Divergence>,
    /// When it was offered what it has not answered, if there is such an Offer.
    pub offered: Option<Duration>,
    /// What it acknowledged last, or loaded from disk.
    pub acknowledged: Digest,
    /// What it should serve.
    pub target: Digest,
    /// How many Parts were refused because its program cannot read them.
    pub refused: usize,
    /// The version of its program.
    pub version: String,
    /// In what its program is of another version than the controller.
    pub skew: Option<Skew>,
}

/// A replica and a controller of different versions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Skew {
    /// The version of the replica, and the newest version of the model that it reads.
    pub replica: (String, u32),
    /// The same of the controller.
    pub controller: (String, u32),
    /// Why what it tells of itself cannot be read here, where that is so.
    pub unread: Option<String>,
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { replica, controller, unread } = self;
        write!(
            f,
            "replica is {} (model {}), controller is {} (model {})",
            replica.0, replica.1, controller.0, controller.1
        )?;
        match unread {
            Some(why) => write!(f, "; what it tells of itself cannot be read: {why}"),
            None => Ok(()),
        }
    }
}

/// How a replica that is `build` differs from its controller, which is `own` and cannot read what it
/// tells because of `unread`; none where it does not differ.
#[must_use]
pub fn skew(build: &Build, own: &Build, unread: Option<&str>) -> Option<Skew> {
    let of = |build: &Build| (build.version.clone(), build.model_version);
    let (replica, controller) = (of(build), of(own));
    let differs = replica != controller || unread.is_some();
    differs.then(|| Skew { replica, controller, unread: unread.map(str::to_owned) })
}

/// What a replica ran when it told what it had acknowledged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ran {
    /// The digest from the Table.
    pub running: Digest,
    /// The digest that it acknowledged.
    pub acknowledged: Digest,
    /// In how many places they differ, where that was looked up.
    pub differences: Option<usize>,
}

/// A sign that somebody has changed something on the machine of a replica.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Sign {
    /// What it serves is not signed by a controller.
    Statement,
    /// The file that it starts from is not what it wrote, in plain words.
    File(String),
    /// A change on the machine is in force.
    Emergency {
        /// Who made it.
        by: String,
        /// Why.
        reason: String,
        /// When it ends, in seconds since 1970.
        until: i64,
    },
    /// It is a program that it may not be.
    Build(Digest),
}

impl Sign {
    /// Whether the replica can mend it itself; it cannot exchange its own program.
    #[must_use]
    pub fn is_healable(&self) -> bool {
        match self {
            Self::Statement | Self::File(_) | Self::Emergency { .. } => true,
            Self::Build(_) => false,
        }
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Statement => f.write_str("what it serves is not signed by a controller"),
            Self::File(how) => write!(f, "its saved configuration: {how}"),
            Self::Emergency { by, reason, until } => {
                let until = Moment(Duration::from_secs(u64::try_from(*until).unwrap_or(0)));
                write!(f, "an emergency change by {by} until {until}: {reason}")
            }
            Self::Build(sha256) => {
                write!(f, "its program {} is not one that it may be", sha256.short())
            }
        }
    }
}

/// How the answer to a probe differs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Divergence {
    /// The first request whose answer differs.
    pub request: String,
    /// The Route that should serve it, or that none does.
    pub expected: String,
    /// The Route that it named.
    pub answered: String,
    /// How many requests were answered otherwise.
    pub count: usize,
}

/// What a replica was found to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Judged {
    /// The first state that holds.
    pub state: ReplicaState,
    /// What holds besides, in order.
    pub marks: Vec<ReplicaState>,
    /// What and why, in one line for people.
    pub text: String,
}

/// Judges a replica at `now`, a time since 1970.
#[must_use]
pub fn replica_state(evidence: &Evidence, now: Duration) -> Judged {
    let mut holding = ReplicaState::ALL.into_iter().filter(|state| holds(*state, evidence, now));
    // InSync is what is left when nothing else holds.
    let state = holding.next().unwrap_or(ReplicaState::InSync);
    Judged { state, marks: holding.collect(), text: text(state, evidence, now) }
}

/// The signs in what a replica tells that something was changed on its machine.
///
/// `own` is the program of the controller: replicas of its version must be the same file, unless
/// `care` lists the programs that they may be.
#[must_use]
pub fn signs(heartbeat: &Heartbeat, care: &FleetCare, own: &Build) -> Vec<Sign> {
    let mut signs = Vec::new();
    match heartbeat.last_known_good.as_ref().map(|kept| &kept.file) {
        Some(FileState::Altered(how)) => signs.push(Sign::File(how.clone())),
        // A full disk is told as a Problem: nobody has changed anything.
        Some(FileState::Intact | FileState::Unwritable(_)) | None => {}
    }
    if let Some(emergency) = &heartbeat.emergency {
        signs.push(Sign::Emergency {
            by: emergency.by.clone(),
            reason: emergency.reason.clone(),
            until: emergency.until,
        });
    }
    if !may_be(&heartbeat.build, care, own) {
        signs.push(Sign::Build(heartbeat.build.sha256));
    }
    signs
}

/// Whether a replica may be this program.
#[must_use]
pub fn may_be(build: &Build, care: &FleetCare, own: &Build) -> bool {
    if care.builds.is_empty() {
        build.version != own.version || build.sha256 == own.sha256
    } else {
        care.builds.contains(&build.sha256)
    }
}

/// How many heartbeats may be missing.
const MISSED_MAX: u32 = 3;

fn holds(state: ReplicaState, evidence: &Evidence, now: Duration) -> bool {
    let waited = evidence.offered.map(|offered| now.saturating_sub(offered));
    match state {
        ReplicaState::Unreachable => {
            now.saturating_sub(evidence.heard) >= evidence.heartbeat_every * MISSED_MAX
        }
        ReplicaState::Tampered => !evidence.signs.is_empty(),
        ReplicaState::Rejected => evidence.rejected.is_some(),
        ReplicaState::Drifted => evidence.ran.is_some_and(|ran| ran.running != ran.acknowledged),
        ReplicaState::Divergent => evidence.divergence.is_some(),
        ReplicaState::Stale => waited.is_some_and(|waited| waited >= evidence.apply_timeout),
        ReplicaState::Applying => waited.is_some_and(|waited| waited < evidence.apply_timeout),
        ReplicaState::Pending => waited.is_none() && evidence.acknowledged != evidence.target,
        // Another version is a mark of every other state: it may be why.
        ReplicaState::Skewed => {
            let is_settled = waited.is_none() && evidence.acknowledged == evidence.target;
            evidence.skew.is_some() || is_settled && evidence.refused > 0
        }
        ReplicaState::InSync => false,
    }
}

fn text(state: ReplicaState, evidence: &Evidence, now: Duration) -> String {
    let acknowledged = evidence.acknowledged.short();
    let target = evidence.target.short();
    match state {
        ReplicaState::Unreachable => {
            format!("Not reporting since {} (last: {acknowledged})", Moment(evidence.heard))
        }
        ReplicaState::Tampered => {
            let signs: Vec<String> = evidence.signs.iter().map(Sign::to_string).collect();
            format!("Changed on the machine: {}", signs.join("; "))
        }
        ReplicaState::Rejected => {
            let why = evidence.rejected.as_ref().map_or_else(String::new, rejected);
            format!("{why}; serves {acknowledged}")
        }
        ReplicaState::Drifted => evidence.ran.map_or_else(String::new, drifted),
        ReplicaState::Divergent => evidence.divergence.as_ref().map_or_else(String::new, divergent),
        ReplicaState::Stale => {
            let waited = now.saturating_sub(evidence.offered.unwrap_or(now));
            format!("No acknowledgement of {target} for {} s", waited.as_secs())
        }
        ReplicaState::Applying => format!("Applying {target}"),
        ReplicaState::Pending => format!("Waiting for {target}; serves {acknowledged}"),
        ReplicaState::Skewed => match (evidence.refused, &evidence.skew) {
            (0, Some(skew)) => format!("Version skew: {skew}"),
            (refused, _) => {
                format!("Version skew: {refused} parts refused on replica {}", evidence.version)
            }
        },
        ReplicaState::InSync => format!("In sync, serves {acknowledged}"),
    }
}

fn rejected(rejected: &Rejected) -> String {
    let target = rejected.target.short();
    let Some(first) = rejected.problems.first() else { return format!("Rejected {target}") };
    let space = if first.field.is_empty() { "" } else { " " };
    let more = match rejected.problems.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    format!("Rejected {target} at {}{space}{}: {}{more}", first.object, first.field, first.message)
}

fn drifted(ran: Ran) -> String {
    let places = match ran.differences {
        None => String::new(),
        Some(1) => ", which differs in 1 place".to_owned(),
        Some(count) => format!(", which differs in {count} places"),
    };
    format!("Acknowledged {} but runs {}{places}", ran.acknowledged.short(), ran.running.short())
}

fn divergent(divergence: &Divergence) -> String {
    let Divergence { request, expected, answered, count } = divergence;
    let more = match count.saturating_sub(1) {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    format!(
        "Same configuration, different answer: {request} goes to {answered} instead of {expected}{more}"
    )
}

/// A time since 1970 for people: RFC 3339 in UTC, by the second.
#[derive(Clone, Copy, Debug)]
pub struct Moment(pub Duration);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_second(seconds) {
            Ok(moment) => write!(f, "{moment}"),
            // Behind the year 9999, which some write for "never".
            Err(_) => write!(f, "{seconds} s after 1970"),
        }
    }
}

#[cfg(test)]
mod tests;
