//! How many requests of a client may be in progress at a time.

use std::sync::Arc;
use std::time::Duration;

use kubeng_config::filter::concurrency_limit::ConcurrencyLimit;

use super::rate_limit::{client_of, key_of, keys_len, over};
use super::{Step, Target, client_address};
use crate::keyed::{Keyed, Spare};
use crate::request::Extra;

/// The counts of one Filter.
#[derive(Debug)]
pub(crate) struct Counts(Keyed<Count>);

/// Requests in progress.
#[derive(Clone, Debug)]
struct Count(u64);

impl Spare for Count {
    fn spare(&self) -> Option<u64> {
        (self.0 == 0).then_some(0)
    }
}

/// One request in progress, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Permit {
    counts: Arc<Counts>,
    number: u64,
}

impl Counts {
    pub(crate) fn new(limit: &ConcurrencyLimit) -> Self {
        Self(Keyed::new(keys_len(&limit.key, limit.keys_max.as_usize())))
    }

    fn enter(self: &Arc<Self>, number: u64, most: u64) -> Option<Permit> {
        let is_in = self.0.with(number, Count(0), |count| {
            let has_room = count.0 < most;
            count.0 += u64::from(has_room);
            has_room
        });
        is_in.unwrap_or(false).then(|| Permit { counts: self.clone(), number })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.counts.0.with_known(self.number, |count| count.0 = count.0.saturating_sub(1));
    }
}

/// Lets a request pass or answers that there are too many.
pub(crate) fn on_request(
    limit: &ConcurrencyLimit,
    counts: &Arc<Counts>,
    target: &Target<'_>,
    extra: &mut Extra,
) -> Step {
    let client = client_of(target);
    if client_address::is_in(&limit.exempt, client) {
        return Step::Pass;
    }
    let number = counts.0.number(key_of(&limit.key, target, client));
    match counts.enter(number, limit.requests.get()) {
        Some(permit) => {
            extra.permits.push(permit);
            Step::Pass
        }
        // When one ends is anybody's guess.
        None => over(limit.status, Duration::from_secs(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_when_its_request_ends() {
        let limit = r#"{"key":"clientAddress","requests":2,"keysMax":8}"#;
        let counts = Arc::new(Counts::new(&serde_json::from_str(limit).unwrap()));
        let first = counts.enter(1, 2);
        let second = counts.enter(1, 2);
        assert!(first.is_some() && second.is_some());
        assert!(counts.enter(1, 2).is_none());
        assert!(counts.enter(2, 2).is_some());
        drop(first);
        assert!(counts.enter(1, 2).is_some());
    }

    #[test]
    fn keys_in_use_are_never_forgotten() {
        let limit = r#"{"key":"clientAddress","requests":1,"keysMax":8}"#;
        let counts = Arc::new(Counts::new(&serde_json::from_str(limit).unwrap()));
        let held: Vec<_> = (0..8).map(|key| counts.enter(key, 1)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(counts.enter(9, 1).is_none());
        drop(held);
        assert!(counts.enter(9, 1).is_some());
    }
}
