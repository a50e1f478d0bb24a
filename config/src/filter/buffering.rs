//! Holding bodies in memory, so that a slow client holds no connection to a Backend (ingress-nginx
//! `proxy-request-buffering` and `proxy-buffering`).

use serde::{Deserialize, Serialize};

use crate::bounded::Between;

/// Holds bodies in memory between a client and a Backend. Requests of gRPC pass as they come: they may
/// go on for long, and wait for parts of their answers.
///
/// All that are held at a time share an allowance of the worker.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Buffering {
    /// Reads the body of a request whole before an Endpoint is chosen. Then it can be sent again as
    /// often as its Policy says. This is the largest body, in bytes; a larger one is answered 413,
    /// and so is one of gRPC. Absent: bodies are sent on as they come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_bytes_max: Option<Between<0, BYTES_MAX>>,
    /// Reads the body of an answer ahead of a client that is slow to take it: so many bytes. The
    /// connection of the Backend is free once all of it has come. Of a longer one no more than this
    /// waits, and the Backend waits with the rest. Absent: nothing is read ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_bytes_max: Option<Between<1, BYTES_MAX>>,
}

/// The most of one body that is held: 16 MiB.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
