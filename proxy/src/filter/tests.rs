//! What tests of Filters share.

use std::time::{Instant, SystemTime};

use http::header::HeaderMap;
use http::{HeaderValue, Method};

use super::*;

/// A request for `http://a.example/p?q=1` from 192.0.2.7.
pub(super) struct AskedFor {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) facts: ConnFacts,
}

impl AskedFor {
    pub(super) fn new(fields: &[(&'static str, &str)]) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        Self { method: Method::GET, headers, facts: ConnFacts::for_tests(80) }
    }

    pub(super) fn with<R>(&self, run: impl FnOnce(&Target<'_>) -> R) -> R {
        let authority = Authority::parse("a.example").unwrap();
        let host = HeaderValue::from_static("a.example");
        run(&Target {
            authority: Some(&authority),
            host: Some(&host),
            method: &self.method,
            path: "/p",
            query: Some("q=1"),
            headers: &self.headers,
            matched: None,
            is_upgrade: false,
            scheme: self.facts.scheme(),
            facts: &self.facts,
            now: Instant::now(),
            at: SystemTime::now(),
        })
    }
}

/// All fields as lines, in order of their names.
pub(super) fn fields(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    lines.into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
}
