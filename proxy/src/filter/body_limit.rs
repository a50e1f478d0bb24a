//! How large bodies may be.

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};
use kubeng_config::filter::body_limit::BodyLimit;

use super::{Step, Target};
use crate::request::Extra;

/// What of the bodies has been seen, and how much may be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) request: Meter,
    pub(crate) response: Meter,
}

/// One body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meter {
    max: Option<u64>,
    seen: u64,
}

impl Meter {
    /// Counts bytes; whether the body may still be so long.
    pub(crate) fn takes(&mut self, count: usize) -> bool {
        self.seen = self.seen.saturating_add(count as u64);
        self.max.is_none_or(|max| self.seen <= max)
    }

    /// Whether a body with these headers may come.
    pub(crate) fn allows(&self, headers: &HeaderMap) -> bool {
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length = length.and_then(|length| length.parse::<u64>().ok());
        length.is_none_or(|length| self.max.is_none_or(|max| length <= max))
    }

    /// The body is sent again from its start.
    pub(crate) fn restart(&mut self) {
        self.seen = 0;
    }

    /// Of several limits the smallest counts.
    pub(super) fn limit(&mut self, max: Option<u64>) {
        self.max = match (self.max, max) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

/// Answers 413 to what says that it is too large, and notes the limits for what does not say.
pub(crate) fn on_request(limit: &BodyLimit, target: &Target<'_>, extra: &mut Extra) -> Step {
    let BodyLimit { request_bytes_max, response_bytes_max } = limit;
    if target.is_upgrade {
        // What goes through a tunnel is no body.
        return Step::Pass;
    }
    extra.bodies.request.limit(request_bytes_max.map(|max| max.get()));
    extra.bodies.response.limit(response_bytes_max.map(|max| max.get()));
    if extra.bodies.request.allows(target.headers) {
        Step::Pass
    } else {
        Step::status(StatusCode::PAYLOAD_TOO_LARGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_counted_up_to_its_limit() {
        let mut meter = Meter::default();
        assert!(meter.takes(1 << 40));
        meter.restart();
        meter.limit(Some(10));
        meter.limit(Some(20));
        assert!(meter.takes(10));
        assert!(!meter.takes(1));
        meter.restart();
        assert!(meter.takes(10));
        let mut headers = HeaderMap::new();
        assert!(meter.allows(&headers));
        headers.insert(CONTENT_LENGTH, 10.into());
        assert!(meter.allows(&headers));
        headers.insert(CONTENT_LENGTH, 11.into());
        assert!(!meter.allows(&headers));
    }
}
