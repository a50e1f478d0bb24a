//! Sending a copy of requests to another Backend (Gateway API `HTTPRequestMirrorFilter`).

use serde::{Deserialize, Serialize};

use crate::bounded::Between;
use crate::name::BackendId;

/// Sends a copy of some requests to a Backend and drops the answers.
///
/// The request itself never waits for it. A copy is not sent where too many are on their way
/// already, or where the body is too large; a tunnel has none.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Mirror {
    /// Who gets the copies.
    pub backend: BackendId,
    /// Of so many requests ... Default: 1.
    #[serde(default = "one")]
    pub of: Between<1, 1_000_000>,
    /// ... so many are copied, evenly spread; at most all of them. Default: 1.
    #[serde(default = "one")]
    pub copied: Between<1, 1_000_000>,
    /// The largest body that is copied, in bytes. Default: 64 KiB.
    #[serde(default = "default_body")]
    pub body_bytes_max: Between<0, 1_048_576>,
    /// How long a copy may take, in milliseconds. Default: 10,000.
    #[serde(default = "default_timeout")]
    pub timeout_millis: Between<10, 60_000>,
}

fn one() -> Between<1, 1_000_000> {
    Between::SMALLEST
}

fn default_body() -> Between<0, 1_048_576> {
    Between::clamped(64 * 1024)
}

fn default_timeout() -> Between<10, 60_000> {
    Between::clamped(10_000)
}
