//! Endpoints: the live addresses of a Backend. They are not configuration.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::canonical::{self, Digest};

/// One address that takes requests.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share of new requests among all; 0 gets none.
    pub weight: u16,
    /// The zone it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Arc<str>>,
}

impl Endpoint {
    /// An Endpoint of weight 1 in no zone.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, weight: 1, zone: None }
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
