//! Addresses that a tenant may not name: the way into what only the inside can reach (SSRF).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Which addresses the Endpoints of a Backend may have.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AddressRule {
    /// Any: an operator wrote them, in a folder that belongs to the operator.
    Operator,
    /// None of those that [`forbidden`] names: a tenant can influence them.
    Tenant,
}

impl AddressRule {
    /// Why `address` may not be connected to; `None` when it may.
    #[must_use]
    pub fn forbids(self, address: IpAddr) -> Option<&'static str> {
        match self {
            Self::Operator => None,
            Self::Tenant => forbidden(address),
        }
    }
}

/// Sockets of the inside that tenants may not name although their addresses are allowed.
///
/// Those of Kubernetes nodes and of etcd are always among them, on every address that is not global.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reserved {
    sockets: BTreeSet<SocketAddr>,
    ports: BTreeSet<u16>,
}

impl Reserved {
    /// Reserves these sockets; one on an unspecified address reserves its port wherever it may be ours.
    #[must_use]
    pub fn new(sockets: impl IntoIterator<Item = SocketAddr>) -> Self {
        let (everywhere, here): (BTreeSet<_>, _) =
            sockets.into_iter().partition(|socket| socket.ip().is_unspecified());
        let ports = everywhere.into_iter().map(|socket| socket.port()).collect();
        Self { sockets: here, ports }
    }

    fn holds(&self, socket: SocketAddr) -> Option<&'static str> {
        let address = leads_to(socket.ip());
        if self.sockets.contains(&SocketAddr::new(address, socket.port())) {
            return Some("a socket of the control plane");
        }
        let is_inside = !is_global(address);
        let port = socket.port();
        if is_inside && (MACHINERY.contains(&port) || self.ports.contains(&port)) {
            return Some("on a port of the control plane");
        }
        None
    }
}

/// What judges the Endpoints of one Backend on one replica.
#[derive(Clone, Copy, Debug)]
pub struct Gate<'a> {
    /// The rule of the Backend.
    pub rule: AddressRule,
    /// What is reserved where it is served.
    pub reserved: &'a Reserved,
}

impl Gate<'_> {
    /// Why `socket` may not be connected to; `None` when it may.
    #[must_use]
    pub fn forbids(self, socket: SocketAddr) -> Option<&'static str> {
        match self.rule {
            AddressRule::Operator => None,
            AddressRule::Tenant => forbidden(socket.ip()).or_else(|| self.reserved.holds(socket)),
        }
    }
}

/// The kubelet, its port without a login, and etcd for clients and for peers.
const MACHINERY: [u16; 4] = [10250, 10255, 2379, 2380];

/// The address that packets go to.
fn leads_to(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(outer) => inner_v4(outer).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// Whether everybody on the internet could reach it as well.
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            // Carrier-grade NAT (RFC 6598), which some clusters take for nodes.
            let is_shared = first == 100 && (64..128).contains(&second);
            !address.is_private() && !is_shared
        }
        IpAddr::V6(address) => !address.is_unique_local(),
    }
}

/// What makes `address` forbidden for tenants; `None` when it may be named.
///
/// IPv4 addresses inside IPv6 ones (mapped, compatible, NAT64, 6to4) count as
/// the IPv4 address that they lead to.
#[must_use]
pub fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => forbidden_v4(address),
        IpAddr::V6(address) => match inner_v4(address) {
            Some(inner) => forbidden_v4(inner),
            None => forbidden_v6(address),
        },
    }
}

fn forbidden_v4(address: Ipv4Addr) -> Option<&'static str> {
    /// Metadata services of clouds outside the link-local range.
    const METADATA: [Ipv4Addr; 2] =
        [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200)];
    let first = address.octets()[0];
    if METADATA.contains(&address) {
        Some("the address of a cloud metadata service")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if first == 0 {
        Some("an unspecified address")
    } else if address.is_link_local() {
        Some("a link-local address, among them cloud metadata services")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if first >= 240 {
        Some("a reserved or broadcast address")
    } else {
        None
    }
}

fn forbidden_v6(address: Ipv6Addr) -> Option<&'static str> {
    const METADATA: [Ipv6Addr; 2] = [
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    ];
    if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_unspecified() {
        Some("an unspecified address")
    } else if address.is_unicast_link_local() {
        Some("a link-local address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if METADATA.contains(&address) {
        Some("the address of a cloud metadata service")
    } else {
        None
    }
}

/// The IPv4 address that an IPv6 address leads to, if it is of such a form.
fn inner_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // Mapped (::ffff:0:0/96), compatible (::/96), translated (::ffff:0:0:0/96).
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => {
            Some(from(high, low))
        }
        // NAT64, well-known and local-use prefix (RFC 6052, RFC 8215).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => {
            Some(from(high, low))
        }
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => Some(from(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_forbidden_address_is_forbidden() {
        let bad = [
            "127.0.0.1",
            "127.255.0.3",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::",
            "::ffff:0:169.254.169.254",
            "168.63.129.16",
            "100.100.100.200",
            "fd20:ce::254",
        ];
        for text in bad {
            assert!(forbidden(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in ["10.0.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2001:db8::1"] {
            assert_eq!(forbidden(text.parse().unwrap()), None, "{text}");
        }
        assert_eq!(AddressRule::Operator.forbids("127.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn sockets_of_the_control_plane_are_forbidden_in_every_spelling() {
        let socket = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let reserved = Reserved::new([socket("203.0.113.7:6443"), socket("0.0.0.0:9180")]);
        let gate = Gate { rule: AddressRule::Tenant, reserved: &reserved };
        let bad = [
            "203.0.113.7:6443",
            "[::ffff:203.0.113.7]:6443",
            "10.0.0.5:9180",
            "10.0.0.5:10250",
            "192.168.1.1:10255",
            "100.64.0.1:2379",
            "[fd00::5]:2380",
            "[::ffff:10.0.0.5]:10250",
            "127.0.0.1:80",
        ];
        for text in bad {
            assert!(gate.forbids(socket(text)).is_some(), "{text}");
            let operator = Gate { rule: AddressRule::Operator, ..gate };
            assert_eq!(operator.forbids(socket(text)), None, "{text}");
        }
        for text in ["203.0.113.7:443", "203.0.113.8:6443", "10.0.0.5:6443", "198.51.100.1:10250"] {
            assert_eq!(gate.forbids(socket(text)), None, "{text}");
        }
    }
}
