//! The host of a request: `Host` or `:authority`.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::name::Hostname;

/// Why a text is not `host[:port]`. The request is answered with 400.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AuthorityError {
    /// The text is empty.
    #[error("the host is empty")]
    Empty,
    /// The host is neither a name nor an address.
    #[error("the host is neither a name nor an address")]
    Host,
    /// The port is not a number from 0 to 65535.
    #[error("the port is not a number up to 65535")]
    Port,
}

/// The host and port of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authority {
    /// The name in lower case, or the address as it was written.
    pub host: Host,
    /// The port, if one was written.
    pub port: Option<u16>,
}

/// What a request calls its server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Host {
    /// A DNS name.
    Name(Hostname),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, which stands in brackets.
    V6(Ipv6Addr),
}

impl Host {
    /// The DNS name; an address serves only Routes without a host.
    #[must_use]
    pub fn name(&self) -> Option<&Hostname> {
        match self {
            Self::Name(name) => Some(name),
            Self::V4(_) | Self::V6(_) => None,
        }
    }
}

impl Authority {
    /// Parses `host[:port]`; upper case is folded and one trailing dot removed.
    ///
    /// # Errors
    /// When it is anything else: a list, user info, a broken address, a bad port.
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        if text.is_empty() {
            return Err(AuthorityError::Empty);
        }
        let (host, port) = split_port(text)?;
        let host = if let Some(inner) = host.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(AuthorityError::Host)?;
            Host::V6(inner.parse().map_err(|_| AuthorityError::Host)?)
        } else if let Ok(address) = host.parse() {
            Host::V4(address)
        } else {
            let name = Hostname::parse(host).map_err(|_| AuthorityError::Host)?;
            // A name whose last label is all digits is a broken address (WHATWG URL, "ends in a number").
            let last = name.as_str().rsplit('.').next().unwrap_or_default();
            if last.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(AuthorityError::Host);
            }
            Host::Name(name)
        };
        Ok(Self { host, port })
    }
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), AuthorityError> {
    let end_of_host = text.rfind(']').map_or(0, |at| at + 1);
    match text[end_of_host..].find(':') {
        None => Ok((text, None)),
        Some(at) => {
            let (host, port) = text.split_at(end_of_host + at);
            let port = &port[1..];
            // RFC 3986 allows an empty port; it means the default one.
            if port.is_empty() {
                return Ok((host, None));
            }
            if port.len() > 5 || !port.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(AuthorityError::Port);
            }
            Ok((host, Some(port.parse().map_err(|_| AuthorityError::Port)?)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told_apart() {
        let parse = |text| Authority::parse(text).unwrap();
        assert_eq!(parse("A.Example.:80").host.name().unwrap().as_str(), "a.example");
        assert_eq!(parse("a.example:8080").port, Some(8080));
        assert_eq!(parse("a.example:").port, None);
        assert_eq!(parse("10.0.0.1:80").host, Host::V4(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(parse("[::1]:443").host, Host::V6(Ipv6Addr::LOCALHOST));
        assert_eq!(parse("[::1]").port, None);
    }

    #[test]
    fn everything_else_is_refused() {
        let bad = [
            "",
            ":80",
            "a,b",
            "a b",
            "u@a",
            "a:65536",
            "a:+8",
            "a:8 ",
            "a:80:80",
            "[::1",
            "::1",
            "[::1]x",
            "[a]",
            "a/b",
            "a?b",
            "1.2.3",
            "1.2.3.999",
            "a%2eb",
            "ä.de",
            "*.a",
            "[::1%1]",
            "a..b",
            "a\u{0}",
            "\"a\"",
        ];
        for text in bad {
            assert!(Authority::parse(text).is_err(), "{text:?}");
        }
    }
}
