//! Listeners: where a fleet takes connections.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::matching::HostMatch;
use crate::name::CertificateId;

/// One place where connections are taken.
///
/// Several Listeners may share a socket; then the most special `host` that
/// accepts the request's (over TLS: the server name) decides.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Listener {
    /// Address and port.
    pub address: SocketAddr,
    /// What is spoken.
    pub protocol: Protocol,
    /// The hosts that it serves.
    pub host: HostMatch,
    /// The certificate for names that have none of their own. Absent: the
    /// self-signed one of the replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_certificate: Option<CertificateId>,
}

/// What a Listener speaks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// HTTP/1.1, and HTTP/2 by prior knowledge.
    Http,
    /// HTTP/1.1 and HTTP/2 over TLS.
    Https,
}
