//! Reading requests whole before a Backend is asked (ingress-nginx `proxy-request-buffering`).

use serde::{Deserialize, Serialize};

use crate::bounded::Between;

/// Reads the body of a request whole, into memory, before an Endpoint is chosen.
///
/// A slow client then holds no connection to a Backend, and the request can be sent again as often
/// as its Policy says. A larger body is answered 413. A Backend over HTTP/2 gets bodies as they come;
/// it is spared larger ones all the same.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Buffering {
    /// The largest body, in bytes: at most 16 MiB, for all of it is held.
    pub request_bytes_max: Between<0, 16_777_216>,
}
