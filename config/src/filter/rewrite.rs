//! Changing host or path of what is forwarded (Gateway API `HTTPURLRewriteFilter`).

use serde::{Deserialize, Serialize};

use crate::matching::PathPrefix;
use crate::name::Hostname;
use crate::path::CanonicalPath;

/// What the Backend sees instead; what is absent stays as in the request.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rewrite {
    /// The host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Hostname>,
    /// The path; the query stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
}

/// How a path is changed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathRewrite {
    /// The whole path becomes this.
    Full(CanonicalPath),
    /// The prefix that matched becomes this one.
    Prefix(PathPrefix),
}

impl PathRewrite {
    /// The new path of a request for `path`, whose prefix `matched` was matched.
    ///
    /// Where no prefix was matched the path stays as it is.
    #[must_use]
    pub fn apply(&self, path: &str, matched: Option<&PathPrefix>) -> String {
        match self {
            Self::Full(full) => full.as_str().to_owned(),
            Self::Prefix(prefix) => {
                let rest = matched.and_then(|matched| path.strip_prefix(matched.as_str()));
                let Some(rest) = rest else { return path.to_owned() };
                let joined = format!("{}{rest}", prefix.as_str());
                if joined.is_empty() { "/".to_owned() } else { joined }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(matched: &str, prefix: &str, path: &str, expected: &str) {
        let rewrite = PathRewrite::Prefix(prefix.parse().unwrap());
        assert_eq!(rewrite.apply(path, Some(&matched.parse().unwrap())), expected);
    }

    #[test]
    fn prefixes_are_replaced_as_gateway_api_lists_them() {
        check("/foo", "/xyz", "/foo/bar", "/xyz/bar");
        check("/foo", "/xyz/", "/foo/bar", "/xyz/bar");
        check("/foo/", "/xyz", "/foo/bar", "/xyz/bar");
        check("/foo", "/xyz", "/foo", "/xyz");
        check("/foo", "/xyz", "/foo/", "/xyz/");
        check("/foo", "/", "/foo/bar", "/bar");
        check("/foo", "/", "/foo/", "/");
        check("/foo", "/", "/foo", "/");
    }
}
