//! Host: present once, and a host with an optional port.

use super::case::*;
use crate::reference::Arrived;

pub(super) fn add(cases: &mut Vec<Case>) {
    let mut class = Class("Host", cases);
    let with = |host: &[u8]| [b"GET / HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat();
    let served =
        |host: &str| serves(Arrived { host: host.to_owned(), ..arrived("GET /", &[], "") });
    for byte in 0..=255_u8 {
        let shown = char::from(byte);
        let is_name = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        let inside = match byte {
            // The port may be empty, but `b` is none.
            byte if is_name || byte == b'_' => served(&format!("a{shown}b")),
            _ => refused(400),
        };
        class.add(with(&with_byte("a{}b", byte)), inside);
        let behind = match byte {
            b'-' => refused(400),
            b' ' | b'\t' => served("a"),
            byte if is_name || byte == b'_' || byte == b':' => served(&format!("a{shown}")),
            _ => refused(400),
        };
        class.add(with(&with_byte("a{}", byte)), behind);
        let port = match byte {
            b'0'..=b'9' => served(&format!("a:8{shown}")),
            b' ' | b'\t' => served("a:8"),
            _ => refused(400),
        };
        class.add(with(&with_byte("a:8{}", byte)), port);
    }
    for good in GOOD {
        class.add(with(good.as_bytes()), served(good));
        let absolute = format!("GET http://{good}/ HTTP/1.1\r\nHost: {good}\r\n\r\n");
        class.add(absolute, served(good));
    }
    for bad in BAD {
        class.add(with(bad.as_bytes()), refused(400));
        class.add(format!("GET / HTTP/1.0\r\nHost: {bad}\r\n\r\n"), refused(400));
        class.add(format!("GET http://a/ HTTP/1.1\r\nHost: {bad}\r\n\r\n"), refused(400));
        class.add(get_with(format!("Host: {bad}\r\n")), refused(400));
    }
    for text in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nX: y\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nHOST: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n a\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: a:81\r\n\r\n",
        "GET http://a:80/ HTTP/1.1\r\nHost: b:80\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: a.a\r\n\r\n",
    ] {
        class.add(text, refused(400));
    }
    for text in ["GET / HTTP/1.1\r\nHOST:a\r\n\r\n", "GET / HTTP/1.1\r\nhost: \t a\t \r\n\r\n"] {
        class.add(text, got());
    }
    class.add("GET / HTTP/1.1\r\nHost: A\r\n\r\n", served("A"));
    class.add("GET http://a/ HTTP/1.0\r\n\r\n", {
        serves_then(vec![arrived("GET /", &[], "")], End::Closed)
    });
}

const GOOD: &[&str] = &[
    "a",
    "a.b",
    "A.B",
    "a.b.",
    "a:80",
    "a.b:8080",
    "a:0",
    "a:65535",
    "a:",
    "127.0.0.1",
    "127.0.0.1:80",
    "[::1]",
    "[::1]:80",
    "[2001:db8::1]",
    "[::ffff:1.2.3.4]:1",
    "xn--80ak6aa92e.com",
    "a_b.c",
    "1a.b",
    "a-b.c",
    "a.b.c.d.e.f",
];

const BAD: &[&str] = &[
    "",
    " ",
    ":80",
    ":",
    "a,b",
    "a, b",
    "a b",
    "a;b",
    "a@b",
    "u:p@a",
    "a/b",
    "a?b",
    "a#b",
    "a\\b",
    "a%2eb",
    "a%00",
    "a:65536",
    "a:99999",
    "a:080080",
    "a:+80",
    "a:-1",
    "a:8 0",
    "a:80:80",
    "a:b",
    "a:0x50",
    "::1",
    "[::1",
    "::1]",
    "[::1]x",
    "[::1]:x",
    "[a]",
    "[]",
    "[:]",
    "[1.2.3.4]",
    "[::1%eth0]",
    "[::1%25eth0]",
    "[[::1]]",
    "1.2.3",
    "1.2.3.256",
    "1.2.3.4.5",
    "0x7f.0.0.1x1.1",
    "a..b",
    ".a",
    ".",
    "..",
    "*",
    "*.a",
    "a*",
    "\"a\"",
    "'a'",
    "(a)",
    "<a>",
    "{a}",
    "a|b",
    "a^b",
    "a`b",
    "a~b!",
    "a$b",
    "a&b",
    "a=b",
    "a+b",
    "http://a",
    "http://a/",
    "//a",
    "a\u{0}",
    "a\u{b}b",
    "a\u{7f}",
    "\u{e4}",
    "a\u{a0}",
    "\u{feff}a",
    "\u{ff41}",
    "a\u{3002}b",
    "-a",
    "a-",
    "a.-b",
];
