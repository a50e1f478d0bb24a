//! Connections to Endpoints over HTTP/2, each shared by many requests. Those of one worker.

mod connection;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::endpoint::{Origin, Wanted};
use super::open;
use super::pool::Key;
use super::watched::Load;
use crate::backend::tls::failure::{self, TlsFailure};
use crate::forward::tries::Failure;
use crate::limits::Limits;
use connection::Patience;

/// All connections, by what they may be used for.
#[derive(Debug)]
pub(super) struct Connections {
    groups: Mutex<HashMap<Key, Group, foldhash::fast::RandomState>>,
    /// So many were begun; gives each its number.
    begun: AtomicU64,
    /// One for each connection that is open or being opened.
    places: Arc<Semaphore>,
    /// Of those that carry nothing.
    spare_max: usize,
    idle_max: Duration,
    handshake: Duration,
    patience: Patience,
    tasks: TaskTracker,
    ended: CancellationToken,
}

/// The connections of one key.
#[derive(Debug, Default)]
struct Group {
    open: Vec<Open>,
    /// What became of the one that is being opened. Gone where nobody opens it any more.
    opening: Option<watch::Receiver<Option<Result<(), Failure>>>>,
    doubts: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Open {
    requests: SendRequest<Bytes>,
    load: Arc<Load>,
    doubt: Doubt,
    /// Since when it carries nothing, and how many requests it had carried by then.
    idle: Option<(Instant, u64)>,
}

/// How often connections of one key were found to have gone away. One that was opened before the last
/// time is not used again: what stands beside it may have gone away at the same time.
#[derive(Clone, Debug)]
struct Doubt {
    doubts: Arc<AtomicU64>,
    known: u64,
}

/// A place among the requests of a connection.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) requests: SendRequest<Bytes>,
    load: Arc<Load>,
    doubt: Doubt,
}

/// What a request that wants a connection does next.
enum Turn<'a> {
    Use(Lease),
    /// Somebody else opens one.
    Wait(watch::Receiver<Option<Result<(), Failure>>>),
    Open(Opening<'a>),
}

/// The right to open a connection for all who wait for it. When it is dropped, another one has it.
struct Opening<'a> {
    connections: &'a Connections,
    key: Key,
    doubt: Doubt,
    told: watch::Sender<Option<Result<(), Failure>>>,
}

impl Connections {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            groups: Mutex::default(),
            begun: AtomicU64::new(0),
            // One that speaks for a client serves that one only, so there may be one for each.
            places: Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS))),
            spare_max: limits.pool_max,
            idle_max: limits.pool_idle,
            handshake: limits.backend_handshake,
            patience: Patience::of(limits),
            tasks: TaskTracker::new(),
            ended: CancellationToken::new(),
        }
    }

    /// A place on a connection, and whether that was there.
    ///
    /// # Errors
    /// What the try failed of; who waited for another one's connection fails of the same.
    pub(super) async fn lease(&self, wanted: &Wanted) -> Result<(Lease, bool), Failure> {
        let patience = wanted.to.connect + self.handshake + self.handshake;
        let by = wanted.now + patience;
        let by = wanted.ends.map_or(by, |ends| ends.min(by));
        let mut is_opened = false;
        loop {
            match self.turn(&wanted.key, wanted.from)? {
                Turn::Use(lease) => return Ok((lease, !is_opened)),
                Turn::Wait(mut opening) => {
                    let told = timeout_at(by.into(), opening.wait_for(Option::is_some)).await;
                    // Else it is there, or whoever opened it has left.
                    if let Ok(Some(Err(failure))) =
                        told.map_err(|_| Failure::ConnectTimeout)?.as_deref()
                    {
                        return Err(*failure);
                    }
                }
                Turn::Open(opening) => {
                    let opened = self.open(wanted, &opening.doubt).await;
                    opening.finish(opened)?;
                    is_opened = true;
                }
            }
        }
    }

    fn turn(&self, key: &Key, from: Origin) -> Result<Turn<'_>, Failure> {
        let mut groups = self.groups();
        let group = groups.entry(*key).or_default();
        let mut at = 0;
        while let Some(open) = group.open.get_mut(at) {
            if !open.is_usable() {
                group.open.swap_remove(at);
            } else if from == Origin::Beside(open.load.number()) {
                at += 1;
            } else if let Some(lease) = open.lease() {
                return Ok(Turn::Use(lease));
            } else {
                at += 1;
            }
        }
        if let Some(opening) = group.opening.as_ref().filter(|opening| is_going_on(opening)) {
            return Ok(Turn::Wait(opening.clone()));
        }
        if group.open.len() >= GROUP_MAX {
            return Err(Failure::Full);
        }
        let (told, opening) = watch::channel(None);
        group.opening = Some(opening);
        let known = group.doubts.load(Ordering::Relaxed);
        let doubt = Doubt { doubts: group.doubts.clone(), known };
        Ok(Turn::Open(Opening { connections: self, key: *key, doubt, told }))
    }

    /// Opens a connection and gives it a task.
    async fn open(&self, wanted: &Wanted, doubt: &Doubt) -> Result<Open, Failure> {
        let place = self.place(wanted.to.connect).await?;
        let Wanted { to, told, ends, .. } = wanted;
        let stream = open::open(to, *told, self.handshake, *ends).await?;
        if !stream.speaks_http2() {
            // It took no notice of what was offered; nothing else is spoken to it.
            failure::tell(&to.backend, to.address, &TlsFailure::NoHttp2);
            return Err(Failure::Tls);
        }
        let load = Arc::new(Load::of(self.begun.fetch_add(1, Ordering::Relaxed)));
        let left = ends.map(|ends| ends.saturating_duration_since(Instant::now()));
        let within = left.map_or(self.handshake, |left| left.min(self.handshake));
        let begun = connection::begin(stream, load.clone(), within).await;
        let (requests, connection) = begun.inspect_err(|_| {
            if let Some(alert) = load.disbelief() {
                failure::tell(&to.backend, to.address, &TlsFailure::Disbelieved(alert));
            }
        })?;
        let (driven, ended, patience) = (load.clone(), self.ended.clone(), self.patience);
        self.tasks.spawn(async move {
            connection::drive(connection, &driven, patience, &ended).await;
            drop(place);
        });
        Ok(Open { requests, load, doubt: doubt.clone(), idle: None })
    }

    /// Room for one more. Where there is none, what carries nothing makes place.
    async fn place(&self, within: Duration) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        for group in self.groups().values_mut() {
            group.open.retain(|open| open.load.streams() > 0);
        }
        match timeout(within, self.places.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(Failure::Local),
        }
    }

    /// Lets go of what has carried nothing for too long, of what takes nothing any more, and of what
    /// there is too much of.
    pub(super) fn tidy(&self, now: Instant) {
        let mut spare = 0;
        self.groups().retain(|_, group| {
            group.open.retain_mut(|open| {
                spare += usize::from(open.load.streams() == 0);
                let is_wanted = open.load.streams() > 0 || spare <= self.spare_max;
                is_wanted && open.is_usable() && !open.is_spent(now, self.idle_max)
            });
            !group.open.is_empty() || group.opening.as_ref().is_some_and(is_going_on)
        });
    }

    /// Ends all connections, and whatever they carry.
    pub(super) async fn end(&self) {
        self.groups().clear();
        self.ended.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<Key, Group, foldhash::fast::RandomState>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_going_on(opening: &watch::Receiver<Option<Result<(), Failure>>>) -> bool {
    opening.has_changed().is_ok() && opening.borrow().is_none()
}

impl Opening<'_> {
    /// Tells all who wait.
    fn finish(self, opened: Result<Open, Failure>) -> Result<(), Failure> {
        let told = match opened {
            Ok(open) => {
                let mut groups = self.connections.groups();
                groups.entry(self.key).or_default().open.push(open);
                Ok(())
            }
            Err(failure) => Err(failure),
        };
        self.told.send_replace(Some(told));
        told
    }
}

impl Open {
    /// Whether a request may begin on it, when there is room.
    fn is_usable(&mut self) -> bool {
        // It knows of GOAWAY and of the end of the connection, and waits for nothing else.
        let mut cx = Context::from_waker(Waker::noop());
        !self.load.is_retired()
            && self.doubt.is_none()
            && matches!(self.requests.poll_ready(&mut cx), Poll::Ready(Ok(())))
    }

    /// A place, if there is room.
    fn lease(&self) -> Option<Lease> {
        let max = self.requests.current_max_send_streams().min(STREAMS_MAX);
        if self.load.streams() >= max {
            return None;
        }
        self.load.begin();
        let (requests, load) = (self.requests.clone(), self.load.clone());
        Some(Lease { requests, load, doubt: self.doubt.clone() })
    }

    /// Whether it has carried nothing for `idle_max`.
    fn is_spent(&mut self, now: Instant, idle_max: Duration) -> bool {
        let begun = self.load.begun();
        match self.idle {
            _ if self.load.streams() > 0 => self.idle = None,
            Some((since, had)) if had == begun => return now.duration_since(since) >= idle_max,
            Some(_) | None => self.idle = Some((now, begun)),
        }
        false
    }
}

impl Doubt {
    /// Whether none has come up since the connection was opened.
    fn is_none(&self) -> bool {
        self.doubts.load(Ordering::Relaxed) == self.known
    }

    fn raise(&self) {
        let next = self.known.wrapping_add(1);
        // Another one may have said the same already.
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.doubts.compare_exchange(self.known, next, success, failure);
    }
}

impl Lease {
    /// What is known of the connection.
    pub(super) fn load(&self) -> &Load {
        &self.load
    }

    /// The connection has gone away, and those beside it may have.
    pub(super) fn doubt(&self) {
        self.load.retire();
        self.doubt.raise();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.load.end();
    }
}

/// Requests that share one connection, where the Endpoint allows as many.
const STREAMS_MAX: usize = 100;
/// Connections of one worker to one Endpoint.
const GROUP_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinSet;

    use super::*;
    use crate::engine::direct::stream::Stream;

    fn key() -> Key {
        Key { address: ([127, 0, 0, 1], 1).into(), connection: 1 }
    }

    /// Opens a connection to an Endpoint that takes so many requests at a time.
    async fn add(to: &Connections, tasks: &mut JoinSet<()>, streams_max: u32) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tasks.spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut options = h2::server::Builder::new();
            options.max_concurrent_streams(streams_max);
            let mut connection = options.handshake::<_, Bytes>(tcp).await.unwrap();
            while connection.accept().await.is_some() {}
        });
        let Turn::Open(opening) = to.turn(&key(), Origin::Pool).unwrap() else {
            panic!("there is one")
        };
        let load = Arc::new(Load::of(to.begun.fetch_add(1, Ordering::Relaxed)));
        let within = Duration::from_secs(30);
        let begun = connection::begin(Stream::Plain(tcp), load.clone(), within).await;
        let (requests, connection) = begun.unwrap();
        let (driven, doubt) = (load.clone(), opening.doubt.clone());
        tasks.spawn(async move {
            let patience = Patience::of(&Limits::default());
            connection::drive(connection, &driven, patience, &CancellationToken::new()).await;
        });
        opening.finish(Ok(Open { requests, load, doubt, idle: None })).unwrap();
    }

    fn lease(from: &Connections) -> Option<Lease> {
        lease_from(from, Origin::Pool)
    }

    fn lease_from(from: &Connections, origin: Origin) -> Option<Lease> {
        match from.turn(&key(), origin).unwrap() {
            Turn::Use(lease) => Some(lease),
            Turn::Wait(_) | Turn::Open(_) => None,
        }
    }

    #[tokio::test]
    async fn a_connection_carries_as_many_as_its_endpoint_takes_and_never_more_than_we_say() {
        let mut tasks = JoinSet::new();
        for (streams_max, expected) in [(2, 2), (1000, STREAMS_MAX)] {
            let connections = Connections::new(&Limits::default());
            add(&connections, &mut tasks, streams_max).await;
            let mut leases: Vec<_> = (0..expected).map(|_| lease(&connections).unwrap()).collect();
            assert!(lease(&connections).is_none());
            leases.pop();
            assert!(lease(&connections).is_some());
        }
    }

    #[tokio::test]
    async fn one_opens_a_connection_and_the_others_wait_for_it() {
        let connections = Connections::new(&Limits::default());
        let turn = || connections.turn(&key(), Origin::Pool).unwrap();
        let Turn::Open(opening) = turn() else { panic!() };
        let Turn::Wait(mut told) = turn() else { panic!() };
        opening.finish(Err(Failure::Connect)).unwrap_err();
        let told = *told.wait_for(Option::is_some).await.unwrap();
        assert_eq!(told, Some(Err(Failure::Connect)));
        // One who leaves leaves it to the next one.
        let Turn::Open(opening) = turn() else { panic!() };
        drop(opening);
        assert!(matches!(turn(), Turn::Open(_)));
    }

    #[tokio::test]
    async fn who_was_refused_is_put_on_another_connection_and_nobody_else_is() {
        let (connections, mut tasks) = (Connections::new(&Limits::default()), JoinSet::new());
        add(&connections, &mut tasks, 100).await;
        let refused = lease(&connections).unwrap();
        let beside = Origin::Beside(refused.load().number());
        assert!(lease_from(&connections, beside).is_none(), "one is opened");
        assert!(lease(&connections).is_some());
        // Another one comes up, as soon as this one has no room.
        let full: Vec<_> = std::iter::from_fn(|| lease(&connections)).collect();
        add(&connections, &mut tasks, 100).await;
        drop(full);
        let other = lease_from(&connections, beside).unwrap();
        assert_ne!(other.load().number(), refused.load().number());
    }

    #[tokio::test]
    async fn there_are_never_more_connections_to_one_endpoint_than_we_say() {
        let (connections, mut tasks) = (Connections::new(&Limits::default()), JoinSet::new());
        let mut leases = Vec::new();
        for _ in 0..GROUP_MAX {
            add(&connections, &mut tasks, 1).await;
            leases.push(lease(&connections).unwrap());
        }
        let next = connections.turn(&key(), Origin::Pool).map(|_| ());
        assert_eq!(next, Err(Failure::Full));
        leases.pop();
        assert!(lease(&connections).is_some());
    }

    #[tokio::test]
    async fn what_stands_beside_one_that_has_gone_away_is_not_used_again() {
        let (connections, mut tasks) = (Connections::new(&Limits::default()), JoinSet::new());
        add(&connections, &mut tasks, 1).await;
        let one = lease(&connections).unwrap();
        add(&connections, &mut tasks, 100).await;
        let other = lease(&connections).unwrap();
        one.doubt();
        assert!(lease(&connections).is_none());
        add(&connections, &mut tasks, 100).await;
        // What is said of the old ones says nothing of the new one.
        other.doubt();
        assert!(lease(&connections).is_some());
    }

    #[tokio::test]
    async fn what_carries_nothing_for_long_is_let_go_of() {
        let (connections, mut tasks) = (Connections::new(&Limits::default()), JoinSet::new());
        add(&connections, &mut tasks, 100).await;
        let (now, idle_max) = (Instant::now(), connections.idle_max);
        let held = lease(&connections).unwrap();
        connections.tidy(now);
        connections.tidy(now + idle_max);
        assert!(lease(&connections).is_some());
        drop(held);
        connections.tidy(now);
        connections.tidy(now + idle_max / 2);
        drop(lease(&connections).unwrap());
        connections.tidy(now + idle_max);
        connections.tidy(now + idle_max * 3 / 2);
        assert_eq!(connections.groups().len(), 1, "it has carried something meanwhile");
        connections.tidy(now + idle_max * 2);
        assert_eq!(connections.groups().len(), 0);
    }
}
