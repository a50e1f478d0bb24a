//! The head of a request: as typed fields on the way in, as bytes on the way out.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri, Version};

/// A request: its head as typed fields, and what of its body came with it.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// The version that the client speaks.
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    /// What of the body came with the head, as it was framed.
    pub(super) body: Bytes,
    /// Whether the end of the body is found by its chunks.
    pub(super) is_chunked: bool,
    /// Whether the client wants the connection to end.
    pub(super) is_last: bool,
}

/// Reads a judged head with what came behind it. None where it has more fields than there is room
/// for, or breaks a rule that this reader has and the judge has not.
pub(super) fn read(bytes: &Bytes) -> Option<Whole> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let end = match parsed.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) | Err(_) => return None,
    };
    let version = if parsed.version? == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    let method = Method::from_bytes(parsed.method?.as_bytes()).ok()?;
    let uri = Uri::from_maybe_shared(bytes.slice_ref(parsed.path?.as_bytes())).ok()?;
    let mut headers = HeaderMap::with_capacity(parsed.headers.len() + ROOM);
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = bytes.slice_ref(field.value.trim_ascii());
        headers.append(name, HeaderValue::from_maybe_shared(value).ok()?);
    }
    let says = |wanted: &[u8]| {
        headers.get_all(header::CONNECTION).iter().any(|line| {
            let mut tokens = line.as_bytes().split(|&byte| byte == b',');
            tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(wanted))
        })
    };
    let is_last = says(b"close") || version == Version::HTTP_10 && !says(b"keep-alive");
    // The judge lets no other coding pass.
    let is_chunked = headers.contains_key(header::TRANSFER_ENCODING);
    let body = bytes.slice(end..);
    Some(Whole { method, uri, version, headers, body, is_chunked, is_last })
}

/// Writes the line and the fields of a request to a Backend.
pub(super) fn write(method: &Method, target: &str, headers: &HeaderMap, out: &mut BytesMut) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    // First of all, as RFC 9110 section 7.2 wants it.
    if let Some(host) = headers.get(header::HOST) {
        write_field(&header::HOST, host, out);
    }
    for (name, value) in headers {
        if name != header::HOST {
            write_field(name, value, out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the line and the fields of an answer to a client.
pub(super) fn write_answer(status: http::StatusCode, headers: &HeaderMap, out: &mut BytesMut) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        write_field(name, value, out);
    }
}

/// Writes one field; each word of its name begins with a capital, as most programs write it.
pub(super) fn write_field(name: &HeaderName, value: &HeaderValue, out: &mut BytesMut) {
    let mut is_start = true;
    let start = out.len();
    out.extend_from_slice(name.as_str().as_bytes());
    for byte in out.iter_mut().skip(start) {
        if is_start {
            byte.make_ascii_uppercase();
        }
        is_start = *byte == b'-';
    }
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Room for a usual head.
pub(super) const HEAD_BYTES: usize = 1024;
const FIELDS_MAX: usize = 100;
/// For what the pipeline puts in.
const ROOM: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Option<Whole> {
        read(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_request_is_read_and_written_as_it_was() {
        let text = "POST /a?b=c HTTP/1.1\r\nX-A:  1 \r\nHost: a.example\r\nX-A: 2\r\n\
                    Content-Length: 2\r\n\r\nhi";
        let request = whole(text).unwrap();
        assert_eq!((request.body.as_ref(), request.is_last), (&b"hi"[..], false));
        let mut out = BytesMut::new();
        write(&request.method, "/a?b=c", &request.headers, &mut out);
        let expected = "POST /a?b=c HTTP/1.1\r\nHost: a.example\r\nX-A: 1\r\nX-A: 2\r\n\
                        Content-Length: 2\r\n\r\n";
        assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
    }

    #[test]
    fn what_tells_the_end_of_a_body_and_of_a_connection_is_read() {
        let head = |line: &str, fields: &str| format!("{line}\r\nHost: a\r\n{fields}\r\n");
        let check = |line: &str, fields: &str, expected: (bool, bool)| {
            let request = whole(&head(line, fields)).unwrap();
            assert_eq!((request.is_chunked, request.is_last), expected, "{line} {fields}");
        };
        check("GET / HTTP/1.1", "", (false, false));
        check("GET / HTTP/1.0", "", (false, true));
        check("GET / HTTP/1.0", "Connection: Keep-Alive\r\n", (false, false));
        check("GET / HTTP/1.1", "Connection: x, Close\r\n", (false, true));
        check("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\n", (true, false));
        assert!(whole(&head("GET / HTTP/1.1", &"A: b\r\n".repeat(100))).is_none());
    }
}
