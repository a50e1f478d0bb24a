//! Answering browsers that ask whether a page of another origin may read (Fetch standard; Gateway
//! API `HTTPCORSFilter`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::bounded::{AtMost, Between};
use crate::matching::{FieldName, MethodName};
use crate::name::{Hostname, NameError, serde_as_text};

/// What pages of other origins may do. Preflight requests are answered, never forwarded.
///
/// This Filter is the only word: what a Backend says about origins is taken out. To be asked before
/// a login, it is listed in front of it: a preflight request carries no credentials.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Cors {
    /// Origins whose pages may read; at most 64.
    pub allow_origins: AtMost<OriginMatch, 64>,
    /// Methods beside GET, HEAD and POST, which need no leave; at most 32.
    #[serde(default)]
    pub allow_methods: Names<MethodName, 32>,
    /// Request headers beside those that need no leave; at most 64.
    #[serde(default)]
    pub allow_headers: Names<FieldName, 64>,
    /// Headers of the answer that a page may read; at most 64.
    #[serde(default)]
    pub expose_headers: Names<FieldName, 64>,
    /// Whether requests may carry cookies and logins. Without it they are sent bare.
    #[serde(default)]
    pub allow_credentials: bool,
    /// How long a browser may remember the answer, in seconds; at most a day. Default: 5.
    #[serde(default = "default_max_age")]
    pub max_age_seconds: Between<0, 86_400>,
}

fn default_max_age() -> Between<0, 86_400> {
    Between::clamped(5)
}

/// Some names, or all.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "T: Deserialize<'de>"))]
pub enum Names<T, const MAX: usize> {
    /// Every name.
    All,
    /// These.
    These(AtMost<T, MAX>),
}

impl<T, const MAX: usize> Default for Names<T, MAX> {
    fn default() -> Self {
        Self::These(AtMost::default())
    }
}

/// Which origins are meant: `*`, `https://a.example`, `https://*.example:8443`.
///
/// A wildcard stands for one or more labels (Gateway API).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OriginMatch {
    /// Every origin.
    Any,
    /// Exactly this one, as browsers write it.
    Exact(Box<str>),
    /// Every host below a name.
    Below {
        /// With the `://` behind it.
        scheme: Box<str>,
        /// The name, with its port if there is one.
        parent: Box<str>,
    },
}

impl OriginMatch {
    /// Whether `origin`, the value of the `Origin` header, is meant.
    #[must_use]
    pub fn accepts(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact.eq_ignore_ascii_case(origin),
            Self::Below { scheme, parent } => {
                let origin = origin.to_ascii_lowercase();
                let labels = origin
                    .strip_prefix(&**scheme)
                    .and_then(|host| host.strip_suffix(&**parent))
                    .and_then(|front| front.strip_suffix('.'));
                labels.is_some_and(|labels| Hostname::parse(labels).is_ok())
            }
        }
    }
}

impl fmt::Display for OriginMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(origin) => f.write_str(origin),
            Self::Below { scheme, parent } => write!(f, "{scheme}*.{parent}"),
        }
    }
}

impl FromStr for OriginMatch {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let form = || NameError::Form { text: text.into(), form: "scheme://host[:port] or *" };
        if text == "*" {
            return Ok(Self::Any);
        }
        let lower = text.to_ascii_lowercase();
        let (scheme, host_and_port) = lower.split_once("://").ok_or_else(form)?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !is_scheme {
            return Err(form());
        }
        let (is_below, rest) = match host_and_port.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, host_and_port),
        };
        crate::authority::Authority::parse(rest).map_err(|_| form())?;
        if is_below {
            Ok(Self::Below { scheme: format!("{scheme}://").into(), parent: rest.into() })
        } else {
            Ok(Self::Exact(lower.into()))
        }
    }
}

serde_as_text! { OriginMatch }

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(written: &str, accepted: &[&str], others: &[&str]) {
        let origin: OriginMatch = written.parse().unwrap();
        assert_eq!(origin.to_string(), written.to_ascii_lowercase());
        for text in accepted {
            assert!(origin.accepts(text), "{written} accepts {text}");
        }
        for text in others {
            assert!(!origin.accepts(text), "{written} does not accept {text}");
        }
    }

    #[test]
    fn origins_are_compared_as_wholes() {
        check("*", &["https://a", "null"], &[]);
        check(
            "https://A.example",
            &["https://a.example", "HTTPS://a.example"],
            &["http://a.example", "https://a.example:8443", "https://a.example.evil", "null"],
        );
        check(
            "https://*.example.com",
            &["https://a.example.com", "https://a.b.example.com"],
            &[
                "https://example.com",
                "https://evilexample.com",
                "https://evil/.example.com",
                "https://evil?.example.com",
                "https://.example.com",
                "http://a.example.com",
                "https://a.example.com:81",
            ],
        );
        check("http://*.example.com:81", &["http://a.example.com:81"], &["http://a.example.com"]);
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in
            ["", "a.example", "https://", "https://a/b", "https://*", "1x://a", "https://a b"]
        {
            assert!(text.parse::<OriginMatch>().is_err(), "{text:?}");
        }
    }
}
