//! What is told about a request when it is over, whichever engine carried it.

use http::Method;

use crate::access_log::AccessRecord;
use crate::reason::Reason;
use crate::request::RequestContext;
use crate::shared::Shared;

/// Counts a request that `worker` carried, and hands its record over where somebody reads them.
pub(crate) fn tell(
    shared: &Shared,
    worker: usize,
    ctx: &RequestContext,
    (method, path): (&Method, &str),
) {
    if let (Some(reason), Some(metrics)) = (ctx.reason, shared.metrics.workers.get(worker)) {
        metrics.failed(reason);
    }
    if let (Some(listener), Some(status)) = (&ctx.listener, ctx.answered) {
        listener.answered(worker, status);
    }
    if !shared.access_log.is_on() {
        return;
    }
    let (Some(facts), Some((started, at))) = (&ctx.facts, ctx.started) else { return };
    let extra = ctx.extra.as_ref();
    shared.access_log.push(AccessRecord {
        at,
        client: facts.client.ip(),
        method: method.clone(),
        host: ctx.host.as_ref().map(ToString::to_string).unwrap_or_default(),
        path: path.to_owned(),
        status: ctx.answered.map_or(0, |status| status.as_u16()),
        duration: started.elapsed(),
        route: ctx.route.as_ref().map(|route| route.id.clone()),
        backend: ctx.backend.as_ref().map(|backend| backend.id.clone()),
        endpoint: ctx.tries.current.as_ref().map(|current| current.0.address),
        tries: ctx.tries.count,
        reason: ctx.reason.map(Reason::name),
        request_id: extra.and_then(|extra| extra.request_id.as_ref()).map(|id| id.value.clone()),
    });
}
