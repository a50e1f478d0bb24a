//! From a path to the Routes that may take it, best first.

use std::collections::HashMap;
use std::sync::Arc;

use super::Found;
use crate::matching::{Match, PathMatch};
use crate::name::RouteId;
use crate::request::RequestHead;
use crate::route::{Route, precedence};

type Map<V> = HashMap<Arc<str>, V, foldhash::fast::RandomState>;

/// The paths of one host.
///
/// A path costs as many look-ups as it has elements, however many Routes the
/// host has. Regular expressions are tried one after the other.
#[derive(Clone, Debug)]
pub(super) struct Paths<T> {
    exact: Map<Entries<T>>,
    /// The longest text first.
    regexes: Vec<(crate::matching::Pattern, Entries<T>)>,
    /// By prefix without closing slash.
    prefixes: Map<Entries<T>>,
    otherwise: Entries<T>,
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self {
            exact: Map::default(),
            regexes: Vec::new(),
            prefixes: Map::default(),
            otherwise: Entries::default(),
        }
    }
}

/// All Matches that ask for one path, best first.
#[derive(Clone, Debug)]
struct Entries<T>(Vec<Entry<T>>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

#[derive(Clone, Debug)]
struct Entry<T> {
    id: RouteId,
    route: Arc<Route>,
    /// Which Match of the Route.
    at: usize,
    value: T,
}

impl<T> Entry<T> {
    fn wanted(&self) -> &Match {
        &self.route.matches[self.at]
    }

    /// Whether this one is tried before `other`. The order that `explain` states.
    fn comes_before(&self, other: &Self) -> bool {
        let demands = other.wanted().demands().cmp(&self.wanted().demands());
        let place = || precedence((&self.id, &self.route), (&other.id, &other.route));
        demands.then_with(place).then(self.at.cmp(&other.at)).is_lt()
    }
}

impl<T: Clone> Paths<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty()
            && self.regexes.is_empty()
            && self.prefixes.is_empty()
            && self.otherwise.0.is_empty()
    }

    pub(super) fn insert(&mut self, id: &RouteId, route: &Arc<Route>, value: &T) {
        for (at, wanted) in route.matches.iter().enumerate() {
            let entry =
                Entry { id: id.clone(), route: Arc::clone(route), at, value: value.clone() };
            let entries = self.entries_of(&wanted.path);
            let place = entries.0.partition_point(|there| there.comes_before(&entry));
            entries.0.insert(place, entry);
        }
    }

    /// Takes the Matches of a Route out; paths that nobody asks for any more are forgotten.
    pub(super) fn remove(&mut self, id: &RouteId, route: &Route) {
        for wanted in &route.matches {
            let entries = self.entries_of(&wanted.path);
            entries.0.retain(|entry| entry.id != *id);
            if !entries.0.is_empty() {
                continue;
            }
            match &wanted.path {
                PathMatch::Exact(path) => drop(self.exact.remove(path.as_str())),
                PathMatch::Prefix(prefix) => drop(self.prefixes.remove(prefix.as_str())),
                PathMatch::Regex(pattern) => self.regexes.retain(|(there, _)| there != pattern),
                PathMatch::Otherwise => {}
            }
        }
    }

    fn entries_of(&mut self, path: &PathMatch) -> &mut Entries<T> {
        match path {
            PathMatch::Exact(path) => self.exact.entry(path.as_str().into()).or_default(),
            PathMatch::Prefix(prefix) => self.prefixes.entry(prefix.as_str().into()).or_default(),
            PathMatch::Otherwise => &mut self.otherwise,
            PathMatch::Regex(pattern) => {
                let key = |pattern: &crate::matching::Pattern| {
                    (std::cmp::Reverse(pattern.as_str().len()), pattern.as_str().to_owned())
                };
                let wanted = key(pattern);
                let place = self.regexes.partition_point(|(there, _)| key(there) < wanted);
                if self.regexes.get(place).is_none_or(|(there, _)| there != pattern) {
                    self.regexes.insert(place, (pattern.clone(), Entries::default()));
                }
                &mut self.regexes[place].1
            }
        }
    }

    /// Tries exact paths, regular expressions, prefixes from long to short, then the rest.
    pub(super) fn find(&self, request: &RequestHead<'_>) -> Option<Found<'_, T>> {
        let exact = self.exact.get(request.path).and_then(|entries| entries.find(request));
        exact
            .or_else(|| {
                self.regexes
                    .iter()
                    .filter(|(pattern, _)| pattern.accepts(request.path))
                    .find_map(|(_, entries)| entries.find(request))
            })
            .or_else(|| self.find_prefix(request))
            .or_else(|| self.otherwise.find(request))
    }

    fn find_prefix(&self, request: &RequestHead<'_>) -> Option<Found<'_, T>> {
        if self.prefixes.is_empty() {
            return None;
        }
        let mut prefix = request.path;
        loop {
            if let Some(found) = self.prefixes.get(prefix).and_then(|entries| entries.find(request))
            {
                return Some(found);
            }
            prefix = &prefix[..prefix.rfind('/')?];
        }
    }
}

impl<T> Entries<T> {
    fn find(&self, request: &RequestHead<'_>) -> Option<Found<'_, T>> {
        self.0
            .iter()
            .find(|entry| request.fits(entry.wanted()))
            .map(|entry| Found { value: &entry.value, by: entry.wanted() })
    }
}
