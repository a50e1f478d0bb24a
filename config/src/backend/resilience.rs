//! What keeps a Backend that is partly broken from harming its clients, and itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::health::HealthCheck;
use crate::milliseconds;

/// How a Backend is watched, and what is kept away from it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Resilience {
    /// Asks each Endpoint whether it is well; absent: it is judged by its answers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// When an Endpoint is taken out because of what it answered.
    pub ejection: Ejection,
    /// How much is sent at a time.
    pub circuit: Circuit,
    /// When less than this part of the Endpoints, in percent, can be used, all are: what the others
    /// could not bear would break them too. 0 never does that.
    pub panic_percent: u8,
}

impl Default for Resilience {
    fn default() -> Self {
        Self {
            health: None,
            ejection: Ejection::default(),
            circuit: Circuit::default(),
            panic_percent: 50,
        }
    }
}

/// When an Endpoint is taken out because of what it answered.
///
/// A failure is a connect that failed, an answer that did not begin in time or was cut off before it
/// began, and a status 502, 503 or 504. Any other answer ends the row.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Ejection {
    /// Failures in a row; 0 never ejects.
    pub failures: u32,
    /// How long it is out the first time; each time in succession as much longer.
    #[serde(rename = "baseMs", with = "milliseconds")]
    pub base: Duration,
    /// How long it is out at most.
    #[serde(rename = "maxMs", with = "milliseconds")]
    pub max: Duration,
    /// Never more than this part of the Endpoints, in percent.
    pub percent_max: u8,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            failures: 5,
            base: Duration::from_secs(10),
            max: Duration::from_secs(300),
            percent_max: 50,
        }
    }
}

/// How much is sent at a time; above it requests are answered with 503 at once.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Circuit {
    /// Connections in use to one Endpoint, from one replica. Over HTTP/2 each stands for 100 requests.
    pub connections_max: u32,
    /// Requests that wait for a connection to one Endpoint, on one replica.
    pub pending_max: u32,
    /// Requests in flight to the whole Backend, from one replica; absent: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_max: Option<u32>,
    /// Retries in flight, in percent of all requests in flight, and always at least
    /// [`retries_min`](Self::retries_min).
    pub retry_percent: u8,
    /// Retries in flight that are always allowed.
    pub retries_min: u32,
}

impl Default for Circuit {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            pending_max: 1024,
            requests_max: None,
            retry_percent: 20,
            retries_min: 3,
        }
    }
}
