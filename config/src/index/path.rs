//! From a path to the Routes that may take it, best first.

use std::sync::Arc;

use super::Found;
use super::by_path::ByPath;
use super::walk::Placed;
use crate::matching::{Match, PathMatch, PathPrefix, Pattern};
use crate::name::RouteId;
use crate::path::CanonicalPath;
use crate::request::RequestHead;
use crate::route::{Route, precedence};

/// The paths of one host.
///
/// A path costs as many look-ups as it has elements, however many Routes the
/// host has. Regular expressions are tried one after the other. A clone copies
/// one pointer for each path.
#[derive(Clone, Debug)]
pub(super) struct Paths<T> {
    exact: ByPath<CanonicalPath, Entries<T>>,
    /// The longest text first.
    regexes: Vec<(Pattern, Entries<T>)>,
    prefixes: ByPath<PathPrefix, Entries<T>>,
    /// The length of the longest prefix; what of a path is longer is not looked up.
    prefix_bytes_max: usize,
    otherwise: Option<Entries<T>>,
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self {
            exact: ByPath::default(),
            regexes: Vec::new(),
            prefixes: ByPath::default(),
            prefix_bytes_max: 0,
            otherwise: None,
        }
    }
}

/// All Matches that ask for one path, best first; nearly always one.
type Entries<T> = Arc<[Entry<T>]>;

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
            && self.otherwise.is_none()
    }

    pub(super) fn insert(&mut self, id: &RouteId, route: &Arc<Route>, value: &T) {
        for (at, wanted) in route.matches.iter().enumerate() {
            let entry =
                Entry { id: id.clone(), route: Arc::clone(route), at, value: value.clone() };
            let there = self.entries(&wanted.path);
            let place = there.partition_point(|there| there.comes_before(&entry));
            let (before, after) = there.split_at(place);
            let entries = before.iter().cloned().chain([entry]).chain(after.iter().cloned());
            let entries = entries.collect();
            self.set_entries(&wanted.path, entries);
        }
    }

    /// Takes the Matches of a Route out; paths that nobody asks for any more are forgotten.
    pub(super) fn remove(&mut self, id: &RouteId, route: &Route) {
        for wanted in &route.matches {
            let there = self.entries(&wanted.path);
            let left: Entries<T> = there.iter().filter(|entry| entry.id != *id).cloned().collect();
            if !left.is_empty() {
                self.set_entries(&wanted.path, left);
                continue;
            }
            match &wanted.path {
                PathMatch::Exact(path) => self.exact.remove(path.as_str()),
                PathMatch::Prefix(prefix) => self.forget_prefix(prefix.as_str()),
                PathMatch::Regex(pattern) => self.regexes.retain(|(there, _)| there != pattern),
                PathMatch::Otherwise => self.otherwise = None,
            }
        }
    }

    fn forget_prefix(&mut self, prefix: &str) {
        self.prefixes.remove(prefix);
        if prefix.len() == self.prefix_bytes_max {
            self.prefix_bytes_max = self.prefixes.bytes_max();
        }
    }

    /// As if the length of the longest prefix had been lost.
    #[cfg(debug_assertions)]
    pub(super) fn hide_prefixes(&mut self) {
        self.prefix_bytes_max = 0;
    }

    fn entries(&self, path: &PathMatch) -> &[Entry<T>] {
        let entries = match path {
            PathMatch::Exact(path) => self.exact.get(path.as_str()),
            PathMatch::Prefix(prefix) => self.prefixes.get(prefix.as_str()),
            PathMatch::Regex(pattern) => {
                self.regexes.iter().find(|(there, _)| there == pattern).map(|(_, entries)| entries)
            }
            PathMatch::Otherwise => self.otherwise.as_ref(),
        };
        entries.map_or(&[], |entries| entries)
    }

    fn set_entries(&mut self, path: &PathMatch, entries: Entries<T>) {
        match path {
            PathMatch::Exact(path) => self.exact.insert(path.clone(), entries),
            PathMatch::Prefix(prefix) => {
                self.prefix_bytes_max = self.prefix_bytes_max.max(prefix.as_str().len());
                self.prefixes.insert(prefix.clone(), entries);
            }
            PathMatch::Otherwise => self.otherwise = Some(entries),
            PathMatch::Regex(pattern) => {
                let key = |pattern: &Pattern| {
                    (std::cmp::Reverse(pattern.as_str().len()), pattern.as_str().to_owned())
                };
                let wanted = key(pattern);
                let place = self.regexes.partition_point(|(there, _)| key(there) < wanted);
                match self.regexes.get_mut(place).filter(|(there, _)| there == pattern) {
                    Some((_, there)) => *there = entries,
                    None => self.regexes.insert(place, (pattern.clone(), entries)),
                }
            }
        }
    }

    /// Tries exact paths, regular expressions, prefixes from long to short, then the rest.
    pub(super) fn find(&self, request: &RequestHead<'_>) -> Option<Found<'_, T>> {
        let exact = self.exact.get(request.path).and_then(|entries| first_of(entries, request));
        exact
            .or_else(|| {
                self.regexes
                    .iter()
                    .filter(|(pattern, _)| pattern.accepts(request.path))
                    .find_map(|(_, entries)| first_of(entries, request))
            })
            .or_else(|| self.find_prefix(request))
            .or_else(|| first_of(self.otherwise.as_deref()?, request))
    }

    fn find_prefix(&self, request: &RequestHead<'_>) -> Option<Found<'_, T>> {
        if self.prefixes.is_empty() {
            return None;
        }
        let mut prefix = self.longest(request.path)?;
        loop {
            let entries = self.prefixes.get(prefix);
            if let Some(found) = entries.and_then(|entries| first_of(entries, request)) {
                return Some(found);
            }
            prefix = &prefix[..prefix.rfind('/')?];
        }
    }
}

impl<T> Paths<T> {
    /// Every Match that is looked for, with the path under which it is found.
    pub(super) fn iter(&self) -> impl Iterator<Item = (PathMatch, Placed<'_, T>)> {
        let exact = self.exact.iter().map(|(path, found)| (PathMatch::Exact(path.clone()), found));
        let regexes = self.regexes.iter();
        let regexes = regexes.map(|(pattern, found)| (PathMatch::Regex(pattern.clone()), found));
        let prefixes = self.prefixes.iter();
        let prefixes = prefixes.map(|(prefix, found)| (PathMatch::Prefix(prefix.clone()), found));
        let otherwise = self.otherwise.iter().map(|found| (PathMatch::Otherwise, found));
        exact.chain(regexes).chain(prefixes).chain(otherwise).flat_map(|(path, entries)| {
            entries.iter().map(move |entry| {
                let Entry { id, route, at, value } = entry;
                (path.clone(), Placed { id, route, at: *at, value })
            })
        })
    }

    /// The part of `path` that ends with an element and is no longer than any prefix.
    fn longest<'a>(&self, path: &'a str) -> Option<&'a str> {
        // An element may end right behind the longest prefix.
        let Some(head) = path.as_bytes().get(..=self.prefix_bytes_max) else { return Some(path) };
        path.get(..head.iter().rposition(|&byte| byte == b'/')?)
    }
}

fn first_of<'a, T>(entries: &'a [Entry<T>], request: &RequestHead<'_>) -> Option<Found<'a, T>> {
    let entry = entries.iter().find(|entry| request.fits(entry.wanted()))?;
    Some(Found { value: &entry.value, by: entry.wanted() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(prefixes: &[&str], path: &str, expected: Option<&str>) {
        let mut paths = Paths::<()>::default();
        for prefix in prefixes {
            paths.set_entries(&PathMatch::Prefix(prefix.parse().unwrap()), Arc::default());
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
            paths.set_entries(&PathMatch::Prefix(prefix.parse().unwrap()), Arc::default());
        }
        paths.forget_prefix("/a/b/c");
        assert_eq!(paths.prefix_bytes_max, 2);
    }
}
