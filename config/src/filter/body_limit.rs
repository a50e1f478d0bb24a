//! How large bodies may be.

use serde::{Deserialize, Serialize};

use crate::bounded::Between;

/// The largest bodies, in bytes.
///
/// Bodies are streamed: what is too large is told at once where it says so itself, and while it is
/// read where it does not. To have them read whole is another Filter, [`super::buffering`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BodyLimit {
    /// Of a request; then 413. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_bytes_max: Option<Between<0, BYTES_MAX>>,
    /// Of an answer; then 502, or the answer is broken off where it has begun. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_bytes_max: Option<Between<0, BYTES_MAX>>,
}

/// The largest limit: a pebibyte.
const BYTES_MAX: u64 = 1 << 50;
