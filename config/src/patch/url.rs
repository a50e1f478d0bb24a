//! `rewrite` and `redirect`: other hosts and paths.

use serde::Deserialize;

use crate::bounded::Between;
use crate::filter::redirect::RedirectStatus;
use crate::filter::rewrite::{PathRewrite, RegexRewrite};
use crate::matching::PathPrefix;
use crate::name::Hostname;
use crate::path::CanonicalPath;
use crate::request::Scheme;

/// What the Backend sees instead.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RewritePatch {
    /// The host.
    pub host: Option<Hostname>,
    /// The path.
    pub path: Option<PathEdit>,
}

/// Where clients are sent instead.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RedirectPatch {
    /// The scheme.
    pub scheme: Option<Scheme>,
    /// The host.
    pub host: Option<Hostname>,
    /// The port.
    pub port: Option<Between<1, 65_535>>,
    /// The path.
    pub path: Option<PathEdit>,
    /// The status; absent: 302.
    pub status: Option<RedirectStatus>,
}

/// How a path is changed: `full`, `prefix`, or `regex` with `substitution`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "PathEditOnWire")]
pub struct PathEdit(pub PathRewrite);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PathEditOnWire {
    full: Option<CanonicalPath>,
    prefix: Option<PathPrefix>,
    regex: Option<String>,
    substitution: Option<String>,
}

impl TryFrom<PathEditOnWire> for PathEdit {
    type Error = String;

    fn try_from(written: PathEditOnWire) -> Result<Self, String> {
        let PathEditOnWire { full, prefix, regex, substitution } = written;
        match (full, prefix, regex, substitution) {
            (Some(full), None, None, None) => Ok(Self(PathRewrite::Full(full))),
            (None, Some(prefix), None, None) => Ok(Self(PathRewrite::Prefix(prefix))),
            (None, None, Some(regex), Some(substitution)) => {
                let pattern = regex.parse().map_err(|error| format!("{error}"))?;
                let rewrite = RegexRewrite::new(pattern, &substitution);
                rewrite.map(|made| Self(PathRewrite::Regex(made))).map_err(|e| e.to_string())
            }
            _ => Err("a path is one of full, prefix, or regex with substitution".to_owned()),
        }
    }
}
