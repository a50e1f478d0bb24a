//! What is known of one replica, noted from what is said over its line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use kubeng_config::canonical::Digest;
use kubeng_config::drift::{
    Divergence, Evidence, Judged, Moment, Ran, ReplicaState, Sign, Skew, replica_state, signs, skew,
};
use kubeng_config::fleet::FleetCare;
use kubeng_config::heartbeat::{Build, Heartbeat, Rejected, ReportedProblem};
use kubeng_config::name::{FleetName, ReplicaName};
use kubeng_config::problem::REPLICA_SKEWED;
use kubeng_config::statement::SignedStatement;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::distribution::{FromReplica, Hello, NackReason, Offer, Question, Reply};

/// Names one replica among all fleets: `prod/r1`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaId {
    /// Its fleet.
    pub fleet: FleetName,
    /// Its name.
    pub name: ReplicaName,
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.fleet, self.name)
    }
}

/// A replica as it is told to people and programs.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaView {
    /// Its name.
    pub name: ReplicaName,
    /// Its fleet.
    pub fleet: FleetName,
    /// How it is.
    pub state: ReplicaState,
    /// What holds besides.
    pub marks: Vec<ReplicaState>,
    /// What and why, in one line.
    pub text: String,
    /// Since when it has been in this state.
    pub since: String,
    /// When it last told of itself.
    pub heard: String,
    /// Whether it has a line to the controller that tells this.
    pub connected: bool,
    /// What it runs, from its Table, or what it has acknowledged since it looked there; none where it
    /// has not said.
    pub running: Option<Digest>,
    /// What it acknowledged last, or loaded from disk; none where it has not said.
    pub acknowledged: Option<Digest>,
    /// What it should serve; none where its fleet does not exist.
    pub target: Option<Digest>,
    /// The version of its program.
    pub version: String,
    /// In what it is of another version than the controller that tells this, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew: Option<String>,
    /// What its certificate and its own settings say of it; of one name the certificate counts.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The names of those labels that its certificate says, which it cannot choose.
    #[serde(default)]
    pub certified_labels: BTreeSet<String>,
    /// Where its own admin listener answers.
    pub admin: Option<SocketAddr>,
    /// All that it told of itself last.
    pub heartbeat: Option<Heartbeat>,
}

/// What must be known of its fleet to judge a replica.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) care: FleetCare,
    /// What replicas of the fleet should serve.
    pub(crate) target: Digest,
}

/// What is known of one replica.
pub(crate) struct Entry {
    pub(crate) id: ReplicaId,
    pub(crate) heard: Duration,
    pub(crate) build: Build,
    pub(crate) admin: Option<SocketAddr>,
    labels: BTreeMap<String, String>,
    certified_labels: BTreeSet<String>,
    pub(crate) acknowledged: Option<Digest>,
    pub(crate) heartbeat: Option<Heartbeat>,
    pub(crate) divergence: Option<Divergence>,
    pub(crate) differences: Option<usize>,
    pub(crate) line: Option<LiveLine>,
    /// What a controller said of what it acknowledged last.
    pub(crate) statement: Option<SignedStatement>,
    is_believed: bool,
    /// When it was healed last.
    pub(crate) healed: Option<Duration>,
    /// When it was told how often to tell of itself.
    paced: Duration,
    /// Why what it told of itself last cannot be read.
    unread: Option<String>,
    ran: Option<Ran>,
    offered: Option<Offered>,
    answered: Option<Duration>,
    rejected: Option<Rejected>,
    state: Option<(ReplicaState, Duration)>,
}

/// The line to a replica that is there.
pub(crate) struct LiveLine {
    pub(crate) connection: u64,
    pub(crate) ended: CancellationToken,
    pub(crate) ask: mpsc::Sender<(u64, Question)>,
    /// Questions that wait for a reply, by id.
    pub(crate) questions: BTreeMap<u64, oneshot::Sender<Result<Reply, String>>>,
}

/// An Offer that is not answered.
struct Offered {
    nonce: u64,
    statement: SignedStatement,
    at: Duration,
}

impl Entry {
    /// A replica that was there before this process began, or has just come.
    pub(crate) fn new(id: ReplicaId, build: Build, heard: Duration) -> Self {
        Self {
            id,
            heard,
            build,
            admin: None,
            labels: BTreeMap::new(),
            certified_labels: BTreeSet::new(),
            acknowledged: None,
            heartbeat: None,
            divergence: None,
            differences: None,
            line: None,
            statement: None,
            is_believed: true,
            healed: None,
            paced: Duration::ZERO,
            unread: None,
            ran: None,
            offered: None,
            answered: None,
            rejected: None,
            state: None,
        }
    }

    /// It has come, for the first time or again.
    pub(crate) fn joined(
        &mut self,
        hello: &Hello,
        line: LiveLine,
        is_believed: bool,
        now: Duration,
    ) {
        let Hello { replica: _, fleet: _, build, admin, labels, certified, serves } = hello;
        if let Some(former) = self.line.replace(line) {
            former.ended.cancel();
        }
        self.heard = now;
        self.build = build.clone();
        self.admin = *admin;
        self.labels.clone_from(labels);
        self.labels.extend(certified.clone());
        self.certified_labels = certified.keys().cloned().collect();
        if let Some(serves) = serves {
            self.acknowledged = Some(serves.statement.target);
            self.statement = Some(serves.clone());
        }
        self.is_believed = is_believed;
        self.offered = None;
        self.rejected = None;
        self.divergence = None;
        self.unread = None;
    }

    /// It was told how often to tell of itself. It could not do so before.
    pub(crate) fn paced(&mut self, now: Duration) {
        self.paced = now;
    }

    /// It was offered something.
    pub(crate) fn offered(&mut self, offer: &Offer, now: Duration) {
        let statement = offer.statement.clone();
        self.offered = Some(Offered { nonce: offer.nonce, statement, at: now });
    }

    /// Notes what it said. A reply is noted by who asked.
    pub(crate) fn told(&mut self, message: &FromReplica, now: Duration) {
        match message {
            FromReplica::Ack { nonce, digest, problems: _ } => {
                let offered = self.offered.take_if(|offered| offered.nonce == *nonce);
                self.statement = offered.map(|offered| offered.statement).or(self.statement.take());
                self.acknowledged = Some(*digest);
                self.rejected = None;
                self.divergence = None;
                self.answered = Some(now);
                self.is_believed = true;
            }
            FromReplica::Nack { nonce, reason, problems } => {
                let offered = self.offered.take_if(|offered| offered.nonce == *nonce);
                match reason {
                    NackReason::Rejected | NackReason::Unbelieved => {
                        let target = offered.map_or_else(Digest::default, |offered| {
                            offered.statement.statement.target
                        });
                        let problems = problems.iter().map(ReportedProblem::from).collect();
                        self.rejected = Some(Rejected { target, problems });
                    }
                    // Not about what was offered: the controller sends it otherwise, or later.
                    NackReason::Base | NackReason::Epoch | NackReason::Behind => {}
                }
            }
            FromReplica::Heartbeat(heartbeat) => {
                self.unread = None;
                self.beat(heartbeat, now);
            }
            FromReplica::Unread(why) => {
                self.heard = now;
                self.unread = Some(why.clone());
            }
            FromReplica::Hello(_) | FromReplica::Holdings(..) | FromReplica::Reply { .. } => {}
        }
    }

    fn beat(&mut self, heartbeat: &Heartbeat, now: Duration) {
        self.heard = now;
        self.build = heartbeat.build.clone();
        self.acknowledged = Some(heartbeat.acknowledged);
        if heartbeat.rejected.is_some() {
            self.rejected.clone_from(&heartbeat.rejected);
        }
        let (running, acknowledged) = (heartbeat.running.digest, heartbeat.acknowledged);
        let age = Duration::from_secs(heartbeat.running.age_seconds.into());
        // A Table that was walked before the last answer says nothing about what was answered.
        let is_about_it = self.answered.is_none_or(|answered| now.saturating_sub(age) >= answered);
        if self.ran.is_none_or(|ran| ran.running != running) {
            self.differences = None;
        }
        self.ran = (running == acknowledged || is_about_it).then_some(Ran {
            running,
            acknowledged,
            differences: None,
        });
        self.heartbeat = Some(heartbeat.clone());
    }

    /// It has made what it runs anew, and says that it runs `digest`.
    pub(crate) fn healed(&mut self, digest: Digest, now: Duration) {
        self.healed = Some(now);
        self.ran = self.acknowledged.map(|acknowledged| Ran {
            running: digest,
            acknowledged,
            differences: None,
        });
        self.divergence = None;
        self.is_believed = true;
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.running.digest = digest;
            heartbeat.emergency = None;
            if let Some(kept) = &mut heartbeat.last_known_good {
                kept.file = kubeng_config::heartbeat::FileState::Intact;
            }
        }
    }

    /// Its line has ended, unless a newer one took its place.
    pub(crate) fn left(&mut self, connection: u64) {
        if self.line.as_ref().is_some_and(|line| line.connection == connection) {
            self.line = None;
            self.offered = None;
        }
    }

    /// Whether it serves `target`, and nothing is on its way to it.
    pub(crate) fn rests_on(&self, target: Digest) -> bool {
        self.acknowledged == Some(target) && self.offered.is_none()
    }

    /// What it runs, as far as that is known: what it found before it acknowledged something else says
    /// nothing any more.
    fn running(&self) -> Option<Digest> {
        let heartbeat = self.heartbeat.as_ref()?;
        let is_newest = |ran: &Ran| Some(ran.acknowledged) == self.acknowledged;
        if self.ran.is_some_and(|ran| is_newest(&ran)) {
            Some(heartbeat.running.digest)
        } else {
            self.acknowledged
        }
    }

    /// What was changed on its machine.
    pub(crate) fn signs(&self, care: &FleetCare, own: &Build) -> Vec<Sign> {
        let told = self.heartbeat.as_ref().map(|heartbeat| signs(heartbeat, care, own));
        let unsigned = (!self.is_believed).then_some(Sign::Statement);
        unsigned.into_iter().chain(told.unwrap_or_default()).collect()
    }

    /// How many Parts it refuses because its program cannot read them: it tells each as a Problem.
    fn refused(&self) -> usize {
        let code = REPLICA_SKEWED.to_string();
        let told = self.heartbeat.iter().flat_map(|heartbeat| &heartbeat.problems);
        told.filter(|problem| problem.code == code).count()
    }

    /// In what its program is of another version than this controller, `own`.
    fn skew(&self, own: &Build) -> Option<Skew> {
        skew(&self.build, own, self.unread.as_deref())
    }

    /// Judges it; without `wanted` its fleet does not exist any more.
    pub(crate) fn judge(&mut self, wanted: Option<&Wanted>, own: &Build, now: Duration) -> Judged {
        let default = FleetCare::default();
        let care = wanted.map_or(&default, |wanted| &wanted.care);
        // The Snapshot of nothing is what a replica serves that has never said anything.
        let nothing = kubeng_config::snapshot::Snapshot::default().digest();
        let acknowledged = self.acknowledged.unwrap_or(nothing);
        let target = wanted.map_or(acknowledged, |wanted| wanted.target);
        let ran = self.ran.map(|ran| Ran { differences: self.differences, ..ran });
        let judged = replica_state(
            &Evidence {
                heard: self.heard.max(self.paced),
                heartbeat_every: care.heartbeat_every,
                apply_timeout: care.apply_timeout,
                signs: self.signs(care, own),
                // What nobody wants any more need not be mended.
                rejected: self.rejected.clone().filter(|_| acknowledged != target),
                ran,
                divergence: self.divergence.clone(),
                offered: self.offered.as_ref().map(|offered| offered.at),
                acknowledged,
                target,
                refused: self.refused(),
                version: self.build.version.clone(),
                skew: self.skew(own),
            },
            now,
        );
        if self.state.is_none_or(|(state, _)| state != judged.state) {
            self.state = Some((judged.state, now));
        }
        judged
    }

    /// As it is told.
    pub(crate) fn view(
        &mut self,
        wanted: Option<&Wanted>,
        own: &Build,
        now: Duration,
    ) -> ReplicaView {
        let judged = self.judge(wanted, own, now);
        let since = self.state.map_or(now, |(_, since)| since);
        ReplicaView {
            name: self.id.name.clone(),
            fleet: self.id.fleet.clone(),
            state: judged.state,
            marks: judged.marks,
            text: judged.text,
            since: Moment(since).to_string(),
            heard: Moment(self.heard).to_string(),
            connected: self.line.is_some(),
            running: self.running(),
            acknowledged: self.acknowledged,
            target: wanted.map(|wanted| wanted.target),
            version: self.build.version.clone(),
            skew: self.skew(own).as_ref().map(Skew::to_string),
            labels: self.labels.clone(),
            certified_labels: self.certified_labels.clone(),
            admin: self.admin,
            heartbeat: self.heartbeat.clone(),
        }
    }
}
