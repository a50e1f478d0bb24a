//! The persistent set of Objects, and the groups by which queries find them.

use std::collections::BTreeSet;
use std::sync::Arc;

use kubeng_config::matching::HostMatch;
use kubeng_config::name::{ObjectKey, ObjectKind};

use super::query::Read;
use crate::kind::Body;
use crate::kind::ingress_class::ClassParameters;
use crate::kind::route_override::Target;
use crate::object::{Change, Object};
use crate::translate::claims;
use crate::translate::clients::{self, written};
use crate::translate::nginx;
use crate::translate::upstream::routes as upstream_routes;

/// All known Objects but EndpointSlices, which flow beside. A clone is a few pointers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    all: imbl::OrdMap<ObjectKey, Arc<Object>>,
    members: imbl::OrdSet<Member>,
}

/// What Objects have in common, so that a query finds all of them.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Group {
    /// IngressClasses that say they are the default.
    DefaultClasses,
    /// Ingresses that name the host in a rule; those without rules name every host.
    Host(HostMatch),
    /// Ingresses with a tls section that name the host in a rule or there.
    Tls(HostMatch),
    /// Ingresses that name the host in a rule and ask its clients for certificates; never every host.
    Clients(HostMatch),
    /// Ingresses, and Upstreams with routes, that claim a host and path: see [`claims`].
    Claim(Arc<str>),
    /// RouteOverrides that are for it.
    Overrides(Target),
    /// Fleets that say they serve the class.
    Serving(Arc<str>),
    /// All Fleets.
    Fleets,
    /// IngressClasses whose parameters name the Fleet.
    ClassesOf(Arc<str>),
}

/// One Object in one group. Ordered by group, then as conflicts are: by age, then by key.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Member {
    group: Group,
    created: i64,
    key: ObjectKey,
}

impl Objects {
    /// The Object of `key`.
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.all.get(key)
    }

    /// All Objects by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.all.values()
    }

    /// All Objects of a kind by key.
    pub(crate) fn of_kind(&self, kind: ObjectKind) -> impl Iterator<Item = &Arc<Object>> {
        let objects = self.all.range(ObjectKey::new(kind, "", "")..);
        objects.map(|(_, object)| object).take_while(move |object| object.key.kind == kind)
    }

    /// The members of `group`, the oldest first.
    pub(crate) fn members(&self, group: &Group) -> impl Iterator<Item = &ObjectKey> + use<'_> {
        let first = Member {
            group: group.clone(),
            created: i64::MIN,
            key: ObjectKey::new(ObjectKind::Ingress, "", ""),
        };
        let group = group.clone();
        self.members
            .range(first..)
            .take_while(move |member| member.group == group)
            .map(|member| &member.key)
    }

    /// Whether `group` has more than one member.
    pub(crate) fn is_crowd(&self, group: &Group) -> bool {
        self.members(group).nth(1).is_some()
    }

    /// The names below a wildcard that rules of Ingresses name.
    pub(crate) fn hosts_below<'a>(
        &'a self,
        wildcard: &'a HostMatch,
    ) -> impl Iterator<Item = &'a HostMatch> {
        let first = Member {
            group: Group::Host(HostMatch::Any),
            created: i64::MIN,
            key: ObjectKey::new(ObjectKind::Ingress, "", ""),
        };
        let hosts = self.members.range(first..).map_while(|member| match &member.group {
            Group::Host(host) => Some(host),
            Group::DefaultClasses
            | Group::Tls(_)
            | Group::Clients(_)
            | Group::Claim(_)
            | Group::Overrides(_)
            | Group::Serving(_)
            | Group::Fleets
            | Group::ClassesOf(_) => None,
        });
        hosts.filter(|host| clients::wildcard_of(host).as_ref() == Some(wildcard))
    }

    /// Takes a change over and returns what reads differently after it.
    pub(crate) fn apply(&mut self, change: &Change) -> Vec<Read> {
        let key = change.key();
        let before = self.all.get(key).cloned();
        let after = match change {
            Change::Upsert(object) => Some(Arc::clone(object)),
            Change::Remove(_) => None,
        };
        match &after {
            Some(object) => drop(self.all.insert(key.clone(), Arc::clone(object))),
            None => drop(self.all.remove(key)),
        }
        let says_the_same = match (&before, &after) {
            (Some(before), Some(after)) => before.says_the_same(after),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if says_the_same {
            return Vec::new();
        }
        let mut reads = vec![Read::Object(key.clone())];
        let old = before.as_deref().map(members_of).unwrap_or_default();
        let new = after.as_deref().map(members_of).unwrap_or_default();
        for member in old.symmetric_difference(&new) {
            let was_crowd = self.is_crowd(&member.group);
            if new.contains(member) {
                self.members.insert(member.clone());
            } else {
                self.members.remove(member);
            }
            if let Group::Claim(claim) = &member.group
                && was_crowd != self.is_crowd(&member.group)
            {
                reads.push(Read::Contest(Arc::clone(claim)));
            }
            reads.push(Read::Group(member.group.clone()));
        }
        reads
    }
}

/// The places that an Object has in groups.
fn members_of(object: &Object) -> BTreeSet<Member> {
    let place = |group| Member { group, created: object.created, key: object.key.clone() };
    match &object.body {
        Body::Ingress(ingress) => {
            let mut groups: Vec<Group> = Vec::new();
            let hosts = claims::rule_hosts(ingress);
            if claims::has_tls(ingress) {
                groups.extend(hosts.iter().cloned().map(Group::Tls));
                groups.extend(claims::tls_hosts(ingress).into_iter().map(Group::Tls));
            }
            if written::asks(ingress) {
                let named = hosts.iter().filter(|host| **host != HostMatch::Any);
                groups.extend(named.cloned().map(Group::Clients));
            }
            // What was a part of another Ingress takes nothing from that.
            if !nginx::is_canary(ingress) {
                groups.extend(hosts.into_iter().map(Group::Host));
                groups.extend(claims::claims(ingress).into_iter().map(Group::Claim));
            }
            groups.into_iter().map(place).collect()
        }
        Body::IngressClass(class) => {
            let default = class.is_default.then_some(Group::DefaultClasses);
            let of = match &class.parameters {
                ClassParameters::Fleet(name) => Some(Group::ClassesOf((**name).into())),
                ClassParameters::Absent | ClassParameters::Unknown(_) => None,
            };
            default.into_iter().chain(of).map(place).collect()
        }
        Body::Upstream(upstream) => {
            let claims = upstream_routes::claims(upstream).into_iter();
            claims.map(Group::Claim).map(place).collect()
        }
        Body::Service(_) | Body::EndpointSlice(_) | Body::Secret(_) | Body::ConfigMap(_) => {
            BTreeSet::new()
        }
        Body::Fleet(fleet) => {
            let classes = fleet.ingress_classes.iter();
            let serving = classes.map(|class| Group::Serving(class.as_str().into()));
            serving.chain([Group::Fleets]).map(place).collect()
        }
        Body::RouteOverride(wanted) => {
            wanted.targets().cloned().map(Group::Overrides).map(place).collect()
        }
    }
}
