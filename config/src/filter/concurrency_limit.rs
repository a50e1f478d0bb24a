//! How many requests of a client may be in progress at a time.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::client_address::NETS_MAX;
use super::rate_limit::{LimitStatus, RateKey, default_keys_max};
use crate::bounded::{AtMost, Between};

/// Requests of one key in progress at a time, in each replica. What comes above gets 429, or as
/// `status` says. A tunnel counts for as long as it lives.
///
/// Keys live in a table of fixed size; where it is full of requests in progress, a request of
/// another key is answered as if its limit were reached.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConcurrencyLimit {
    /// Whose requests are counted together.
    pub key: RateKey,
    /// Requests in progress at a time.
    pub requests: Between<1, 1_000_000>,
    /// Keys that are remembered. Default: 16,384.
    #[serde(default = "default_keys_max")]
    pub keys_max: Between<8, 1_048_576>,
    /// Clients that are not limited. At most 1,000.
    #[serde(default)]
    pub exempt: AtMost<IpNet, NETS_MAX>,
    /// The status of the answer. Default: 429.
    #[serde(default)]
    pub status: LimitStatus,
}
