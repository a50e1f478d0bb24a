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
        match &self.body {
            Body::Upstream(upstream) => upstream.standing == Standing::Closed,
            Body::Ingress(ingress) => ingress.doubt.as_ref().is_some_and(|doubt| doubt.is_stand_in),
            Body::IngressClass(_)
            | Body::Service(_)
            | Body::EndpointSlice(_)
            | Body::Secret(_)
            | Body::ConfigMap(_)
            | Body::RouteOverride(_)
            | Body::Fleet(_) => false,
        }
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
    /// All Objects of a kind that the source has, or of a part of it: at start, and after a list.
    Replace(List),
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

/// All that a source has of what a list covers.
#[derive(Clone, Debug)]
pub struct List {
    /// What it covers.
    pub extent: Extent,
    /// The Objects.
    pub objects: Vec<Arc<Object>>,
    /// What exists and could not be decoded; what was known of it stays.
    pub undecodable: Vec<(ObjectKey, Problem)>,
}

impl List {
    /// Of all Objects of `kind`.
    #[must_use]
    pub fn of_kind(kind: ObjectKind, objects: Vec<Arc<Object>>) -> Self {
        Self { extent: Extent::of_kind(kind), objects, undecodable: Vec::new() }
    }
}

/// What a list covers: a kind, perhaps in one namespace, perhaps one name.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Extent {
    /// The kind.
    pub kind: ObjectKind,
    /// The namespace; `None` for all of them, and for kinds without.
    pub namespace: Option<Arc<str>>,
    /// The only name, if it is a list of one object.
    pub name: Option<Arc<str>>,
}

impl Extent {
    /// All Objects of `kind`.
    #[must_use]
    pub fn of_kind(kind: ObjectKind) -> Self {
        Self { kind, namespace: None, name: None }
    }

    /// Whether the list has to name `key` if it exists.
    #[must_use]
    pub fn covers(&self, key: &ObjectKey) -> bool {
        let is = |part: &Option<Arc<str>>, of: &Arc<str>| part.as_ref().is_none_or(|it| it == of);
        self.kind == key.kind && is(&self.namespace, &key.namespace) && is(&self.name, &key.name)
    }

    /// Where the keys that it covers begin; in their order they stand together.
    #[must_use]
    pub fn first_key(&self) -> ObjectKey {
        let (namespace, name) = (self.namespace.as_deref(), self.name.as_deref());
        ObjectKey::new(self.kind, namespace.unwrap_or_default(), name.unwrap_or_default())
    }
}

impl std::fmt::Display for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "kind {}", self.kind)?;
        if let Some(namespace) = &self.namespace {
            write!(f, " in namespace {namespace}")?;
        }
        match &self.name {
            Some(name) => write!(f, " of the name {name}"),
            None => Ok(()),
        }
    }
}

impl Event {
    /// Each by itself, in order.
    #[must_use]
    pub fn apart(self) -> Vec<Self> {
        match self {
            Self::Together(events) => events.into_iter().flat_map(Self::apart).collect(),
            one @ (Self::Upsert(_)
            | Self::Remove(_)
            | Self::Replace(_)
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
