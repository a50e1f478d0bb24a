use std::time::Duration;

use super::*;
use crate::listener::facts::ConnFacts;
use crate::listener::stream::ClientStream;
use crate::listener::transport::Transport;

fn limits() -> Limits {
    Limits { head: Duration::from_millis(200), idle: Duration::from_secs(5), ..Limits::default() }
}

/// What the gate makes of `bytes`, of which the first `early` came behind the request before.
fn gate(bytes: &[u8]) -> Result<Head, NoHead> {
    let limits = limits();
    let mut bytes = BytesMut::from(bytes);
    match Search::default().go_on(&mut bytes, &limits).map_err(|rule| refuse(rule, b""))? {
        Some(end) => finish(bytes, end, Turn::Later, &limits),
        None => Err(NoHead::Closed),
    }
}

#[track_caller]
fn refused(bytes: &str, rule: Rule) {
    match gate(bytes.as_bytes()) {
        Err(NoHead::Refuse(found, _)) => assert_eq!(found, rule, "{bytes:?}"),
        Err(other) => panic!("{bytes:?}: {other:?}"),
        Ok(head) => panic!("{bytes:?} passed as {:?}", head.bytes),
    }
}

#[track_caller]
fn passes(bytes: &str, as_bytes: &str) {
    match gate(bytes.as_bytes()) {
        Ok(head) => assert_eq!(head.bytes, as_bytes.as_bytes(), "{bytes:?}"),
        Err(other) => panic!("{bytes:?}: {other:?}"),
    }
}

#[track_caller]
fn silent(bytes: &str) {
    assert!(matches!(gate(bytes.as_bytes()), Err(NoHead::Silent)), "{bytes:?}");
}

/// A request with these lines behind Host.
fn with(lines: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n")
}

#[test]
fn request_lines() {
    for (line, rule) in [
        ("GET / HTTP/1.1 ", Rule::RequestLine),
        ("GET  / HTTP/1.1", Rule::TargetByte),
        ("GET /a b HTTP/1.1", Rule::TargetByte),
        ("GET\t/ HTTP/1.1", Rule::RequestLine),
        ("GET /", Rule::RequestLine),
        ("GET", Rule::RequestLine),
        ("GET / HTTP/2.0", Rule::Version),
        ("GET / HTTP/1.2", Rule::Version),
        ("GET / HTTP/0.9", Rule::Version),
        ("GET / http/1.1", Rule::RequestLine),
        ("GET / HTTP/1.10", Rule::RequestLine),
        ("GET / HTTX/1.1", Rule::RequestLine),
        ("PRI * HTTP/2.0", Rule::RequestLine),
        ("G<T / HTTP/1.1", Rule::Method),
        ("CONNECT a:443 HTTP/1.1", Rule::MethodRefused),
        ("TRACE / HTTP/1.1", Rule::MethodRefused),
        ("TRACK / HTTP/1.1", Rule::MethodRefused),
        ("GET a HTTP/1.1", Rule::TargetForm),
        ("GET * HTTP/1.1", Rule::TargetForm),
        ("GET ftp://a/ HTTP/1.1", Rule::TargetForm),
        ("GET http:///x HTTP/1.1", Rule::TargetForm),
        ("GET http://u@a/ HTTP/1.1", Rule::TargetForm),
        ("GET http://b/ HTTP/1.1", Rule::Host),
        ("GET http://a:81/ HTTP/1.1", Rule::Host),
        ("GET /a#b HTTP/1.1", Rule::TargetByte),
        ("GET /a\\b HTTP/1.1", Rule::TargetByte),
        ("GET /a\u{1}b HTTP/1.1", Rule::TargetByte),
        ("GET /\u{e4} HTTP/1.1", Rule::TargetByte),
        ("GET /?\" HTTP/1.1", Rule::TargetByte),
        ("GET /a\u{0}b HTTP/1.1", Rule::TargetByte),
    ] {
        refused(&format!("{line}\r\nHost: a\r\n\r\n"), rule);
    }
    refused(&format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "G".repeat(33)), Rule::Method);
    let long = "a".repeat(16 * 1024);
    refused(&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), Rule::TargetLength);
    refused(&format!("GET /{long}{long}"), Rule::TargetLength);
    for line in ["GET / HTTP/1.1", "OPTIONS * HTTP/1.1", "M-SEARCH /%00\"?a={}|^ HTTP/1.0"] {
        let text = format!("{line}\r\nHost: a\r\n\r\n");
        passes(&text, &text);
    }
}

#[test]
fn absolute_targets_become_origin_form() {
    passes("GET http://A/x?y HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x?y HTTP/1.1\r\nHost: a\r\n\r\n");
    passes(
        "GET HTTPS://a:1?y HTTP/1.1\r\nHost: a:1\r\n\r\n",
        "GET /?y HTTP/1.1\r\nHost: a:1\r\n\r\n",
    );
    passes("GET http://a HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\nHost: a\r\n\r\n");
}

#[test]
fn line_ends_and_empty_lines() {
    refused("GET / HTTP/1.1\nHost: a\r\n\r\n", Rule::BareLf);
    refused("GET / HTTP/1.1\r\nHost: a\n\r\n", Rule::BareLf);
    refused("GET / HTTP/1.1\r\nHost: a\r\n\n", Rule::BareLf);
    refused("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Rule::BareLf);
    refused("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Rule::EmptyLines);
    passes("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    refused("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", Rule::FieldValue);
    refused("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\r\n\r\n", Rule::FieldValue);
}

#[test]
fn fields() {
    for (line, rule) in [
        (" X: a", Rule::FoldedLine),
        ("X: a\r\n b", Rule::FoldedLine),
        ("X: a\r\n\tb", Rule::FoldedLine),
        ("X", Rule::FieldName),
        (": a", Rule::FieldName),
        ("X : a", Rule::FieldName),
        ("X\t: a", Rule::FieldName),
        ("X y: a", Rule::FieldName),
        ("X\u{0}: a", Rule::FieldName),
        ("X: a\u{0}", Rule::FieldValue),
        ("X: a\u{7f}", Rule::FieldValue),
        ("Host: a", Rule::Host),
        ("Content_Length: 1", Rule::LookAlike),
        ("Content.Length: 1", Rule::LookAlike),
        ("transfer_encoding: chunked", Rule::LookAlike),
        ("Expect: 200-ok", Rule::Expect),
        ("x", Rule::FieldName),
    ] {
        refused(&with(line), rule);
    }
    refused("GET / HTTP/1.1\r\nX: a\r\n\r\n", Rule::Host);
    for host in ["", "a,b", "u@a", "a b", "a:99999", "a:80:80", "[::1", "a/b", "::1"] {
        refused(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), Rule::Authority);
    }
    refused(&with(&"X: a\r\n".repeat(100)), Rule::FieldCount);
    refused(&with(&format!("X: {}", "a".repeat(40_000))), Rule::FieldLength);
    let large = format!("X: {}\r\n", "a".repeat(30_000)).repeat(3);
    refused(&with(&large), Rule::HeadLength);
    for line in
        ["X:", "X:a", "X: \t a \t", "X_Y: \u{e4}", "Expect: 100-Continue", "Connection: close"]
    {
        let text = with(line);
        passes(&text, &text);
    }
}

#[test]
fn lengths_and_codings() {
    for (lines, rule) in [
        ("Content-Length: +4", Rule::ContentLength),
        ("Content-Length: -1", Rule::ContentLength),
        ("Content-Length: 0x4", Rule::ContentLength),
        ("Content-Length: 4a", Rule::ContentLength),
        ("Content-Length: 4 4", Rule::ContentLength),
        ("Content-Length:", Rule::ContentLength),
        ("Content-Length: 4,", Rule::ContentLength),
        ("Content-Length: 9223372036854775808", Rule::ContentLength),
        ("Content-Length: 99999999999999999999", Rule::ContentLength),
        ("Content-Length: 4\r\nContent-Length: 5", Rule::ContentLength),
        ("Content-Length: 4, 5", Rule::ContentLength),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4", Rule::CodingAndLength),
        ("Content-Length: 4\r\nTransfer-Encoding: chunked", Rule::CodingAndLength),
        ("Transfer-Encoding: gzip", Rule::UnknownCoding),
        ("Transfer-Encoding: xchunked", Rule::UnknownCoding),
        ("Transfer-Encoding: identity", Rule::TransferEncoding),
        ("Transfer-Encoding: gzip, chunked", Rule::TransferEncoding),
        ("Transfer-Encoding: chunked, chunked", Rule::TransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Rule::TransferEncoding),
        ("Transfer-Encoding: \"chunked\"", Rule::TransferEncoding),
        ("Transfer-Encoding:", Rule::TransferEncoding),
    ] {
        refused(&with(lines), rule);
    }
    let on_10 = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    refused(on_10, Rule::CodingAndLength);
    let canonical = with("Content-Length: 4");
    for lines in
        ["Content-Length: 4\r\nContent-Length: 4", "Content-Length: 4, 4", "Content-Length: 004"]
    {
        passes(&with(lines), &canonical);
    }
    let chunked = gate(with("Transfer-Encoding: CHUNKED").as_bytes()).unwrap();
    assert!(matches!(chunked.left, Left::Chunked(_)), "{:?}", chunked.left);
}

#[test]
fn what_is_no_http_gets_no_answer() {
    silent("\u{16}\u{3}\u{1}\r\n\r\n");
    silent(" GET / HTTP/1.1\r\n\r\n");
    silent("{\"a\": 1}\r\n\r\n");
}

#[test]
fn bytes_behind_the_head_go_where_they_belong() {
    let cut = |text: &str| {
        let head = gate(text.as_bytes()).unwrap();
        let text = |bytes: BytesMut| String::from_utf8(bytes.to_vec()).unwrap();
        (text(head.bytes), head.left, text(head.early))
    };
    let head = with("Content-Length: 4");
    assert_eq!(cut(&head), (head.clone(), Left::Bytes(4), String::new()));
    let (bytes, left, early) = cut(&format!("{head}abcdGET /"));
    assert_eq!((bytes, left, early.as_str()), (format!("{head}abcd"), Left::Bytes(0), "GET /"));
    let (_, left, early) = cut(&format!("{head}ab"));
    assert_eq!((left, early.as_str()), (Left::Bytes(2), ""));
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (bytes, left, early) = cut(&format!("{get}{get}"));
    assert_eq!((bytes.as_str(), left, early.as_str()), (get, Left::Bytes(0), get));
    // Rewritten heads keep what is behind them.
    let (bytes, left, _) = cut(&format!("{}abcd", with("Content-Length: 04")));
    assert_eq!((bytes, left), (format!("{head}abcd"), Left::Bytes(0)));
}

#[test]
fn every_byte_of_a_target_that_passes_is_understood_behind_the_gate() {
    for byte in 0..=255_u8 {
        let mut target = b"/a".to_vec();
        target.push(byte);
        let text = [b"GET ", &target[..], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        if gate(&text).is_ok() {
            let parsed = http::uri::PathAndQuery::try_from(&target[..]);
            assert!(parsed.is_ok(), "{byte:#x}");
        }
    }
}

async fn pair() -> (tokio::net::TcpStream, Conn) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (tcp, _) = listener.accept().await.unwrap();
    let facts = ConnFacts::for_tests(80).into();
    let transport = Transport::Plain(ClientStream::new(tcp));
    (client, Conn::new(transport, facts, &limits()))
}

#[tokio::test]
async fn a_head_that_dribbles_is_cut_at_its_deadline() {
    use tokio::io::AsyncWriteExt as _;
    let (mut client, mut conn) = pair().await;
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let started = Instant::now();
    let gate = read_head(&mut conn, BytesMut::new(), Turn::First, &limits()).await;
    assert!(matches!(gate, Err(NoHead::Refuse(Rule::SlowHead, _))));
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_head_may_come_in_pieces() {
    use tokio::io::AsyncWriteExt as _;
    let (mut client, mut conn) = pair().await;
    let text = with("Content-Length: 0");
    let limits = limits();
    let (gate, ()) =
        tokio::join!(read_head(&mut conn, BytesMut::new(), Turn::First, &limits), async {
            for byte in text.as_bytes() {
                client.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
    assert_eq!(gate.unwrap().bytes, text.as_bytes());
}

#[tokio::test]
async fn http2_is_recognised_on_the_first_request_only() {
    use tokio::io::AsyncWriteExt as _;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for turn in [Turn::First, Turn::Later] {
        let (mut client, mut conn) = pair().await;
        client.write_all(preface).await.unwrap();
        match (turn, read_head(&mut conn, BytesMut::new(), turn, &limits()).await) {
            (Turn::First, Err(NoHead::Http2(bytes))) => assert!(preface.starts_with(&bytes)),
            (Turn::Later, Err(NoHead::Refuse(Rule::RequestLine, _))) => {}
            (turn, other) => panic!("{turn:?}: {:?}", other.map(|head| head.bytes)),
        }
    }
}
