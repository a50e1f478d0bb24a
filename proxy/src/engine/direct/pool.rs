//! Connections to Endpoints that wait for their next request. Those of one worker.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::stream::Stream;

/// Idle connections by what they may be used for.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<Idle>,
    connections_max: usize,
    idle_max: Duration,
}

/// Equal only for tries that may share a connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key {
    pub(super) address: SocketAddr,
    pub(super) connection: u64,
}

#[derive(Debug, Default)]
struct Idle {
    /// Those of one key, the one that waits longest first.
    by_key: HashMap<Key, Vec<Waiting>, foldhash::fast::RandomState>,
    count: usize,
}

#[derive(Debug)]
struct Waiting {
    stream: Stream,
    since: Instant,
}

impl Pool {
    /// Keeps at most `connections_max`, each for `idle_max`.
    pub(super) fn new(connections_max: usize, idle_max: Duration) -> Self {
        Self { idle: Mutex::default(), connections_max, idle_max }
    }

    /// The connection that was used last, if one is still good.
    pub(super) fn take(&self, key: &Key, now: Instant) -> Option<Stream> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut waiting = idle.by_key.get_mut(key)?.pop()?;
            idle.count -= 1;
            if now - waiting.since < self.idle_max && waiting.stream.is_silent() {
                return Some(waiting.stream);
            }
        }
    }

    /// Keeps a connection. When there are too many the one that waits longest is closed.
    pub(super) fn put(&self, key: Key, stream: Stream, now: Instant) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.count >= self.connections_max {
            idle.drop_oldest();
        }
        if idle.count < self.connections_max {
            idle.by_key.entry(key).or_default().push(Waiting { stream, since: now });
            idle.count += 1;
        }
    }

    /// Closes what has waited too long, and what the other side has closed.
    pub(super) fn tidy(&self, now: Instant) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.by_key.retain(|_, waiting| {
            waiting.retain_mut(|one| now - one.since < self.idle_max && one.stream.is_silent());
            !waiting.is_empty()
        });
        idle.count = idle.by_key.values().map(Vec::len).sum();
    }

    /// Closes all.
    pub(super) fn clear(&self) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Idle::default();
    }
}

impl Idle {
    /// Looks at every key; it happens only when the pool is full.
    fn drop_oldest(&mut self) {
        let firsts = self.by_key.iter();
        let firsts = firsts.filter_map(|(key, waiting)| Some((*key, waiting.first()?.since)));
        if let Some((key, _)) = firsts.min_by_key(|(_, since)| *since)
            && let Some(waiting) = self.by_key.get_mut(&key)
        {
            drop(waiting.remove(0));
            self.count -= 1;
            if waiting.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
        (one.unwrap(), other.unwrap().0)
    }

    fn key(connection: u64) -> Key {
        Key { address: ([127, 0, 0, 1], 1).into(), connection }
    }

    #[tokio::test]
    async fn a_connection_serves_only_what_it_was_opened_for() {
        let pool = Pool::new(8, Duration::from_secs(60));
        let now = Instant::now();
        let (ours, _theirs) = pair().await;
        pool.put(key(1), Stream::Plain(ours), now);
        assert!(pool.take(&key(2), now).is_none());
        assert!(pool.take(&key(1), now).is_some());
        assert!(pool.take(&key(1), now).is_none());
    }

    #[tokio::test]
    async fn what_is_old_closed_or_spoken_to_is_not_used_again() {
        let pool = Pool::new(8, Duration::from_secs(60));
        let now = Instant::now();
        let (ours, _theirs) = pair().await;
        pool.put(key(1), Stream::Plain(ours), now);
        assert!(pool.take(&key(1), now + Duration::from_secs(60)).is_none());

        let (ours, theirs) = pair().await;
        drop(theirs);
        ours.readable().await.unwrap();
        pool.put(key(1), Stream::Plain(ours), now);
        assert!(pool.take(&key(1), now).is_none());

        let (ours, mut theirs) = pair().await;
        theirs.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        ours.readable().await.unwrap();
        pool.put(key(1), Stream::Plain(ours), now);
        pool.tidy(now);
        assert_eq!(pool.idle.lock().unwrap().count, 0);
    }

    #[tokio::test]
    async fn a_full_pool_closes_the_one_that_waits_longest() {
        let pool = Pool::new(2, Duration::from_secs(60));
        let now = Instant::now();
        let mut theirs = Vec::new();
        for number in 0..3 {
            let (ours, other) = pair().await;
            theirs.push(other);
            pool.put(key(number), Stream::Plain(ours), now + Duration::from_secs(number));
        }
        assert!(pool.take(&key(0), now).is_none());
        assert!(pool.take(&key(1), now).is_some());
        assert!(pool.take(&key(2), now).is_some());
        pool.clear();
    }
}
