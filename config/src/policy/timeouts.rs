//! How long the steps of forwarding may take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::milliseconds;

/// Time limits of one try, and of the whole request.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Timeouts {
    /// Opening a connection to an Endpoint. Then another one is tried; at last 504.
    #[serde(rename = "connectMs", with = "milliseconds")]
    pub connect: Duration,
    /// From the end of the request to the first byte of the answer; absent: as `read`. Then 504.
    #[serde(
        rename = "firstByteMs",
        default,
        with = "milliseconds::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub first_byte: Option<Duration>,
    /// The longest silence between two reads from the Endpoint. Then 504, or the answer is cut off.
    #[serde(rename = "readMs", with = "milliseconds")]
    pub read: Duration,
    /// The longest wait between two writes to the Endpoint. Then 504.
    #[serde(rename = "writeMs", with = "milliseconds")]
    pub write: Duration,
    /// The longest silence on a WebSocket, in both directions. Then it is closed.
    #[serde(rename = "tunnelMs", with = "milliseconds")]
    pub tunnel: Duration,
    /// One try, from the choice of its Endpoint to the end of the answer; absent: no limit. Until the
    /// answer begins it is a failed try, which may be repeated; later the answer is cut off.
    #[serde(
        rename = "tryMs",
        default,
        with = "milliseconds::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub per_try: Option<Duration>,
    /// The whole request with all tries, to the end of the answer; absent: no limit. Then 504, or the
    /// answer is cut off.
    #[serde(
        rename = "requestMs",
        default,
        with = "milliseconds::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub request: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: None,
            read: Duration::from_secs(60),
            write: Duration::from_secs(60),
            tunnel: Duration::from_secs(3600),
            per_try: None,
            request: None,
        }
    }
}
