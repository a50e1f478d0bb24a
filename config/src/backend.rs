//! Backends: named groups of Endpoints, and how to speak to them.

pub mod balance;
pub mod health;
pub mod resilience;
pub mod resolve;
pub mod tls;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::address::AddressRule;
use crate::endpoint::{EndpointState, is_first};
use crate::name::{Hostname, NameError, serde_as_text};
use balance::{Affinity, Balance};
use resilience::Resilience;
use resolve::Resolve;
use tls::BackendTls;

/// A group of Endpoints that can stand in for each other.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Backend {
    /// What is spoken to its Endpoints.
    pub protocol: BackendProtocol,
    /// How its Endpoints are reached over TLS; plain if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
    /// How an Endpoint is chosen.
    pub balance: Balance,
    /// What changes that choice; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Box<Affinity>>,
    /// How it is watched and protected; absent: by the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resilience: Option<Box<Resilience>>,
    /// Where its Endpoints come from.
    pub endpoints: EndpointSource,
    /// How the names among them are resolved; absent: by the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve: Option<Box<Resolve>>,
    /// Which addresses it may have.
    pub addresses: AddressRule,
    /// Tells its Endpoints the client's address by the PROXY protocol; absent: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyVersion>,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ProxyVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// What is spoken to Endpoints.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BackendProtocol {
    /// HTTP/1.1, with upgrade to WebSocket.
    Http1,
    /// HTTP/2; without TLS by prior knowledge.
    Http2,
    /// HTTP/2 that carries gRPC: as [`Http2`](Self::Http2), errors of ours as `grpc-status`.
    Grpc,
}

/// Where the Endpoints of a Backend come from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointSource {
    /// They are discovered, and arrive as an EndpointSet beside the configuration.
    Discovered,
    /// People wrote them, so they are configuration.
    Written(Vec<WrittenEndpoint>),
}

/// One address that a person wrote.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WrittenEndpoint {
    /// The address, or a DNS name that each replica resolves.
    pub address: HostOrIp,
    /// The port.
    pub port: u16,
    /// Its share of new requests among all; 0 gets none.
    pub weight: u16,
    /// The zone it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Arc<str>>,
    /// Whether it takes new clients.
    #[serde(default, skip_serializing_if = "EndpointState::is_active")]
    pub state: EndpointState,
    /// Those with a higher number serve only while none with a lower one can; 0 to 7.
    #[serde(default, skip_serializing_if = "is_first")]
    pub priority: u8,
}

impl WrittenEndpoint {
    /// An active one of weight 1 in no zone.
    #[must_use]
    pub fn new(address: HostOrIp, port: u16) -> Self {
        let state = EndpointState::Active;
        Self { address, port, weight: 1, zone: None, state, priority: 0 }
    }
}

/// A DNS name or an address.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum HostOrIp {
    /// A name that each replica resolves.
    Name(Hostname),
    /// An address.
    Ip(IpAddr),
}

impl fmt::Display for HostOrIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Ip(address) => write!(f, "{address}"),
        }
    }
}

impl FromStr for HostOrIp {
    type Err = NameError;

    /// Reads an address in its canonical form, or a name.
    ///
    /// Octal, decimal and shortened forms of IPv4 are neither: some resolvers
    /// read them as addresses, so they would pass a check that looks at names.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let name = Hostname::parse(text)?;
        let last = name.as_str().rsplit('.').next().unwrap_or_default();
        let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
            || last.strip_prefix("0x").is_some_and(|rest| u64::from_str_radix(rest, 16).is_ok());
        if is_number {
            let form = "a DNS name or an IP address in its canonical form";
            return Err(NameError::Form { text: text.into(), form });
        }
        Ok(Self::Name(name))
    }
}

serde_as_text! { HostOrIp }
