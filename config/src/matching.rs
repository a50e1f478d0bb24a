//! What a Route asks of a request.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderName, Method};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::name::{Hostname, NameError, serde_as_text};
use crate::path::CanonicalPath;

/// Which request hosts a Route accepts.
///
/// An Ingress and an HTTPRoute both write `*.example.com` but mean different
/// sets, so the difference is a type and never a flag. Written `*`,
/// `a.example`, `*.example` and `**.example`. Ordered from special to general
/// only by [`specificity`](Self::specificity), not by `Ord`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum HostMatch {
    /// Every host, including requests without one.
    Any,
    /// Exactly this host.
    Exact(Hostname),
    /// Ingress `*.example.com`: one label in front of the name.
    OneLabelBelow(Hostname),
    /// Gateway API `*.example.com`: one or more labels in front of the name.
    AnyLabelsBelow(Hostname),
}

impl HostMatch {
    /// Whether a request for `host` is accepted; `None` is a request without a DNS name.
    #[must_use]
    pub fn accepts(&self, host: Option<&str>) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (_, None) => false,
            (Self::Exact(name), Some(host)) => name.as_str() == host,
            (Self::OneLabelBelow(name), Some(host)) => {
                host.split_once('.').is_some_and(|(_, parent)| parent == name.as_str())
            }
            (Self::AnyLabelsBelow(name), Some(host)) => host
                .strip_suffix(name.as_str())
                .is_some_and(|front| front.len() > 1 && front.ends_with('.')),
        }
    }

    /// How special the match is; of several that accept a host, the greatest wins.
    ///
    /// Exact names beat wildcards, longer names beat shorter ones, and one
    /// label below a name beats any number of labels below it.
    #[must_use]
    pub fn specificity(&self) -> (u8, usize, u8) {
        match self {
            Self::Any => (0, 0, 0),
            Self::AnyLabelsBelow(name) => (1, name.as_str().len(), 0),
            Self::OneLabelBelow(name) => (1, name.as_str().len(), 1),
            Self::Exact(name) => (2, name.as_str().len(), 0),
        }
    }
}

impl fmt::Display for HostMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(name) => write!(f, "{name}"),
            Self::OneLabelBelow(name) => write!(f, "*.{name}"),
            Self::AnyLabelsBelow(name) => write!(f, "**.{name}"),
        }
    }
}

impl FromStr for HostMatch {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "*" {
            Ok(Self::Any)
        } else if let Some(name) = text.strip_prefix("**.") {
            Ok(Self::AnyLabelsBelow(name.parse()?))
        } else if let Some(name) = text.strip_prefix("*.") {
            Ok(Self::OneLabelBelow(name.parse()?))
        } else {
            Ok(Self::Exact(text.parse()?))
        }
    }
}

/// A regular expression over a whole text, matched in linear time.
///
/// Equal when the written texts are equal. The compiled form is at most 1 MiB
/// and groups nest at most 50 deep.
#[derive(Clone, Debug)]
pub struct Pattern {
    written: Arc<str>,
    compiled: regex::Regex,
}

impl Pattern {
    /// Compiles `written`, which must match the whole text.
    ///
    /// # Errors
    /// When it is not a regular expression, or too large a one.
    pub fn parse(written: &str) -> Result<Self, regex::Error> {
        let compiled = regex::RegexBuilder::new(&format!("^(?:{written})$"))
            .size_limit(1 << 20)
            .nest_limit(50)
            .build()?;
        Ok(Self { written: written.into(), compiled })
    }

    /// The expression as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Whether the whole of `text` matches.
    #[must_use]
    pub fn accepts(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }

    /// What its groups matched, group 0 being the whole of `text`; None when it does not match.
    #[must_use]
    pub fn groups<'t>(&self, text: &'t str) -> Option<regex::Captures<'t>> {
        self.compiled.captures(text)
    }

    /// How many groups it has, the whole match included.
    #[must_use]
    pub fn groups_len(&self) -> usize {
        self.compiled.captures_len()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.written.hash(state);
    }
}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.written.cmp(&other.written)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl FromStr for Pattern {
    type Err = regex::Error;

    fn from_str(text: &str) -> Result<Self, regex::Error> {
        Self::parse(text)
    }
}

/// What a Route asks of the path. Paths are compared in canonical form.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathMatch {
    /// Exactly this path; case-sensitive, a closing slash counts.
    Exact(CanonicalPath),
    /// This path and everything below it, element by element.
    Prefix(PathPrefix),
    /// A path that matches as a whole.
    Regex(Pattern),
    /// Every path that no other Route of the host takes: a default backend.
    Otherwise,
}

impl PathMatch {
    /// Whether `path`, in canonical form, is accepted.
    #[must_use]
    pub fn accepts(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact.as_str() == path,
            Self::Prefix(prefix) => prefix.accepts(path),
            Self::Regex(pattern) => pattern.accepts(path),
            Self::Otherwise => true,
        }
    }

    /// How special the match is; of several that accept a path, the greatest wins.
    ///
    /// Exact, then regular expressions, the longest text first, then the
    /// longest prefix, then what is left over.
    #[must_use]
    pub fn specificity(&self) -> (u8, usize) {
        match self {
            Self::Exact(path) => (3, path.as_str().len()),
            Self::Regex(pattern) => (2, pattern.as_str().len()),
            Self::Prefix(prefix) => (1, prefix.as_str().len()),
            Self::Otherwise => (0, 0),
        }
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "= {path}"),
            Self::Prefix(prefix) => write!(f, "{prefix}"),
            Self::Regex(pattern) => write!(f, "~ {pattern}"),
            Self::Otherwise => f.write_str("otherwise"),
        }
    }
}

/// A path without closing slash, that stands for itself and everything below it.
///
/// `/shop` accepts `/shop`, `/shop/` and `/shop/cart`, but not `/shopping`.
/// The root is kept as the empty text and shown as `/`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PathPrefix(Arc<str>);

impl PathPrefix {
    /// The prefix that `path` names; closing slashes do not count.
    #[must_use]
    pub fn new(path: &CanonicalPath) -> Self {
        Self(path.as_str().trim_end_matches('/').into())
    }

    /// The prefix without closing slash: empty for the root.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `path`, in canonical form, is this path or lies below it.
    #[must_use]
    pub fn accepts(&self, path: &str) -> bool {
        path.strip_prefix(self.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// By its text, so the root is the empty one.
impl Borrow<str> for PathPrefix {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

impl FromStr for PathPrefix {
    type Err = crate::path::PathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(&text.parse()?))
    }
}

/// What a Route asks of one text of a request.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TextMatch {
    /// Exactly this text; case-sensitive.
    Exact(Arc<str>),
    /// The whole text matches.
    Regex(Pattern),
}

impl TextMatch {
    /// Whether `text` is accepted.
    #[must_use]
    pub fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => &**exact == text,
            Self::Regex(pattern) => pattern.accepts(text),
        }
    }
}

impl fmt::Display for TextMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "= {text}"),
            Self::Regex(pattern) => write!(f, "~ {pattern}"),
        }
    }
}

/// The name of a header, in lower case.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct FieldName(pub HeaderName);

impl Ord for FieldName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

impl PartialOrd for FieldName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl FromStr for FieldName {
    type Err = http::header::InvalidHeaderName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A request method; case-sensitive.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct MethodName(pub Method);

impl Ord for MethodName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

impl PartialOrd for MethodName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl FromStr for MethodName {
    type Err = http::method::InvalidMethod;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

serde_as_text! { HostMatch Pattern PathPrefix FieldName MethodName }

/// What one header of the request must be.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HeaderMatch {
    /// The header.
    pub name: FieldName,
    /// What its value must be; several lines are joined with `,` first.
    pub value: TextMatch,
}

/// What one cookie of the request must be.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CookieMatch {
    /// The cookie; case-sensitive.
    pub name: Arc<str>,
    /// What the value of its first occurrence must be, as it is written.
    pub value: TextMatch,
}

/// What one query parameter of the request must be.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct QueryMatch {
    /// The parameter; case-sensitive, percent-decoded.
    pub name: Arc<str>,
    /// What the value of its first occurrence must be, percent-decoded.
    pub value: TextMatch,
}

/// One way in which a request can fit a Route: all of it must hold.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Match {
    /// The path.
    pub path: PathMatch,
    /// The method; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<MethodName>,
    /// Headers, each name once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
    /// Cookies, each name once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cookies: Vec<CookieMatch>,
    /// Query parameters, each name once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<QueryMatch>,
}

impl Match {
    /// A match that looks at the path only.
    #[must_use]
    pub fn of_path(path: PathMatch) -> Self {
        Self { path, method: None, headers: Vec::new(), cookies: Vec::new(), query: Vec::new() }
    }

    /// How much is asked beside the path; of several Routes with one path, the greatest wins.
    ///
    /// A method counts before headers, headers before query parameters (Gateway
    /// API, `HTTPRouteRule.matches`), and cookies behind headers (ingress-nginx, canaries).
    #[must_use]
    pub fn demands(&self) -> (bool, usize, usize, usize) {
        (self.method.is_some(), self.headers.len(), self.cookies.len(), self.query.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_host(written: &str, accepted: &[&str], others: &[&str]) {
        let matcher: HostMatch = written.parse().unwrap();
        assert_eq!(matcher.to_string(), written);
        for host in accepted {
            assert!(matcher.accepts(Some(host)), "{written} accepts {host}");
        }
        for host in others {
            assert!(!matcher.accepts(Some(host)), "{written} does not accept {host}");
        }
    }

    #[test]
    fn wildcards_of_ingress_and_gateway_api_differ() {
        check_host("*", &["a", "a.b"], &[]);
        check_host("foo.com", &["foo.com"], &["a.foo.com", "xfoo.com"]);
        check_host("*.foo.com", &["a.foo.com"], &["foo.com", "a.b.foo.com", "a.xfoo.com"]);
        check_host(
            "**.foo.com",
            &["a.foo.com", "a.b.foo.com"],
            &["foo.com", "xfoo.com", ".foo.com"],
        );
    }

    #[test]
    fn prefixes_go_by_elements() {
        let prefix: PathPrefix = "/aaa/bbb/".parse().unwrap();
        for path in ["/aaa/bbb", "/aaa/bbb/", "/aaa/bbb/ccc"] {
            assert!(prefix.accepts(path), "{path}");
        }
        for path in ["/aaa", "/aaa/bbbxyz", "/AAA/bbb", "/"] {
            assert!(!prefix.accepts(path), "{path}");
        }
        assert!("/".parse::<PathPrefix>().unwrap().accepts("/x"));
    }

    #[test]
    fn patterns_match_the_whole_text() {
        let pattern = Pattern::parse("a|b").unwrap();
        assert!(pattern.accepts("a") && pattern.accepts("b"));
        assert!(!pattern.accepts("ab") && !pattern.accepts("xa"));
        assert!(Pattern::parse("(").is_err());
        assert!(Pattern::parse("(a{1000}){1000}").is_err());
    }
}
