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
/// host has. Regular expressions are tried one after the other. A clone copies
/// one pointer for each path.
#[derive(Clone, Debug)]
pub(super) struct Paths<T> {
    exact: Map<Arc<Entries<T>>>,
    /// The longest text first.
    regexes: Vec<(crate::matching::Pattern, Arc<Entries<T>>)>,
    /// By prefix without closing slash.
    prefixes: Map<Arc<Entries<T>>>,
    /// The length of the longest prefix; what of a path is longer is not looked up.
    prefix_bytes_max: usize,
    otherwise: Arc<Entries<T>>,
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self {
            exact: Map::default(),
            regexes: Vec::new(),
            prefixes: Map::default(),
            prefix_bytes_max: 0,
            otherwise: Arc::default(),
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
            // Nearly always there is one: room for four would be most of the Index.
            if entries.0.is_empty() {
                entries.0.reserve_exact(1);
            }
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
                PathMatch::Prefix(prefix) => self.forget_prefix(prefix.as_str()),
                PathMatch::Regex(pattern) => self.regexes.retain(|(there, _)| there != pattern),
                PathMatch::Otherwise => {}
            }
        }
    }

    fn forget_prefix(&mut self, prefix: &str) {
        self.prefixes.remove(prefix);
        if prefix.len() == self.prefix_bytes_max {
            self.prefix_bytes_max = self.prefixes.keys().map(|key| key.len()).max().unwrap_or(0);
        }
    }

    fn entries_of(&mut self, path: &PathMatch) -> &mut Entries<T> {
        let entries = match path {
            PathMatch::Exact(path) => self.exact.entry(path.as_str().into()).or_default(),
            PathMatch::Prefix(prefix) => {
                self.prefix_bytes_max = self.prefix_bytes_max.max(prefix.as_str().len());
                self.prefixes.entry(prefix.as_str().into()).or_default()
            }
            PathMatch::Otherwise => &mut self.otherwise,
            PathMatch::Regex(pattern) => {
                let key = |pattern: &crate::matching::Pattern| {
                    (std::cmp::Reverse(pattern.as_str().len()), pattern.as_str().to_owned())
                };
                let wanted = key(pattern);
                let place = self.regexes.partition_point(|(there, _)| key(there) < wanted);
                if self.regexes.get(place).is_none_or(|(there, _)| there != pattern) {
                    self.regexes.insert(place, (pattern.clone(), Arc::default()));
                }
                &mut self.regexes[place].1
            }
        };
        Arc::make_mut(entries)
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
        let mut prefix = self.longest(request.path)?;
        loop {
            if let Some(found) = self.prefixes.get(prefix).and_then(|entries| entries.find(request))
            {
                return Some(found);
            }
            prefix = &prefix[..prefix.rfind('/')?];
        }
    }
}

impl<T> Paths<T> {
    /// The part of `path` that ends with an element and is no longer than any prefix.
    fn longest<'a>(&self, path: &'a str) -> Option<&'a str> {
        // An element may end right behind the longest prefix.
        let Some(head) = path.as_bytes().get(..=self.prefix_bytes_max) else { return Some(path) };
        path.get(..head.iter().rposition(|&byte| byte == b'/')?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(prefixes: &[&str], path: &str, expected: Option<&str>) {
        let mut paths = Paths::<()>::default();
        for prefix in prefixes {
            paths.entries_of(&PathMatch::Prefix(prefix.parse().unwrap()));
        }
        assert_eq!(paths.longest(path), expected, "{path:?} among {prefixes:?}");
    }

    #[test]
    fn what_is_longer_than_every_prefix_is_not_looked_up() {
        check(&["/a", "/a/b"], "/a/b", Some("/a/b"));
        check(&["/a", "/a/b"], "/a/b/", Some("/a/b"));
        check(&["/a", "/a/b"], "/a/bc", Some("/a"));
        check(&["/a/b"], &"/a".repeat(8000), Some("/a/a"));
        check(&["/"], "/a/b", Some(""));
        check(&["/"], "/", Some(""));
    }

    #[test]
    fn the_longest_prefix_is_known_after_it_has_gone() {
        let mut paths = Paths::<()>::default();
        for prefix in ["/a", "/a/b/c"] {
            paths.entries_of(&PathMatch::Prefix(prefix.parse().unwrap()));
        }
        paths.forget_prefix("/a/b/c");
        assert_eq!(paths.prefix_bytes_max, 2);
    }
}
