//! A strict reader of requests, as a Backend would want every proxy to write them.
//!
//! It shares nothing with the proxy. What it objects to, some server reads differently.

/// One request as it arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Arrived {
    /// Method and target.
    pub(crate) line: String,
    pub(crate) host: String,
    /// All other fields but those for framing, in order of name, names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What bytes are.
#[derive(Debug)]
pub(crate) enum Read {
    /// A request, and how many bytes it took.
    Whole(Arrived, usize),
    /// The begin of one.
    Partial,
    /// Something that two servers can read differently, and why.
    Ambiguous(String),
}

/// Reads one request from the begin of `bytes`.
pub(crate) fn read(bytes: &[u8]) -> Read {
    match read_request(bytes) {
        Ok(Some((arrived, taken))) => Read::Whole(arrived, taken),
        Ok(None) => Read::Partial,
        Err(why) => Read::Ambiguous(why),
    }
}

type Found<T> = Result<Option<T>, String>;

fn read_request(bytes: &[u8]) -> Found<(Arrived, usize)> {
    let Some((line, mut at)) = read_line(bytes, 0)? else { return Ok(None) };
    let line = read_request_line(line)?;
    let mut fields = Vec::new();
    loop {
        let Some((field, next)) = read_line(bytes, at)? else { return Ok(None) };
        at = next;
        if field.is_empty() {
            break;
        }
        fields.push(read_field(field)?);
    }
    let host = only(&fields, "host")?.ok_or("no Host")?;
    check_host(&host)?;
    let length = only(&fields, "content-length")?;
    let coding = only(&fields, "transfer-encoding")?;
    let body = match (length, coding) {
        (Some(_), Some(_)) => return Err("a length and a coding".to_owned()),
        (None, None) => Some((Vec::new(), at)),
        (Some(length), None) => read_sized(bytes, at, &length)?,
        (None, Some(coding)) if coding == "chunked" => read_chunks(bytes, at)?,
        (None, Some(coding)) => return Err(format!("the coding {coding:?}")),
    };
    let Some((body, taken)) = body else { return Ok(None) };
    let framing = ["host", "content-length", "transfer-encoding"];
    fields.retain(|(name, _)| !framing.contains(&name.as_str()));
    fields.sort();
    Ok(Some((Arrived { line, host, fields, body }, taken)))
}

/// The line that begins at `at`, without its end, and where the next one begins.
fn read_line(bytes: &[u8], at: usize) -> Found<(&[u8], usize)> {
    let rest = &bytes[at..];
    let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0)) else {
        return Ok(None);
    };
    match (rest[end], rest.get(end + 1)) {
        (b'\r', Some(b'\n')) => Ok(Some((&rest[..end], at + end + 2))),
        (b'\r', None) => Ok(None),
        (byte, next) => Err(format!("the bytes {byte:#x} {next:?} in a line")),
    }
}

fn read_request_line(line: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(line).map_err(|_| "a line that is no text")?;
    let words: Vec<&str> = text.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { return Err(format!("the line {text:?}")) };
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err(format!("the method {method:?}"));
    }
    let is_target = |byte: u8| byte.is_ascii_graphic() && !b"#\\<>`".contains(&byte);
    let is_form = target.starts_with('/') || (target == "*" && method == "OPTIONS");
    if !is_form || !target.bytes().all(is_target) {
        return Err(format!("the target {target:?}"));
    }
    Ok(format!("{method} {target}"))
}

fn read_field(line: &[u8]) -> Result<(String, String), String> {
    let shown = String::from_utf8_lossy(line);
    let colon = line.iter().position(|&byte| byte == b':').ok_or(format!("the field {shown:?}"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(format!("the name of {shown:?}"));
    }
    if value.iter().any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7F) {
        return Err(format!("the value of {shown:?}"));
    }
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let dashed = name.replace(['_', '.'], "-");
    let framing = ["content-length", "transfer-encoding", "host"];
    if dashed != name && framing.contains(&dashed.as_str()) {
        return Err(format!("the look-alike {name}"));
    }
    let hops = ["keep-alive", "proxy-connection", "trailer", "proxy", "te"];
    if hops.contains(&name.as_str()) {
        return Err(format!("the field {name} of another hop"));
    }
    Ok((name, String::from_utf8_lossy(value.trim_ascii()).into_owned()))
}

fn only(fields: &[(String, String)], name: &str) -> Found<String> {
    let mut found = fields.iter().filter(|(other, _)| other == name);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(format!("{name} twice")),
        (found, None) => Ok(found.map(|(_, value)| value.clone())),
    }
}

fn check_host(host: &str) -> Result<(), String> {
    let bad = || Err(format!("the host {host:?}"));
    let (name, port) = match host.rfind(']') {
        Some(end) => host.split_at(end + 1),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port = port.strip_prefix(':').unwrap_or(port);
    if !port.is_empty() && (port.len() > 5 || port.parse::<u16>().is_err() || port.contains('+')) {
        return bad();
    }
    if let Some(address) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().map(drop).or_else(|_| bad());
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_name) { bad() } else { Ok(()) }
}

fn read_sized(bytes: &[u8], at: usize, length: &str) -> Found<(Vec<u8>, usize)> {
    let number: u64 = length.parse().map_err(|_| format!("the length {length:?}"))?;
    if number.to_string() != length {
        return Err(format!("the length {length:?}"));
    }
    let end = usize::try_from(number).ok().and_then(|number| at.checked_add(number));
    Ok(end.and_then(|end| Some((bytes.get(at..end)?.to_vec(), end))))
}

fn read_chunks(bytes: &[u8], mut at: usize) -> Found<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    loop {
        let Some((size, data)) = read_line(bytes, at)? else { return Ok(None) };
        let shown = String::from_utf8_lossy(size);
        let is_hex = !size.is_empty() && size.len() <= 16 && size.iter().all(u8::is_ascii_hexdigit);
        let size = usize::from_str_radix(&shown, 16).ok().filter(|_| is_hex);
        let size = size.ok_or(format!("the chunk size {shown:?}"))?;
        let Some(end) = bytes.get(data + size..data + size + 2) else { return Ok(None) };
        if end != b"\r\n" {
            return Err(format!("{end:?} behind a chunk"));
        }
        at = data + size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
        body.extend_from_slice(&bytes[data..data + size]);
    }
}

/// A byte of a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[test]
fn the_reference_objects_to_what_is_ambiguous() {
    let whole = |text: &str| match read(text.as_bytes()) {
        Read::Whole(arrived, taken) => {
            assert_eq!(taken, text.len(), "{text:?}");
            arrived
        }
        other @ (Read::Partial | Read::Ambiguous(_)) => panic!("{text:?}: {other:?}"),
    };
    assert_eq!(
        whole("GET /x HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\n").fields,
        [("b".into(), "c".into())]
    );
    assert_eq!(whole("P / HTTP/1.1\r\nhost: a\r\nContent-Length: 2\r\n\r\nhi").body, b"hi");
    let chunked = "P / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(whole(&format!("{chunked}2\r\nhi\r\n0\r\n\r\n")).body, b"hi");
    for text in [
        "GET / HTTP/1.1\n",
        "GET  / HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "GET a HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 01\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTE: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
    ] {
        assert!(matches!(read(text.as_bytes()), Read::Ambiguous(_)), "{text:?}");
    }
    for bad in ["+2\r\nhi\r\n", "2;x\r\nhi\r\n", "2\nhi", "2\r\nhixx", "0\r\nX: y\r\n\r\n", "\r\n"]
    {
        let text = format!("{chunked}{bad}");
        assert!(matches!(read(text.as_bytes()), Read::Ambiguous(_)), "{text:?}");
    }
    assert!(matches!(read(b"GET / HTTP/1.1\r\nHost"), Read::Partial));
}
