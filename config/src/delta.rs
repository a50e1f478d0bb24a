//! The difference between two Snapshots: what travels to replicas, and what people compare.

use std::fmt;
use std::sync::Arc;

use crate::backend::Backend;
use crate::canonical::Digest;
use crate::certificate::{Certificate, Secret, ServerName, ServerNameId};
use crate::endpoint::EndpointSet;
use crate::listener::Listener;
use crate::name::{BackendId, CertificateId, ListenerId, PolicyId, RouteId, SecretId};
use crate::part::Part;
use crate::policy::Policy;
use crate::route::Route;

/// Identifies one Part of a Snapshot.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum PartKey {
    /// A Listener.
    Listener(ListenerId),
    /// A Policy.
    Policy(PolicyId),
    /// A Backend.
    Backend(BackendId),
    /// A Certificate.
    Certificate(CertificateId),
    /// A Server name.
    ServerName(ServerNameId),
    /// A Route.
    Route(RouteId),
}

impl fmt::Display for PartKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener(id) => write!(f, "listener {id}"),
            Self::Policy(id) => write!(f, "policy {id}"),
            Self::Backend(id) => write!(f, "backend {id}"),
            Self::Certificate(id) => write!(f, "certificate {id}"),
            Self::ServerName(id) => write!(f, "server name {id}"),
            Self::Route(id) => write!(f, "route {id}"),
        }
    }
}

/// One Part of any kind with its key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AnyPart {
    /// A Listener.
    Listener(ListenerId, Part<Listener>),
    /// A Policy.
    Policy(PolicyId, Part<Policy>),
    /// A Backend.
    Backend(BackendId, Part<Backend>),
    /// A Certificate.
    Certificate(CertificateId, Part<Certificate>),
    /// A Server name.
    ServerName(ServerNameId, Part<ServerName>),
    /// A Route.
    Route(RouteId, Part<Route>),
}

impl AnyPart {
    /// The key of the Part.
    #[must_use]
    pub fn key(&self) -> PartKey {
        match self {
            Self::Listener(id, _) => PartKey::Listener(id.clone()),
            Self::Policy(id, _) => PartKey::Policy(id.clone()),
            Self::Backend(id, _) => PartKey::Backend(id.clone()),
            Self::Certificate(id, _) => PartKey::Certificate(id.clone()),
            Self::ServerName(id, _) => PartKey::ServerName(id.clone()),
            Self::Route(id, _) => PartKey::Route(id.clone()),
        }
    }

    /// The digest of the Part.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::Listener(_, part) => part.digest(),
            Self::Policy(_, part) => part.digest(),
            Self::Backend(_, part) => part.digest(),
            Self::Certificate(_, part) => part.digest(),
            Self::ServerName(_, part) => part.digest(),
            Self::Route(_, part) => part.digest(),
        }
    }
}

/// What turns one Snapshot into another. Applied as a whole or not at all.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// The digest of the Snapshot that it starts from.
    pub base: Digest,
    /// The digest of the Snapshot that it leads to.
    pub target: Digest,
    /// Parts that are new or have new contents.
    pub upserts: Vec<AnyPart>,
    /// Parts that are gone.
    pub removed: Vec<PartKey>,
    /// The Endpoints of Backends that are new in this Delta, so that none is served without.
    pub endpoints: Vec<(BackendId, Arc<EndpointSet>)>,
    /// The private keys of Certificates that are new in this Delta.
    pub secrets: Vec<(SecretId, Secret)>,
}

impl Delta {
    /// Whether no Part changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.removed.is_empty()
    }
}
