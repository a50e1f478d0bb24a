//! `limits`: how large, how many, how often.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::scalar::{Bytes, Span};
use crate::bounded::{AtMost, Between};
use crate::filter::client_address::NETS_MAX;
use crate::filter::rate_limit::{LimitStatus, RateKey, RateScope};
use crate::name::{NameError, serde_as_text};

/// Limits of one Route.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// The largest body of a request; then 413.
    pub request_body: Option<Bytes>,
    /// The largest body of an answer; then 502.
    pub response_body: Option<Bytes>,
    /// Requests in a time.
    pub rate: Option<RatePatch>,
    /// Requests in progress.
    pub concurrency: Option<ConcurrencyPatch>,
}

/// Requests in a time; see [`RateLimit`](crate::filter::rate_limit::RateLimit).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RatePatch {
    /// Requests of one key in each `per`; needed.
    pub requests: Option<Between<1, 1_000_000>>,
    /// The time, in whole seconds; absent: a second.
    pub per: Option<Span>,
    /// Requests that may come at once after a rest; absent: as `requests`.
    pub burst: Option<Between<1, 1_000_000>>,
    /// Whose requests are counted together; absent: those of a client.
    pub by: Option<Key>,
    /// Replicas that share the limit.
    pub replicas: Option<Between<1, 10_000>>,
    /// `replica` or `fleet`, whose replicas share it as many as there are.
    pub scope: Option<RateScope>,
    /// Clients that are not limited.
    pub exempt: Option<AtMost<IpNet, NETS_MAX>>,
    /// 429 or 503.
    pub status: Option<LimitStatus>,
}

/// Requests in progress; see [`ConcurrencyLimit`](crate::filter::concurrency_limit::ConcurrencyLimit).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConcurrencyPatch {
    /// Requests of one key at a time; needed.
    pub requests: Option<Between<1, 1_000_000>>,
    /// Whose requests are counted together; absent: those of a client.
    pub by: Option<Key>,
    /// Clients that are not limited.
    pub exempt: Option<AtMost<IpNet, NETS_MAX>>,
    /// 429 or 503.
    pub status: Option<LimitStatus>,
}

/// Whose requests are counted together: `client-address`, `route` or `header:NAME`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Key(pub RateKey);

impl Default for Key {
    fn default() -> Self {
        Self(RateKey::ClientAddress)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            RateKey::Route => f.write_str("route"),
            RateKey::ClientAddress => f.write_str("client-address"),
            RateKey::Header(name) => write!(f, "header:{name}"),
        }
    }
}

impl FromStr for Key {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let form = "client-address, route or header:NAME";
        let error = || NameError::Form { text: text.into(), form };
        match (text, text.strip_prefix("header:")) {
            ("route", _) => Ok(Self(RateKey::Route)),
            ("client-address", _) => Ok(Self(RateKey::ClientAddress)),
            (_, Some(name)) => name.parse().map(RateKey::Header).map(Self).map_err(|_| error()),
            (_, None) => Err(error()),
        }
    }
}

serde_as_text! { Key }
