//! The head of an answer of a Backend, judged as strictly as the head of a request.

use http::StatusCode;
use http::header::{self, HeaderMap};

/// Whether nobody reads this head differently; else the client gets 502.
pub(crate) fn is_well_formed(status: StatusCode, headers: &HeaderMap) -> bool {
    // Interim answers and tunnels are judged where they are relayed.
    if status.as_u16() >= 600 || headers.len() > FIELDS_MAX {
        return false;
    }
    let mut bytes = 0;
    for (name, value) in headers {
        bytes += name.as_str().len() + value.len();
        if is_look_alike(name.as_str()) {
            return false;
        }
    }
    bytes <= HEAD_BYTES_MAX && is_framed(headers)
}

/// Whether an answer with 101 leads to the one protocol that a client can ask for here.
pub(crate) fn is_to_websocket(headers: &HeaderMap) -> bool {
    let mut named = headers.get_all(header::UPGRADE).iter();
    match (named.next(), named.next()) {
        (Some(one), None) => one.as_bytes().eq_ignore_ascii_case(b"websocket"),
        (Some(_), Some(_)) | (None, _) => false,
    }
}

/// Whether the coding is `chunked` or none: the engine reads any other as an answer without an end.
fn is_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(one), None) => one.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Whether `name` is that of a length or a coding for those who take `_` and `.` for `-`.
pub(super) fn is_look_alike(name: &str) -> bool {
    let real = match name.len() {
        14 => "content-length",
        17 => "transfer-encoding",
        _ => return false,
    };
    name != real && name.replace(['_', '.'], "-") == real
}

/// Size of an answer's names and values in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const FIELDS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, fields: &[(&'static str, &'static str)], expected: bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(is_well_formed(status, &headers), expected, "{status} {fields:?}");
    }

    #[test]
    fn an_answer_has_one_reading() {
        check(200, &[], true);
        check(599, &[("transfer-encoding", "Chunked")], true);
        check(600, &[], false);
        check(200, &[("transfer-encoding", "gzip")], false);
        check(200, &[("transfer-encoding", "")], false);
        check(200, &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false);
        check(200, &[("content_length", "1")], false);
        check(200, &[("transfer.encoding", "chunked")], false);
        check(200, &[("content-lengths", "1")], true);
        check(200, &[("n", "v"); 200], true);
        check(200, &[("n", "v"); 201], false);
    }
}
