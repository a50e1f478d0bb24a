//! Addresses with a port, as people write them: what is wrong with one, and what would be right.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize as _, Deserializer, de};

/// Reads an address and port for anybody.
///
/// # Errors
/// With what is wrong, and what would be right.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    read(text, "0.0.0.0:8080 or [::]:8080")
}

/// The same of one that is for this machine only.
pub(crate) fn loopback(text: &str) -> Result<SocketAddr, String> {
    read(text, "127.0.0.1:9180 or [::1]:9180")
}

/// The same for settings files.
pub(super) fn in_file<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    let read = address(&text).map_err(|why| de::Error::custom(format!("{text:?}: {why}")))?;
    Ok(Some(read))
}

fn read(text: &str, example: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let why = fault(text);
        format!("{why}; write an IP address and a port, such as {example}")
    })
}

/// What of an address is wrong.
fn fault(text: &str) -> &'static str {
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    if text.is_empty() {
        return "it is empty";
    }
    if is_port(text) {
        return "the address is missing";
    }
    if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return "the port is missing";
    }
    match text.rsplit_once(':') {
        None => "the port is missing, and what is there is no IP address",
        Some(("", _)) => "the address is missing",
        Some((_, port)) if !is_port(port) => "the port is none of 0 to 65535",
        Some((host, _)) if host.contains(':') && !host.starts_with('[') => {
            "an IPv6 address stands in brackets"
        }
        Some(_) => "what stands in front of the port is no IP address",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_what_would_be_right() {
        for (text, why) in [
            ("", "it is empty"),
            ("8080", "the address is missing"),
            (":8080", "the address is missing"),
            ("0.0.0.0", "the port is missing"),
            ("::", "the port is missing"),
            ("[::1]", "the port is missing"),
            ("bad", "no IP address"),
            ("localhost:8080", "no IP address"),
            ("0.0.0.0:http", "0 to 65535"),
            ("0.0.0.0:70000", "0 to 65535"),
            ("fe80::g:8080", "brackets"),
            ("10.0.0.300:80", "no IP address"),
        ] {
            let error = address(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.ends_with("0.0.0.0:8080 or [::]:8080"), "{text}: {error}");
        }
        assert!(loopback("x").unwrap_err().contains("127.0.0.1:9180"));
        assert_eq!(address("[::]:8080").unwrap().port(), 8080);
    }
}
