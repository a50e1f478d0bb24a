//! Which headers and parameters Routes match on, and what a request has of them.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use http::{HeaderMap, header};
use kubeng_config::matching::{FieldName, HostMatch, Match};
use kubeng_config::route::Route;

use crate::table::Map;

/// A header or a parameter that some Route matches on.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Name {
    Header(FieldName),
    Parameter(Arc<str>),
}

/// What one request has of it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Selected {
    pub(crate) name: Name,
    pub(crate) value: Value,
}

/// A value that is not kept.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Value {
    /// Its hash, with a key that no one but this process knows.
    Hash(u64),
    /// It is there; not even its hash is kept.
    Present,
}

/// The names that Routes match on, by host. A clone is a pointer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    exact: Map<Box<str>, Arc<Counts>>,
    /// For names one label or more below.
    below: Map<Box<str>, Arc<Counts>>,
    any: Arc<Counts>,
}

/// How many Matches ask for each name.
type Counts = BTreeMap<Name, u32>;

impl Names {
    /// A Route comes.
    pub(crate) fn insert(&mut self, route: &Route) {
        self.each(route, |counts, name| *counts.entry(name).or_default() += 1);
    }

    /// A Route goes, as it came.
    pub(crate) fn remove(&mut self, route: &Route) {
        self.each(route, |counts, name| {
            if let Some(count) = counts.get_mut(&name) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    counts.remove(&name);
                }
            }
        });
    }

    fn each(&mut self, route: &Route, change: impl Fn(&mut Counts, Name)) {
        if route.matches.iter().all(|wanted| names(wanted).next().is_none()) {
            return;
        }
        for host in route.attached.iter().flat_map(|attachment| &attachment.hosts) {
            let (map, text) = match host {
                HostMatch::Any => {
                    let counts = Arc::make_mut(&mut self.any);
                    route.matches.iter().flat_map(names).for_each(|name| change(counts, name));
                    continue;
                }
                HostMatch::Exact(name) => (&mut self.exact, name.as_str()),
                HostMatch::OneLabelBelow(name) | HostMatch::AnyLabelsBelow(name) => {
                    (&mut self.below, name.as_str())
                }
            };
            let mut counts = map.remove(text).unwrap_or_default();
            let inner = Arc::make_mut(&mut counts);
            route.matches.iter().flat_map(names).for_each(|name| change(inner, name));
            if !counts.is_empty() {
                map.insert(text.into(), counts);
            }
        }
    }

    /// What a request for `host` has of what Routes of its host match on. Without such Routes it
    /// neither allocates nor looks at the request.
    pub(crate) fn select(
        &self,
        host: Option<&str>,
        headers: &HeaderMap,
        query: Option<&str>,
        hasher: &RandomState,
    ) -> Box<[Selected]> {
        if self.any.is_empty() && self.exact.is_empty() && self.below.is_empty() {
            return Box::default();
        }
        let exact = host.and_then(|host| self.exact.get(host));
        let parents = std::iter::successors(host, |host| Some(host.split_once('.')?.1)).skip(1);
        let below = parents.filter_map(|parent| self.below.get(parent));
        let all =
            exact.into_iter().chain(below).chain([&self.any]).flat_map(|counts| counts.keys());
        let mut selected = Vec::<Selected>::new();
        for name in all.take(NAMES_MAX) {
            if let Some(value) = value_of(name, headers, query, hasher)
                && !selected.iter().any(|other| other.name == *name)
            {
                selected.push(Selected { name: name.clone(), value });
            }
        }
        selected.into_boxed_slice()
    }
}

fn names(wanted: &Match) -> impl Iterator<Item = Name> {
    let headers = wanted.headers.iter().map(|header| Name::Header(header.name.clone()));
    headers.chain(wanted.query.iter().map(|query| Name::Parameter(query.name.clone())))
}

fn value_of(
    name: &Name,
    headers: &HeaderMap,
    query: Option<&str>,
    hasher: &RandomState,
) -> Option<Value> {
    match name {
        Name::Header(name) => {
            let mut lines = headers.get_all(&name.0).iter().peekable();
            lines.peek()?;
            if SECRETS.contains(&name.0) {
                return Some(Value::Present);
            }
            let lines: Vec<&[u8]> = lines.map(|line| line.as_bytes()).collect();
            Some(Value::Hash(hasher.hash_one(lines)))
        }
        Name::Parameter(name) => {
            let pairs = form_urlencoded::parse(query?.as_bytes());
            let (_, value) = pairs.into_iter().find(|(other, _)| **other == **name)?;
            Some(Value::Hash(hasher.hash_one(value.as_bytes())))
        }
    }
}

/// What a client proves itself with: whoever can ask for keys must not be able to try values.
const SECRETS: [header::HeaderName; 3] =
    [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];
/// More names than that are not looked at.
const NAMES_MAX: usize = 16;
