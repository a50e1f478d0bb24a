//! How an Upstream is balanced. All of it only tunes, so what cannot be used keeps its default.

use std::time::Duration;

use kubeng_config::backend::balance::{Affinity, Balance, HashKey, Sticky};
use kubeng_config::problem::Problem;

use super::{bad, number};
use crate::kind::upstream::{UpstreamBalance, UpstreamHash, UpstreamSticky};
use crate::object::Object;

/// The algorithm, and what changes its choice.
pub(super) fn of(
    object: &Object,
    written: &UpstreamBalance,
    problems: &mut Vec<Problem>,
) -> (Balance, Option<Affinity>) {
    let UpstreamBalance { policy, hash, sticky, slow_start_seconds } = written;
    let balance = match policy.as_deref().unwrap_or("round-robin") {
        "round-robin" => Balance::RoundRobin,
        "least-requests" => Balance::LeastRequests,
        "peak-ewma" => Balance::PeakEwma,
        "consistent-hash" => {
            let key = hash_key(object, hash.as_ref(), problems);
            key.map_or_else(Balance::default, Balance::ConsistentHash)
        }
        other => {
            let message = format!("balance policy {other:?} is unknown; round-robin is used");
            let remedy = "write round-robin, least-requests, peak-ewma or consistent-hash";
            bad(object, "/spec/balance/policy", message, remedy, problems);
            Balance::default()
        }
    };
    let field = "/spec/balance/slowStartSeconds";
    let slow_start = number(object, field, *slow_start_seconds, 1..=3600_u32, problems);
    let affinity = Affinity {
        sticky: sticky.as_ref().and_then(|sticky| sticky_of(object, sticky, problems)),
        slow_start: slow_start.map(|seconds| Duration::from_secs(seconds.into())),
        ..Affinity::default()
    };
    (balance, (affinity != Affinity::default()).then_some(affinity))
}

fn hash_key(
    object: &Object,
    written: Option<&UpstreamHash>,
    problems: &mut Vec<Problem>,
) -> Option<HashKey> {
    let default = UpstreamHash::default();
    let UpstreamHash { by, name } = written.unwrap_or(&default);
    let name = name.as_deref().unwrap_or_default();
    let key = match by.as_str() {
        "header" => name.parse().ok().map(HashKey::Header),
        "cookie" => name.parse().ok().map(HashKey::Cookie),
        "client-address" => Some(HashKey::ClientAddress),
        "path" => Some(HashKey::Path),
        _ => None,
    };
    if key.is_none() {
        let message = format!("nothing can be hashed by {by:?} {name:?}; round-robin is used");
        let remedy = "set hash.by to header or cookie with hash.name, or to client-address or path";
        bad(object, "/spec/balance/hash", message, remedy, problems);
    }
    key
}

fn sticky_of(
    object: &Object,
    written: &UpstreamSticky,
    problems: &mut Vec<Problem>,
) -> Option<Sticky> {
    let field = "/spec/balance/sticky/maxAgeSeconds";
    let year = 1..=31_536_000_u32;
    let max_age_seconds = number(object, field, written.max_age_seconds, year, problems);
    match written.cookie.parse() {
        Ok(cookie) => Some(Sticky { cookie, max_age_seconds }),
        Err(error) => {
            let message = format!("the cookie cannot be used, so clients are not kept: {error}");
            let remedy = "write a name of letters, digits and hyphens";
            bad(object, "/spec/balance/sticky/cookie", message, remedy, problems);
            None
        }
    }
}
