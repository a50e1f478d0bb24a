//! The way from published Snapshots to replicas: what is said in both directions.
//!
//! The same messages travel inside one process and between several; there they are written as
//! protobuf with the Parts in canonical form.

pub mod authority;
pub mod connection;
pub mod feed;
pub mod follower;
pub mod history;
pub mod identity;
pub mod join;
pub mod line;
pub mod publisher;
pub mod server;
pub mod session;
pub mod signing;
#[cfg(test)]
mod simulation;
pub mod subscriber;
mod tls;
mod wire;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use kubeng_config::canonical::Digest;
use kubeng_config::delta::{AnyPart, Delta, PartKey};
use kubeng_config::endpoint::EndpointSet;
use kubeng_config::fleet::Pulse;
use kubeng_config::heartbeat::{Build, Heartbeat};
use kubeng_config::name::{BackendId, FleetName, ReplicaName, RouteId};
use kubeng_config::problem::Problem;
use kubeng_config::statement::SignedStatement;

/// What a replica is told.
#[derive(Debug)]
pub enum ToReplica {
    /// A new configuration. It is answered with [`FromReplica::Ack`] or [`FromReplica::Nack`]; no
    /// other is sent before.
    Offer(Box<Offer>),
    /// New Endpoints of Backends that are served. Not answered.
    Endpoints {
        /// The whole set of each Backend.
        sets: Vec<(BackendId, Arc<EndpointSet>)>,
        /// When the oldest event behind them had been read.
        received: Option<Instant>,
    },
    /// It shall tell its [`FromReplica::Holdings`], for the controller does not know what it serves.
    TellHoldings,
    /// How many replicas of the fleet are there, this one included: what they share out among them,
    /// such as rate limits, is divided by it. Not answered.
    Replicas(NonZeroU32),
    /// What its Fleet says that it does by itself. Not answered.
    Pulse(Pulse),
    /// A question about what it runs, answered with [`FromReplica::Reply`].
    Ask {
        /// Comes back with the reply.
        id: u64,
        /// The question.
        question: Question,
    },
}

/// A Delta that is to be served.
#[derive(Debug)]
pub struct Offer {
    /// Comes back with the answer.
    pub nonce: u64,
    /// What changes.
    pub delta: Delta,
    /// What the controller says about it; it names the target of the Delta.
    pub statement: SignedStatement,
    /// When the oldest event behind it had been read, to measure how long it took.
    pub received: Option<Instant>,
}

/// A question about what a replica runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Question {
    /// All Parts, written again from what requests use.
    Parts,
    /// Which Route would serve each of these requests, looked up as a request is.
    Probe(Vec<ProbeRequest>),
    /// It builds what it runs anew from what it has acknowledged, ends emergency changes, and writes
    /// its last known good again.
    Heal,
}

/// A request that a replica is asked about.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ProbeRequest {
    /// The Listener that it comes to.
    pub listener: kubeng_config::name::ListenerId,
    /// The method.
    pub method: String,
    /// The host; none for a request without one.
    pub host: Option<String>,
    /// The path, with the query.
    pub target: String,
    /// Header fields by name in lower case.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// What a replica tells.
#[derive(Debug)]
pub enum FromReplica {
    /// The first message of every connection.
    Hello(Box<Hello>),
    /// The digest of the Snapshot that it serves, and its Parts: to [`ToReplica::TellHoldings`].
    Holdings(Digest, Vec<(PartKey, Digest)>),
    /// It serves the Snapshot of this digest.
    Ack {
        /// Of the [`Offer`].
        nonce: u64,
        /// The digest, computed by the replica.
        digest: Digest,
        /// What it could not do although it serves: ports that cannot be opened.
        problems: Vec<Problem>,
    },
    /// It goes on serving what it had, for these reasons.
    Nack {
        /// Of the [`Offer`].
        nonce: u64,
        /// Why.
        reason: NackReason,
        /// In words.
        problems: Vec<Problem>,
    },
    /// What it says of itself.
    Heartbeat(Box<Heartbeat>),
    /// It says something of itself that this version cannot read, for this reason. Never sent.
    Unread(String),
    /// To [`ToReplica::Ask`].
    Reply {
        /// Of the question.
        id: u64,
        /// The reply, or why there is none.
        reply: Result<Reply, String>,
    },
}

/// Why a replica does not take an [`Offer`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NackReason {
    /// A Part of it cannot be served.
    Rejected,
    /// It starts from another Snapshot; the controller asks for its [`FromReplica::Holdings`].
    Base,
    /// Its epoch is older than one that the replica has heard of.
    Epoch,
    /// Its sources had been read less far than for what is served.
    Behind,
    /// Its Statement is not signed by somebody whom the replica believes, or is about something else.
    Unbelieved,
}

/// Who a replica is, and what it has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hello {
    /// Its name.
    pub replica: ReplicaName,
    /// Its fleet.
    pub fleet: FleetName,
    /// The program.
    pub build: Build,
    /// Where the admin listener of the replica answers.
    pub admin: Option<std::net::SocketAddr>,
    /// What its own settings say of it, such as where it stands.
    pub labels: BTreeMap<String, String>,
    /// What its certificate says of it, which stands above its own settings. It does not say that
    /// itself: whoever reads its certificate puts it here.
    pub certified: BTreeMap<String, String>,
    /// What it serves: the last Statement that it has acknowledged or read from disk; none for nothing.
    pub serves: Option<SignedStatement>,
}

/// A reply to a [`Question`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// To [`Question::Parts`].
    Parts {
        /// All of them.
        parts: Vec<AnyPart>,
        /// The Endpoints of each Backend.
        endpoints: Vec<(BackendId, Arc<EndpointSet>)>,
    },
    /// To [`Question::Probe`], in the order of the requests; none where no Route serves it.
    Probe(Vec<Option<RouteId>>),
    /// To [`Question::Heal`]: the digest that it runs from here on.
    Healed(Digest),
}
