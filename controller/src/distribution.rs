//! The way from published Snapshots to a replica.

pub mod publisher;

use std::sync::Arc;
use std::time::Instant;

use kubeng_config::canonical::Digest;
use kubeng_config::delta::Delta;
use kubeng_config::endpoint::EndpointSet;
use kubeng_config::name::BackendId;
use kubeng_config::problem::Problem;

/// What a replica is told.
#[derive(Debug)]
pub enum ToReplica {
    /// A new configuration. It is answered with [`FromReplica`]; no other is sent before.
    Delta {
        /// What changes.
        delta: Delta,
        /// When the oldest event behind it had been read, to measure how long it took.
        received: Option<Instant>,
    },
    /// New Endpoints of Backends that are served. Not answered.
    Endpoints {
        /// The whole set of each Backend.
        sets: Vec<(BackendId, Arc<EndpointSet>)>,
        /// When the oldest event behind them had been read.
        received: Option<Instant>,
    },
}

/// What a replica answers to a [`ToReplica::Delta`].
#[derive(Clone, Debug)]
pub enum FromReplica {
    /// It serves the Snapshot of this digest.
    Ack {
        /// The digest, computed by the replica.
        digest: Digest,
        /// What it could not do although it serves: ports that cannot be opened.
        problems: Vec<Problem>,
    },
    /// It goes on serving what it had, for these reasons.
    Nack {
        /// Why.
        problems: Vec<Problem>,
    },
}
