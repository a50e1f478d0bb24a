//! What is taken back of what a Rule itself says.

use kubeng_config::filter::Filter;
use kubeng_config::merge::Merged;
use kubeng_config::policy::Policy;

/// `base` without what was taken back, which is as the product has it by default.
pub(super) fn policy_after_resets(base: &Policy, merged: &Merged) -> Policy {
    let product = Policy::default();
    let mut policy = base.clone();
    let (own, default) = (&mut policy.timeouts, &product.timeouts);
    let resets = |member: &str| merged.resets(&format!("/timeouts/{member}"));
    if resets("request") {
        own.request = default.request;
    }
    if resets("backendRequest") {
        own.per_try = default.per_try;
    }
    if resets("connect") {
        own.connect = default.connect;
    }
    if resets("firstByte") {
        own.first_byte = default.first_byte;
    }
    if resets("idle") {
        (own.read, own.write) = (default.read, default.write);
    }
    if resets("tunnel") {
        own.tunnel = default.tunnel;
    }
    let (own, default) = (&mut policy.retry, &product.retry);
    let resets = |member: &str| merged.resets(&format!("/retry/{member}"));
    if resets("attempts") {
        own.retries_max = default.retries_max;
    }
    if resets("on") {
        own.on = default.on.clone();
    }
    if resets("methods") {
        own.methods = default.methods;
    }
    if resets("backoff") {
        own.backoff = default.backoff;
    }
    if resets("backoffMax") {
        own.backoff_max = default.backoff_max;
    }
    policy
}

/// Where in a Patch the settings of a Filter stand.
pub(super) fn pointer(filter: &Filter) -> &'static str {
    match filter {
        Filter::RequestHeaders(_) => "/headers/request",
        Filter::ResponseHeaders(_) => "/headers/response",
        Filter::Redirect(_) => "/redirect",
        Filter::Rewrite(_) => "/rewrite",
        Filter::Cors(_) => "/cors",
        Filter::ClientAddress(_) => "/access",
        Filter::RateLimit(_) => "/limits/rate",
        Filter::ConcurrencyLimit(_) => "/limits/concurrency",
        Filter::BasicAuth(_) => "/auth/basic",
        Filter::Jwt(_) => "/auth/jwt",
        Filter::ExternalAuth(_) => "/auth/external",
        Filter::BodyLimit(_) => "/limits",
        Filter::Buffering(_) => "/buffering",
        Filter::RequestId(_) => "/requestId",
        Filter::Mirror(_) => "/mirror",
        Filter::Compression(_) => "/compression",
        Filter::ErrorPages(_) => "/errorPages",
        Filter::Maintenance(_) => "/maintenance",
    }
}

/// The order in which Filters run where an override had a word: who a request is and whether it may
/// come before what is done with it. A preflight request carries no login, a page for maintenance is
/// for everybody who may come at all, and a redirect to TLS comes before a password is asked for.
pub(super) fn order(filter: &Filter) -> u8 {
    match filter {
        Filter::RequestId(_) => 0,
        Filter::ClientAddress(_) => 1,
        Filter::Cors(_) => 2,
        Filter::Maintenance(_) => 3,
        Filter::Redirect(_) => 4,
        Filter::RateLimit(_) => 5,
        Filter::ConcurrencyLimit(_) => 6,
        Filter::BasicAuth(_) => 7,
        Filter::Jwt(_) => 8,
        Filter::ExternalAuth(_) => 9,
        Filter::BodyLimit(_) => 10,
        Filter::Buffering(_) => 11,
        Filter::RequestHeaders(_) => 12,
        Filter::Rewrite(_) => 13,
        Filter::Mirror(_) => 14,
        Filter::ResponseHeaders(_) => 15,
        Filter::Compression(_) => 16,
        Filter::ErrorPages(_) => 17,
    }
}
