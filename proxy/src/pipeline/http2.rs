//! The rules of the head gate for a head that came by HTTP/2, where RFC 9113 leaves them to us.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Uri, Version};

use super::answer::is_look_alike;
use crate::limits::Limits;
use crate::listener::head::is_token_byte;
use crate::listener::refusal::Rule;
use crate::request::{Fields, Incoming};

/// Judges a request of HTTP/2. One of HTTP/1 has passed the head gate.
///
/// # Errors
/// The rule that it breaks.
pub(crate) fn check(incoming: &Incoming<'_>, limits: &Limits) -> Result<(), Rule> {
    if incoming.version != Version::HTTP_2 {
        return Ok(());
    }
    check_method(incoming.method)?;
    check_target(incoming.uri, incoming.method, limits)?;
    if incoming.headers.len() > limits.fields_max {
        return Err(Rule::FieldCount);
    }
    for (name, value) in incoming.headers {
        // The library takes a quote for a part of a name.
        if !name.as_str().bytes().all(is_token_byte) {
            return Err(Rule::FieldName);
        }
        if name.as_str().len() + value.len() > limits.field_bytes_max {
            return Err(Rule::FieldLength);
        }
        let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        // RFC 9113 section 8.2.1.
        if is_space(value.as_bytes().first()) || is_space(value.as_bytes().last()) {
            return Err(Rule::FieldValue);
        }
        if is_look_alike(name.as_str()) {
            return Err(Rule::LookAlike);
        }
    }
    check_named(incoming.headers)
}

/// Whether a request says that it has no body. A body may follow all the same.
pub(crate) fn is_said_empty(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() == b"0")
}

/// Makes one field of many crumbs (RFC 9113 section 8.2.3); HTTP/1 has one.
pub(crate) fn join_cookies(to: &mut impl Fields) {
    let mut crumbs = to.fields().get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    // All parts were header values, so the whole is one.
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        to.set(&header::COOKIE, joined);
    }
}

fn check_method(method: &Method) -> Result<(), Rule> {
    if method.as_str().len() > METHOD_BYTES_MAX {
        return Err(Rule::Method);
    }
    if matches!(method.as_str(), "CONNECT" | "TRACE" | "TRACK") {
        return Err(Rule::MethodRefused);
    }
    Ok(())
}

fn check_target(uri: &Uri, method: &Method, limits: &Limits) -> Result<(), Rule> {
    // Without an authority the scheme is not kept; then Host stands for it.
    if !matches!(uri.scheme_str(), None | Some("http" | "https")) {
        return Err(Rule::TargetForm);
    }
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    if target.len() > limits.target_bytes_max {
        return Err(Rule::TargetLength);
    }
    let is_whole_server = target == "*" && method == Method::OPTIONS;
    if !target.starts_with('/') && !is_whole_server {
        return Err(Rule::TargetForm);
    }
    let is_bad =
        |byte: u8| !byte.is_ascii_graphic() || matches!(byte, b'#' | b'<' | b'>' | b'\\' | b'`');
    if target.bytes().any(is_bad) {
        return Err(Rule::TargetByte);
    }
    Ok(())
}

fn check_named(headers: &HeaderMap) -> Result<(), Rule> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        let bytes = length.as_bytes();
        let is_canonical = bytes == b"0" || !bytes.starts_with(b"0");
        let number = length.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let is_number = number.is_some_and(|number| number.parse::<i64>().is_ok());
        if lengths.next().is_some() || !is_canonical || !is_number {
            return Err(Rule::ContentLength);
        }
    }
    let mut expectations = headers.get_all(header::EXPECT).iter();
    if !expectations.all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Rule::Expect);
    }
    let of_hop = [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE];
    if of_hop.iter().any(|name| headers.contains_key(name)) {
        return Err(Rule::Connection);
    }
    Ok(())
}

const METHOD_BYTES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn judged(method: &str, uri: &str, fields: &[(&'static str, &str)]) -> Result<(), Rule> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let uri = uri.parse().unwrap();
        let version = Version::HTTP_2;
        let incoming = Incoming { method: &method, uri: &uri, version, headers: &headers };
        check(&incoming, &Limits::default())
    }

    #[test]
    fn what_the_gate_refuses_is_refused_on_http2_too() {
        let get = |fields: &[(&'static str, &str)]| judged("GET", "http://a/", fields);
        assert_eq!(get(&[]), Ok(()));
        assert_eq!(get(&[("n", "a b")]), Ok(()));
        assert_eq!(get(&[("content_length", "1")]), Err(Rule::LookAlike));
        assert_eq!(get(&[("transfer.encoding", "x")]), Err(Rule::LookAlike));
        let twice = [("content-length", "1"), ("content-length", "1")];
        assert_eq!(get(&twice), Err(Rule::ContentLength));
        for length in ["", "x", "+1", "01", "1,1", "9223372036854775808"] {
            assert_eq!(get(&[("content-length", length)]), Err(Rule::ContentLength), "{length}");
        }
        assert_eq!(get(&[("n", " v")]), Err(Rule::FieldValue));
        assert_eq!(get(&[("n", "v\t")]), Err(Rule::FieldValue));
        assert_eq!(get(&[("expect", "x")]), Err(Rule::Expect));
        assert_eq!(get(&[("upgrade", "x")]), Err(Rule::Connection));
        assert_eq!(get(&[("n", "v"); 101]), Err(Rule::FieldCount));
        assert_eq!(get(&[("n", &"v".repeat(33_000))]), Err(Rule::FieldLength));
        assert_eq!(judged("TRACE", "http://a/", &[]), Err(Rule::MethodRefused));
        assert_eq!(judged(&"A".repeat(33), "http://a/", &[]), Err(Rule::Method));
        assert_eq!(judged("GET", "ftp://a/", &[]), Err(Rule::TargetForm));
        assert_eq!(judged("GET", "*", &[]), Err(Rule::TargetForm));
        let long = format!("http://a/{}", "a".repeat(16 * 1024));
        assert_eq!(judged("GET", &long, &[]), Err(Rule::TargetLength));
    }

    #[test]
    fn crumbs_become_one_cookie() {
        let mut headers = HeaderMap::new();
        for crumb in ["a=b", "c=d", "e=f"] {
            headers.append(header::COOKIE, HeaderValue::from_static(crumb));
        }
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(header::COOKIE).iter().count(), 1);
        assert_eq!(headers[header::COOKIE], "a=b; c=d; e=f");
    }
}
