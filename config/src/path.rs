//! The canonical form of a request path, shared by matching, policy and forwarding.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How spellings are treated that different servers read differently.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PathRules {
    /// What happens to `%2F` and `%5C`.
    pub encoded_slash: EncodedSlash,
    /// What happens to `//`.
    pub double_slash: DoubleSlash,
}

/// What happens to `%2F` and `%5C` in a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EncodedSlash {
    /// The request is refused.
    Refuse,
    /// They stay encoded data, in matching and in forwarding.
    Keep,
}

/// What happens to `//` in a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DoubleSlash {
    /// It becomes `/`.
    Merge,
    /// It stays.
    Keep,
}

impl PathRules {
    /// The rules for Ingress: slashes merge, encoded ones are refused.
    pub const INGRESS: Self =
        Self { encoded_slash: EncodedSlash::Refuse, double_slash: DoubleSlash::Merge };
}

/// Why a path has no canonical form. The request is answered with 400.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("the path does not begin with /")]
    NotAbsolute,
    /// A `%` without two hexadecimal digits behind it.
    #[error("the path has a % without two hexadecimal digits")]
    BadEscape,
    /// `%00`.
    #[error("the path has an encoded NUL")]
    EncodedNul,
    /// `%2F` or `%5C`, which the rules refuse.
    #[error("the path has an encoded slash or backslash")]
    EncodedSlash,
    /// A byte that may not stand in a path: control, space, `#`, backslash, 8-bit.
    #[error("the path has a byte that must be encoded")]
    BadByte,
    /// `..` leads above the root.
    #[error("the path leads above the root")]
    AboveRoot,
    /// A parameter in front of a dot segment, or of one, as in `/a;x/../b` and `/a/..;x/b`.
    #[error("the path has a ; in front of or behind a dot segment")]
    ParameterBeforeDots,
    /// Encoded bytes that are an overlong form of another character.
    #[error("the path has overlong UTF-8")]
    Overlong,
}

/// A path in canonical form, without query.
///
/// Unreserved characters are decoded, hexadecimal digits are upper case, dot
/// segments are gone. It begins with `/`. Decoding happens once: `%252e` stays.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CanonicalPath(Arc<str>);

impl CanonicalPath {
    /// Brings the path of a request into canonical form.
    ///
    /// # Errors
    /// When the path is ambiguous or malformed; see [`PathError`].
    pub fn parse(raw: &str, rules: PathRules) -> Result<Self, PathError> {
        canonical(raw, rules).map(|path| Self(path.as_ref().into()))
    }

    /// Brings a path that a person wrote in a Rule into canonical form.
    ///
    /// Characters that a request would have to encode are encoded first.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn of_rule(written: &str) -> Result<Self, PathError> {
        let rules =
            PathRules { encoded_slash: EncodedSlash::Keep, double_slash: DoubleSlash::Merge };
        let mut encoded = String::with_capacity(written.len());
        for byte in written.bytes() {
            if is_path_byte(byte) || byte == b'%' {
                encoded.push(char::from(byte));
            } else {
                push_escape(&mut encoded, byte);
            }
        }
        Self::parse(&encoded, rules)
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for CanonicalPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for CanonicalPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::of_rule(text)
    }
}

/// The canonical form of `raw`; borrowed when it has that form already, which is the common case.
///
/// # Errors
/// When the path is ambiguous or malformed; see [`PathError`].
pub fn canonical(raw: &str, rules: PathRules) -> Result<Cow<'_, str>, PathError> {
    if !raw.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    if is_plain(raw.as_bytes()) {
        return Ok(Cow::Borrowed(raw));
    }
    let decoded = decode_unreserved(raw, rules)?;
    remove_dots(&decoded, rules).map(Cow::Owned)
}

/// Whether nothing in `path` can need a change: no escape, no `//`, no `/.`, only path bytes.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    for &byte in path {
        if !is_path_byte(byte) || (before == b'/' && (byte == b'/' || byte == b'.')) {
            return false;
        }
        before = byte;
    }
    true
}

/// Bytes that may stand unencoded in a path (RFC 3986 section 3.3), `/` included.
///
/// `"<>[]^{|}` and the backtick are not among them by the RFC, but browsers and
/// tools send most of them as they are; only what is dangerous is refused.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'%' | b'#' | b'\\' | b'?')
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn decode_unreserved(raw: &str, rules: PathRules) -> Result<String, PathError> {
    let bytes = raw.as_bytes();
    let mut decoded = String::with_capacity(raw.len());
    let mut escaped = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'%' {
            check_utf8(&mut escaped)?;
            if !is_path_byte(byte) {
                return Err(PathError::BadByte);
            }
            decoded.push(char::from(byte));
            at += 1;
            continue;
        }
        let value = bytes
            .get(at + 1..at + 3)
            .and_then(|digits| Some(hex_digit(digits[0])? << 4 | hex_digit(digits[1])?))
            .ok_or(PathError::BadEscape)?;
        at += 3;
        match value {
            0 => return Err(PathError::EncodedNul),
            b'/' | b'\\' if rules.encoded_slash == EncodedSlash::Refuse => {
                return Err(PathError::EncodedSlash);
            }
            _ if is_unreserved(value) => {
                check_utf8(&mut escaped)?;
                decoded.push(char::from(value));
            }
            _ => {
                escaped.push(value);
                push_escape(&mut decoded, value);
            }
        }
    }
    check_utf8(&mut escaped)?;
    Ok(decoded)
}

/// Refuses a run of escaped bytes that smuggles an ASCII character in an overlong form.
///
/// Other bytes that are no UTF-8 stay: paths in older encodings are in use.
fn check_utf8(run: &mut Vec<u8>) -> Result<(), PathError> {
    let overlong = run.iter().enumerate().any(|(at, byte)| match byte {
        0xC0 | 0xC1 => true,
        0xE0 => run.get(at + 1).is_some_and(|next| (0x80..0xA0).contains(next)),
        0xF0 => run.get(at + 1).is_some_and(|next| (0x80..0x90).contains(next)),
        _ => false,
    });
    run.clear();
    if overlong { Err(PathError::Overlong) } else { Ok(()) }
}

fn remove_dots(path: &str, rules: PathRules) -> Result<String, PathError> {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        let is_dots = segment == "." || segment == "..";
        // Who cuts parameters off, also encoded ones, finds a dot segment in front of them.
        let is_hidden = segment.strip_prefix("..").or(segment.strip_prefix('.'));
        if is_hidden.is_some_and(|rest| rest.starts_with(';') || rest.starts_with("%3B")) {
            return Err(PathError::ParameterBeforeDots);
        }
        if is_dots && kept.last().is_some_and(|before| before.contains(';')) {
            return Err(PathError::ParameterBeforeDots);
        }
        match segment {
            ".." => {
                kept.pop().ok_or(PathError::AboveRoot)?;
            }
            "." => {}
            "" if !is_last && rules.double_slash == DoubleSlash::Merge => {}
            _ => kept.push(segment),
        }
        // A dot segment at the end leaves the slash in front of it.
        if is_last && is_dots {
            kept.push("");
        }
    }
    let mut result = String::with_capacity(path.len());
    for segment in &kept {
        result.push('/');
        result.push_str(segment);
    }
    if result.is_empty() {
        result.push('/');
    }
    Ok(result)
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn push_escape(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(DIGITS[usize::from(byte >> 4)]));
    text.push(char::from(DIGITS[usize::from(byte & 15)]));
}

crate::name::serde_as_text! { CanonicalPath }

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: Result<&str, PathError>) {
        let got = CanonicalPath::parse(raw, PathRules::INGRESS);
        assert_eq!(got.as_ref().map(CanonicalPath::as_str), expected.as_ref().copied(), "{raw}");
        if let Ok(path) = got {
            let again = CanonicalPath::parse(path.as_str(), PathRules::INGRESS);
            assert_eq!(again.as_ref(), Ok(&path), "canonical is final");
        }
    }

    #[test]
    fn one_form_for_every_spelling() {
        check("/", Ok("/"));
        check("/a/b", Ok("/a/b"));
        check("/a//b", Ok("/a/b"));
        check("//a", Ok("/a"));
        check("/a/b/", Ok("/a/b/"));
        check("/a/b//", Ok("/a/b/"));
        check("/a/./b", Ok("/a/b"));
        check("/a/../b", Ok("/b"));
        check("/a/b/..", Ok("/a/"));
        check("/a/.", Ok("/a/"));
        check("/..", Err(PathError::AboveRoot));
        check("/a/../../b", Err(PathError::AboveRoot));
        check("/%61dmin", Ok("/admin"));
        check("/x/%2e%2E/admin", Ok("/admin"));
        check("/a%3ab", Ok("/a%3Ab"));
        check("/%252e%252e/a", Ok("/%252e%252e/a"));
        check("/a%2fb", Err(PathError::EncodedSlash));
        check("/a%5Cb", Err(PathError::EncodedSlash));
        check("/a%00", Err(PathError::EncodedNul));
        check("/a%", Err(PathError::BadEscape));
        check("/a%zz", Err(PathError::BadEscape));
        check("/a%+1", Err(PathError::BadEscape));
        check("/a;x/../b", Err(PathError::ParameterBeforeDots));
        check("/a/..;x/b", Err(PathError::ParameterBeforeDots));
        check("/a/%2e;/b", Err(PathError::ParameterBeforeDots));
        check("/a/..%3bx/b", Err(PathError::ParameterBeforeDots));
        check("/a;x/b", Ok("/a;x/b"));
        check("/..x;y", Ok("/..x;y"));
        check("/%c0%ae%c0%ae/a", Err(PathError::Overlong));
        check("/%e0%80%af", Err(PathError::Overlong));
        check("/%e4%bd%a0", Ok("/%E4%BD%A0"));
        check("/a b", Err(PathError::BadByte));
        check("/a\\b", Err(PathError::BadByte));
        check("/ä", Err(PathError::BadByte));
        check("a", Err(PathError::NotAbsolute));
        check("", Err(PathError::NotAbsolute));
    }

    #[test]
    fn encoded_slashes_can_be_kept_as_data() {
        let rules = PathRules { encoded_slash: EncodedSlash::Keep, ..PathRules::INGRESS };
        assert_eq!(CanonicalPath::parse("/a%2fb", rules).unwrap().as_str(), "/a%2Fb");
        let rules = PathRules { double_slash: DoubleSlash::Keep, ..PathRules::INGRESS };
        assert_eq!(CanonicalPath::parse("/a//%62", rules).unwrap().as_str(), "/a//b");
    }

    #[test]
    fn rules_are_encoded_as_a_client_would() {
        assert_eq!(CanonicalPath::of_rule("/straße x").unwrap().as_str(), "/stra%C3%9Fe%20x");
        assert_eq!(CanonicalPath::of_rule("/%7Euser").unwrap().as_str(), "/~user");
    }
}
