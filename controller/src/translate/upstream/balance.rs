//! How an Upstream is balanced. All of it only tunes, so what cannot be used keeps its default.

use kubeng_config::backend::balance::{Affinity, Balance, HashKey, Sticky, Zones};
use kubeng_config::problem::Problem;

use super::fields::{HOUR, SECOND, bad, duration, percent};
use crate::kind::upstream::{UpstreamBalance, UpstreamSticky};
use crate::object::Object;

/// The algorithm, and what changes its choice.
pub(super) fn of(
    object: &Object,
    written: &UpstreamBalance,
    slow_start: Option<&str>,
    problems: &mut Vec<Problem>,
) -> (Balance, Option<Affinity>) {
    let UpstreamBalance { policy, hash_on, sticky, prefer_own_zone } = written;
    let balance = match policy.as_deref().unwrap_or("round-robin") {
        "round-robin" => Balance::RoundRobin,
        "least-requests" => Balance::LeastRequests,
        "ewma" => Balance::PeakEwma,
        "hash" => {
            let key = hash_key(object, hash_on.as_deref(), problems);
            key.map_or_else(Balance::default, Balance::ConsistentHash)
        }
        other => {
            let message = format!("balance policy {other:?} is unknown; round-robin is used");
            let remedy = "write round-robin, least-requests, ewma or hash";
            bad(object, "/spec/balance/policy", message, remedy, problems);
            Balance::default()
        }
    };
    if hash_on.is_some() && policy.as_deref() != Some("hash") {
        let message = "hashOn has no effect: the policy is not hash".to_owned();
        bad(object, "/spec/balance/hashOn", message, "set policy: hash, or remove it", problems);
    }
    let slow_start = duration(object, "/spec/slowStart", slow_start, SECOND..=HOUR, problems);
    let field = "/spec/balance/preferOwnZone";
    let own_zone = percent(object, field, prefer_own_zone.as_deref(), 1..=100, problems);
    let affinity = Affinity {
        sticky: sticky.as_ref().and_then(|sticky| sticky_of(object, sticky, problems)),
        slow_start,
        zones: own_zone.map_or(Zones::Any, Zones::PreferOwn),
    };
    (balance, (affinity != Affinity::default()).then_some(affinity))
}

fn hash_key(
    object: &Object,
    written: Option<&str>,
    problems: &mut Vec<Problem>,
) -> Option<HashKey> {
    let key = match written {
        None => None,
        Some("client-address") => Some(HashKey::ClientAddress),
        Some("path") => Some(HashKey::Path),
        Some(other) => match other.split_once(':') {
            Some(("header", name)) => name.parse().ok().map(HashKey::Header),
            Some(("cookie", name)) => name.parse().ok().map(HashKey::Cookie),
            Some(_) | None => None,
        },
    };
    if key.is_none() {
        let message = match written {
            Some(written) => format!("nothing can be hashed by {written:?}; round-robin is used"),
            None => "policy hash does not say what is hashed; round-robin is used".to_owned(),
        };
        let remedy = "write client-address, path, header:NAME or cookie:NAME";
        bad(object, "/spec/balance/hashOn", message, remedy, problems);
    }
    key
}

fn sticky_of(
    object: &Object,
    written: &UpstreamSticky,
    problems: &mut Vec<Problem>,
) -> Option<Sticky> {
    let UpstreamSticky { cookie, max_age } = written;
    let field = "/spec/balance/sticky/maxAge";
    let year = SECOND..=365 * 24 * HOUR;
    let max_age = duration(object, field, max_age.as_deref(), year, problems);
    let max_age_seconds = max_age.and_then(|age| u32::try_from(age.as_secs()).ok());
    match cookie.parse() {
        Ok(cookie) => Some(Sticky { cookie, max_age_seconds }),
        Err(error) => {
            let message = format!("the cookie cannot be used, so clients are not kept: {error}");
            let remedy = "write a name of letters, digits and hyphens";
            bad(object, "/spec/balance/sticky/cookie", message, remedy, problems);
            None
        }
    }
}
