//! The Index: listener, host and path to what serves them.
//!
//! Used by the Table, where `T` is a compiled Route, and wherever many
//! requests are asked about, where `T` is a key. It gives what
//! [`explain`](crate::explain) gives, in constant time. A clone is cheap and a
//! change copies the routes of one host.

mod by_path;
pub mod host;
pub mod path;
pub mod walk;

use std::collections::HashMap;
use std::sync::Arc;

use crate::listener::Listener;
use crate::matching::{HostMatch, Match, PathPrefix};
use crate::name::{ListenerId, RouteId};
use crate::request::RequestHead;
use crate::route::Route;
use host::Hosts;
use path::Paths;

/// From listener, host and path to what serves them.
#[derive(Clone, Debug)]
pub struct Index<T> {
    listeners: imbl::OrdMap<ListenerId, Hosts<T>>,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { listeners: imbl::OrdMap::new() }
    }
}

/// The paths of a host, taken out of a Listener to be changed.
struct Taken<'a, T> {
    from: &'a ListenerId,
    paths: Option<Arc<Paths<T>>>,
}

/// What serves a request, and by which Match.
#[derive(Debug)]
pub struct Found<'a, T> {
    /// What was put in with the Route.
    pub value: &'a T,
    /// The Match that the request fits.
    pub by: &'a Match,
}

impl<T> Found<'_, T> {
    /// The prefix that was matched, if a prefix was.
    #[must_use]
    pub fn prefix(&self) -> Option<&PathPrefix> {
        match &self.by.path {
            crate::matching::PathMatch::Prefix(prefix) => Some(prefix),
            crate::matching::PathMatch::Exact(_)
            | crate::matching::PathMatch::Regex(_)
            | crate::matching::PathMatch::Otherwise => None,
        }
    }
}

impl<T: Clone> Index<T> {
    /// Puts a Route in. One that is there already must be taken out first.
    pub fn insert(&mut self, id: &RouteId, route: &Arc<Route>, value: &T) {
        self.change(route, |paths| paths.insert(id, route, value));
    }

    /// Takes a Route out, as it was put in.
    pub fn remove(&mut self, id: &RouteId, route: &Route) {
        self.change(route, |paths| paths.remove(id, route));
        for attachment in &route.attached {
            if self.listeners.get(&attachment.listener).is_some_and(Hosts::is_empty) {
                self.listeners.remove(&attachment.listener);
            }
        }
    }

    /// Damages the paths of a Route's hosts on purpose: no prefix is found there any more although all
    /// are in place. For tests that see that such damage is noticed.
    #[cfg(debug_assertions)]
    pub fn hide_prefixes(&mut self, route: &Route) {
        self.change(route, Paths::hide_prefixes);
    }

    /// Changes the paths of every host at which `route` is served.
    ///
    /// Nearly always several Listeners serve the same under a host: what they
    /// share before, they share after it.
    fn change(&mut self, route: &Route, change: impl Fn(&mut Paths<T>)) {
        let mut by_host: HashMap<&HostMatch, Vec<Taken<'_, T>>> = HashMap::new();
        for attachment in &route.attached {
            let hosts = self.listeners.entry(attachment.listener.clone()).or_default();
            for host in &attachment.hosts {
                let taken = by_host.entry(host).or_default();
                if !taken.iter().any(|other| *other.from == attachment.listener) {
                    // Taken out, so that only what an older Index still shares is copied.
                    taken.push(Taken { from: &attachment.listener, paths: hosts.take(host) });
                }
            }
        }
        for (host, mut taken) in by_host {
            while let Some(Taken { from, paths }) = taken.pop() {
                let is_same = |other: &mut Taken<'_, T>| {
                    let of = |paths: &Option<Arc<Paths<T>>>| paths.as_ref().map(Arc::as_ptr);
                    of(&other.paths) == of(&paths)
                };
                let sharing: Vec<&ListenerId> =
                    taken.extract_if(.., is_same).map(|other| other.from).collect();
                let mut paths = paths.unwrap_or_default();
                change(Arc::make_mut(&mut paths));
                for listener in sharing.into_iter().chain([from]) {
                    if let Some(hosts) = self.listeners.get_mut(listener) {
                        hosts.put(host, &paths);
                    }
                }
            }
        }
    }

    /// What serves `request` on `listener`.
    ///
    /// The most special host that is known decides alone: when none of its
    /// paths fits there is no answer, also when a wider host has one.
    #[must_use]
    pub fn find(&self, listener: &ListenerId, request: &RequestHead<'_>) -> Option<Found<'_, T>> {
        self.listeners.get(listener)?.find(request.host)?.find(request)
    }
}

/// The one of `listeners` that takes a request for `host`: the most special that accepts it.
///
/// All of them share one socket. Ties go to the smaller name.
pub fn listener_for<'a>(
    listeners: impl Iterator<Item = (&'a ListenerId, &'a Listener)>,
    host: Option<&str>,
) -> Option<&'a ListenerId> {
    listeners
        .filter(|(_, listener)| listener.host.accepts(host))
        .max_by(|(a, one), (b, other)| {
            one.host.specificity().cmp(&other.host.specificity()).then(b.cmp(a))
        })
        .map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::PathMatch;
    use crate::problem::BACKEND_NOT_FOUND;
    use crate::route::{Action, Attachment, Rank, Refusal};

    const HOST: &str = "a.example";

    fn route(listeners: &[&str]) -> Arc<Route> {
        let hosts = vec![HOST.parse().unwrap()];
        let attach =
            |name: &&str| Attachment { listener: name.parse().unwrap(), hosts: hosts.clone() };
        Arc::new(Route {
            rank: Rank { created: 0, rule: 0 },
            attached: listeners.iter().map(attach).collect(),
            matches: vec![Match::of_path(PathMatch::Otherwise)],
            filters: Vec::new(),
            policy: "fleet/main".parse().unwrap(),
            action: Action::Refuse {
                status: Refusal::ServiceUnavailable,
                because: BACKEND_NOT_FOUND,
            },
        })
    }

    fn id(rule: &str) -> RouteId {
        RouteId::new("Ingress/shop/web".parse().unwrap(), rule)
    }

    fn do_share(index: &Index<()>) -> bool {
        let paths = |listener: &str| {
            let hosts = index.listeners.get(&listener.parse::<ListenerId>().unwrap()).unwrap();
            std::ptr::from_ref(hosts.find(Some(HOST)).unwrap())
        };
        paths("http") == paths("https")
    }

    #[test]
    fn listeners_that_serve_the_same_under_a_host_share_it() {
        let mut index = Index::default();
        index.insert(&id("a"), &route(&["http", "https"]), &());
        index.insert(&id("b"), &route(&["http", "https"]), &());
        assert!(do_share(&index));
        index.insert(&id("c"), &route(&["https"]), &());
        assert!(!do_share(&index));
        index.remove(&id("a"), &route(&["http", "https"]));
        index.remove(&id("b"), &route(&["http", "https"]));
        assert!(index.listeners.contains_key(&"https".parse::<ListenerId>().unwrap()));
        assert!(
            !index.listeners.contains_key(&"http".parse::<ListenerId>().unwrap()),
            "it serves nothing"
        );
    }

    #[test]
    fn a_listener_named_twice_has_the_route_once() {
        let mut index = Index::default();
        index.insert(&id("a"), &route(&["http", "http"]), &());
        index.remove(&id("a"), &route(&["http", "http"]));
        assert!(index.listeners.is_empty());
    }
}
