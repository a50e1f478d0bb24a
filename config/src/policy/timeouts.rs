//! How long the steps of forwarding may take.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Time limits of one try, and of the whole request.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Timeouts {
    /// Opening a connection to an Endpoint. Then another one is tried; at last 504.
    #[serde(rename = "connectMs", with = "milliseconds")]
    pub connect: Duration,
    /// The longest silence between two reads from the Endpoint. Then 504.
    #[serde(rename = "readMs", with = "milliseconds")]
    pub read: Duration,
    /// The longest wait between two writes to the Endpoint. Then 504.
    #[serde(rename = "writeMs", with = "milliseconds")]
    pub write: Duration,
    /// The longest silence on a WebSocket, in both directions. Then it is closed.
    #[serde(rename = "tunnelMs", with = "milliseconds")]
    pub tunnel: Duration,
    /// The whole request with all tries; absent: no limit. Then 504.
    #[serde(
        rename = "requestMs",
        default,
        with = "optional_milliseconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub request: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(60),
            write: Duration::from_secs(60),
            tunnel: Duration::from_secs(3600),
            request: None,
        }
    }
}

/// Durations as whole milliseconds: canonical JSON has no fractions.
mod milliseconds {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

mod optional_milliseconds {
    use super::{Deserialize, Deserializer, Duration, Serializer, milliseconds};

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => milliseconds::serialize(value, to),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Option::<u64>::deserialize(from).map(|value| value.map(Duration::from_millis))
    }
}
