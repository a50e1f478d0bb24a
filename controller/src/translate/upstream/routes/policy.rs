//! How the requests of a route are forwarded: `timeouts` and `retry` of an HTTPRoute rule. They only
//! tune, so what cannot be used keeps its default.

use std::time::Duration;

use kubeng_config::policy::Policy;
use kubeng_config::policy::retry::{Retry, RetryOn};
use kubeng_config::policy::timeouts::Timeouts;

use super::super::fields::{HOUR, duration, number};
use super::Draft;
use crate::kind::upstream::route::{RouteRetry, RouteTimeouts, UpstreamRoute};
use crate::settings::TranslateSettings;

/// None where it says nothing that differs from the default of the fleet.
pub(super) fn of(
    settings: &TranslateSettings,
    draft: &mut Draft<'_>,
    place: &str,
    route: &UpstreamRoute,
) -> Option<Policy> {
    let mut policy = settings.defaults.clone();
    if let Some(written) = &route.timeouts {
        policy.timeouts = timeouts(draft, &format!("{place}/timeouts"), written, policy.timeouts);
    }
    if let Some(written) = &route.retry {
        policy.retry = retry(draft, &format!("{place}/retry"), written, policy.retry);
    }
    (policy != settings.defaults).then_some(policy)
}

fn timeouts(
    draft: &mut Draft<'_>,
    place: &str,
    written: &RouteTimeouts,
    default: Timeouts,
) -> Timeouts {
    let RouteTimeouts { request, backend_request } = written;
    let mut limit = |name: &str, written: Option<&str>, default: Option<Duration>| {
        let field = format!("{place}/{name}");
        let range = Duration::ZERO..=24 * HOUR;
        let limit = duration(draft.object, &field, written, range, &mut draft.problems);
        // Zero is no limit (GEP-1742).
        limit.map_or(default, |limit| Some(limit).filter(|limit| !limit.is_zero()))
    };
    let request = limit("request", request.as_deref(), default.request);
    let per_try = limit("backendRequest", backend_request.as_deref(), default.per_try);
    let mut timeouts = Timeouts { request, per_try, ..default };
    // Who waits longer for all of it also bears a longer silence in it.
    let longest = per_try.max(request).unwrap_or_default();
    timeouts.read = timeouts.read.max(longest);
    timeouts
}

fn retry(draft: &mut Draft<'_>, place: &str, written: &RouteRetry, default: Retry) -> Retry {
    let RouteRetry { codes, attempts, backoff } = written;
    let mut statuses = Vec::new();
    for (at, code) in codes.iter().enumerate() {
        let field = format!("{place}/codes/{at}");
        let code = number(draft.object, &field, Some(*code), 400..=599, &mut draft.problems);
        statuses.extend(code.filter(|code: &u16| !statuses.contains(code)));
    }
    statuses.sort_unstable();
    let field = format!("{place}/attempts");
    let attempts = number(draft.object, &field, *attempts, 0..=10, &mut draft.problems);
    let field = format!("{place}/backoff");
    let range = Duration::ZERO..=Duration::from_secs(10);
    let written = backoff.as_deref();
    let backoff = duration(draft.object, &field, written, range, &mut draft.problems);
    let backoff = backoff.unwrap_or(default.backoff);
    Retry {
        retries_max: attempts.unwrap_or(default.retries_max),
        on: RetryOn { reset: true, timeout: true, statuses },
        methods: default.methods,
        backoff,
        backoff_max: default.backoff_max.max(backoff),
    }
}
