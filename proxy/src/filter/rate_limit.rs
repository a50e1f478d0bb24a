//! How many requests a client may send in a time.
//!
//! A bucket is one number, the time at which it will be full again (the generic cell rate
//! algorithm): no timer fills it, and the bucket that is full the soonest is spared the best.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::{HeaderName, StatusCode};
use kubeng_config::filter::rate_limit::{LimitStatus, RateKey, RateLimit, RateScope};

use super::{Step, Target, client_address};
use crate::forward;
use crate::keyed::{Keyed, Spare};
use crate::reply::Reply;

/// The buckets of one Filter. They outlive Tables for as long as the Filter stays as it is.
#[derive(Debug)]
pub(crate) struct Buckets {
    began: Instant,
    /// What is granted here where nobody shares it out from moment to moment.
    grant: Grant,
    /// What is shared out, and among how many.
    shared: Option<Box<SharedOut>>,
    full_at: Keyed<FullAt>,
}

/// A limit that the replicas of a fleet share.
#[derive(Debug)]
struct SharedOut {
    limit: RateLimit,
    /// How many there are; 0 until a controller has told.
    replicas: Arc<AtomicU32>,
}

/// What one replica grants.
#[derive(Clone, Copy, Debug)]
struct Grant {
    /// The time that one request costs, in nanoseconds.
    cost: u64,
    /// How far ahead of the clock a bucket may be, in nanoseconds.
    ahead_max: u64,
}

impl Grant {
    /// The part of one of `replicas`.
    fn of(limit: &RateLimit, replicas: u64) -> Self {
        let share = |of: u64| (of / replicas).max(1);
        let per = Duration::from_secs(limit.per_seconds.get()).as_nanos();
        // Rates are divided, not counts: a small limit stays exact over many replicas.
        let cost = per * u128::from(replicas) / u128::from(limit.requests.get());
        let cost = u64::try_from(cost).unwrap_or(u64::MAX).max(1);
        Self { cost, ahead_max: cost.saturating_mul(share(limit.burst.get()) - 1) }
    }
}

/// When a bucket is full again, in nanoseconds since the Filter began.
#[derive(Clone, Debug)]
struct FullAt(u64);

impl Spare for FullAt {
    fn spare(&self) -> Option<u64> {
        Some(self.0)
    }
}

impl Buckets {
    /// Of a replica whose fleet has `replicas` of them; 0 where nobody has told.
    pub(crate) fn new(limit: &RateLimit, replicas: &Arc<AtomicU32>) -> Self {
        let shared = match limit.scope {
            RateScope::Replica => None,
            RateScope::Fleet => {
                let (limit, replicas) = (limit.clone(), Arc::clone(replicas));
                Some(Box::new(SharedOut { limit, replicas }))
            }
        };
        Self {
            began: Instant::now(),
            grant: Grant::of(limit, limit.replicas.get()),
            shared,
            full_at: Keyed::new(keys_len(&limit.key, limit.keys_max.as_usize())),
        }
    }

    /// What is granted at this moment.
    fn grant(&self) -> Grant {
        let Some(shared) = &self.shared else { return self.grant };
        match shared.replicas.load(Ordering::Relaxed) {
            0 => self.grant,
            replicas => Grant::of(&shared.limit, u64::from(replicas)),
        }
    }

    /// Takes a token of the bucket of `key`.
    ///
    /// # Errors
    /// How long to wait for one, when there is none.
    fn take(&self, key: &Key<'_>, now: Instant) -> Result<(), Duration> {
        let now = now.saturating_duration_since(self.began).as_nanos();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let number = self.full_at.number(key);
        let Grant { cost, ahead_max } = self.grant();
        let taken = self.full_at.with(number, FullAt(0), |full_at| {
            let full = full_at.0.max(now);
            let ahead = full - now;
            if ahead > ahead_max {
                return Err(Duration::from_nanos(ahead - ahead_max));
            }
            full_at.0 = full.saturating_add(cost);
            Ok(())
        });
        // A bucket can always be spared, so there is an answer.
        taken.unwrap_or(Ok(()))
    }
}

/// Whose request it is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Key<'a> {
    Route,
    Client(IpAddr),
    Header(Option<&'a [u8]>),
}

/// How many keys there can be.
pub(super) fn keys_len(key: &RateKey, keys_max: usize) -> usize {
    match key {
        RateKey::Route => 1,
        RateKey::ClientAddress | RateKey::Header(_) => keys_max,
    }
}

/// Whose request this is; a client that cannot be told from its proxy is counted as the proxy.
pub(super) fn key_of<'a>(key: &RateKey, target: &Target<'a>, client: IpAddr) -> Key<'a> {
    match key {
        RateKey::Route => Key::Route,
        RateKey::ClientAddress => Key::Client(network(client)),
        RateKey::Header(name) => Key::Header(value_of(target, &name.0)),
    }
}

fn value_of<'a>(target: &Target<'a>, name: &HeaderName) -> Option<&'a [u8]> {
    target.headers.get(name).map(HeaderValue::as_bytes)
}

/// The address of the client, or of whoever stands for it.
pub(super) fn client_of(target: &Target<'_>) -> IpAddr {
    forward::client_address(target.facts, target.headers).unwrap_or(target.facts.client.ip())
}

/// One client of IPv6 has a whole /64.
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => {
            let net = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(net.into())
        }
    }
}

/// The answer to a request above a limit.
pub(super) fn over(status: LimitStatus, wait: Duration) -> Step {
    let status = match status {
        LimitStatus::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        LimitStatus::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let mut reply = Reply::of(status);
    reply.fields.push((header::RETRY_AFTER, HeaderValue::from(seconds.max(1))));
    Step::Reply(reply)
}

/// Lets a request pass or answers that there were too many.
pub(crate) fn on_request(limit: &RateLimit, buckets: &Buckets, target: &Target<'_>) -> Step {
    let client = client_of(target);
    if client_address::is_in(&limit.exempt, client) {
        return Step::Pass;
    }
    match buckets.take(&key_of(&limit.key, target, client), target.now) {
        Ok(()) => Step::Pass,
        Err(wait) => over(limit.status, wait),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(text: &str) -> Buckets {
        Buckets::new(&serde_json::from_str(text).unwrap(), &Arc::default())
    }

    fn client(last: u8) -> Key<'static> {
        Key::Client(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn tokens_come_back_at_a_steady_rate() {
        let buckets = buckets(r#"{"key":"clientAddress","requests":2,"perSeconds":1,"burst":3}"#);
        let at = |millis| buckets.began + Duration::from_millis(millis);
        for _ in 0..3 {
            assert_eq!(buckets.take(&client(1), at(0)), Ok(()));
        }
        assert_eq!(buckets.take(&client(1), at(0)), Err(Duration::from_millis(500)));
        assert_eq!(buckets.take(&client(2), at(0)), Ok(()), "another key has its own bucket");
        assert_eq!(buckets.take(&client(1), at(400)), Err(Duration::from_millis(100)));
        assert_eq!(buckets.take(&client(1), at(500)), Ok(()));
        assert!(buckets.take(&client(1), at(500)).is_err());
        for _ in 0..3 {
            assert_eq!(buckets.take(&client(1), at(60_000)), Ok(()), "never more than the burst");
        }
        assert!(buckets.take(&client(1), at(60_000)).is_err());
    }

    #[test]
    fn replicas_share_the_limit_out() {
        let buckets =
            buckets(r#"{"key":"route","requests":10,"perSeconds":1,"burst":10,"replicas":5}"#);
        let at = |millis| buckets.began + Duration::from_millis(millis);
        for _ in 0..2 {
            assert_eq!(buckets.take(&Key::Route, at(0)), Ok(()));
        }
        assert_eq!(buckets.take(&Key::Route, at(0)), Err(Duration::from_millis(500)));
    }

    #[test]
    fn a_fleet_shares_its_limit_out_as_it_grows_and_nothing_is_forgotten() {
        let text = r#"{"key":"route","requests":10,"perSeconds":1,"burst":4,"scope":"fleet"}"#;
        let replicas = Arc::new(AtomicU32::new(0));
        let buckets = Buckets::new(&serde_json::from_str(text).unwrap(), &replicas);
        let at = |millis| buckets.began + Duration::from_millis(millis);
        for _ in 0..4 {
            assert_eq!(buckets.take(&Key::Route, at(0)), Ok(()), "alone it grants all");
        }
        replicas.store(2, Ordering::Relaxed);
        // What was taken is remembered: 400 ms ahead, of which 200 ms may be.
        assert_eq!(buckets.take(&Key::Route, at(0)), Err(Duration::from_millis(200)));
        assert_eq!(buckets.take(&Key::Route, at(200)), Ok(()));
        assert_eq!(buckets.take(&Key::Route, at(200)), Err(Duration::from_millis(200)));
        replicas.store(100, Ordering::Relaxed);
        assert_eq!(buckets.take(&Key::Route, at(1000)), Ok(()), "at least one at once");
        assert_eq!(buckets.take(&Key::Route, at(1000)), Err(Duration::from_secs(10)));
    }

    #[test]
    fn a_flood_of_keys_needs_no_memory_and_forgets_the_quiet_first() {
        let buckets = buckets(
            r#"{"key":"clientAddress","requests":1,"perSeconds":60,"burst":2,"keysMax":8}"#,
        );
        for _ in 0..2 {
            assert_eq!(buckets.take(&client(1), buckets.began), Ok(()));
        }
        for last in 2..200 {
            assert_eq!(buckets.take(&client(last), buckets.began), Ok(()));
        }
        assert!(buckets.take(&client(1), buckets.began).is_err(), "who used it up is remembered");
    }

    #[test]
    fn clients_of_ipv6_are_counted_by_network() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
