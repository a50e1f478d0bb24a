//! Queries: what can be computed and remembered, and what computing it may read.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use kubeng_config::backend::tls::Roots;
use kubeng_config::delta::AnyPart;
use kubeng_config::matching::HostMatch;
use kubeng_config::name::{BackendId, ObjectKey};
use kubeng_config::problem::Problem;

use super::objects::Group;
use crate::translate::backend::Target;
use crate::translate::certificate::Chain;
use crate::translate::credential::Credentials;
use crate::translate::fleet::FleetParts;
use crate::translate::fragment::Fragment;
use crate::translate::host::HostSettings;
use crate::translate::refusal::Refused;

/// What can be computed and remembered.
///
/// The order is the level: a query reads Objects, and queries above it in this
/// list, so there are no cycles.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Query {
    /// Whether Ingresses without a class are ours.
    Classless,
    /// Chain and key of a Secret.
    Certificate(ObjectKey),
    /// The authorities of a ConfigMap or Secret.
    Authorities(ObjectKey),
    /// What a Secret or ConfigMap holds for filters.
    Credentials(ObjectKey),
    /// The number of a Service port that is named.
    PortNumber(ObjectKey, Arc<str>),
    /// What a Service port or an Upstream became.
    Backend(BackendId),
    /// The oldest Ingress of ours that claims a host and path.
    Winner(Arc<str>),
    /// The oldest Ingress of ours that names a host.
    Oldest(HostMatch),
    /// What all Ingresses of one host decide together.
    Host(HostMatch),
    /// Listeners, the default Policy, the default backend.
    Fleet,
    /// What is wrong with a RouteOverride beside others.
    Override(ObjectKey),
    /// What one Ingress became, or the routes of one Upstream.
    Fragment(ObjectKey),
}

impl Query {
    /// Whether the query is about the Object of `key`, and so reads it by nature.
    pub(crate) fn is_about(&self, key: &ObjectKey) -> bool {
        match self {
            Self::Certificate(about)
            | Self::Authorities(about)
            | Self::Credentials(about)
            | Self::PortNumber(about, _)
            | Self::Override(about)
            | Self::Fragment(about) => about == key,
            Self::Backend(id) => id.object == *key,
            Self::Classless | Self::Winner(_) | Self::Oldest(_) | Self::Host(_) | Self::Fleet => {
                false
            }
        }
    }
}

impl Query {
    /// The Object whose overrides, and those of its namespace, the query asks for by nature.
    pub(crate) fn asks_for_overrides_of(&self) -> Option<&ObjectKey> {
        match self {
            Self::Backend(id) => Some(&id.object),
            Self::Fragment(key) => Some(key),
            Self::Classless
            | Self::Certificate(_)
            | Self::Authorities(_)
            | Self::Credentials(_)
            | Self::PortNumber(..)
            | Self::Winner(_)
            | Self::Oldest(_)
            | Self::Host(_)
            | Self::Fleet
            | Self::Override(_) => None,
        }
    }
}

/// What a query gave. Cheap to clone, and small: there is one for every Object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// Of [`Query::Classless`].
    Classless(Claim),
    /// Of [`Query::Certificate`].
    Certificate(Arc<Chain>),
    /// Of [`Query::Authorities`].
    Authorities(Arc<Result<Roots, Refused>>),
    /// Of [`Query::Credentials`].
    Credentials(Arc<Credentials>),
    /// Of [`Query::PortNumber`].
    PortNumber(Result<u16, Arc<Refused>>),
    /// Of [`Query::Backend`].
    Backend(Arc<Target>),
    /// Of [`Query::Winner`].
    Winner(Option<Arc<ObjectKey>>),
    /// Of [`Query::Oldest`].
    Oldest(Option<Arc<Oldest>>),
    /// Of [`Query::Host`].
    Host(Arc<HostSettings>),
    /// Of [`Query::Fleet`].
    Fleet(Arc<FleetParts>),
    /// Of [`Query::Override`].
    Override(Arc<[Problem]>),
    /// Of [`Query::Fragment`].
    Fragment(Arc<Fragment>),
}

/// Whether something is ours to serve.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Claim {
    /// We serve it.
    Ours,
    /// Somebody else does, or nobody.
    Foreign,
}

/// The oldest Ingress of a host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Oldest {
    pub(crate) ingress: ObjectKey,
    /// Whether it has a default backend of its own.
    pub(crate) default_backend: DefaultOfIngress,
}

/// Whether an Ingress has a default backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum DefaultOfIngress {
    Given,
    Absent,
}

impl Answer {
    /// Whether those who read the query see a difference between two answers.
    ///
    /// Who reads a Backend or a Certificate looks at its name or at whom it
    /// covers, never at the Part: a new endpoint of an Upstream must not
    /// translate every Ingress that leads there again.
    pub(crate) fn looks_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Backend(a), Self::Backend(b)) => {
                a.outcome() == b.outcome() && a.wants_tls() == b.wants_tls()
            }
            (Self::Host(a), Self::Host(b)) => {
                a.certificate == b.certificate && a.clients == b.clients
            }
            _ => self == other,
        }
    }

    /// The Parts that stand in the Snapshot because of this answer alone.
    pub(crate) fn roots(&self) -> &[AnyPart] {
        match self {
            Self::Host(host) => &host.parts,
            Self::Fleet(fleet) => &fleet.parts,
            Self::Fragment(fragment) => &fragment.routes,
            Self::Classless(_)
            | Self::Certificate(_)
            | Self::Authorities(_)
            | Self::Credentials(_)
            | Self::PortNumber(_)
            | Self::Backend(_)
            | Self::Winner(_)
            | Self::Oldest(_)
            | Self::Override(_) => &[],
        }
    }

    /// The Parts that stand in the Snapshot as long as a root points at them.
    pub(crate) fn supplies(&self) -> &[AnyPart] {
        match self {
            Self::Certificate(chain) => chain.part().map_or(&[], std::slice::from_ref),
            Self::Backend(target) => target.part().map_or(&[], std::slice::from_ref),
            Self::Fleet(fleet) => std::slice::from_ref(&fleet.policy),
            Self::Fragment(fragment) => &fragment.policies,
            Self::Classless(_)
            | Self::Authorities(_)
            | Self::Credentials(_)
            | Self::PortNumber(_)
            | Self::Winner(_)
            | Self::Oldest(_)
            | Self::Host(_)
            | Self::Override(_) => &[],
        }
    }

    /// What is wrong with the Objects behind it.
    pub(crate) fn problems(&self) -> &[Problem] {
        match self {
            Self::Backend(target) => target.problems(),
            Self::Fleet(fleet) => &fleet.problems,
            Self::Override(problems) => problems,
            Self::Fragment(fragment) => &fragment.problems,
            Self::Classless(_)
            | Self::Certificate(_)
            | Self::Authorities(_)
            | Self::Credentials(_)
            | Self::PortNumber(_)
            | Self::Winner(_)
            | Self::Oldest(_)
            | Self::Host(_) => &[],
        }
    }
}

/// What a query may look at.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Read {
    /// An Object, also one that does not exist.
    Object(ObjectKey),
    /// The members of a group and their order.
    Group(Group),
    /// Whether several Ingresses make a claim. Never noted: see `Memo::readers_of`.
    Contest(Arc<str>),
    /// An answer.
    Query(Query),
}

impl Read {
    /// What stands for the read where many are remembered.
    ///
    /// Two reads of one mark would only ask somebody again in vain, so 64 bits
    /// without a key are enough.
    pub(crate) fn mark(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}
