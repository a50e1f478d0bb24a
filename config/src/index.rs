//! The Index: listener, host and path to what serves them.
//!
//! Used by the Table, where `T` is a compiled Route, and wherever many
//! requests are asked about, where `T` is a key. It gives what
//! [`explain`](crate::explain) gives, in constant time. A clone is cheap and a
//! change copies the routes of one host.

pub mod host;
pub mod path;

use std::sync::Arc;

use crate::listener::Listener;
use crate::matching::{Match, PathPrefix};
use crate::name::{ListenerId, RouteId};
use crate::request::RequestHead;
use crate::route::Route;
use host::Hosts;

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
        for attachment in &route.attached {
            let hosts = self.listeners.entry(attachment.listener.clone()).or_default();
            for host in &attachment.hosts {
                hosts.update(host, |paths| paths.insert(id, route, value));
            }
        }
    }

    /// Takes a Route out, as it was put in.
    pub fn remove(&mut self, id: &RouteId, route: &Route) {
        for attachment in &route.attached {
            let Some(hosts) = self.listeners.get_mut(&attachment.listener) else { continue };
            for host in &attachment.hosts {
                hosts.update(host, |paths| paths.remove(id, route));
            }
            if hosts.is_empty() {
                self.listeners.remove(&attachment.listener);
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
