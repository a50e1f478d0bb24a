//! Policies: what steers how a request is forwarded. Each is merged already.

pub mod retry;
pub mod timeouts;

use serde::{Deserialize, Serialize};

use retry::Retry;
use timeouts::Timeouts;

/// How the requests of every Route that names it are forwarded.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Policy {
    /// How long things may take.
    pub timeouts: Timeouts,
    /// What is tried again.
    pub retry: Retry,
}
