//! Objects: what people wrote, from any source, and the Events that tell of them.

use std::sync::Arc;

use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::problem::Problem;
use kubeng_config::provenance::Provenance;

use crate::kind::Body;
use crate::kind::secret::Access;
use crate::kind::upstream::Standing;

/// One Object as a source has read it.
#[derive(Clone, Debug)]
pub struct Object {
    /// Kind, namespace, name.
    pub key: ObjectKey,
    /// `metadata.creationTimestamp` in seconds since 1970; 0 if it has none.
    pub created: i64,
    /// `metadata.uid`, for Events about it.
    pub uid: Option<Arc<str>>,
    /// Where it was read.
    pub provenance: Provenance,
    /// Who could have written it.
    pub author: Author,
    /// The contents.
    pub body: Body,
    /// Addresses in the status of an Ingress, so that it is written only when it differs.
    pub status_addresses: Box<[String]>,
    /// What is wrong with it although it could be read: unknown fields, wrong types.
    pub problems: Box<[Problem]>,
}

impl Object {
    /// Whether `other` says the same; where and when it was read does not count,
    /// so our own status writes change nothing.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.key == other.key
            && self.created == other.created
            && self.author == other.author
            && self.body == other.body
            && self.problems == other.problems
    }

    /// Whether it stands for one that cannot be taken.
    #[must_use]
    pub fn is_stand_in(&self) -> bool {
        matches!(&self.body, Body::Upstream(upstream) if upstream.standing == Standing::Closed)
    }

    /// Whether it is known only that it may not be read.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        match &self.body {
            Body::Secret(secret) => secret.access == Access::Denied,
            Body::ConfigMap(map) => map.access == Access::Denied,
            Body::Ingress(_)
            | Body::IngressClass(_)
            | Body::Service(_)
            | Body::EndpointSlice(_)
            | Body::Upstream(_)
            | Body::RouteOverride(_)
            | Body::Fleet(_) => false,
        }
    }
}

/// Who could have written an Object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Author {
    /// The operator, who owns the manifest folder. Loopback addresses may be named.
    Operator,
    /// A tenant of the cluster. See [`kubeng_config::address`].
    Tenant,
}

/// Names a source: `manifests:DIR`, `kubernetes`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SourceName(pub Arc<str>);

impl std::fmt::Display for SourceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a source tells.
#[derive(Clone, Debug)]
pub enum Event {
    /// An Object is new or has changed.
    Upsert(Arc<Object>),
    /// An Object is gone.
    Remove(ObjectKey),
    /// All Objects of a kind that the source has: at start, and after a list.
    Replace(ObjectKind, Vec<Arc<Object>>),
    /// An Object exists but could not be decoded; what was known of it stays.
    Undecodable(ObjectKey, Problem),
    /// The source has told all Objects of a kind at least once.
    Synced(ObjectKind),
    /// Several that belong together, such as all that one save of a file changes. They are taken over
    /// in one round, so that nobody is served by half of them.
    Together(Vec<Event>),
    /// The Problems of the source itself, all of them: unreadable files, an
    /// unreachable server, a held removal.
    Problems(Vec<Problem>),
    /// How far the source has been read, told in front of what was read: see
    /// [`Position`](kubeng_config::position::Position).
    ReadTo(u64),
}

impl Event {
    /// Each by itself, in order.
    #[must_use]
    pub fn apart(self) -> Vec<Self> {
        match self {
            Self::Together(events) => events.into_iter().flat_map(Self::apart).collect(),
            one @ (Self::Upsert(_)
            | Self::Remove(_)
            | Self::Replace(..)
            | Self::Undecodable(..)
            | Self::Synced(_)
            | Self::Problems(_)
            | Self::ReadTo(_)) => vec![one],
        }
    }
}

/// What a round changes in the set of known Objects, after sources were put in order.
#[derive(Clone, Debug)]
pub enum Change {
    /// This is what is known of the Object from here on.
    Upsert(Arc<Object>),
    /// The Object is known no more.
    Remove(ObjectKey),
}

impl Change {
    /// The Object that changes.
    #[must_use]
    pub fn key(&self) -> &ObjectKey {
        match self {
            Self::Upsert(object) => &object.key,
            Self::Remove(key) => key,
        }
    }
}
