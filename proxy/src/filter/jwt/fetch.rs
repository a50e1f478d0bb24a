//! Fetches published keys: one task for each source, on the thread that waits for the world outside.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use kubeng_config::filter::jwt::RemoteKeys;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use super::key_set::KeySet;
use super::published::{self, PublishedKey};
use crate::backend::choice::Wish;
use crate::backend::probe::ask::{Asker, Get};
use crate::metrics::key_fetches::KeyFetch;
use crate::shared::Shared;

/// Fetches for as long as the replica runs; its tasks end with it.
pub(crate) async fn run(shared: Arc<Shared>) -> Infallible {
    let turns = Arc::new(Semaphore::new(FETCHES_MAX));
    let mut tasks = JoinSet::new();
    // By where they are: a set that took the place of one that is gone has a task of its own.
    let mut running: HashMap<RemoteKeys, Weak<KeySet>> = HashMap::new();
    loop {
        running.retain(|_, set| set.strong_count() > 0);
        for set in shared.key_sets.live() {
            let set_of_task = Arc::downgrade(&set);
            let before = running.insert(set.source.clone(), set_of_task.clone());
            if before.is_none_or(|before| !before.ptr_eq(&set_of_task)) {
                tasks.spawn(keep(set_of_task, shared.clone(), turns.clone()));
            }
        }
        tokio::select! {
            () = shared.key_sets.added() => {}
            // Only reaped.
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Keeps one set fresh until nobody wants it any more.
async fn keep(set: Weak<KeySet>, shared: Arc<Shared>, turns: Arc<Semaphore>) {
    let mut failures = 0_u32;
    loop {
        let Some(now) = set.upgrade() else { return };
        let fetched = {
            // Never closed, so an error cannot come; it would only lift the bound.
            let _turn = turns.acquire().await;
            let fetched = timeout(FETCH_WITHIN, fetch(&now.source, &shared)).await;
            fetched.unwrap_or(Err(FetchError::Late))
        };
        let outcome = fetched.as_ref().map_or_else(FetchError::outcome, |_| KeyFetch::Done);
        shared.metrics.key_fetches.ended(outcome);
        let pause = match fetched {
            Ok(Published { keys, fresh }) => {
                failures = 0;
                let count = keys.len();
                if now.put(keys, Instant::now()) {
                    let backend = &now.source.backend;
                    tracing::info!(%backend, path = %now.source.path, count, "keys fetched");
                }
                let most = Duration::from_secs(now.source.refresh_seconds.get());
                fresh.unwrap_or(most).clamp(WANTED_PAUSE.min(most), most)
            }
            Err(reason) => {
                failures = failures.saturating_add(1);
                // The first ones are of a Backend that is being put in place.
                if failures == FAILURES_TOLD {
                    let backend = &now.source.backend;
                    tracing::warn!(%backend, path = %now.source.path, %reason, "keys not fetched");
                }
                now.forget_old(Instant::now());
                PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX)
            }
        };
        let wanted = now.wanted.clone();
        drop(now);
        let soonest = tokio::time::Instant::now() + WANTED_PAUSE;
        tokio::select! {
            () = sleep(pause) => {}
            // A token names a key that is not known: perhaps it is there by now. Whoever makes up
            // names cannot have it asked more often.
            () = async { wanted.notified().await; sleep_until(soonest).await } => {}
        }
    }
}

/// What a Backend published, and for how long it says that it holds.
struct Published {
    keys: Arc<[PublishedKey]>,
    fresh: Option<Duration>,
}

/// Why keys could not be fetched. Retried with backoff; those that are known stay for a while.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{0}")]
    Unreachable(Box<str>),
    #[error("no answer in time")]
    Late,
    #[error("status {0}")]
    Status(u16),
    #[error("{0}")]
    Malformed(String),
}

impl FetchError {
    fn outcome(&self) -> KeyFetch {
        match self {
            Self::Unreachable(_) => KeyFetch::Unreachable,
            Self::Late => KeyFetch::Late,
            Self::Status(_) => KeyFetch::Status,
            Self::Malformed(_) => KeyFetch::Malformed,
        }
    }
}

async fn fetch(source: &RemoteKeys, shared: &Shared) -> Result<Published, FetchError> {
    let backend = shared.table.load().backends.get(&source.backend).cloned();
    let unserved = || FetchError::Unreachable("the backend is not served yet".into());
    let backend = backend.ok_or_else(unserved)?;
    let asker = Asker::of(&backend);
    let mut failed = Vec::new();
    let mut reason = Box::from("no endpoint");
    for _ in 0..TRIES_MAX {
        let Ok(in_flight) = backend.choose(Wish::default(), &failed, shared.setting()) else {
            break;
        };
        let address = in_flight.0.address;
        in_flight.connected();
        let host = source.host.as_ref().map(ToString::to_string);
        let get = Get { path: source.path.as_str(), host, bytes_max: BYTES_MAX };
        match asker.get(address, get).await {
            Ok(answer) => return read(&answer),
            Err(why) => reason = why,
        }
        failed.push(address);
    }
    Err(FetchError::Unreachable(reason))
}

fn read(answer: &Response<Bytes>) -> Result<Published, FetchError> {
    // Another place that is named is not gone to: it would not be the allowed one.
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(answer.status().as_u16()));
    }
    let keys = published::read(answer.body()).map_err(FetchError::Malformed)?;
    let directives = answer.headers().get_all(header::CACHE_CONTROL).iter();
    let mut directives =
        directives.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let fresh = directives.find_map(|directive| {
        let (name, seconds) = directive.split_once('=')?;
        let is_age = name.trim().eq_ignore_ascii_case("max-age");
        if is_age { seconds.trim().trim_matches('"').parse().ok() } else { None }
    });
    Ok(Published { keys, fresh: fresh.map(Duration::from_secs) })
}

/// Fetches at a time, of all sources.
const FETCHES_MAX: usize = 8;
/// For one fetch, with all of its tries.
const FETCH_WITHIN: Duration = Duration::from_secs(10);
const TRIES_MAX: usize = 2;
/// Of an answer.
const BYTES_MAX: usize = 256 * 1024;
/// The pause behind a first failure; it doubles each time.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The failure in a row that is logged.
const FAILURES_TOLD: u32 = 4;
/// Between a fetch and one that is wanted before its time.
const WANTED_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_for_how_long_it_holds() {
        let keys = r#"{"keys":[{"kty":"OKP","crv":"Ed25519",
            "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let check = |control: &str, expected: Option<u64>| {
            let answer = Response::builder().header(header::CACHE_CONTROL, control);
            let read = read(&answer.body(Bytes::from_static(keys.as_bytes())).unwrap());
            assert_eq!(read.unwrap().fresh, expected.map(Duration::from_secs), "{control}");
        };
        check("public, max-age=60, must-revalidate", Some(60));
        check("Max-Age=\"5\"", Some(5));
        check("no-store", None);
        check("max-age=soon", None);
        check("s-maxage=7", None);
    }

    #[test]
    fn only_200_brings_keys() {
        for status in [204, 301, 404, 500] {
            let answer = Response::builder().status(status).body(Bytes::new()).unwrap();
            assert!(read(&answer).is_err(), "{status}");
        }
    }
}
