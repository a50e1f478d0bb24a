//! Chunked bodies: judged before the end of one can reach a Backend.

use super::case::*;
use crate::reference::is_token;

#[expect(clippy::too_many_lines, reason = "a table of cases")]
pub(super) fn add(cases: &mut Vec<Case>) {
    let mut class = Class("chunks", cases);
    let lines = "Transfer-Encoding: chunked\r\n";
    let mut one = |body: &[u8], verdict: Verdict, late: bool| {
        class.add(post_with(lines, body), verdict.clone());
        if late {
            // The head and a first chunk are on their way when the rest comes.
            let first = post_with(lines, "3\r\nabc\r\n");
            let late = match verdict.end {
                End::Refused(status) => cut(status),
                End::Open => {
                    let mut verdict = verdict;
                    if let Some(Step::Arrives(arrived)) = verdict.steps.first_mut() {
                        arrived.body.splice(0..0, *b"abc");
                    }
                    verdict
                }
                End::Silent | End::Closed | End::Cut(_) => verdict,
            };
            class.add_pieces(&[&first, body], late);
        }
    };
    for byte in 0..=255_u8 {
        let is_late = byte % 16 == 13;
        let before = match byte {
            b'0' => posted("hi"),
            b'1'..=b'9' | b'a'..=b'f' | b'A'..=b'F' => continue,
            _ => refused(400),
        };
        one(&with_byte("{}2\r\nhi\r\n0\r\n\r\n", byte), before.clone(), is_late);
        if byte != b'0' {
            // Only an extension may follow white space; one byte of it is legal.
            let behind = if byte == b';' { posted("hi") } else { refused(400) };
            one(&with_byte("2{}\r\nhi\r\n0\r\n\r\n", byte), behind, is_late);
        }
        let extension = match byte {
            b'\t' | b' '..=b'~' | 0x80.. => posted("hi"),
            _ => refused(400),
        };
        one(&with_byte("2;a{}\r\nhi\r\n0\r\n\r\n", byte), extension, is_late);
        let end = |good| if byte == good { posted("hi") } else { refused(400) };
        one(&with_byte("2\r\nhi{}\n0\r\n\r\n", byte), end(b'\r'), is_late);
        one(&with_byte("2\r\nhi\r{}0\r\n\r\n", byte), end(b'\n'), is_late);
        one(&with_byte("2\r{}hi\r\n0\r\n\r\n", byte), end(b'\n'), is_late);
        one(&with_byte("2\r\nhi\r\n0\r\n\r{}", byte), end(b'\n'), is_late);
        let name = if is_token(byte) || byte == b':' { posted("hi") } else { refused(400) };
        one(&with_byte("2\r\nhi\r\n0\r\nX{}: y\r\n\r\n", byte), name, is_late);
        let value = match byte {
            b'\t' | b' '..=b'~' | 0x80.. => posted("hi"),
            _ => refused(400),
        };
        one(&with_byte("2\r\nhi\r\n0\r\nX: y{}z\r\n\r\n", byte), value, is_late);
    }
    for good in GOOD {
        one(good.as_bytes(), posted("hi"), true);
    }
    for bad in BAD {
        one(bad.as_bytes(), refused(400), true);
    }
    for (long, verdict) in [
        (format!("2;{}\r\nhi\r\n0\r\n\r\n", "a".repeat(16 * 1024)), posted("hi")),
        (format!("2;{}\r\nhi\r\n0\r\n\r\n", "a".repeat(16 * 1024 + 1)), cut(400)),
        ("1;aaaaaaaa\r\nh\r\n".repeat(3_000), cut(400)),
        (format!("2\r\nhi\r\n0\r\n{}\r\n", "X: y\r\n".repeat(32)), posted("hi")),
        (format!("2\r\nhi\r\n0\r\n{}\r\n", "X: y\r\n".repeat(33)), cut(400)),
        (format!("2\r\nhi\r\n0\r\nX: {}\r\n\r\n", "y".repeat(8 * 1024)), cut(400)),
    ] {
        one(long.as_bytes(), verdict, false);
    }
    let many: String = (0..500).map(|_| "1\r\nx\r\n").collect::<String>() + "0\r\n\r\n";
    one(many.as_bytes(), posted(&"x".repeat(500)), true);
    let next = "2\r\nhi\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    let both = vec![arrived("POST /", &[], "hi"), arrived("GET /next", &[], "")];
    one(next.as_bytes(), serves_then(both, End::Open), true);
    let stray = "2\r\nhi\r\n0\r\n\r\n0\r\n\r\n";
    let verdict = serves_then(vec![arrived("POST /", &[], "hi")], End::Refused(400));
    one(stray.as_bytes(), verdict, false);
}

const GOOD: &[&str] = &[
    "2\r\nhi\r\n0\r\n\r\n",
    "1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
    "02\r\nhi\r\n00\r\n\r\n",
    "0000000000000002\r\nhi\r\n0000000000000000\r\n\r\n",
    "2;a\r\nhi\r\n0\r\n\r\n",
    "2;a=b\r\nhi\r\n0;c=d\r\n\r\n",
    "2 ;a\r\nhi\r\n0\r\n\r\n",
    "2\t; a = \"b;c\"\r\nhi\r\n0\r\n\r\n",
    "2\r\nhi\r\n0\r\nX: y\r\n\r\n",
    "2\r\nhi\r\n0\r\nX: y\r\nZ:\r\n\r\n",
    "2\r\nhi\r\n0\r\nContent-Length: 9\r\n\r\n",
    "2\r\nhi\r\n0\r\nTransfer-Encoding: x\r\n\r\n",
    "2\r\nhi\r\n0\r\nHost: evil\r\n\r\n",
    "2\r\nhi\r\n0\r\nAuthorization: x\r\n\r\n",
];

const BAD: &[&str] = &[
    "\r\n2\r\nhi\r\n0\r\n\r\n",
    "2\nhi\r\n0\r\n\r\n",
    "2\r\nhi\n0\r\n\r\n",
    "2\r\nhi\r\n0\n\r\n",
    "2\r\nhi\r\n0\r\n\n",
    "2\r\rhi\r\n0\r\n\r\n",
    "2 \r\nhi\r\n0\r\n\r\n",
    " 2\r\nhi\r\n0\r\n\r\n",
    "\t2\r\nhi\r\n0\r\n\r\n",
    "+2\r\nhi\r\n0\r\n\r\n",
    "-2\r\nhi\r\n0\r\n\r\n",
    "0x2\r\nhi\r\n0\r\n\r\n",
    "0X2\r\nhi\r\n",
    "2_0\r\n",
    "2.0\r\n",
    "2,2\r\nhi\r\n",
    "2h\r\nhi\r\n",
    "#2\r\n",
    "\"2\"\r\nhi\r\n",
    "00000000000000002\r\nhi\r\n0\r\n\r\n",
    "8000000000000000\r\n",
    "ffffffffffffffff\r\n",
    "fffffffffffffffe\r\n",
    "10000000000000002\r\nhi\r\n0\r\n\r\n",
    "100000000000000000\r\n",
    "2\r\nhi!\r\n0\r\n\r\n",
    "2\r\nh\r\n0\r\n\r\n",
    "2\r\nhi0\r\n\r\n",
    "2\r\nhi\r\r\n0\r\n\r\n",
    "2\r\nhi\r\n\r\n0\r\n\r\n",
    "2\r\nhi\r\n0\r\n X: y\r\n\r\n",
    "2\r\nhi\r\n0\r\nX\r\n\r\n",
    "2\r\nhi\r\n0\r\nX : y\r\n\r\n",
    "2\r\nhi\r\n0\r\n: y\r\n\r\n",
    "2\r\nhi\r\n0\r\nX: y\n\r\n",
    "2\r\nhi\r\n0\r\nX: y\r\n z\r\n\r\n",
    "2\r\nhi\r\n0\r\nX: \u{0}\r\n\r\n",
    "2;\n\r\nhi\r\n0\r\n\r\n",
    "2;a\nhi\r\n0\r\n\r\n",
    "2;a\rhi\r\n0\r\n\r\n",
    "2;a=\"\n\"\r\nhi\r\n0\r\n\r\n",
    "2;\u{0}\r\nhi\r\n",
    "2\u{0}\r\nhi\r\n",
    "2\u{b}\r\nhi\r\n",
    "2\u{a0}\r\nhi\r\n",
    "\u{feff}2\r\nhi\r\n",
    "GET / HTTP/1.1\r\n",
    "2 2\r\nhi\r\n",
    "2\r\nhi\r\n-0\r\n\r\n",
    "2\r\nhi\r\n+0\r\n\r\n",
    "2\r\nhi\r\n0x0\r\n\r\n",
];
