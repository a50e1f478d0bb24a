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
    /// Its [`hash`], with a key that no one but this process knows. Several lines of a header are
    /// one list, as they are for matching.
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
            // Joined as they are matched.
            let lines: Vec<&[u8]> = lines.map(|line| line.as_bytes()).collect();
            Some(Value::Hash(hash(hasher, &lines.join(&b','))))
        }
        Name::Parameter(name) => {
            let pairs = form_urlencoded::parse(query?.as_bytes());
            let (_, value) = pairs.into_iter().find(|(other, _)| **other == **name)?;
            Some(Value::Hash(hash(hasher, value.as_bytes())))
        }
    }
}

/// What stands for a value.
pub(crate) fn hash(hasher: &RandomState, value: &[u8]) -> u64 {
    hasher.hash_one(value)
}

/// What a client proves itself with: whoever can ask for keys must not be able to try values.
const SECRETS: [header::HeaderName; 3] =
    [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];
/// More names than that are not looked at.
const NAMES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use kubeng_config::matching::{HeaderMatch, PathMatch, QueryMatch, TextMatch};
    use kubeng_config::route::{Action, Attachment, Rank};

    use super::*;

    /// A Route of `host` that matches on these.
    fn route(host: &str, header: Option<&'static str>, parameter: Option<&str>) -> Route {
        let value = || TextMatch::Exact("x".into());
        let mut wanted = Match::of_path(PathMatch::Otherwise);
        wanted.headers.extend(header.map(|name| HeaderMatch {
            name: FieldName(header::HeaderName::from_static(name)),
            value: value(),
        }));
        wanted.query.extend(parameter.map(|name| QueryMatch { name: name.into(), value: value() }));
        Route {
            rank: Rank { created: 0, rule: 0 },
            attached: vec![Attachment {
                listener: "http".parse().unwrap(),
                hosts: vec![host.parse().unwrap()],
            }],
            matches: vec![wanted],
            filters: vec![],
            policy: "default".parse().unwrap(),
            action: Action::Answer,
        }
    }

    #[track_caller]
    fn check(names: &Names, host: Option<&str>, expected: &[&str]) {
        let mut headers = HeaderMap::new();
        for name in ["x-exact", "x-below", "x-any", "x-other", "authorization"] {
            headers.append(name, "secret".parse().unwrap());
        }
        let selected = names.select(host, &headers, Some("a=1&v=%C3%A4+b"), &RandomState::new());
        let shown: Vec<String> = selected
            .iter()
            .map(|Selected { name, value }| match (name, value) {
                (Name::Header(name), Value::Hash(_)) => name.to_string(),
                (Name::Header(name), Value::Present) => format!("{name} present"),
                (Name::Parameter(name), _) => format!("?{name}"),
            })
            .collect();
        assert_eq!(shown, expected, "{host:?}");
    }

    #[test]
    fn only_what_routes_of_the_host_match_on_is_selected() {
        let mut names = Names::default();
        check(&names, Some("a.example"), &[]);
        let exact = route("a.example", Some("x-exact"), Some("v"));
        let routes = [
            exact.clone(),
            route("*.example", Some("x-below"), None),
            route("**.example", Some("authorization"), Some("none")),
            route("*", Some("x-any"), None),
            route("b.example", None, None),
        ];
        routes.iter().for_each(|route| names.insert(route));
        let below = ["authorization present", "x-below", "x-any"];
        let mut all = vec!["x-exact", "?v"];
        all.extend(below);
        check(&names, Some("a.example"), &all);
        check(&names, Some("b.example"), &below);
        check(&names, Some("c.b.example"), &below);
        check(&names, Some("example"), &["x-any"]);
        check(&names, None, &["x-any"]);
        names.insert(&exact);
        names.remove(&exact);
        check(&names, Some("a.example"), &all);
        names.remove(&exact);
        check(&names, Some("a.example"), &below);
        routes.iter().skip(1).for_each(|route| names.remove(route));
        assert!(names.exact.is_empty() && names.below.is_empty() && names.any.is_empty());
    }

    #[test]
    fn hashes_are_of_what_is_matched() {
        let mut names = Names::default();
        names.insert(&route("*", Some("x-any"), Some("v")));
        let mut headers = HeaderMap::new();
        headers.append("x-any", "a".parse().unwrap());
        headers.append("x-any", "b".parse().unwrap());
        let hasher = RandomState::new();
        let selected = names.select(None, &headers, Some("v=%C3%A4+b"), &hasher);
        let values: Vec<Value> = selected.iter().map(|selected| selected.value).collect();
        let of = |text: &str| Value::Hash(hash(&hasher, text.as_bytes()));
        assert_eq!(values, [of("a,b"), of("ä b")]);
    }
}
