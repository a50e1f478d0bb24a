//! Content-Length: one canonical number, or nothing passes.

use super::case::*;
use crate::reference::is_token;

#[expect(clippy::too_many_lines, reason = "a table of cases")]
pub(super) fn add(cases: &mut Vec<Case>) {
    let mut class = Class("Content-Length", cases);
    for byte in 0..=255 {
        for line in ["Content-Length:{}2\r\n", "Content-Length: 2{}\r\n"] {
            let text = with_byte(line, byte);
            let verdict = match byte {
                b' ' | b'\t' => (posted("hi"), "hi".to_owned()),
                b'0'..=b'9' => {
                    let digits: String = text
                        .iter()
                        .filter(|b| b.is_ascii_digit())
                        .map(|&b| char::from(b))
                        .collect();
                    let body = "x".repeat(digits.parse().unwrap());
                    (posted(&body), body)
                }
                _ => (refused(400), "hi".to_owned()),
            };
            class.add(post_with(text, verdict.1), verdict.0);
        }
        for line in ["Content-Length{}: 2\r\n", "{}Content-Length: 2\r\n"] {
            let verdict = if is_token(byte) {
                let name = line.replace("{}", &char::from(byte).to_string()).to_ascii_lowercase();
                serves(arrived("POST /", &[(name.split(": ").next().unwrap(), "2")], ""))
            } else {
                refused(400)
            };
            class.add(post_with(with_byte(line, byte), ""), verdict);
        }
    }
    for good in ["2", "02", "002", "00000000000000000002", "2, 2", "2,2", "2 , 02", "2,2,2", " 2\t"]
    {
        class.add(post_with(format!("Content-Length: {good}\r\n"), "hi"), posted("hi"));
        let twice = format!("Content-Length: 2\r\nX: y\r\ncontent-length: {good}\r\n");
        let verdict = serves(arrived("POST /", &[("x", "y")], "hi"));
        class.add(post_with(twice, "hi"), verdict);
    }
    for bad in BAD {
        class.add(post_with(format!("Content-Length: {bad}\r\n"), "hi"), refused(400));
        class.add(get_with(format!("Content-Length: {bad}\r\n")), refused(400));
        let twice = format!("Content-Length: 2\r\nContent-Length: {bad}\r\n");
        class.add(post_with(twice, "hi"), refused(400));
        let twice = format!("Content-Length: {bad}\r\nContent-Length: 2\r\n");
        class.add(post_with(twice, "hi"), refused(400));
    }
    for (first, second) in [("2", "3"), ("0", "2"), ("2", "0"), ("2, 2", "3"), ("2", "2, 3")] {
        let lines = format!("Content-Length: {first}\r\nContent-Length: {second}\r\n");
        class.add(post_with(lines, "hi"), refused(400));
    }
    for name in ["Content_Length", "Content.Length", "CONTENT_LENGTH", "content.length"] {
        for beside in ["", "Content-Length: 2\r\n", "Content-Length: 3\r\n"] {
            class.add(post_with(format!("{beside}{name}: 2\r\n"), "hi"), refused(400));
            class.add(post_with(format!("{name}: 2\r\n{beside}"), "hi"), refused(400));
        }
    }
    for (lines, fields) in [
        ("ContentLength: 9\r\n", ("contentlength", "9")),
        ("Content--Length: 9\r\n", ("content--length", "9")),
        ("X-Content-Length: 9\r\n", ("x-content-length", "9")),
    ] {
        class.add(post_with(lines, ""), serves(arrived("POST /", &[fields], "")));
    }
    // A nominated length is a length still.
    for nominated in ["Content-Length", "content-length, close", "close, CONTENT-LENGTH"] {
        let lines = format!("Connection: {nominated}\r\nContent-Length: 2\r\n");
        let mut verdict = posted("hi");
        if nominated.contains("close") {
            verdict.end = End::Closed;
        }
        class.add(post_with(lines, "hi"), verdict);
    }
    class.add(get_with("Content-Length: 0\r\n"), got());
    class.add(
        [&get_with("Content-Length: 2\r\n")[..], b"hi"].concat(),
        serves(arrived("GET /", &[], "hi")),
    );
    class.add(
        "POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
        posted("hi"),
    );
    class.add(post_with("Content-Length:\r\n 2\r\n", "hi"), refused(400));
    class.add_pieces(&[&post_with("Content-Length: 4\r\n", "he"), b"re"], posted("here"));
}

const BAD: &[&str] = &[
    "",
    "+2",
    "-2",
    "+0",
    "-0",
    "0x2",
    "0X2",
    "2.0",
    "2.",
    ".2",
    "2e0",
    "2E1",
    "2 2",
    "2\t2",
    "2;",
    "2;2",
    "2,",
    ",2",
    ",",
    "2,,2",
    "2, 3",
    "3, 2",
    "2,+2",
    "two",
    "2hi",
    "h2",
    "\"2\"",
    "'2'",
    "(2)",
    "2_0",
    "1_000",
    "0b10",
    "0o2",
    "2h",
    "2L",
    "2u",
    "NaN",
    "inf",
    "%32",
    "\u{b2}",
    "\u{ff12}",
    "\u{662}",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "18446744073709551618",
    "36893488147419103234",
    "99999999999999999999",
    "340282366920938463463374607431768211456",
    "340282366920938463463374607431768211458",
    "4294967298x",
    "2\u{b}",
    "\u{c}2",
    "2\u{0}",
    "\u{0}2",
    "2\u{7f}",
    "2\u{a0}",
    "-9223372036854775808",
    "+18446744073709551618",
    "2 bytes",
    "2/2",
    "*",
];
