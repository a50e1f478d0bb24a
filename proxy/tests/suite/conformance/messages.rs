//! Messages (RFC 9113 section 8): what is malformed is reset.

use kubeng_harness::frames::{self, DATA, END_HEADERS, END_STREAM, Frame, HEADERS};

use super::*;

type Fields<'a> = &'a [(&'a str, &'a str)];

fn request(list: Fields<'_>) -> Vec<Frame> {
    vec![Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, frames::block(list))]
}

fn with(more: Fields<'_>) -> Vec<Frame> {
    let mut block = fields("GET");
    block.extend(frames::block(more));
    vec![Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, block)]
}

fn sized(length: &str, data: &[&str]) -> Vec<Frame> {
    let mut block = fields("POST");
    block.extend(frames::literal("content-length", length));
    let mut all = vec![Frame::new(HEADERS, END_HEADERS, 1, block)];
    all.extend(data.iter().map(|data| Frame::new(DATA, 0, 1, *data)));
    all.last_mut().unwrap().flags |= END_STREAM;
    all
}

fn trailed(more: Fields<'_>) -> Vec<Frame> {
    vec![
        post(1),
        Frame::new(DATA, 0, 1, "x"),
        Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, frames::block(more)),
    ]
}

const BAD: Then = Then::Reset(&[PROTOCOL]);
const REFUSED: Then = Then::Answer(1, 400);
const M: (&str, &str) = (":method", "GET");
const S: (&str, &str) = (":scheme", "http");
const A: (&str, &str) = (":authority", "a");
const P: (&str, &str) = (":path", "/");

#[expect(clippy::too_many_lines, reason = "a table of cases")]
pub(super) fn cases() -> Vec<Case> {
    let mut all = vec![
        case("8.3 any order", request(&[P, A, S, M]), Then::Answer(1, 200)),
        case(
            "8.3.1 Host for an authority",
            request(&[M, S, P, ("host", "a")]),
            Then::Answer(1, 200),
        ),
        case(
            "8.3.1 OPTIONS *",
            request(&[(":method", "OPTIONS"), S, A, (":path", "*")]),
            Then::Answer(1, 204),
        ),
        case("8.1 a field without value", with(&[("n", "")]), Then::Answer(1, 200)),
        case("8.1 a large field", with(&[("n", &"v".repeat(10_000))]), Then::Answer(1, 200)),
        case("8.2.2 te: trailers", with(&[("te", "trailers")]), Then::Answer(1, 200)),
        case("8.2.3 crumbs", with(&[("cookie", "a=b"), ("cookie", "c=d")]), Then::Answer(1, 200)),
        case("8.1 trailers", trailed(&[("n", "v")]), Then::Answer(1, 200)),
        case("8.1 empty trailers", trailed(&[]), Then::Answer(1, 200)),
        case("8.1.1 the length is right", sized("2", &["hi"]), Then::Answer(1, 200)),
        case("8.1.1 in two parts", sized("2", &["h", "i"]), Then::Answer(1, 200)),
        case("8.1.1 the length of nothing", sized("0", &[""]), Then::Answer(1, 200)),
        case("8.3.1 no Host and no authority", request(&[M, S, P]), REFUSED),
        case("8.3.1 they differ", with(&[("host", "b")]), REFUSED),
        case(
            "8.3.1 a path without slash",
            request(&[M, S, A, (":path", "x")]),
            Then::Reset(&[PROTOCOL]),
        ),
        case("8.5 CONNECT", request(&[(":method", "CONNECT"), A]), Then::Answer(1, 405)),
        case("9110 9.3.8 TRACE", request(&[(":method", "TRACE"), S, A, P]), Then::Answer(1, 405)),
        case("9110 10.1.1 Expect", with(&[("expect", "x")]), Then::Answer(1, 417)),
        case("9110 15.5.15 long target", long_target(), Then::Answer(1, 414)),
    ];
    let malformed: &[(&'static str, Fields<'_>)] = &[
        ("8.3.1 no method", &[S, A, P]),
        ("8.3.1 no scheme", &[M, A, P]),
        ("8.3.1 no path", &[M, S, A]),
        ("8.3.1 an empty path", &[M, S, A, (":path", "")]),
        ("8.3.1 two methods", &[M, M, S, A, P]),
        ("8.3.1 two schemes", &[M, S, S, A, P]),
        ("8.3.1 two paths", &[M, S, A, P, P]),
        ("8.3.1 two authorities", &[M, S, A, A, P]),
        ("8.3 an unknown pseudo-field", &[M, S, A, P, (":x", "y")]),
        ("8.3 one of answers", &[M, S, A, P, (":status", "200")]),
        ("8.3 behind a field", &[M, S, A, ("n", "v"), P]),
        ("8.3 method behind a field", &[S, A, P, ("n", "v"), M]),
        ("8.3 in upper case", &[M, S, A, P, (":Path", "/")]),
        ("8.3.1 an empty method", &[(":method", ""), S, A, P]),
        ("8.5 CONNECT with a path", &[(":method", "CONNECT"), A, P]),
        ("8.5 CONNECT with a scheme", &[(":method", "CONNECT"), A, S]),
        ("8441 not offered", &[(":method", "CONNECT"), (":protocol", "websocket"), S, A, P]),
    ];
    // Where several codes fit, the RFC wants a stream error of PROTOCOL_ERROR; an answer of 4xx before
    // it is allowed (section 8.1.1).
    all.extend(malformed.iter().map(|(name, list)| case(name, request(list), BAD)));
    let bad_fields: &[(&'static str, Fields<'_>)] = &[
        ("8.2 upper case", &[("N", "v")]),
        ("8.2 upper case inside", &[("nM", "v")]),
        ("8.2.1 a space in a name", &[("n m", "v")]),
        ("8.2.1 a colon in a name", &[("n:m", "v")]),
        ("8.2.1 an empty name", &[("", "v")]),
        ("8.2.1 LF in a name", &[("n\n", "v")]),
        ("8.2.1 8 bits in a name", &[("n\u{e4}", "v")]),
        ("8.2.1 DEL in a name", &[("n\u{7f}", "v")]),
        ("8.2.1 NUL in a value", &[("n", "\0")]),
        ("8.2.1 LF in a value", &[("n", "a\nb")]),
        ("8.2.1 CR in a value", &[("n", "a\rb")]),
        ("8.2.2 connection", &[("connection", "close")]),
        ("8.2.2 keep-alive", &[("keep-alive", "1")]),
        ("8.2.2 proxy-connection", &[("proxy-connection", "close")]),
        ("8.2.2 transfer-encoding", &[("transfer-encoding", "chunked")]),
        ("8.2.2 upgrade", &[("upgrade", "h2c")]),
        ("8.2.2 te", &[("te", "gzip")]),
        ("8.2.2 te in a list", &[("te", "trailers, gzip")]),
        ("8.1.1 a length of words", &[("content-length", "x")]),
    ];
    all.extend(bad_fields.iter().map(|(name, list)| case(name, with(list), BAD)));
    let bad_values: &[(&'static str, Fields<'_>)] = &[
        ("8.2.1 a space first", &[("n", " v")]),
        ("8.2.1 a tab last", &[("n", "v\t")]),
        ("9112 6.3 a look-alike", &[("content_length", "0")]),
        ("9112 6.3 another", &[("transfer.encoding", "chunked")]),
        ("9110 8.6 two lengths", &[("content-length", "0"), ("content-length", "0")]),
    ];
    all.extend(
        bad_values
            .iter()
            .map(|(name, list)| case(name, with(list), Then::Reset(&[PROTOCOL])).or_refused()),
    );
    let bad_trailers: &[(&'static str, Fields<'_>)] = &[
        ("8.1 an unknown pseudo-field in trailers", &[(":x", "y")]),
        ("8.1 upper case in trailers", &[("N", "v")]),
        ("8.1 connection in trailers", &[("connection", "close")]),
        ("8.1 LF in trailers", &[("n", "a\nb")]),
    ];
    all.extend(bad_trailers.iter().map(|(name, list)| case(name, trailed(list), BAD)));
    for (name, length, data) in [
        ("8.1.1 too little", "3", &["hi"][..]),
        ("8.1.1 too much", "1", &["hi"]),
        ("8.1.1 too much in parts", "2", &["hi", "x"]),
        ("8.1.1 something for nothing", "0", &["hi"]),
        ("8.1.1 nothing for something", "2", &[""]),
    ] {
        all.push(case(name, sized(length, data), BAD));
    }
    all
}

impl Case {
    /// Malformed, but seen by us and not by the engine: an answer is as good as a reset.
    fn or_refused(mut self) -> Self {
        self.then = REFUSED;
        self
    }
}

fn long_target() -> Vec<Frame> {
    let path = format!("/{}", "a".repeat(16 * 1024));
    let block = frames::block(&[M, S, A, (":path", &path)]);
    let (first, rest) = block.split_at(16_000);
    vec![
        Frame::new(HEADERS, END_STREAM, 1, first),
        Frame::new(frames::CONTINUATION, END_HEADERS, 1, rest),
    ]
}
