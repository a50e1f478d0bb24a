//! The syntax of fields, what `Connection` nominates, and fields that only the proxy may write.

use super::case::*;
use crate::reference::is_token;

pub(super) fn add(cases: &mut Vec<Case>) {
    syntax(&mut Class("field syntax", cases));
    connection(&mut Class("Connection", cases));
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn syntax(class: &mut Class<'_>) {
    for byte in 0..=255_u8 {
        let shown = char::from(byte).to_ascii_lowercase().to_string();
        let is_value = byte == b'\t' || (b' '..=b'~').contains(&byte);
        let mut sweep = |text: &str, served: Option<(String, String)>| {
            let verdict = served.map_or_else(
                || refused(400),
                |(name, value)| serves(arrived("GET /", &[(&name, &value)], "")),
            );
            class.add(get_with(with_byte(text, byte)), verdict);
        };
        let name =
            |text: &str| is_token(byte).then(|| (text.replace("{}", &shown), "v".to_owned()));
        let colon = |value: &str| (byte == b':').then(|| ("n".to_owned(), value.to_owned()));
        sweep("{}n: v\r\n", name("{}n"));
        sweep("n{}m: v\r\n", name("n{}m").or_else(|| colon("m: v")));
        sweep("n{}: v\r\n", name("n{}").or_else(|| colon(": v")));
        if byte < 0x80 {
            let value = |text: &str| {
                let value = text.replace("{}", &char::from(byte).to_string());
                is_value.then(|| ("n".to_owned(), value.trim_ascii().to_owned()))
            };
            sweep("n: a{}b\r\n", value("a{}b"));
            sweep("n: {}b\r\n", value("{}b"));
            sweep("n: a{}\r\n", value("a{}"));
        }
        let end = (byte == b'\r').then(|| ("n".to_owned(), "v".to_owned()));
        sweep("n: v{}\n", end);
    }
    for lines in [
        " n: v\r\n",
        "\tn: v\r\n",
        "n: v\r\n w\r\n",
        "n: v\r\n\tw\r\n",
        "n: v\r\n \r\n",
        "n:\r\n v\r\n",
        "n\r\n",
        ": v\r\n",
        ":\r\n",
        " : v\r\n",
        "n v\r\n",
        "n : v\r\n",
        "n\t: v\r\n",
        "n  : v\r\n",
        "n: v\n",
        "n: v\r\r\n",
        "n: v\r\n\n",
        "n\r: v\r\n",
        "n\n: v\r\n",
        "n: v\rm: w\r\n",
        "n: v\nm: w\r\n",
        "n: v\0m: w\r\n",
        "(n): v\r\n",
        "n,m: v\r\n",
        "n/m: v\r\n",
        "n;m: v\r\n",
        "n=m: v\r\n",
        "n@m: v\r\n",
        "n[m]: v\r\n",
        "n{m}: v\r\n",
        "\"n\": v\r\n",
        "n\\m: v\r\n",
        "\u{e4}: v\r\n",
        "n\u{a0}: v\r\n",
        "GET / HTTP/1.1\r\n",
        "HTTP/1.1 200 OK\r\n",
        "Host a\r\n",
        "=: v \r\n",
        "\r\r\n",
    ] {
        class.add(get_with(lines), refused(400));
    }
    for (lines, fields) in [
        ("n:v\r\n", &[("n", "v")][..]),
        ("n:\r\n", &[("n", "")]),
        ("n: \t v \t\r\n", &[("n", "v")]),
        ("N: v\r\nn: w\r\n", &[("n", "v"), ("n", "w")]),
        ("n: a:b:c\r\n", &[("n", "a:b:c")]),
        ("n_m: v\r\n", &[("n_m", "v")]),
        ("!#$%&'*+-.^_`|~: v\r\n", &[("!#$%&'*+-.^_`|~", "v")]),
        ("n: \"a, b\"; c=d\r\n", &[("n", "\"a, b\"; c=d")]),
        ("1: v\r\n", &[("1", "v")]),
        ("Cookie: a=b; c=d\r\n", &[("cookie", "a=b; c=d")]),
    ] {
        class.add(get_with(lines), serves(arrived("GET /", fields, "")));
    }
}

fn connection(class: &mut Class<'_>) {
    // What is nominated goes; what frames, routes or proves who it is stays.
    for (lines, fields, end) in [
        ("Connection: x\r\nX: y\r\n", &[][..], End::Open),
        ("Connection: X, z\r\nX: y\r\nZ: w\r\n", &[], End::Open),
        ("Connection: close, x\r\nX: y\r\n", &[], End::Closed),
        ("Connection: x\r\nConnection: z\r\nX: y\r\nZ: w\r\nV: u\r\n", &[("v", "u")], End::Open),
        ("Connection: ,,x ,\r\nX: y\r\n", &[], End::Open),
        ("Connection: host\r\n", &[], End::Open),
        ("Connection: Host, close\r\n", &[], End::Closed),
        ("Connection: authorization\r\nAuthorization: s\r\n", &[("authorization", "s")], End::Open),
        ("Connection: cookie\r\nCookie: s\r\n", &[("cookie", "s")], End::Open),
        ("Connection: x-forwarded-for, x-real-ip, forwarded\r\n", &[], End::Open),
        ("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", &[], End::Open),
        ("Keep-Alive: timeout=5\r\n", &[], End::Open),
        ("Proxy-Connection: keep-alive\r\n", &[], End::Open),
        ("Proxy: http://evil\r\n", &[], End::Open),
        ("Connection: close\r\n", &[], End::Closed),
        ("Connection: CLOSE\r\n", &[], End::Closed),
        ("Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n", &[], End::Open),
        (
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
            &[],
            End::Open,
        ),
        ("Upgrade: websocket\r\n", &[], End::Open),
        ("Connection: upgrade\r\nUpgrade: websocket\r\n", &[], End::Open),
        ("Connection: upgrade\r\nUpgrade: TLS/1.0\r\n", &[], End::Open),
        ("TE: trailers\r\nConnection: TE\r\n", &[], End::Open),
        ("TE: gzip\r\n", &[], End::Open),
        ("TE: chunked;q=0.5\r\n", &[], End::Open),
        ("Trailer: X\r\n", &[], End::Open),
        ("Expect: 100-continue\r\n", &[], End::Open),
        ("Expect: 100-Continue\r\n", &[], End::Open),
    ] {
        class.add(get_with(lines), serves_then(vec![arrived("GET /", fields, "")], end));
    }
    for claim in [
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Real-IP",
        "Forwarded",
        "X-Forwarded-Prefix",
        "X_Forwarded_For",
        "x_forwarded_host",
        "X-Forwarded_Proto",
        "X_Real_IP",
        "X-Forwarded-Server",
        "X-Forwarded-Anything",
        "x.forwarded.for",
        "X-Real_IP",
    ] {
        class.add(get_with(format!("{claim}: evil\r\n")), got());
        class.add(get_with(format!("Connection: {claim}\r\n{claim}: evil\r\n")), got());
    }
    for value in ["a b", ":authority", "x, (y)", "\"close\"", "close;x", "a,".repeat(10).as_str()] {
        class.add(get_with(format!("Connection: {value}\r\n")), refused(400));
    }
    for value in ["200-ok", "100", "continue", "100-continue, x", "x=y", ""] {
        class.add(get_with(format!("Expect: {value}\r\n")), refused(417));
    }
    class.add(post_with("Expect: 100-continue\r\nContent-Length: 2\r\n", "hi"), posted("hi"));
    class.add(
        post_with("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        posted(""),
    );
}
