//! Hostile HTTP/2 that must not become HTTP/1.1 (RFC 9113 sections 8.2 and 8.3, and our own rules).

use std::collections::BTreeMap;
use std::time::Duration;

use kubeng_harness::frames::{
    self, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM, RawClient,
};
use tokio::time::timeout;

use crate::corpus::case::arrived;
use crate::corpus::run::Lane;
use crate::reference::{Arrived, is_token};

struct Case {
    class: &'static str,
    name: String,
    frames: Vec<Frame>,
    verdict: Verdict,
}

#[derive(Clone)]
enum Verdict {
    /// This arrives, and 200 comes back.
    Serves(Arrived),
    /// Nothing of it arrives; the stream is reset, the connection ends, or the answer is a 4xx.
    Refused,
    /// Nothing of it arrives, and this is the answer.
    Status(u16),
    /// As refused, but the begin may arrive, never the whole.
    Cut,
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn fields(list: &[(&str, &str)]) -> Fields {
    list.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

fn get() -> Fields {
    fields(&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")])
}

/// `GET /` with one pseudo-field replaced.
fn with(name: &str, value: &[u8]) -> Fields {
    let mut all = get();
    for field in &mut all {
        if field.0 == name.as_bytes() {
            field.1 = value.to_vec();
        }
    }
    all
}

fn without(name: &str) -> Fields {
    get().into_iter().filter(|field| field.0 != name.as_bytes()).collect()
}

fn and(mut all: Fields, more: &[(&str, &str)]) -> Fields {
    all.extend(fields(more));
    all
}

struct Class<'a>(&'static str, &'a mut Vec<Case>);

impl Class<'_> {
    fn add(&mut self, all: &Fields, verdict: Verdict) {
        self.with_data(all, &[], verdict);
    }

    /// A request whose body is `data`: each item a frame, the last one ends it.
    fn with_data(&mut self, all: &Fields, data: &[&str], verdict: Verdict) {
        let mut frames: Vec<Frame> =
            data.iter().map(|data| Frame::new(DATA, 0, 1, *data)).collect();
        frames.insert(0, Frame::new(HEADERS, END_HEADERS, 1, frames::block(all)));
        frames.last_mut().unwrap().flags |= END_STREAM;
        self.frames(frames, verdict);
    }

    fn frames(&mut self, frames: Vec<Frame>, verdict: Verdict) {
        let shown: Vec<String> =
            frames.iter().map(|frame| frame.payload.escape_ascii().to_string()).collect();
        let name: String = shown.join(" | ").chars().take(200).collect();
        self.1.push(Case { class: self.0, name, frames, verdict });
    }
}

fn serves(line: &str, more: &[(&str, &str)], body: &str) -> Verdict {
    Verdict::Serves(arrived(line, more, body))
}

fn sweeps(class: &mut Class<'_>) {
    for byte in 0..=255_u8 {
        let shown = char::from(byte).to_string();
        let mut all = get();
        all.push((vec![b'n', byte, b'm'], b"v".to_vec()));
        let is_lower = is_token(byte) && !byte.is_ascii_uppercase();
        class.add(
            &all,
            if is_lower {
                serves("GET /", &[(&format!("n{shown}m"), "v")], "")
            } else {
                Verdict::Refused
            },
        );
        let is_value = byte == b'\t' || (b' '..0x7F).contains(&byte);
        if byte < 0x80 {
            let mut all = get();
            all.push((b"n".to_vec(), vec![b'a', byte, b'b']));
            class.add(
                &all,
                if is_value {
                    serves("GET /", &[("n", &format!("a{shown}b"))], "")
                } else {
                    Verdict::Refused
                },
            );
            let mut all = get();
            all.push((b"n".to_vec(), vec![byte, b'b']));
            let is_first = is_value && !b" \t".contains(&byte);
            class.add(
                &all,
                if is_first {
                    serves("GET /", &[("n", &format!("{shown}b"))], "")
                } else {
                    Verdict::Refused
                },
            );
        }
        let is_target = (0x21..0x7F).contains(&byte) && !b"#\\<>`\"?%./".contains(&byte);
        if is_target || !b"?%./\"#".contains(&byte) {
            let path = [b"/a", &[byte][..], b"b"].concat();
            let verdict = if is_target {
                serves(&format!("GET /a{shown}b"), &[], "")
            } else {
                Verdict::Refused
            };
            class.add(&with(":path", &path), verdict);
        }
        let method = [b"G", &[byte][..], b"T"].concat();
        class.add(
            &with(":method", &method),
            if is_token(byte) {
                serves(&format!("G{shown}T /"), &[], "")
            } else {
                Verdict::Refused
            },
        );
        let host = [b"a", &[byte][..], b"b"].concat();
        let is_host = byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let host_is = Arrived { host: format!("a{shown}b"), ..arrived("GET /", &[], "") };
        class.add(
            &with(":authority", &host),
            if is_host { Verdict::Serves(host_is) } else { Verdict::Refused },
        );
    }
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn pseudo(class: &mut Class<'_>) {
    class.add(&get(), serves("GET /", &[], ""));
    for name in [":method", ":scheme", ":authority", ":path"] {
        let verdict = Verdict::Refused;
        class.add(&without(name), verdict.clone());
        class.add(&with(name, b""), verdict.clone());
        let value = get().into_iter().find(|field| field.0 == name.as_bytes()).unwrap().1;
        let twice = String::from_utf8(value).unwrap();
        class.add(&and(get(), &[(name, &twice)]), verdict.clone());
        class.add(&and(and(without(name), &[("n", "v")]), &[(name, &twice)]), verdict.clone());
        for bad in ["x\r\ny", "x\ny", "x\0", "\r\nx: y", " x", "x ", "x y"] {
            class.add(&with(name, bad.as_bytes()), verdict.clone());
        }
    }
    class.add(&and(without(":authority"), &[("host", "a")]), serves("GET /", &[], ""));
    class.add(&and(get(), &[("host", "a")]), serves("GET /", &[], ""));
    for (name, value) in
        [(":status", "200"), (":protocol", "websocket"), (":x", "y"), (":", ""), (":Path", "/")]
    {
        class.add(&and(get(), &[(name, value)]), Verdict::Refused);
    }
    for (first, second) in
        [("b", ""), ("a:81", ""), ("a", "a"), ("a", "b"), ("", "x"), ("a,b", ""), ("a b", "")]
    {
        let mut all = and(get(), &[("host", first)]);
        if !second.is_empty() {
            all = and(all, &[("host", second)]);
        }
        class.add(&all, Verdict::Refused);
    }
    for scheme in ["ftp", "file", "javascript", "http://a", "http/", "h t", "HTTP/1.1", "ws"] {
        class.add(&with(":scheme", scheme.as_bytes()), Verdict::Refused);
    }
    class.add(&with(":scheme", b"https"), serves("GET /", &[], ""));
    for method in ["GET / HTTP/1.1\r\nX: y", "G T", "", "GET\r\n", "(GET)", &"A".repeat(33)] {
        class.add(&with(":method", method.as_bytes()), Verdict::Refused);
    }
    for method in ["TRACE", "TRACK"] {
        class.add(&with(":method", method.as_bytes()), Verdict::Status(405));
    }
    class.add(&fields(&[(":method", "CONNECT"), (":authority", "a:443")]), Verdict::Refused);
    class.add(&with(":method", b"CONNECT"), Verdict::Refused);
    class.add(&and(with(":method", b"CONNECT"), &[(":protocol", "websocket")]), Verdict::Refused);
    for authority in [
        "a,b",
        "u@a",
        "a:99999",
        "a:x",
        "a:80:80",
        "[::1",
        "::1",
        "a/b",
        "a?b",
        "a#b",
        "a\\b",
        "a b",
        "*",
        "a..b",
        "[::1%25x]",
        "a%2eb",
        "-a",
        "a:+80",
        ":80",
        "http://a",
        "a\u{0}",
        "\u{e4}",
    ] {
        class.add(&with(":authority", authority.as_bytes()), Verdict::Refused);
        class.add(&and(without(":authority"), &[("host", authority)]), Verdict::Refused);
    }
    for path in [
        "a",
        "*",
        "?x",
        "http://a/",
        "//../x",
        "/../x",
        "/%00",
        "/a%2fb",
        "/a%5cb",
        "/%",
        "/%zz",
        "/a;x/../b",
        "/x/..;/b",
        "/%c0%ae",
        "/a b",
        "/a\\b",
        "/\u{e4}",
        "/x HTTP/1.1\r\nX: y",
        "/\t",
        "/a\u{7f}",
    ] {
        class.add(&with(":path", path.as_bytes()), Verdict::Refused);
    }
    for (path, arrives) in [
        ("/x/../y", "/y"),
        ("/%61", "/a"),
        ("//a", "/a"),
        ("/a?b=c", "/a?b=c"),
        ("/admin/x", "/admin/x"),
        ("/x/%2e%2e/admin", "/admin"),
    ] {
        class.add(&with(":path", path.as_bytes()), serves(&format!("GET {arrives}"), &[], ""));
    }
    // The library cuts a fragment off before anybody sees it (docs/decisions/0012).
    for path in ["/#x", "/#/admin", "/x#", "/x?y#z"] {
        let arrives = path.split('#').next().unwrap_or_default();
        class.add(&with(":path", path.as_bytes()), serves(&format!("GET {arrives}"), &[], ""));
    }
    let options = with(":method", b"OPTIONS");
    let star: Fields = options
        .into_iter()
        .map(|f| if f.0 == b":path" { (f.0, b"*".to_vec()) } else { f })
        .collect();
    class.add(&star, Verdict::Status(204));
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn named(class: &mut Class<'_>) {
    for (name, value) in [
        ("connection", "close"),
        ("connection", "x"),
        ("connection", ""),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "gzip"),
        ("transfer-encoding", ""),
        ("upgrade", "websocket"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("te", "chunked"),
        ("transfer_encoding", "chunked"),
        ("transfer.encoding", "chunked"),
        ("content_length", "2"),
        ("content.length", "2"),
        ("content-length", "x"),
        ("content-length", "+0"),
        ("content-length", "-1"),
        ("content-length", "0x0"),
        ("content-length", "0, 0"),
        ("content-length", ""),
        ("content-length", "18446744073709551616"),
        ("content-length", "9223372036854775808"),
        ("content-length", "1"),
        ("content-length", "00"),
        ("expect", "x"),
        ("", "v"),
        ("n:m", "v"),
        ("n m", "v"),
        ("N", "v"),
        ("nM", "v"),
        ("n\r\nx", "v"),
        ("n: v\r\nx", "v"),
        ("n", "v\r\nx: y"),
        ("n", "v\nx: y"),
        ("n", "v\0"),
        ("n", " v"),
        ("n", "v "),
        ("n", "\tv"),
        ("n", "v\r"),
        ("host ", "a"),
        ("host\t", "b"),
        ("n(", "v"),
        ("n\u{e4}", "v"),
        ("content-length ", "0"),
        ("transfer-encoding\u{b}", "chunked"),
    ] {
        class.add(&and(get(), &[(name, value)]), Verdict::Refused);
    }
    class.add(&and(get(), &[("content-length", "0"), ("content-length", "0")]), Verdict::Refused);
    class.add(&and(get(), &[("content-length", "0"), ("content-length", "1")]), Verdict::Refused);
    for (more, arrives) in [
        (&[("te", "trailers")][..], &[][..]),
        (&[("content-length", "0")], &[]),
        (&[("cookie", "a=b"), ("cookie", "c=d")], &[("cookie", "a=b; c=d")]),
        (&[("n", "v"), ("n", "w")], &[("n", "v"), ("n", "w")]),
        (&[("n", "")], &[("n", "")]),
        (&[("proxy", "http://evil")], &[]),
        (&[("x-forwarded-for", "1.2.3.4")], &[]),
        (&[("x_forwarded_for", "1.2.3.4")], &[]),
        (&[("forwarded", "for=1.2.3.4")], &[]),
        (&[("x-real-ip", "1.2.3.4")], &[]),
        (&[("trailer", "x")], &[]),
        (&[("http2-settings", "AA")], &[]),
        (&[("expect", "100-continue")], &[]),
    ] {
        class.add(&and(get(), more), serves("GET /", arrives, ""));
    }
    let many = |count: usize| and(get(), &vec![("n", "v"); count]);
    class.add(&many(100), serves("GET /", &vec![("n", "v"); 100], ""));
    class.add(&many(101), Verdict::Status(431));
    for (bytes, status) in [(33_000, 431), (40_000, 431)] {
        let all = and(get(), &[("n", &"v".repeat(bytes))]);
        class.frames(in_pieces(&frames::block(&all)), Verdict::Status(status));
    }
    let long = with(":path", format!("/{}", "a".repeat(16 * 1024)).as_bytes());
    class.frames(in_pieces(&frames::block(&long)), Verdict::Status(414));
    let huge = and(
        get(),
        &[("n", &"v".repeat(30_000)), ("m", &"v".repeat(30_000)), ("o", &"v".repeat(30_000))],
    );
    class.frames(in_pieces(&frames::block(&huge)), Verdict::Refused);
}

/// A block as HEADERS and CONTINUATION of at most 16 KiB.
fn in_pieces(block: &[u8]) -> Vec<Frame> {
    let mut frames: Vec<Frame> =
        block.chunks(16_000).map(|part| Frame::new(frames::CONTINUATION, 0, 1, part)).collect();
    (frames[0].kind, frames[0].flags) = (HEADERS, END_STREAM);
    frames.last_mut().unwrap().flags |= END_HEADERS;
    frames
}

fn bodies(class: &mut Class<'_>) {
    let post = || with(":method", b"POST");
    let sized = |length: &str| and(post(), &[("content-length", length)]);
    class.with_data(&post(), &["hi"], serves("POST /", &[], "hi"));
    class.with_data(&post(), &["h", "i"], serves("POST /", &[], "hi"));
    class.with_data(&post(), &["", "hi"], serves("POST /", &[], "hi"));
    class.with_data(&post(), &["h", "", "i"], serves("POST /", &[], "hi"));
    class.with_data(&post(), &["hi", ""], serves("POST /", &[], "hi"));
    class.with_data(&post(), &[""], serves("POST /", &[], ""));
    class.with_data(&sized("2"), &["hi"], serves("POST /", &[], "hi"));
    class.with_data(&sized("2"), &["h", "i"], serves("POST /", &[], "hi"));
    class.with_data(&sized("0"), &[""], serves("POST /", &[], ""));
    for length in ["1", "3", "100"] {
        class.with_data(&sized(length), &["hi"], Verdict::Cut);
        class.with_data(&sized(length), &["h", "i"], Verdict::Cut);
    }
    class.with_data(&sized("0"), &["hi"], Verdict::Refused);
    class.with_data(&sized("0"), &["GET /x HTTP/1.1\r\nHost: a\r\n\r\n"], Verdict::Refused);
    class.with_data(&sized("2"), &["hiGET /x HTTP/1.1\r\nHost: a\r\n\r\n"], Verdict::Cut);
    class.add(&sized("2"), Verdict::Refused);
    class.with_data(&post(), &["0\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"], {
        serves("POST /", &[], "0\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    });
    class.with_data(&get(), &["hi"], serves("GET /", &[], "hi"));
    for trailers in [
        &[("n", "v")][..],
        &[("content-length", "9")],
        &[("host", "evil")],
        &[("authorization", "x")],
        &[],
    ] {
        let verdict = serves("POST /", &[], "hi");
        class.frames(trailed(&post(), trailers), verdict);
    }
    // The library drops pseudo-fields that it knows, and trailers end here (docs/decisions/0012).
    for trailers in [(":path", "/"), (":method", "GET"), (":status", "200")] {
        class.frames(trailed(&post(), &[trailers]), serves("POST /", &[], "hi"));
    }
    for trailers in [
        (":x", "y"),
        ("N", "v"),
        ("n", "v\r\nx: y"),
        ("n\n", "v"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("n m", "v"),
        ("", "v"),
    ] {
        class.frames(trailed(&post(), &[trailers]), Verdict::Cut);
    }
}

fn trailed(head: &Fields, trailers: &[(&str, &str)]) -> Vec<Frame> {
    vec![
        Frame::new(HEADERS, END_HEADERS, 1, frames::block(head)),
        Frame::new(DATA, 0, 1, "hi"),
        Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, frames::block(trailers)),
    ]
}

/// What came back: the status, or None when there was none.
async fn talk(lane: &Lane, case: &Case) -> Result<Option<u16>, String> {
    let mut client = RawClient::open(lane.address(), &[]).await.map_err(|e| e.to_string())?;
    let _ = client.send_frames(&case.frames).await;
    let mut status = None;
    while let Some(frame) = client.next().await {
        match frame.kind {
            HEADERS => {
                status = frame.status();
                if frame.flags & END_STREAM != 0 {
                    break;
                }
            }
            DATA if frame.flags & END_STREAM != 0 => break,
            RST_STREAM | GOAWAY if frame.error_code() != Some(0) => break,
            _ => {}
        }
    }
    Ok(status)
}

async fn run(lane: &Lane, case: &Case) -> Result<(), String> {
    let talked = timeout(Duration::from_secs(5), talk(lane, case)).await;
    let may_be_cut = matches!(case.verdict, Verdict::Cut);
    if may_be_cut {
        // What was on its way when the stream was reset still arrives, and is of this case.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let arrived = lane.arrived(may_be_cut).await?;
    let status = talked.map_err(|_| "nothing happened".to_owned())??;
    let (is_right, expected) = match &case.verdict {
        Verdict::Serves(one) => (status == Some(200), vec![one.clone()]),
        Verdict::Refused | Verdict::Cut => (status.is_none_or(|s| (400..500).contains(&s)), vec![]),
        Verdict::Status(wanted) => (status == Some(*wanted), vec![]),
    };
    if !is_right || arrived != expected {
        return Err(format!("answer {status:?}, arrived {arrived:?}, not {expected:?}"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_http2_leaks_nothing_into_http1() {
    let mut cases = Vec::new();
    sweeps(&mut Class("bytes", &mut cases));
    pseudo(&mut Class("pseudo-fields", &mut cases));
    named(&mut Class("fields", &mut cases));
    bodies(&mut Class("bodies", &mut cases));
    assert!(cases.len() >= 200, "{}", cases.len());
    let mut lanes = Vec::new();
    for _ in 0..4 {
        lanes.push(Lane::start().await);
    }
    let runs = lanes.iter().enumerate().map(|(number, lane)| {
        let own = cases.iter().skip(number).step_by(4);
        async move {
            let mut faults = Vec::new();
            for case in own {
                if let Err(fault) = run(lane, case).await {
                    faults.push(format!("{} {}: {fault}", case.class, case.name));
                }
            }
            faults
        }
    });
    let faults: Vec<String> = futures::future::join_all(runs).await.into_iter().flatten().collect();
    let mut table = BTreeMap::<&str, usize>::new();
    for case in &cases {
        *table.entry(case.class).or_default() += 1;
    }
    eprintln!("{table:?}: {} cases, {} faults", cases.len(), faults.len());
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
