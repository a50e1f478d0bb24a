//! How a fleet is cared for: what its Fleet Object says beside its Listeners.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
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

impl FleetCare {
    /// What of it a replica carries out by itself.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse { heartbeat_every: self.heartbeat_every, table_check_every: self.table_check_every }
    }
}

/// What a replica carries out by itself of the care for its fleet. It is told, for replicas do not
/// read Fleets; until it has been told it does what is the default.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pulse {
    /// How often it tells of itself.
    pub heartbeat_every: Duration,
    /// How often it computes the digest of what it runs without a change.
    pub table_check_every: Duration,
}

impl Pulse {
    /// How often a replica may be told to tell of itself.
    pub const HEARTBEAT: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(60);
    /// How often it may be told to look at what it runs.
    pub const TABLE_CHECK: RangeInclusive<Duration> =
        Duration::from_secs(10)..=Duration::from_secs(3600);

    /// The same, but each at least as often as is `wanted`.
    #[must_use]
    pub fn at_least(self, heartbeat: Option<Duration>, table_check: Option<Duration>) -> Self {
        let sooner =
            |told: Duration, wanted: Option<Duration>| wanted.map_or(told, |w| w.min(told));
        Self {
            heartbeat_every: sooner(self.heartbeat_every, heartbeat),
            table_check_every: sooner(self.table_check_every, table_check),
        }
    }
}

impl Default for Pulse {
    fn default() -> Self {
        FleetCare::default().pulse()
    }
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
    /// What it is for.
    pub environment: Environment,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How it is cared for.
    pub care: FleetCare,
}

impl FleetFacts {
    /// A fleet of which only its name is known.
    #[must_use]
    pub fn new(name: FleetName) -> Self {
        Self {
            display_name: name.to_string(),
            name,
            class: FleetClass::default(),
            environment: Environment::default(),
            labels: BTreeMap::new(),
            care: FleetCare::default(),
        }
    }
}

/// What a fleet is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Environment {
    /// Customers.
    #[default]
    Production,
    /// Tests.
    Test,
    /// Those who develop.
    Development,
}

impl Environment {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Test => "test",
            Self::Development => "development",
        }
    }
}
