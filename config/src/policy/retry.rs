//! What is tried again on another Endpoint.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::milliseconds;

/// How often a failed try is repeated, and why.
///
/// What cannot have reached an Endpoint is always repeated: the connect failed, HTTP/2 refused the
/// stream. A request that can be sent twice without harm (RFC 9110 section 9.2.2) is repeated as well
/// when a pooled connection had gone away. All else is repeated only for the reasons of `on`, and
/// never when a part of the answer was passed on, or when the body is larger than 64 KiB.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Retry {
    /// Tries after the first, at most 10.
    pub retries_max: u8,
    /// What else is tried again.
    #[serde(default, skip_serializing_if = "RetryOn::is_nothing")]
    pub on: RetryOn,
    /// Whether a request that may do harm when it is sent twice, such as `POST`, is repeated for the
    /// reasons of `on`.
    #[serde(default, skip_serializing_if = "Repeat::is_default")]
    pub methods: Repeat,
    /// The pause before the second retry; it doubles with each further one, of which between half and
    /// all is waited. The first retry comes at once, for it goes to another Endpoint.
    #[serde(rename = "backoffMs", with = "milliseconds")]
    pub backoff: Duration,
    /// The longest such pause.
    #[serde(rename = "backoffMaxMs", with = "milliseconds")]
    pub backoff_max: Duration,
}

/// Reasons to repeat a try that may have reached its Endpoint.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RetryOn {
    /// The connection was reset or closed before the answer began.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    /// The answer did not begin in time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timeout: bool,
    /// The answer has one of these statuses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<u16>,
}

impl RetryOn {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Which requests are repeated although they may have reached an Endpoint.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Repeat {
    /// Those whose method is idempotent.
    #[default]
    Idempotent,
    /// All: whoever says so knows that the service bears it.
    All,
}

impl Repeat {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retries_max: 2,
            on: RetryOn::default(),
            methods: Repeat::default(),
            backoff: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
        }
    }
}
