//! Request lines: method, target, version, and what is between them.

use super::case::*;
use crate::reference::is_token;

#[expect(clippy::too_many_lines, reason = "a table of cases")]
pub(super) fn add(cases: &mut Vec<Case>) {
    let mut class = Class("request line", cases);
    let mut line = |text: &[u8], verdict: Verdict| {
        class.add([text, b"\r\nHost: a\r\n\r\n"].concat(), verdict);
    };
    for byte in 0..=255_u8 {
        let shown = char::from(byte);
        let method = match byte {
            byte if is_token(byte) => serves(arrived(&format!("G{shown}T /"), &[], "")),
            // The method ends there, and its target is none.
            _ => refused(400),
        };
        line(&with_byte("G{}T / HTTP/1.1", byte), method);
        let separator = match byte {
            b' ' => got(),
            _ => refused(400),
        };
        line(&with_byte("GET{}/ HTTP/1.1", byte), separator.clone());
        line(&with_byte("GET /{}HTTP/1.1", byte), separator);
        let is_target = (0x21..0x7F).contains(&byte) && !b"#\\<>`".contains(&byte);
        let is_query = is_target && byte != b'"';
        let query = if is_query {
            serves(arrived(&format!("GET /?a{shown}b"), &[], ""))
        } else {
            refused(400)
        };
        line(&with_byte("GET /?a{}b HTTP/1.1", byte), query);
        if byte != b'%' && byte != b'?' && byte != b'.' && byte != b'/' {
            let path = if is_target {
                serves(arrived(&format!("GET /a{shown}b"), &[], ""))
            } else {
                refused(400)
            };
            line(&with_byte("GET /a{}b HTTP/1.1", byte), path);
        }
        let end = if byte == b'\r' { got() } else { refused(400) };
        class_end(&mut line, byte, end);
    }
    for major in 0..10 {
        for minor in 0..10 {
            let verdict = match (major, minor) {
                (1, 1) => got(),
                (1, 0) => serves_then(vec![arrived("GET /", &[], "")], End::Closed),
                _ => refused(505),
            };
            line(format!("GET / HTTP/{major}.{minor}").as_bytes(), verdict);
        }
    }
    for bad in [
        "GET /",
        "GET",
        "GET ",
        "GET  ",
        "GET / ",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1\t",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET / HTTP/1.1 x",
        "GET / HTTP/11",
        "GET / HTTP/1",
        "GET / HTTP/1.",
        "GET / HTTP/.1",
        "GET / HTTP/1.10",
        "GET / HTTP/01.1",
        "GET / HTTP/1.01",
        "GET / HTTP/1,1",
        "GET / http/1.1",
        "GET / Http/1.1",
        "GET / HTTPS/1.1",
        "GET / HTTP/1.1.1",
        "GET / HTTP/+1.1",
        "GET / HTTP/-1.1",
        "GET / HTTP /1.1",
        "GET / HTTP/ 1.1",
        "GET / HTTP/1 .1",
        "GET / XTTP/1.1",
        "GET / HTTP",
        "GET / 1.1",
        "GET / HTTP/1.x",
        "GET / HTTP/x.1",
        "GET / ICE/1.0",
        "GET / RTSP/1.0",
        "GET / SIP/2.0",
        "GET HTTP/1.1",
        "GET  HTTP/1.1",
        "GET a HTTP/1.1",
        "GET a/b HTTP/1.1",
        "GET ?a HTTP/1.1",
        "GET * HTTP/1.1",
        "GET *a HTTP/1.1",
        "POST * HTTP/1.1",
        "OPTIONS *a HTTP/1.1",
        "OPTIONS ** HTTP/1.1",
        "GET a:80 HTTP/1.1",
        "GET ftp://a/ HTTP/1.1",
        "GET file:///x HTTP/1.1",
        "GET ws://a/ HTTP/1.1",
        "GET gopher://a/ HTTP/1.1",
        "GET javascript:x HTTP/1.1",
        "GET http:/a/ HTTP/1.1",
        "GET http:a HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET http:///x HTTP/1.1",
        "GET http://u@a/ HTTP/1.1",
        "GET http://u:p@a/ HTTP/1.1",
        "GET http://@a/ HTTP/1.1",
        "GET http://b/ HTTP/1.1",
        "GET http://a:81/ HTTP/1.1",
        "GET http://a.b/ HTTP/1.1",
        "GET http://a,b/ HTTP/1.1",
        "GET http://a:99999/ HTTP/1.1",
        "GET http://a:x/ HTTP/1.1",
        "GET http://[::1/ HTTP/1.1",
        "GET http://a#b/ HTTP/1.1",
        "GET http://a\\b/ HTTP/1.1",
        "GET //a@b HTTP/1.1x",
        "GET /#x HTTP/1.1",
        "GET /x#y?z HTTP/1.1",
        "GET /a\\b HTTP/1.1",
        "GET \\ HTTP/1.1",
        "GET /<x> HTTP/1.1",
        "GET /` HTTP/1.1",
        "PRI * HTTP/2.0",
        "PRI * HTTP/1.1",
        "PRI / HTTP/2.0",
        "G(T / HTTP/1.1",
        "G,T / HTTP/1.1",
        "G/T / HTTP/1.1",
        "G:T / HTTP/1.1",
        "GET\u{0} / HTTP/1.1",
        "GET /\u{0} HTTP/1.1",
        "GET / HTTP/1.1\u{0}",
        "GET /\u{e4} HTTP/1.1",
        "G\u{c4}T / HTTP/1.1",
        "GET / HTTP/1.\u{661}",
        "GET /\u{7f} HTTP/1.1",
    ] {
        line(bad.as_bytes(), refused(400));
    }
    for method in ["CONNECT", "TRACE", "TRACK"] {
        line(format!("{method} / HTTP/1.1").as_bytes(), refused(405));
    }
    line(b"CONNECT a:443 HTTP/1.1", refused(405));
    line(b"CONNECT http://a/ HTTP/1.1", refused(405));
    for method in [
        "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "M-SEARCH", "get", "Get", "connect",
        "trace", "PURGE",
    ] {
        line(
            format!("{method} / HTTP/1.1").as_bytes(),
            serves(arrived(&format!("{method} /"), &[], "")),
        );
    }
    line(b"HEAD / HTTP/1.1", serves(arrived("HEAD /", &[], "")));
    line(b"OPTIONS * HTTP/1.1", own(204));
    line(format!("{} / HTTP/1.1", "A".repeat(32)).as_bytes(), {
        serves(arrived(&format!("{} /", "A".repeat(32)), &[], ""))
    });
    for length in [33, 100, 5_000] {
        line(format!("{} / HTTP/1.1", "A".repeat(length)).as_bytes(), refused(400));
    }
    for (target, form) in [
        ("http://a/", "/"),
        ("http://a", "/"),
        ("HTTP://A/x", "/x"),
        ("https://a/x?y", "/x?y"),
        ("http://a?y", "/?y"),
        ("http://a./", "/"),
        ("http://a/x/../y", "/y"),
        ("/http://a/", "/http:/a/"),
        ("/?http://b/", "/?http://b/"),
        ("/?#".trim_end_matches('#'), "/?"),
        ("/@b", "/@b"),
        ("/:80", "/:80"),
        ("/a:b@c", "/a:b@c"),
        ("//b/x", "/b/x"),
        ("/*", "/*"),
        ("/?*", "/?*"),
    ] {
        line(
            format!("GET {target} HTTP/1.1").as_bytes(),
            serves(arrived(&format!("GET {form}"), &[], "")),
        );
    }
    let mut first = |text: &[u8], verdict| class.add(text, verdict);
    for byte in 0..=255_u8 {
        let verdict = match byte {
            byte if is_token(byte) => {
                serves(arrived(&format!("{}GET /", char::from(byte)), &[], ""))
            }
            // No HTTP: not even an answer. But an LF is a line end.
            b'\n' => refused(400),
            _ => silent(),
        };
        first(&with_byte("{}GET / HTTP/1.1\r\nHost: a\r\n\r\n", byte), verdict);
    }
    first(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", got());
    first(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", refused(400));
    first(b"\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", refused(400));
    first(b"\r\n GET / HTTP/1.1\r\nHost: a\r\n\r\n", silent());
    first(b"GET / HTTP/1.1\r\n\r\nHost: a\r\n\r\n", refused(400));
    first(b"GET / HTTP/1.1\nHost: a\n\n", refused(400));
    first(b"GET / HTTP/1.1\r\nHost: a\n\n", refused(400));
    first(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", silent());
    first(b"\x80\x2e\x01\x00\x02\x00\x15\r\n\r\n", silent());
    first(b"{\"jsonrpc\": \"2.0\"}\r\n\r\n", silent());
    first(b"/ HTTP/1.1\r\nHost: a\r\n\r\n", silent());
    first(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", refused(400));
    first(b"EHLO a\r\n\r\n", refused(400));
    first(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", refused(400));
}

fn class_end(line: &mut impl FnMut(&[u8], Verdict), byte: u8, verdict: Verdict) {
    // The end of the request line is this byte and LF.
    let text = with_byte("GET / HTTP/1.1{}\nX: y", byte);
    let verdict = if verdict.end == End::Open {
        serves(arrived("GET /", &[("x", "y")], ""))
    } else {
        verdict
    };
    line(&text, verdict);
}
