//! The PROXY protocol, versions 1 and 2: whom a balancer speaks for.
//!
//! Follows "The PROXY protocol", versions 1 and 2, of the HAProxy project. What
//! it leaves open is read strictly: a header that another program could read
//! otherwise is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use kubeng_config::backend::ProxyVersion;

/// What the bytes at the beginning of a connection are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Header {
    /// A complete header.
    Complete {
        /// Who speaks; None when the balancer speaks for itself or does not know.
        told: Option<Told>,
        /// How long it is, in bytes.
        length: usize,
    },
    /// The beginning of one.
    Partial,
}

/// The two ends of a connection as the balancer saw them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Told {
    /// Who connected.
    pub(crate) client: SocketAddr,
    /// What was connected to.
    pub(crate) local: SocketAddr,
}

/// Why bytes are no header. The connection is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum HeaderError {
    /// They begin as no header does.
    #[error("not a header of the PROXY protocol")]
    Signature,
    /// A line of version 1 breaks its grammar.
    #[error("a header of version 1 of another form")]
    Line,
    /// A version, command, family or protocol that is not known, or does not fit a stream.
    #[error("a header of version 2 of another kind")]
    Kind,
    /// It is longer than any that is needed.
    #[error("longer than {BYTES_MAX} bytes")]
    Length,
    /// Addresses or extensions do not fill what the length says.
    #[error("its extensions do not fit")]
    Extensions,
    /// The checksum does not fit.
    #[error("its checksum is wrong")]
    Checksum,
}

/// The longest header that is read, in bytes.
pub(crate) const BYTES_MAX: usize = 1024;

/// Reads the header at the beginning of `bytes`.
///
/// # Errors
/// See [`HeaderError`]. What is refused stays refused, whatever comes behind it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
    if starts(bytes, SIGNATURE_V2) {
        parse_v2(bytes)
    } else if starts(bytes, SIGNATURE_V1) {
        parse_v1(bytes)
    } else {
        Err(HeaderError::Signature)
    }
}

/// The header that tells an Endpoint about a client, or that this side speaks for itself.
///
/// Addresses of two families are told as IPv6, for a header has one.
pub(crate) fn encode(version: ProxyVersion, told: Option<Told>) -> Vec<u8> {
    let Some(Told { client, local }) = told else {
        return match version {
            ProxyVersion::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
            // The command LOCAL, without addresses.
            ProxyVersion::V2 => [SIGNATURE_V2, &[0x20, 0, 0, 0]].concat(),
        };
    };
    match version {
        ProxyVersion::V1 => {
            let (family, from, to) = match (client.ip(), local.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => ("TCP4", from.to_string(), to.to_string()),
                (from, to) => ("TCP6", v6(from).to_string(), v6(to).to_string()),
            };
            let ports = (client.port(), local.port());
            format!("PROXY {family} {from} {to} {} {}\r\n", ports.0, ports.1).into_bytes()
        }
        ProxyVersion::V2 => {
            let mut bytes = SIGNATURE_V2.to_vec();
            bytes.push(0x21);
            match (client.ip(), local.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    bytes.extend_from_slice(&[TCP4, 0, 12]);
                    bytes.extend_from_slice(&from.octets());
                    bytes.extend_from_slice(&to.octets());
                }
                (from, to) => {
                    bytes.extend_from_slice(&[TCP6, 0, 36]);
                    bytes.extend_from_slice(&v6(from).octets());
                    bytes.extend_from_slice(&v6(to).octets());
                }
            }
            bytes.extend_from_slice(&client.port().to_be_bytes());
            bytes.extend_from_slice(&local.port().to_be_bytes());
            bytes
        }
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Whether `bytes` and `signature` agree as far as both go.
fn starts(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(a, b)| a == b)
}

fn parse_v1(bytes: &[u8]) -> Result<Header, HeaderError> {
    let seen = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < LINE_BYTES_MAX {
            Ok(Header::Partial)
        } else {
            Err(HeaderError::Line)
        };
    };
    let line = bytes.get(..end).and_then(|line| std::str::from_utf8(line).ok());
    let line = line.and_then(|line| line.strip_prefix("PROXY ")).ok_or(HeaderError::Line)?;
    let length = end + 2;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        // What stands behind it is to be ignored.
        return Ok(Header::Complete { told: None, length });
    }
    let told = told_v1(line).ok_or(HeaderError::Line)?;
    Ok(Header::Complete { told: Some(told), length })
}

/// `TCP4 from to port port`, with one space each.
fn told_v1(line: &str) -> Option<Told> {
    let mut words = line.split(' ');
    let family = words.next()?;
    let (from, to) = (words.next()?, words.next()?);
    let (from_port, to_port) = (port(words.next()?)?, port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    let (from, to) = match family {
        "TCP4" => (address::<Ipv4Addr>(from)?, address::<Ipv4Addr>(to)?),
        "TCP6" => (address::<Ipv6Addr>(from)?, address::<Ipv6Addr>(to)?),
        _ => return None,
    };
    Some(told((from, from_port), (to, to_port)))
}

fn address<A: FromStr + Into<IpAddr>>(text: &str) -> Option<IpAddr> {
    text.parse::<A>().ok().map(Into::into)
}

/// Digits without leading zeros.
fn port(text: &str) -> Option<u16> {
    let is_plain = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
    if is_plain { text.parse().ok() } else { None }
}

fn told(from: (IpAddr, u16), to: (IpAddr, u16)) -> Told {
    let end = |(address, port): (IpAddr, u16)| SocketAddr::new(address.to_canonical(), port);
    Told { client: end(from), local: end(to) }
}

fn parse_v2(bytes: &[u8]) -> Result<Header, HeaderError> {
    let mut head = Fields(bytes);
    let (Some(_), Some([command, family])) = (head.take::<12>(), head.take::<2>()) else {
        return Ok(Header::Partial);
    };
    // Judged before the rest has come: what is wrong is not waited for.
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(HeaderError::Kind),
    };
    if !is_local && !KNOWN.contains(&family) {
        return Err(HeaderError::Kind);
    }
    let Some(length) = head.take::<2>().map(u16::from_be_bytes) else {
        return Ok(Header::Partial);
    };
    let length = HEAD_V2_BYTES + usize::from(length);
    if length > BYTES_MAX {
        return Err(HeaderError::Length);
    }
    let Some(header) = bytes.get(..length) else { return Ok(Header::Partial) };
    if is_local || family == UNSPECIFIED {
        // What stands behind it is to be ignored.
        return Ok(Header::Complete { told: None, length });
    }
    let mut rest = Fields(header.get(HEAD_V2_BYTES..).unwrap_or_default());
    let told = addresses(family, &mut rest).ok_or(HeaderError::Extensions)?;
    check_extensions(header, rest)?;
    Ok(Header::Complete { told, length })
}

/// The addresses of a family; `Some(None)` where clients have none that we know.
fn addresses(family: u8, rest: &mut Fields<'_>) -> Option<Option<Told>> {
    let (from, to): (IpAddr, IpAddr) = match family {
        TCP4 => (rest.take::<4>()?.into(), rest.take::<4>()?.into()),
        TCP6 => (rest.take::<16>()?.into(), rest.take::<16>()?.into()),
        _ => {
            // Two paths of sockets of the balancer's own machine.
            rest.take::<216>()?;
            return Some(None);
        }
    };
    let from_port = u16::from_be_bytes(rest.take()?);
    let to_port = u16::from_be_bytes(rest.take()?);
    Some(Some(told((from, from_port), (to, to_port))))
}

/// Walks over the extensions of `header`, which `rest` is the end of.
fn check_extensions(header: &[u8], mut rest: Fields<'_>) -> Result<(), HeaderError> {
    let mut has_checksum = false;
    while let Some([kind]) = rest.take::<1>() {
        let length = rest.take::<2>().map(u16::from_be_bytes).ok_or(HeaderError::Extensions)?;
        let at = header.len() - rest.0.len();
        let value = rest.take_slice(usize::from(length)).ok_or(HeaderError::Extensions)?;
        if kind != CHECKSUM {
            continue;
        }
        let written: [u8; 4] = value.try_into().map_err(|_| HeaderError::Extensions)?;
        let is_right = crc32c(header, at..at + 4) == u32::from_be_bytes(written);
        if has_checksum || !is_right {
            return Err(HeaderError::Checksum);
        }
        has_checksum = true;
    }
    Ok(())
}

/// The checksum of RFC 4960 appendix B; bytes at `zeroed` count as 0.
fn crc32c(bytes: &[u8], zeroed: std::ops::Range<usize>) -> u32 {
    let mut sum = u32::MAX;
    for (at, &byte) in bytes.iter().enumerate() {
        sum ^= if zeroed.contains(&at) { 0 } else { u32::from(byte) };
        for _ in 0..8 {
            // The polynomial, reflected, where a bit falls out.
            sum = (sum >> 1) ^ if sum & 1 == 1 { 0x82F6_3B78 } else { 0 };
        }
    }
    !sum
}

/// Bytes that are taken from the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn take_slice(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

const SIGNATURE_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// With its line end.
const LINE_BYTES_MAX: usize = 107;
const HEAD_V2_BYTES: usize = 16;
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX: u8 = 0x31;
/// Datagrams do not come over a stream, so their families are not known here.
const KNOWN: [u8; 4] = [UNSPECIFIED, TCP4, TCP6, UNIX];
const CHECKSUM: u8 = 0x03;

#[cfg(test)]
mod tests;
