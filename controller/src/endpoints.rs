//! EndpointSlices to EndpointSets, beside translation: they never make a revision.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use kubeng_config::address::{Gate, Reserved};
use kubeng_config::canonical::Digest;
use kubeng_config::endpoint::{Endpoint, EndpointSet};
use kubeng_config::name::{BackendId, ObjectKey, ObjectKind};
use kubeng_config::problem::{ADDRESS_FORBIDDEN, Problem, Subject};

use crate::kind::Body;
use crate::kind::endpoint_slice::{EndpointSlice, SliceEndpoint};
use crate::kind::service::service_of;
use crate::object::{Change, Object};
use crate::translate::backend::address_rule;

/// The EndpointSets of all Service ports.
///
/// Takes the same changes as [`World`](crate::world::World) and uses only
/// Services and EndpointSlices. A Backend that it does not know has an empty set.
#[derive(Debug, Default)]
pub struct EndpointBook {
    /// Sockets of the control plane, to which tenants may not lead.
    reserved: Reserved,
    services: HashMap<ObjectKey, Known>,
    /// The Service of each slice, to find it again when its label changes.
    service_of: HashMap<ObjectKey, ObjectKey>,
    sets: BTreeMap<BackendId, Arc<EndpointSet>>,
    /// By slice, those that have any.
    problems: BTreeMap<ObjectKey, Vec<Problem>>,
}

/// What is known of one Service.
#[derive(Debug, Default)]
struct Known {
    service: Option<Arc<Object>>,
    slices: BTreeMap<ObjectKey, Arc<Object>>,
}

impl EndpointBook {
    /// A book in which tenants may not lead to `reserved`.
    #[must_use]
    pub fn new(reserved: Reserved) -> Self {
        Self { reserved, ..Self::default() }
    }

    /// The set of `backend`; empty if nothing is known of it.
    #[must_use]
    pub fn get(&self, backend: &BackendId) -> Arc<EndpointSet> {
        self.sets.get(backend).cloned().unwrap_or_default()
    }

    /// Every set that is known, by Backend.
    pub fn iter(&self) -> impl Iterator<Item = (&BackendId, &Arc<EndpointSet>)> {
        self.sets.iter()
    }

    /// Slices that name addresses which their authors may not.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.values().flatten()
    }

    /// The digest over all sets that hold an Endpoint.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let sets = self.sets.iter().filter(|(_, set)| !set.as_slice().is_empty());
        let lines: Vec<String> =
            sets.map(|(id, set)| format!("{id}\n{}\n", set.digest())).collect();
        Digest::of(lines.iter().map(String::as_bytes))
    }

    /// Takes a change over and returns the sets that are different after it.
    pub fn take(&mut self, change: &Change) -> Vec<(BackendId, Arc<EndpointSet>)> {
        let key = change.key();
        match key.kind {
            ObjectKind::Service => {
                let service = match change {
                    Change::Upsert(object) => Some(Arc::clone(object)),
                    Change::Remove(_) => None,
                };
                self.services.entry(key.clone()).or_default().service = service;
                self.settle(key)
            }
            ObjectKind::EndpointSlice => self.take_slice(change),
            ObjectKind::Ingress
            | ObjectKind::IngressClass
            | ObjectKind::Secret
            | ObjectKind::Upstream
            | ObjectKind::ConfigMap
            | ObjectKind::RouteOverride
            | ObjectKind::Fleet => Vec::new(),
        }
    }

    fn take_slice(&mut self, change: &Change) -> Vec<(BackendId, Arc<EndpointSet>)> {
        let key = change.key();
        let mut touched = BTreeSet::new();
        if let Some(service) = self.service_of.remove(key) {
            if let Some(known) = self.services.get_mut(&service) {
                known.slices.remove(key);
            }
            touched.insert(service);
        }
        self.problems.remove(key);
        if let Change::Upsert(object) = change
            && let Some((slice, service)) = slice_of(object)
        {
            let problems = problems_of(&self.reserved, object, slice);
            if !problems.is_empty() {
                self.problems.insert(key.clone(), problems);
            }
            let known = self.services.entry(service.clone()).or_default();
            known.slices.insert(key.clone(), Arc::clone(object));
            self.service_of.insert(key.clone(), service.clone());
            touched.insert(service);
        }
        touched.iter().flat_map(|service| self.settle(service)).collect()
    }

    /// Computes the sets of one Service anew; returns those that are different.
    fn settle(&mut self, service: &ObjectKey) -> Vec<(BackendId, Arc<EndpointSet>)> {
        let id = |port: u16| BackendId { object: service.clone(), port: Some(port) };
        let before: Vec<BackendId> =
            self.sets.range(id(0)..=id(u16::MAX)).map(|(id, _)| id.clone()).collect();
        let mut after = BTreeMap::new();
        if let Some(known) = self.services.get(service) {
            if known.service.is_none() && known.slices.is_empty() {
                self.services.remove(service);
            } else if let Some(ports) = known.service.as_deref().and_then(service_of) {
                let sets = ports
                    .ports
                    .iter()
                    .map(|port| (id(port.port), known.set(&self.reserved, port.name.as_deref())));
                after.extend(sets);
            }
        }
        let mut changed = Vec::new();
        for gone in before.into_iter().filter(|id| !after.contains_key(id)) {
            let set = self.sets.remove(&gone).unwrap_or_default();
            if !set.as_slice().is_empty() {
                changed.push((gone, Arc::default()));
            }
        }
        for (id, set) in after {
            if *self.get(&id) != set {
                let set = Arc::new(set);
                self.sets.insert(id.clone(), Arc::clone(&set));
                changed.push((id, set));
            } else {
                self.sets.entry(id).or_default();
            }
        }
        changed
    }
}

impl Known {
    /// The Endpoints behind the Service port of this name.
    ///
    /// All that are ready; if none is, those that still serve while they end.
    /// Never those that are not ready and not ending (KEP-1669, KEP-1672).
    fn set(&self, reserved: &Reserved, port: Option<&str>) -> EndpointSet {
        let mut ready = Vec::new();
        let mut ending = Vec::new();
        for object in self.slices.values() {
            let Some((slice, _)) = slice_of(object) else { continue };
            let named =
                |name: Option<&str>| name.filter(|name| !name.is_empty()).map(str::to_owned);
            let ports =
                slice.ports.iter().filter(|other| named(other.name.as_deref()) == named(port));
            for port in ports {
                for endpoint in &slice.endpoints {
                    let usable = usable(reserved, object, endpoint, port.port);
                    let Some(usable) = usable else { continue };
                    if endpoint.is_ready {
                        ready.push(usable);
                    } else if endpoint.is_serving && endpoint.is_terminating {
                        ending.push(usable);
                    }
                }
            }
        }
        EndpointSet::new(if ready.is_empty() { ending } else { ready })
    }
}

/// The Endpoint; none if it has no address, or one that the author may not name.
fn usable(
    reserved: &Reserved,
    object: &Object,
    endpoint: &SliceEndpoint,
    port: u16,
) -> Option<Endpoint> {
    // All addresses of one entry lead to the same Pod, so one is enough.
    let address = SocketAddr::new(*endpoint.addresses.first()?, port);
    let gate = Gate { rule: address_rule(object.author), reserved };
    if gate.forbids(address).is_some() {
        return None;
    }
    Some(Endpoint { zone: endpoint.zone.clone(), ..Endpoint::new(address) })
}

fn problems_of(reserved: &Reserved, object: &Object, slice: &EndpointSlice) -> Vec<Problem> {
    let rule = address_rule(object.author);
    let gate = Gate { rule, reserved };
    let addresses = slice.endpoints.iter().enumerate().filter_map(|(number, endpoint)| {
        let address = *endpoint.addresses.first()?;
        if let Some(why) = rule.forbids(address) {
            return Some((number, address.to_string(), why));
        }
        slice.ports.iter().find_map(|port| {
            let socket = SocketAddr::new(address, port.port);
            Some((number, socket.to_string(), gate.forbids(socket)?))
        })
    });
    let forbidden = addresses.map(|(number, address, why)| Problem {
        subject: Subject::Object(object.key.clone()),
        field: format!("/endpoints/{number}/addresses/0"),
        code: ADDRESS_FORBIDDEN,
        message: format!("{address} is {why}"),
        remedy: "name an address of the service itself".to_owned(),
        provenance: Some(object.provenance.clone()),
    });
    object.problems.iter().cloned().chain(forbidden).collect()
}

/// A slice and the Service that it belongs to.
fn slice_of(object: &Object) -> Option<(&EndpointSlice, ObjectKey)> {
    match &object.body {
        Body::EndpointSlice(slice) => {
            let service = slice.service.as_deref()?;
            Some((slice, ObjectKey::new(ObjectKind::Service, &object.key.namespace, service)))
        }
        Body::Ingress(_)
        | Body::IngressClass(_)
        | Body::Service(_)
        | Body::Secret(_)
        | Body::Upstream(_)
        | Body::ConfigMap(_)
        | Body::RouteOverride(_)
        | Body::Fleet(_) => None,
    }
}

#[cfg(test)]
mod tests;
