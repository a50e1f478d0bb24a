//! A request of our own to a Backend: what is to be sent, and what comes back.

pub(crate) mod alone;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::backend::CompiledBackend;

/// What is to be sent. It is never routed: it goes to its Backend and nowhere else.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    pub(crate) backend: Arc<CompiledBackend>,
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) host: Option<HeaderValue>,
    /// Without framing and without what concerns one connection.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// For all of it.
    pub(crate) timeout: Duration,
    /// A longer answer is no answer.
    pub(crate) answer_bytes_max: usize,
}

/// What came back, complete.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}
