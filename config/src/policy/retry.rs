//! What is tried again on another Endpoint.

use serde::{Deserialize, Serialize};

/// How often a failed try is repeated.
///
/// A try is repeated only when the Endpoint cannot have seen the request: the
/// connect failed, or a pooled connection had gone away before anything was
/// answered and the request can be sent again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Retry {
    /// Tries after the first, at most 10.
    pub retries_max: u8,
}

impl Default for Retry {
    fn default() -> Self {
        Self { retries_max: 2 }
    }
}
