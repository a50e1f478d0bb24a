//! Routes that were read from bytes, made as small as those that were translated.
//!
//! Who reads a Route gets a text of its own for every name in it, and lists with room for more. With
//! thousands of Routes most of that is the same few names again.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use crate::delta::AnyPart;
use crate::matching::{HostMatch, Match, PathMatch};
use crate::name::{BackendId, ListenerId, ObjectKey, PolicyId, RouteId};
use crate::route::{Action, Attachment, Route, Target, TargetAction};

/// The names that several Parts have in common; for the Parts of one Delta.
#[derive(Debug, Default)]
pub struct Compact {
    listeners: HashSet<ListenerId>,
    policies: HashSet<PolicyId>,
    backends: HashSet<BackendId>,
    hosts: HashSet<HostMatch>,
    paths: HashSet<PathMatch>,
    objects: HashSet<ObjectKey>,
    namespaces: HashSet<Arc<str>>,
}

impl Compact {
    /// The same Part, with names shared with those before it. One whose value is shared already is
    /// left as it is.
    #[must_use]
    pub fn part(&mut self, part: AnyPart) -> AnyPart {
        match part {
            AnyPart::Route(mut id, mut part) => {
                self.route_id(&mut id);
                part.rearrange(|route| self.route(route));
                AnyPart::Route(id, part)
            }
            AnyPart::Backend(mut id, part) => {
                self.backend(&mut id);
                AnyPart::Backend(id, part)
            }
            AnyPart::Listener(_, _)
            | AnyPart::Policy(_, _)
            | AnyPart::Certificate(_, _)
            | AnyPart::ServerName(_, _) => part,
        }
    }

    fn route(&mut self, route: &mut Route) {
        let Route { rank: _, attached, matches, filters, policy, action } = route;
        for Attachment { listener, hosts } in attached.iter_mut() {
            share(&mut self.listeners, listener);
            for host in hosts.iter_mut() {
                share(&mut self.hosts, host);
            }
            hosts.shrink_to_fit();
        }
        attached.shrink_to_fit();
        for Match { path, method: _, headers, cookies, query } in matches.iter_mut() {
            share(&mut self.paths, path);
            headers.shrink_to_fit();
            cookies.shrink_to_fit();
            query.shrink_to_fit();
        }
        matches.shrink_to_fit();
        filters.shrink_to_fit();
        share(&mut self.policies, policy);
        match action {
            Action::Forward(targets) => {
                for Target { to, weight: _ } in targets.iter_mut() {
                    match to {
                        TargetAction::Backend(id) => self.backend(id),
                        TargetAction::Refuse { .. } => {}
                    }
                }
                targets.shrink_to_fit();
            }
            Action::Answer | Action::Refuse { .. } => {}
        }
    }

    fn route_id(&mut self, id: &mut RouteId) {
        let Self { objects, namespaces, .. } = self;
        share_object(objects, namespaces, &mut id.object);
    }

    fn backend(&mut self, id: &mut BackendId) {
        if let Some(known) = self.backends.get(id) {
            *id = known.clone();
            return;
        }
        let Self { objects, namespaces, .. } = self;
        share_object(objects, namespaces, &mut id.object);
        self.backends.insert(id.clone());
    }
}

fn share_object(
    objects: &mut HashSet<ObjectKey>,
    namespaces: &mut HashSet<Arc<str>>,
    object: &mut ObjectKey,
) {
    if let Some(known) = objects.get(object) {
        *object = known.clone();
        return;
    }
    let mut namespace = Arc::clone(&object.namespace);
    share(namespaces, &mut namespace);
    *object = object.sharing(namespace);
    objects.insert(object.clone());
}

/// Puts the one that is known in place of an equal one.
fn share<T: Clone + Eq + Hash>(known: &mut HashSet<T>, name: &mut T) {
    match known.get(name) {
        Some(known) => *name = known.clone(),
        None => {
            known.insert(name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::part::Part;

    fn read(id: &str, backend: &str) -> AnyPart {
        let json = format!(
            r#"{{"action":{{"forward":[{{"to":{{"backend":"{backend}"}},"weight":1}}]}},"attached":[{{"hosts":["a.example"],"listener":"http"}},{{"hosts":["a.example"],"listener":"https"}}],"matches":[{{"path":{{"prefix":"/"}}}}],"policy":"p","rank":{{"created":0,"rule":0}}}}"#
        );
        AnyPart::Route(id.parse().unwrap(), Part::read(json.as_bytes()).unwrap())
    }

    fn route(part: &AnyPart) -> (&RouteId, &Arc<Route>) {
        let AnyPart::Route(id, part) = part else { panic!("{part:?}") };
        (id, part.value())
    }

    fn target(route: &Route) -> &BackendId {
        let Action::Forward(targets) = &route.action else { panic!("{route:?}") };
        let TargetAction::Backend(id) = &targets[0].to else { panic!("{targets:?}") };
        id
    }

    #[test]
    fn names_are_shared_and_nothing_is_changed() {
        let written = [
            read("Ingress/shop/a#a.example/", "Service/shop/web:80"),
            read("Ingress/shop/b#a.example/", "Service/shop/web:80"),
        ];
        let mut compact = Compact::default();
        let made = written.clone().map(|part| {
            // Nobody else holds what was just read.
            let AnyPart::Route(id, part) = part else { unreachable!() };
            let part = Part::read(&part.bytes()).unwrap();
            compact.part(AnyPart::Route(id, part))
        });
        assert_eq!(made, written);
        let [(first_id, first), (second_id, second)] = [route(&made[0]), route(&made[1])];
        assert_eq!((first_id, first), route(&written[0]));
        assert!(Arc::ptr_eq(&first_id.object.namespace, &second_id.object.namespace));
        assert!(Arc::ptr_eq(&first_id.object.namespace, &target(first).object.namespace));
        let name = |route: &Route| target(route).object.name.as_ptr();
        assert_eq!(name(first), name(second));
        let host = |route: &Route, at: usize| {
            let HostMatch::Exact(name) = &route.attached[at].hosts[0] else { panic!("{route:?}") };
            name.as_str().as_ptr()
        };
        assert_eq!(host(first, 0), host(second, 1));
        assert_eq!(first.matches.capacity(), 1);
        assert_eq!(first.attached.capacity(), 2);
    }

    #[test]
    fn what_others_hold_is_left_as_it_is() {
        let part = read("Ingress/shop/a#a.example/", "Service/shop/web:80");
        let held = Arc::clone(route(&part).1);
        let same = Compact::default().part(part);
        assert!(Arc::ptr_eq(route(&same).1, &held));
    }
}
