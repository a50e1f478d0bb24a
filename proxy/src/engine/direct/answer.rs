//! The head of an answer: read strictly, and what follows it (RFC 9112 sections 4 to 6).

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use crate::pipeline::answer::{is_to_websocket, is_well_formed};

/// What is wrong with an answer. The client gets 502, or an answer that is visibly cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Fault {
    /// The head is none.
    #[error("the head of the answer is malformed")]
    Head,
    /// The head is longer than any may be.
    #[error("the head of the answer is too long")]
    HeadLength,
    /// Length or coding that could be read in two ways.
    #[error("the length of the answer is ambiguous")]
    Framing,
    /// The framing of a chunk is broken.
    #[error("a chunk of the answer is malformed")]
    Chunk,
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    /// There is none.
    Nothing,
    /// After so many bytes.
    Length(u64),
    /// By its chunks.
    Chunked,
    /// With the connection.
    Close,
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) framing: Framing,
    /// Whether the connection can be used again behind it.
    pub(super) can_be_kept: bool,
}

/// The search for the end of a head; each byte is looked at once.
#[derive(Debug, Default)]
pub(super) struct Search {
    at: usize,
    line: usize,
}

impl Search {
    /// The length of the head once it is complete.
    ///
    /// # Errors
    /// When it is too long, or a line ends with LF alone.
    pub(super) fn go_on(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        while let Some(found) = bytes.get(self.at..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            let end = self.at + found;
            if end == 0 || bytes.get(end - 1) != Some(&b'\r') {
                return Err(Fault::Head);
            }
            self.at = end + 1;
            if end - self.line == 1 {
                let is_too_long = self.at > HEAD_BYTES_MAX;
                return if is_too_long { Err(Fault::HeadLength) } else { Ok(Some(self.at)) };
            }
            self.line = end + 1;
        }
        self.at = bytes.len();
        if self.at > HEAD_BYTES_MAX { Err(Fault::HeadLength) } else { Ok(None) }
    }
}

/// Reads a complete head that answers a request with `method`.
///
/// # Errors
/// See [`Fault`].
pub(super) fn read(head: &Bytes, method: &Method) -> Result<Answer, Fault> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let is_whole = config
        .parse_response_with_uninit_headers(&mut parsed, head, &mut fields)
        .is_ok_and(|status| status.is_complete());
    let (true, Some(code), Some(minor)) = (is_whole, parsed.code, parsed.version) else {
        return Err(Fault::Head);
    };
    let status = StatusCode::from_u16(code).map_err(|_| Fault::Head)?;
    if !(100..600).contains(&code) {
        return Err(Fault::Head);
    }
    let mut headers = HeaderMap::with_capacity(parsed.headers.len() + ROOM);
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Fault::Head)?;
        headers.append(name, value_of(head, field.value)?);
    }
    if !is_well_formed(status, &headers) {
        return Err(Fault::Head);
    }
    // Before what concerns the connection is taken out; nothing else is ever asked for.
    if status == StatusCode::SWITCHING_PROTOCOLS && !is_to_websocket(&headers) {
        return Err(Fault::Head);
    }
    // Such an answer has no body (RFC 9110 section 15.3.5), but one that is announced may come.
    let is_doubtful = status == StatusCode::NO_CONTENT && announces_body(&headers);
    let framing = framing(&mut headers, status, method, minor)?;
    let says_close = has_token(&headers, b"close");
    let can_be_kept = framing != Framing::Close
        && !is_doubtful
        && if minor == 1 { !says_close } else { has_token(&headers, b"keep-alive") };
    super::strip(&mut headers);
    Ok(Answer { status, headers, framing, can_be_kept })
}

fn value_of(head: &Bytes, value: &[u8]) -> Result<HeaderValue, Fault> {
    HeaderValue::from_maybe_shared(head.slice_ref(value.trim_ascii())).map_err(|_| Fault::Head)
}

/// Whether `Connection` has this option.
fn has_token(headers: &HeaderMap, wanted: &[u8]) -> bool {
    let lines = headers.get_all(header::CONNECTION).iter();
    let mut tokens = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(wanted))
}

fn framing(
    headers: &mut HeaderMap,
    status: StatusCode,
    method: &Method,
    minor: u8,
) -> Result<Framing, Fault> {
    let length = length(headers)?;
    let is_chunked = is_chunked(headers)?;
    if is_chunked && (length.is_some() || minor == 0) {
        return Err(Fault::Framing);
    }
    if status == StatusCode::NO_CONTENT || status.is_informational() {
        headers.remove(header::CONTENT_LENGTH);
        return Ok(Framing::Nothing);
    }
    if method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        return Ok(Framing::Nothing);
    }
    Ok(match length {
        _ if is_chunked => Framing::Chunked,
        Some(length) => Framing::Length(length),
        None => Framing::Close,
    })
}

/// The length that all lines agree on; one line is left of several.
pub(super) fn length(headers: &mut HeaderMap) -> Result<Option<u64>, Fault> {
    let mut known: Option<u64> = None;
    let mut lines = 0;
    for line in headers.get_all(header::CONTENT_LENGTH) {
        lines += 1;
        let text = line.to_str().map_err(|_| Fault::Framing)?;
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Fault::Framing);
        }
        let length: i64 = text.parse().map_err(|_| Fault::Framing)?;
        let length = u64::try_from(length).map_err(|_| Fault::Framing)?;
        if known.replace(length).is_some_and(|other| other != length) {
            return Err(Fault::Framing);
        }
    }
    if let (2.., Some(length)) = (lines, known) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(known)
}

/// Whether a head says that something follows.
fn announces_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length != "0")
}

/// Whether the one coding is `chunked`; nothing else is.
fn is_chunked(headers: &HeaderMap) -> Result<bool, Fault> {
    let mut lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(false),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(true),
        (Some(_), _) => Err(Fault::Framing),
    }
}

const HEAD_BYTES_MAX: usize = 64 * 1024;
const FIELDS_MAX: usize = 200;
/// For what we put in.
const ROOM: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, method: &Method) -> Result<Answer, Fault> {
        let end = Search::default().go_on(text.as_bytes())?.ok_or(Fault::Head)?;
        assert_eq!(end, text.len(), "{text:?}");
        read(&Bytes::copy_from_slice(text.as_bytes()), method)
    }

    #[track_caller]
    fn check(lines: &str, expected: Result<(Framing, bool), Fault>) {
        let text = format!("{lines}\r\n\r\n");
        let found = parse(&text, &Method::GET).map(|answer| (answer.framing, answer.can_be_kept));
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn the_end_of_a_body_is_known_or_the_answer_is_refused() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 5", Ok((Framing::Length(5), true)));
        check("HTTP/1.1 200\r\nContent-Length: 0", Ok((Framing::Length(0), true)));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked", Ok((Framing::Chunked, true)));
        check("HTTP/1.1 200 OK", Ok((Framing::Close, false)));
        check("HTTP/1.0 200 OK\r\nContent-Length: 5", Ok((Framing::Length(5), false)));
        let kept = "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive";
        check(kept, Ok((Framing::Length(5), true)));
        let closed = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, Close";
        check(closed, Ok((Framing::Length(5), false)));
        check("HTTP/1.1 204 No", Ok((Framing::Nothing, true)));
        check("HTTP/1.1 204 No\r\nContent-Length: 0", Ok((Framing::Nothing, true)));
        check("HTTP/1.1 204 No\r\nContent-Length: 5", Ok((Framing::Nothing, false)));
        check("HTTP/1.1 204 No\r\nTransfer-Encoding: chunked", Ok((Framing::Nothing, false)));
        check("HTTP/1.1 304 No\r\nContent-Length: 5", Ok((Framing::Nothing, true)));
        let twice = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5";
        check(twice, Ok((Framing::Length(5), true)));
        for fields in [
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: ",
            "Content-Length: 9223372036854775808",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
        ] {
            check(&format!("HTTP/1.1 200 OK\r\n{fields}"), Err(Fault::Framing));
        }
        check("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked", Err(Fault::Framing));
        for fields in [
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Content_Length: 5\r\nContent-Length: 5",
        ] {
            check(&format!("HTTP/1.1 200 OK\r\n{fields}"), Err(Fault::Head));
        }
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for text in [
            "200 OK",
            "HTTP/2 200 OK",
            "HTTP/1.2 200 OK",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 099 OK",
            "HTTP/1.1 700 OK",
            "HTTP/1.1 200 OK\r\nA : b",
            "HTTP/1.1 200 OK\r\n folded",
            "HTTP/1.1 200 OK\r\nA: b\r\n folded",
            "HTTP/1.1 200 OK\r\nA: b\0",
            "HTTP/1.1 200 OK\r\nA: b\rc",
            "HTTP/1.1 200 OK\r\nno colon",
            "HTTP/1.1 200 OK\nA: b",
        ] {
            let text = format!("{text}\r\n\r\n");
            assert_eq!(parse(&text, &Method::GET).map(|_| ()), Err(Fault::Head), "{text:?}");
        }
    }

    #[test]
    fn an_answer_to_head_has_no_body_but_a_length() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        let answer = parse(text, &Method::HEAD).unwrap();
        assert_eq!(answer.framing, Framing::Nothing);
        assert_eq!(answer.headers[header::CONTENT_LENGTH], "5");
    }

    #[test]
    fn fields_of_the_connection_stay_behind() {
        let text = "HTTP/1.1 200 OK\r\nConnection: x-own, close\r\nX-Own: 1\r\nKeep-Alive: 5\r\n\
                    Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n";
        let headers = parse(text, &Method::GET).unwrap().headers;
        let names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["set-cookie", "content-length"]);
        assert_eq!(headers.get_all("set-cookie").iter().count(), 2);
    }

    #[test]
    fn a_head_is_searched_once_and_has_an_end() {
        let mut search = Search::default();
        let text = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody";
        for end in 0..text.len() {
            let found = search.go_on(&text[..end]).unwrap();
            assert_eq!(found, (end >= 25).then_some(25), "{end}");
            if found.is_some() {
                return;
            }
        }
        panic!("no end was found");
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let long = [b"HTTP/1.1 200 OK\r\nA: ".as_slice(), &[b'a'; 70_000]].concat();
        assert_eq!(Search::default().go_on(&long), Err(Fault::HeadLength));
        let whole = [&long[..], b"\r\n\r\n"].concat();
        assert_eq!(Search::default().go_on(&whole), Err(Fault::HeadLength));
    }
}
