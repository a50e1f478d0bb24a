//! Transfer-Encoding: exactly one line with the value `chunked`, or nothing passes.

use super::case::*;
use crate::reference::is_token;

const CHUNKS: &str = "2\r\nhi\r\n0\r\n\r\n";

#[expect(clippy::too_many_lines, reason = "a table of cases")]
pub(super) fn add(cases: &mut Vec<Case>) {
    let mut class = Class("Transfer-Encoding", cases);
    for byte in 0..=255 {
        let value = match byte {
            b' ' | b'\t' => posted("hi"),
            byte if is_token(byte) => refused(501),
            _ => refused(400),
        };
        for line in ["Transfer-Encoding:{}chunked\r\n", "Transfer-Encoding: chunked{}\r\n"] {
            class.add(post_with(with_byte(line, byte), CHUNKS), value.clone());
        }
        for line in ["Transfer-Encoding{}: chunked\r\n", "{}Transfer-Encoding: chunked\r\n"] {
            let verdict = if is_token(byte) {
                let name = line.replace("{}", &char::from(byte).to_string()).to_ascii_lowercase();
                let name = name.split(": ").next().unwrap();
                serves(arrived("POST /", &[(name, "chunked")], ""))
            } else {
                refused(400)
            };
            class.add(post_with(with_byte(line, byte), ""), verdict);
        }
    }
    for value in
        ["chunked", "Chunked", "CHUNKED", "cHuNkEd", " chunked", "chunked \t ", "\t\tchunked"]
    {
        for name in ["Transfer-Encoding", "transfer-encoding", "TRANSFER-ENCODING"] {
            class.add(post_with(format!("{name}:{value}\r\n"), CHUNKS), posted("hi"));
        }
    }
    for value in
        ["gzip", "deflate", "compress", "br", "x", "xchunked", "chunkedx", "chunke", "x-gzip"]
    {
        class.add(post_with(format!("Transfer-Encoding: {value}\r\n"), CHUNKS), refused(501));
    }
    for value in BAD {
        class.add(post_with(format!("Transfer-Encoding: {value}\r\n"), CHUNKS), refused(400));
        class.add(get_with(format!("Transfer-Encoding: {value}\r\n")), refused(400));
    }
    for (first, second) in [
        ("chunked", "chunked"),
        ("chunked", "identity"),
        ("identity", "chunked"),
        ("chunked", ""),
        ("", "chunked"),
        ("chunked", "gzip"),
    ] {
        let lines = format!("Transfer-Encoding: {first}\r\nTransfer-Encoding: {second}\r\n");
        class.add(post_with(lines, CHUNKS), refused(400));
    }
    for name in ["Transfer_Encoding", "Transfer.Encoding", "TRANSFER_ENCODING", "transfer.encoding"]
    {
        for beside in ["", "Content-Length: 2\r\n", "Transfer-Encoding: chunked\r\n"] {
            class.add(post_with(format!("{beside}{name}: chunked\r\n"), CHUNKS), refused(400));
            class.add(post_with(format!("{name}: chunked\r\n{beside}"), CHUNKS), refused(400));
        }
    }
    for length in ["0", "2", "13", "99"] {
        for coding in ["chunked", "Chunked", "gzip", "chunked, gzip", "identity", ""] {
            let (length, coding) = (
                format!("Content-Length: {length}\r\n"),
                format!("Transfer-Encoding: {coding}\r\n"),
            );
            // An unknown coding says what is wrong first.
            let status = if coding.contains(": gzip") { 501 } else { 400 };
            class.add(post_with(format!("{length}{coding}"), CHUNKS), refused(status));
            class.add(post_with(format!("{coding}{length}"), CHUNKS), refused(status));
        }
    }
    for host in ["Host: a\r\n", ""] {
        let text = format!("POST / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n{CHUNKS}");
        class.add(text, refused(400));
    }
    class.add(post_with("Transfer-Encoding:\r\n chunked\r\n", CHUNKS), refused(400));
    class.add(post_with("Transfer-Encoding: chun\r\n\tked\r\n", CHUNKS), refused(501));
    class.add(post_with("X: y\rTransfer-Encoding: chunked\r\n", ""), refused(400));
    class.add(post_with("X: y\nTransfer-Encoding: chunked\r\n", ""), refused(400));
    class.add(post_with("X: y\0\r\nTransfer-Encoding: chunked\r\n", CHUNKS), refused(400));
}

/// Values that are no single unknown token.
const BAD: &[&str] = &[
    "",
    "identity",
    "chunked, chunked",
    "chunked,chunked",
    "gzip, chunked",
    "chunked, gzip",
    "chunked, identity",
    "identity, chunked",
    "chunked,",
    ",chunked",
    ", chunked",
    "chunked;q=1",
    "chunked; a=b",
    "chunked;",
    "\"chunked\"",
    "'chunked', x",
    "chunked chunked",
    "x chunked",
    "chunked\u{b}",
    "\u{b}chunked",
    "\u{c}chunked",
    "chun ked",
    "ch\u{0}unked",
    "[chunked]",
    "chunked/1",
    "{chunked}",
    "(chunked)",
    "chunked=1",
    "gzip,deflate",
    "chunked\u{85}",
    "chunked\u{a0}",
    "\u{feff}chunked",
    "\u{ff43}hunked",
    "chun\u{7f}ked",
    "=?utf-8?Q?chunked?=",
];
