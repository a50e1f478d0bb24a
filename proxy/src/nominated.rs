//! What `Connection` nominates, and what it may not (RFC 9110 section 7.6.1).
//!
//! A client names there what concerns its connection only; such fields go no further. It must not
//! take away what names the request, its sender or its length: that has no effect.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// What becomes of a request whose `Connection` says more than the usual.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Nominated {
    /// Fields that go no further.
    pub(crate) removed: Vec<HeaderName>,
    /// What of `Connection` stays; None for nothing.
    pub(crate) left: Option<HeaderValue>,
}

/// Reads `Connection`; None where it says nothing but the usual, which costs no allocation.
pub(crate) fn nominated(headers: &HeaderMap) -> Option<Nominated> {
    let mut lines = headers.get_all(header::CONNECTION).iter();
    let first = lines.next()?;
    if lines.next().is_none() && tokens(first).all(|token| option(token).is_some()) {
        return None;
    }
    let mut found = Nominated::default();
    let mut left: Vec<&str> = Vec::new();
    for token in headers.get_all(header::CONNECTION).iter().flat_map(tokens) {
        if let Some(option) = option(token) {
            if !left.contains(&option) {
                left.push(option);
            }
        } else if let Ok(name) = HeaderName::from_bytes(token)
            && !is_protected(token)
            && headers.contains_key(&name)
            && !found.removed.contains(&name)
        {
            found.removed.push(name);
        }
    }
    found.left = HeaderValue::from_str(&left.join(", ")).ok().filter(|left| !left.is_empty());
    Some(found)
}

fn tokens(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    members(line.as_bytes())
}

/// The members of one value of `Connection`.
pub(crate) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// An option that the engine understands.
pub(crate) fn option(token: &[u8]) -> Option<&'static str> {
    OPTIONS.into_iter().find(|option| token.eq_ignore_ascii_case(option.as_bytes()))
}

/// Whether nobody may make the field `name` vanish: it frames, routes, or tells who the client is.
pub(crate) fn is_protected(name: &[u8]) -> bool {
    let forwarded = name.get(..FORWARDED.len());
    PROTECTED.iter().any(|other| name.eq_ignore_ascii_case(other.as_str().as_bytes()))
        || forwarded.is_some_and(|begin| begin.eq_ignore_ascii_case(FORWARDED))
}

const OPTIONS: [&str; 3] = ["close", "keep-alive", "upgrade"];
const FORWARDED: &[u8] = b"x-forwarded-";
const PROTECTED: [HeaderName; 12] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::FORWARDED,
    header::HOST,
    header::ORIGIN,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VIA,
    HeaderName::from_static("x-real-ip"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// `removed` are names; `left` is what stays of `Connection`.
    #[track_caller]
    fn check(lines: &[&str], removed: &[&str], left: Option<&str>) {
        let mut headers = HeaderMap::new();
        for name in ["host", "x-a", "x-b", "authorization", "x-forwarded-for", "content-length"] {
            headers.insert(name, HeaderValue::from_static("1"));
        }
        for line in lines {
            headers.append(header::CONNECTION, line.parse().unwrap());
        }
        let found = nominated(&headers).unwrap_or_else(|| Nominated {
            removed: Vec::new(),
            left: headers.get(header::CONNECTION).cloned(),
        });
        let names: Vec<&str> = found.removed.iter().map(HeaderName::as_str).collect();
        assert_eq!(names, removed, "{lines:?}");
        assert_eq!(found.left.as_ref().map(|left| left.to_str().unwrap()), left, "{lines:?}");
    }

    #[test]
    fn what_matters_cannot_be_nominated() {
        check(&[], &[], None);
        check(&["keep-alive"], &[], Some("keep-alive"));
        check(&["Keep-Alive, Upgrade"], &[], Some("Keep-Alive, Upgrade"));
        check(&["host"], &[], None);
        check(&["close, Host, X-Forwarded-For, Authorization, content-length"], &[], Some("close"));
        check(&["x-a, X-A", "X-B"], &["x-a", "x-b"], None);
        check(&["close", "close"], &[], Some("close"));
        check(&["x-c, :authority, a b, \"x-a\", ,"], &[], None);
        let many = "y,".repeat(1000);
        check(&[&many], &[], None);
    }
}
