//! Holding bodies in memory. The engine reads; this says how much.

use http::StatusCode;
use kubeng_config::filter::buffering::Buffering;

use super::{Step, Target};
use crate::request::Extra;

/// Answers 413 to what says that it is too large, and notes the limits for what does not say.
pub(crate) fn on_request(buffering: &Buffering, target: &Target<'_>, extra: &mut Extra) -> Step {
    let Buffering { request_bytes_max, answer_bytes_max } = buffering;
    if target.is_upgrade {
        // What goes through a tunnel is no body.
        return Step::Pass;
    }
    extra.ahead_bytes_max = answer_bytes_max.map_or(extra.ahead_bytes_max, |max| max.get());
    let Some(max) = request_bytes_max else { return Step::Pass };
    extra.bodies.request.limit(Some(max.get()));
    extra.is_buffered = true;
    if extra.bodies.request.allows(target.headers) {
        Step::Pass
    } else {
        Step::status(StatusCode::PAYLOAD_TOO_LARGE)
    }
}
