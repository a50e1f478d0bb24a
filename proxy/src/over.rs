//! What is told about a request when it is over, whichever engine carried it.

use http::{Method, Uri, Version};

use crate::record::Quoted;
use crate::request::RequestContext;
use crate::shared::Shared;

/// A request that is over, as the engine saw it.
pub(crate) struct Over<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) version: Version,
    /// Of the fields as they came, before any edit.
    pub(crate) quoted: Quoted,
    /// Of the request, and of the answer.
    pub(crate) body_bytes: (u64, u64),
}

/// Counts a request that `worker` carried, and hands its record over where somebody reads them.
pub(crate) fn tell(shared: &Shared, worker: usize, ctx: &mut RequestContext, over: Over<'_>) {
    if let Some(metrics) = shared.metrics.workers.get(worker) {
        shared.observe.ended(worker, metrics, ctx, over);
    }
}
