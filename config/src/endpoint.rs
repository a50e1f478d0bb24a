//! Endpoints: the live addresses of a Backend. They are not configuration.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::canonical::{self, Digest};
use crate::name::BackendId;

/// One address that takes requests.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share of new requests among all; 0 gets none. See [`share`](Self::share).
    pub weight: u16,
    /// The zone it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Arc<str>>,
    /// Whether it takes new clients.
    #[serde(default, skip_serializing_if = "EndpointState::is_active")]
    pub state: EndpointState,
    /// Those with a higher number serve only while none with a lower one can; 0 to
    /// [`PRIORITY_MAX`].
    #[serde(default, skip_serializing_if = "is_first")]
    pub priority: u8,
}

/// Whether an Endpoint takes new clients.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointState {
    /// It takes its share.
    #[default]
    Active,
    /// It takes no share. Connections go on, and clients whose cookie names it stay.
    Draining,
}

impl EndpointState {
    pub(crate) fn is_active(&self) -> bool {
        *self == Self::Active
    }
}

pub(crate) fn is_first(priority: &u8) -> bool {
    *priority == 0
}

/// The highest [`Endpoint::priority`].
pub const PRIORITY_MAX: u8 = 7;

impl Endpoint {
    /// An Endpoint of weight 1 in no zone.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, weight: 1, zone: None, state: EndpointState::Active, priority: 0 }
    }

    /// Its share of new requests among all: its weight, and nothing while it is drained.
    #[must_use]
    pub fn share(&self) -> u16 {
        match self.state {
            EndpointState::Active => self.weight,
            EndpointState::Draining => 0,
        }
    }
}

/// All Endpoints of one Backend at one moment, ordered, each address once.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EndpointSet(Vec<Endpoint>);

impl EndpointSet {
    /// Orders `endpoints`; of several with one address the first in order stays.
    #[must_use]
    pub fn new(mut endpoints: Vec<Endpoint>) -> Self {
        endpoints.sort();
        endpoints.dedup_by_key(|endpoint| endpoint.address);
        Self(endpoints)
    }

    /// The Endpoints, by address.
    #[must_use]
    pub fn as_slice(&self) -> &[Endpoint] {
        &self.0
    }

    /// The digest of the set.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of([canonical::to_bytes(&self.0).as_slice()])
    }
}

/// The digest over the Endpoints of many Backends, in whatever order they come.
///
/// Replicas and controllers compare it for Backends whose Endpoints are discovered; what is written is
/// configuration, and names in it resolve for each replica by itself.
#[must_use]
pub fn digest_of_all<'a>(
    sets: impl IntoIterator<Item = (&'a BackendId, &'a EndpointSet)>,
) -> Digest {
    let lines = sets.into_iter().map(|(id, set)| format!("{id}\n{}\n", set.digest()));
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    Digest::of(lines.iter().map(String::as_bytes))
}
