//! How an Endpoint is chosen.

use serde::{Deserialize, Serialize};

/// How an Endpoint is chosen among those of a Backend.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Balance {
    /// One after the other, by weight.
    #[default]
    RoundRobin,
    /// Of two taken at random by weight, the one with fewer requests in flight.
    LeastRequests,
}
