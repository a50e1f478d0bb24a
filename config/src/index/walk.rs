//! Every place of an Index, as look-ups find it: what a Table really holds.

use std::sync::Arc;

use super::Index;
use crate::matching::{HostMatch, PathMatch};
use crate::name::{ListenerId, RouteId};
use crate::route::Route;

/// One Match of a Route, at one place where look-ups find it.
#[derive(Debug)]
pub struct Place<'a, T> {
    /// The Listener under which it is found.
    pub listener: &'a ListenerId,
    /// The host.
    pub host: HostMatch,
    /// The path.
    pub path: PathMatch,
    /// What is there.
    pub placed: Placed<'a, T>,
}

/// What is found at a place.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a, T> {
    /// The Route.
    pub id: &'a RouteId,
    /// What requests are compared with.
    pub route: &'a Arc<Route>,
    /// Which of its Matches.
    pub at: usize,
    /// What serves those that fit.
    pub value: &'a T,
}

impl<T: Clone> Index<T> {
    /// Every place, in no order; a Route stands at several.
    pub fn places(&self) -> impl Iterator<Item = Place<'_, T>> {
        self.listeners.iter().flat_map(|(listener, hosts)| {
            hosts.iter().flat_map(move |(host, paths)| {
                paths.iter().map(move |(path, placed)| Place {
                    listener,
                    host: host.clone(),
                    path,
                    placed,
                })
            })
        })
    }
}
