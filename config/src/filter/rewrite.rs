//! Changing host or path of what is forwarded (Gateway API `HTTPURLRewriteFilter`).

use serde::{Deserialize, Serialize};

use crate::matching::{PathPrefix, Pattern};
use crate::name::Hostname;
use crate::path::{CanonicalPath, PathRules, canonical};

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
    /// A path that matches is put together anew.
    Regex(RegexRewrite),
}

/// No path can be made of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the rewritten path is too long or has no canonical form")]
pub struct RewriteError;

impl PathRewrite {
    /// The new path of a request for `path`, whose prefix `matched` was matched.
    ///
    /// Where no prefix was matched, or the expression does not match, the path stays as it is.
    ///
    /// # Errors
    /// When what was put together is longer than 16 KiB or has no canonical form.
    pub fn apply(&self, path: &str, matched: Option<&PathPrefix>) -> Result<String, RewriteError> {
        match self {
            Self::Full(full) => Ok(full.as_str().to_owned()),
            Self::Prefix(prefix) => {
                let rest = matched.and_then(|matched| path.strip_prefix(matched.as_str()));
                let Some(rest) = rest else { return Ok(path.to_owned()) };
                let joined = format!("{}{rest}", prefix.as_str());
                Ok(if joined.is_empty() { "/".to_owned() } else { joined })
            }
            Self::Regex(rewrite) => rewrite.apply(path),
        }
    }
}

/// What is put together from the groups of an expression: `/$2` or `/new/${1}/x`, `$$` for `$`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "WrittenRegexRewrite", into = "WrittenRegexRewrite")]
pub struct RegexRewrite {
    pattern: Pattern,
    written: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Text(String),
    Group(usize),
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WrittenRegexRewrite {
    pattern: Pattern,
    substitution: String,
}

/// Why an expression and its substitution do not fit together.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SubstitutionError {
    /// It is longer than 4 KiB.
    #[error("the substitution is longer than 4096 bytes")]
    TooLong,
    /// Something other than a number or `$` stands behind `$`.
    #[error("{0:?} has a $ without a number of a group; $$ stands for itself")]
    Dollar(String),
    /// It names a group that the expression does not have.
    #[error("there is no group {0} in the expression")]
    NoGroup(usize),
}

impl RegexRewrite {
    /// Puts an expression, which must match the whole path, and a substitution together.
    ///
    /// # Errors
    /// When the substitution is too long or names what the expression does not have.
    pub fn new(pattern: Pattern, substitution: &str) -> Result<Self, SubstitutionError> {
        if substitution.len() > 4096 {
            return Err(SubstitutionError::TooLong);
        }
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = substitution;
        while let Some((before, behind)) = rest.split_once('$') {
            text.push_str(before);
            if let Some(behind) = behind.strip_prefix('$') {
                text.push('$');
                rest = behind;
                continue;
            }
            let (number, behind) =
                group(behind).ok_or_else(|| SubstitutionError::Dollar(substitution.into()))?;
            if number >= pattern.groups_len() {
                return Err(SubstitutionError::NoGroup(number));
            }
            pieces.push(Piece::Text(std::mem::take(&mut text)));
            pieces.push(Piece::Group(number));
            rest = behind;
        }
        text.push_str(rest);
        pieces.push(Piece::Text(text));
        Ok(Self { pattern, written: substitution.to_owned(), pieces })
    }

    /// The expression.
    #[must_use]
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// The substitution as it was written.
    #[must_use]
    pub fn substitution(&self) -> &str {
        &self.written
    }

    fn apply(&self, path: &str) -> Result<String, RewriteError> {
        let Some(groups) = self.pattern.groups(path) else { return Ok(path.to_owned()) };
        let mut made = String::new();
        for piece in &self.pieces {
            let text = match piece {
                Piece::Text(text) => text,
                Piece::Group(number) => groups.get(*number).map_or("", |found| found.as_str()),
            };
            if made.len() + text.len() > PATH_BYTES_MAX {
                return Err(RewriteError);
            }
            made.push_str(text);
        }
        if !made.starts_with('/') {
            made.insert(0, '/');
        }
        canonical(&made, PathRules::INGRESS).map(Into::into).map_err(|_| RewriteError)
    }
}

/// The number at the start of `text`, bare or in braces, and what follows.
fn group(text: &str) -> Option<(usize, &str)> {
    if let Some(braced) = text.strip_prefix('{') {
        let (number, behind) = braced.split_once('}')?;
        return Some((number.parse().ok()?, behind));
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, behind) = text.split_at(end);
    Some((number.parse().ok()?, behind))
}

impl TryFrom<WrittenRegexRewrite> for RegexRewrite {
    type Error = SubstitutionError;

    fn try_from(written: WrittenRegexRewrite) -> Result<Self, SubstitutionError> {
        Self::new(written.pattern, &written.substitution)
    }
}

impl From<RegexRewrite> for WrittenRegexRewrite {
    fn from(rewrite: RegexRewrite) -> Self {
        Self { pattern: rewrite.pattern, substitution: rewrite.written }
    }
}

/// The longest path that is put together.
const PATH_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(matched: &str, prefix: &str, path: &str, expected: &str) {
        let rewrite = PathRewrite::Prefix(prefix.parse().unwrap());
        assert_eq!(rewrite.apply(path, Some(&matched.parse().unwrap())).unwrap(), expected);
    }

    #[track_caller]
    fn check_regex(pattern: &str, substitution: &str, path: &str, expected: Result<&str, ()>) {
        let rewrite = RegexRewrite::new(pattern.parse().unwrap(), substitution).unwrap();
        let made = PathRewrite::Regex(rewrite).apply(path, None);
        assert_eq!(made.as_deref().map_err(|_| ()), expected, "{pattern} {substitution} {path}");
    }

    #[test]
    fn groups_are_put_where_the_substitution_says() {
        check_regex("/foo(/|$)(.*)", "/$2", "/foo/bar", Ok("/bar"));
        check_regex("/foo(/|$)(.*)", "/$2", "/foo", Ok("/"));
        check_regex("/foo(/|$)(.*)", "/$2", "/food", Ok("/food"));
        check_regex("/(a)/(b)", "/${2}1/$1", "/a/b", Ok("/b1/a"));
        check_regex("/(.*)", "$1", "/a/b", Ok("/a/b"));
        check_regex("/(.*)", "/x$$/$0", "/a", Ok("/x$/a"));
        check_regex("/a(b)?", "/c$1", "/a", Ok("/c"));
        // What was put together is as strict as what came.
        check_regex("/(.*)/x", "/$1/../../..", "/a/x", Err(()));
        check_regex("/(.*)", "/a?$1", "/a", Err(()));
        check_regex("/(.*)", "/$1$1$1", &format!("/{}", "a".repeat(9000)), Err(()));
    }

    #[test]
    fn a_substitution_names_only_groups_that_exist() {
        let error =
            |substitution| RegexRewrite::new("/(a)".parse().unwrap(), substitution).unwrap_err();
        assert_eq!(error("/$2"), SubstitutionError::NoGroup(2));
        assert_eq!(error("/$x"), SubstitutionError::Dollar("/$x".into()));
        assert_eq!(error("/$"), SubstitutionError::Dollar("/$".into()));
        assert_eq!(error("/${1"), SubstitutionError::Dollar("/${1".into()));
        assert_eq!(error(&"a".repeat(4097)), SubstitutionError::TooLong);
        let read = |text: &str| serde_json::from_str::<RegexRewrite>(text);
        assert!(read(r#"{"pattern":"/(a)","substitution":"/$1"}"#).is_ok());
        assert!(read(r#"{"pattern":"/(a)","substitution":"/$2"}"#).is_err());
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
