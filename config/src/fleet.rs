//! How a fleet is cared for: what its Fleet Object says beside its Listeners.

use std::time::Duration;

use crate::name::FleetName;

/// How the replicas of a fleet are watched and mended. All times have defaults.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FleetCare {
    /// How often a replica tells of itself. It counts as unreachable after three that are missing.
    pub heartbeat_every: Duration,
    /// How long a replica may take to answer an Offer before it counts as stale.
    pub apply_timeout: Duration,
    /// How often a replica computes the digest of what it runs from the whole Table.
    pub table_check_every: Duration,
    /// How often replicas are asked which Routes would serve requests; none: never.
    pub probe_every: Option<Duration>,
    /// What happens when a replica is not as it should be.
    pub on_drift: OnDrift,
    /// Programs that its replicas may be, by SHA-256 of the file; none: those of the version of the
    /// controller must be its own, others may be anything.
    pub builds: Vec<crate::canonical::Digest>,
}

impl Default for FleetCare {
    fn default() -> Self {
        Self {
            heartbeat_every: Duration::from_secs(5),
            apply_timeout: Duration::from_secs(10),
            table_check_every: Duration::from_secs(60),
            probe_every: Some(Duration::from_secs(60)),
            on_drift: OnDrift::Report,
            builds: Vec::new(),
        }
    }
}

/// What happens when a replica is not as it should be.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnDrift {
    /// It is told.
    #[default]
    Report,
    /// It is told and mended, after what was found has been kept.
    Heal,
}

/// Who may be served by a fleet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum FleetClass {
    /// Many tenants.
    #[default]
    Shared,
    /// One tenant alone.
    Dedicated {
        /// Its name.
        tenant: String,
    },
}

/// What people are shown of a fleet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FleetFacts {
    /// Its name.
    pub name: FleetName,
    /// Its name for people.
    pub display_name: String,
    /// Who may be served by it.
    pub class: FleetClass,
    /// How it is cared for.
    pub care: FleetCare,
}
