//! What protects an Upstream and its clients. Limits that cannot be honoured refuse it: nothing is
//! sent without them. All else only tunes, and keeps its default.

use std::time::Duration;

use kubeng_config::backend::health::HealthCheck;
use kubeng_config::backend::resilience::{Circuit, Ejection, Resilience};
use kubeng_config::problem::Problem;

use super::fields::{HOUR, SECOND, bad, duration, number, percent};
use crate::kind::upstream::care::{
    UpstreamCare, UpstreamEjection, UpstreamLimits, UpstreamRetryBudget,
};
use crate::object::Object;

/// The whole; None when a limit cannot be honoured.
pub(super) fn of(
    object: &Object,
    written: &UpstreamCare,
    health: Option<HealthCheck>,
    problems: &mut Vec<Problem>,
) -> Option<Resilience> {
    let UpstreamCare { limits, retry_budget, ejection, panic_threshold, slow_start: _ } = written;
    let default = Resilience::default();
    let ejection = self::ejection(object, ejection, problems);
    let field = "/spec/panicThreshold";
    let panic = percent(object, field, panic_threshold.as_deref(), 0..=100, problems);
    let circuit = retries(object, retry_budget, problems);
    let circuit = self::limits(object, limits, circuit, problems)?;
    let panic_percent = panic.unwrap_or(default.panic_percent);
    Some(Resilience { health, ejection, circuit, panic_percent })
}

fn limits(
    object: &Object,
    written: &UpstreamLimits,
    default: Circuit,
    problems: &mut Vec<Problem>,
) -> Option<Circuit> {
    let UpstreamLimits { connections, pending, requests } = written;
    let mut is_broken = false;
    let mut read = |name: &str, written: Option<i64>| {
        let limit = u32::try_from(written?).ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        if limit.is_none() {
            is_broken = true;
            let message = format!("{} is no limit that can be kept", written.unwrap_or_default());
            let remedy = format!("write 1 to {LIMIT_MAX}, or leave it out");
            bad(object, &format!("/spec/limits/{name}"), message, &remedy, problems);
        }
        limit
    };
    let connections = read("connections", *connections);
    let pending = read("pending", *pending);
    let requests = read("requests", *requests);
    (!is_broken).then(|| Circuit {
        connections_max: connections.unwrap_or(default.connections_max),
        pending_max: pending.unwrap_or(default.pending_max),
        requests_max: requests.or(default.requests_max),
        ..default
    })
}

fn retries(object: &Object, written: &UpstreamRetryBudget, problems: &mut Vec<Problem>) -> Circuit {
    let UpstreamRetryBudget { percent: share, minimum } = written;
    let default = Circuit::default();
    let field = "/spec/retryBudget/percent";
    let share = percent(object, field, share.as_deref(), 0..=100, problems);
    let minimum = number(object, "/spec/retryBudget/minimum", *minimum, 0..=1000, problems);
    Circuit {
        retry_percent: share.unwrap_or(default.retry_percent),
        retries_min: minimum.unwrap_or(default.retries_min),
        ..default
    }
}

fn ejection(object: &Object, written: &UpstreamEjection, problems: &mut Vec<Problem>) -> Ejection {
    let UpstreamEjection { failures, base, max, percent_max } = written;
    let default = Ejection::default();
    let failures = number(object, "/spec/ejection/failures", *failures, 0..=1000, problems);
    let mut time = |name: &str, written: Option<&str>, to: Duration| {
        duration(object, &format!("/spec/ejection/{name}"), written, SECOND..=to, problems)
    };
    let base = time("base", base.as_deref(), HOUR).unwrap_or(default.base);
    let max = time("max", max.as_deref(), 24 * HOUR);
    let field = "/spec/ejection/percentMax";
    let percent_max = percent(object, field, percent_max.as_deref(), 0..=100, problems);
    if let Some(max) = max.filter(|max| *max < base) {
        let message =
            format!("{max:?} is less than base; an endpoint is out for {base:?} each time");
        let remedy = "write at least as much as base";
        bad(object, "/spec/ejection/max", message, remedy, problems);
    }
    Ejection {
        failures: failures.unwrap_or(default.failures),
        base,
        max: max.unwrap_or(default.max).max(base),
        percent_max: percent_max.unwrap_or(default.percent_max),
    }
}

/// The largest of all limits.
const LIMIT_MAX: u32 = 1_000_000;
