//! TLS to a Backend. There is no way to switch verification off by leaving something out.

use serde::{Deserialize, Serialize};

use crate::certificate::Der;
use crate::name::Hostname;

/// How a Backend is reached over TLS.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BackendTls {
    /// The name that is sent as SNI and that the certificate must cover.
    pub server_name: Hostname,
    /// Whom the certificate must come from.
    pub roots: Roots,
}

/// Whom the certificate of a Backend must come from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Roots {
    /// The authorities that the machine trusts.
    System,
    /// One of these authorities, and nobody else. At least one, at most
    /// [`AUTHORITIES_MAX`]; without any, and with one that cannot be read, nothing is ever sent.
    Bundle(Vec<Der>),
}

/// Authorities in one bundle.
pub const AUTHORITIES_MAX: usize = 64;
