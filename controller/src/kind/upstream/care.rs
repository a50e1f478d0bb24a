//! What keeps an Upstream that is partly broken from harming its clients, and itself.

use serde::Deserialize;

/// `spec.resolve` as it is written.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamResolve {
    /// From one question for a name to the next: a duration.
    pub every: Option<String>,
    /// `any`, `ipv4` or `ipv6`.
    pub family: Option<String>,
    /// `keep` or `drop`: what becomes of the last addresses.
    pub on_failure: Option<String>,
}

/// `limits`, `retryBudget`, `ejection`, `panicThreshold` and `slowStart` of `spec` as they are written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UpstreamCare {
    /// How much is sent at a time.
    pub limits: UpstreamLimits,
    /// How many retries may be in flight.
    pub retry_budget: UpstreamRetryBudget,
    /// When an endpoint is taken out because of what it answered.
    pub ejection: UpstreamEjection,
    /// The part of the endpoints below which all are used: a percentage.
    pub panic_threshold: Option<String>,
    /// How long an endpoint that joined others takes to reach its full share: a duration.
    pub slow_start: Option<String>,
}

/// `spec.limits` as it is written.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamLimits {
    /// Connections in use to one endpoint, from one replica.
    pub connections: Option<i64>,
    /// Requests that wait for a connection to one endpoint, on one replica.
    pub pending: Option<i64>,
    /// Requests in flight to all endpoints, from one replica.
    pub requests: Option<i64>,
}

/// `spec.retryBudget` as it is written.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamRetryBudget {
    /// Retries in flight among all requests in flight: a percentage.
    pub percent: Option<String>,
    /// Retries in flight that are always allowed.
    pub minimum: Option<i64>,
}

/// `spec.ejection` as it is written.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamEjection {
    /// Failures in a row; 0 never ejects.
    pub failures: Option<i64>,
    /// How long an endpoint is out the first time: a duration.
    pub base: Option<String>,
    /// How long it is out at most: a duration.
    pub max: Option<String>,
    /// The largest part of the endpoints that may be out: a percentage.
    pub percent_max: Option<String>,
}
