//! How many requests a client may send in a time, and how many at once.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::client_address::NETS_MAX;
use crate::bounded::{AtMost, Between};
use crate::matching::FieldName;

/// A bucket of tokens for each key: a request takes one, and they come back at a steady rate.
/// Without a token the answer is 429 (or as `status` says) with `Retry-After`.
///
/// Buckets live in each replica, in a table of fixed size. When it is full the bucket that is
/// nearest to full is given up, so a flood of keys forgets those first who used their right least.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RateLimit {
    /// Whose requests are counted together.
    pub key: RateKey,
    /// Requests of one key in each `perSeconds`, over the whole fleet.
    pub requests: Between<1, 1_000_000>,
    /// The time that `requests` is for, in seconds; at most a day.
    pub per_seconds: Between<1, 86_400>,
    /// Requests that may come at once after a rest.
    pub burst: Between<1, 1_000_000>,
    /// Replicas that share the limit; each grants its part of `requests` and `burst`. Default: 1.
    /// With [`RateScope::Fleet`] it counts only until a controller has told how many there are.
    #[serde(default = "one")]
    pub replicas: Between<1, 10_000>,
    /// Whether the limit is that of each replica or is shared out. Default: of each replica.
    #[serde(default, skip_serializing_if = "RateScope::is_replica")]
    pub scope: RateScope,
    /// Keys that are remembered; 32 bytes each. Default: 16,384.
    #[serde(default = "default_keys_max")]
    pub keys_max: Between<8, 1_048_576>,
    /// Clients that are not limited. At most 1,000.
    #[serde(default)]
    pub exempt: AtMost<IpNet, NETS_MAX>,
    /// The status of the answer. Default: 429.
    #[serde(default)]
    pub status: LimitStatus,
}

fn one() -> Between<1, 10_000> {
    Between::SMALLEST
}

pub(super) fn default_keys_max() -> Between<8, 1_048_576> {
    Between::clamped(16_384)
}

/// Who grants a limit.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RateScope {
    /// Each replica, or each of as many as `replicas` says its part.
    #[default]
    Replica,
    /// The replicas of the fleet that are there at each moment: each its part, at least 1 at once.
    Fleet,
}

impl RateScope {
    fn is_replica(&self) -> bool {
        *self == Self::Replica
    }
}

/// Whose requests are counted together.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RateKey {
    /// Those of all who use the Route.
    Route,
    /// Those of one client: an address of IPv4, or the /64 of an address of IPv6.
    ClientAddress,
    /// Those with one value of this header; those without it are one group.
    Header(FieldName),
}

/// The statuses that tell of a limit.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(into = "u16", try_from = "u16")]
pub enum LimitStatus {
    /// 429
    #[default]
    TooManyRequests,
    /// 503, as nginx answers unless told otherwise.
    ServiceUnavailable,
}

impl From<LimitStatus> for u16 {
    fn from(status: LimitStatus) -> Self {
        match status {
            LimitStatus::TooManyRequests => 429,
            LimitStatus::ServiceUnavailable => 503,
        }
    }
}

impl TryFrom<u16> for LimitStatus {
    type Error = String;

    fn try_from(status: u16) -> Result<Self, String> {
        match status {
            429 => Ok(Self::TooManyRequests),
            503 => Ok(Self::ServiceUnavailable),
            _ => Err(format!("{status} is neither 429 nor 503")),
        }
    }
}
