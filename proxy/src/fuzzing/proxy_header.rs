//! Headers of the PROXY protocol.

use kubeng_config::backend::ProxyVersion;

use crate::proxy_protocol::{BYTES_MAX, Header, encode, parse};

/// The header of the PROXY protocol. A verdict does not depend on how the bytes come, nor on what
/// stands behind them; who is told is told alike by a header that we write.
pub fn proxy_header(bytes: &[u8]) {
    let whole = parse(bytes);
    // As a socket gives it: in two pieces, at every place where the second begins.
    let mut first = Ok(Header::Partial);
    for end in 0..=bytes.len().min(BYTES_MAX + 1) {
        let verdict = parse(bytes.get(..end).unwrap_or_default());
        if first == Ok(Header::Partial) {
            first = verdict;
        } else {
            assert_eq!(verdict, first, "a verdict stands");
        }
    }
    if first != Ok(Header::Partial) {
        assert_eq!(whole, first, "what stands behind changes nothing");
    }
    let Ok(Header::Complete { told, length }) = whole else {
        let is_waiting = whole == Ok(Header::Partial);
        assert!(!is_waiting || bytes.len() < BYTES_MAX, "nothing is waited for without end");
        return;
    };
    assert!(length <= bytes.len() && length <= BYTES_MAX, "{length} of {}", bytes.len());
    let header = bytes.get(..length).unwrap_or_default();
    assert_eq!(reference(header), Ok(told.map(|told| (told.client, told.local))));
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let written = encode(version, told);
        let again = parse(&written);
        assert_eq!(again, Ok(Header::Complete { told, length: written.len() }), "{version:?}");
    }
}

type Ends = Option<(std::net::SocketAddr, std::net::SocketAddr)>;

/// A whole header, read by indexes as the specification draws it.
fn reference(header: &[u8]) -> Result<Ends, &'static str> {
    use std::net::SocketAddr;
    let canonical = |ip: std::net::IpAddr, port| SocketAddr::new(ip.to_canonical(), port);
    if let Some(line) = header.strip_prefix(b"PROXY ") {
        let line = line.strip_suffix(b"\r\n").ok_or("no line end")?;
        if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
            return Ok(None);
        }
        let line = std::str::from_utf8(line).map_err(|_| "no text")?;
        let words: Vec<&str> = line.split(' ').collect();
        let [_, from, to, from_port, to_port] = words[..] else { return Err("five words") };
        let end = |ip: &str, port: &str| {
            let ip = ip.parse().map_err(|_| "no address")?;
            port.parse().map(|port| canonical(ip, port)).map_err(|_| "no port")
        };
        return Ok(Some((end(from, from_port)?, end(to, to_port)?)));
    }
    let at = |index: usize| header.get(index).copied().ok_or("short");
    let number = |index: usize| {
        let low = at(index + 1)?;
        at(index).map(|high| u16::from_be_bytes([high, low]))
    };
    if usize::from(number(14)?) + 16 != header.len() {
        return Err("another length");
    }
    let width = match (at(12)?, at(13)?) {
        (0x20, _) | (0x21, 0x00 | 0x31) => return Ok(None),
        (0x21, 0x11) => 4,
        (0x21, 0x21) => 16,
        _ => return Err("another kind"),
    };
    let address = |index: usize| {
        let bytes = header.get(index..index + width).ok_or("short")?;
        let four = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
        let six = || <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from);
        four.or_else(|_| six()).map_err(|_| "short")
    };
    let ports = 16 + 2 * width;
    let client = canonical(address(16)?, number(ports)?);
    Ok(Some((client, canonical(address(16 + width)?, number(ports + 2)?))))
}
