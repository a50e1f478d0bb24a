//! The replica as its owner sees it: start, look, drain.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use kubeng_config::address::Reserved;
use kubeng_config::name::ListenerId;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot, watch};

use crate::backend::health::{self, EndpointHealth};
use crate::backend::probe::{self, AllAsked};
use crate::backend::resolve::{self, AllNamed, Answers};
use crate::backend::sticky::StickyKey;
use crate::drain::Drained;
use crate::engine::direct::Direct;
use crate::filter::basic_auth::Passwords;
use crate::filter::jwt::fetch;
use crate::limits::Limits;
use crate::listener::accept::Worker;
use crate::listener::admission::Addresses;
use crate::listener::handover::{Handover, ListeningSockets};
use crate::listener::{Command, Sockets};
use crate::metrics::{Metrics, lag};
use crate::observe::{Background, Observe, ObserveSettings};
use crate::shared::Shared;
use crate::table::Table;
use crate::table::writer::{Names, TableWriter};
use crate::tls;

/// How a replica runs.
pub struct ProxySettings {
    /// Threads that serve; at least 1. They cannot be changed while running.
    pub workers: usize,
    /// Proxies in front of us, whose `X-Forwarded-*` and `Forwarded` count.
    pub trusted_proxies: Vec<IpNet>,
    /// Limits and deadlines.
    pub limits: Limits,
    /// How long a drain waits for connections before it cuts them.
    pub drain: Duration,
    /// What is told about requests, and to whom.
    pub observe: ObserveSettings,
    /// Sockets of the control plane, which tenants may not name as Endpoints.
    pub reserved: Reserved,
    /// Where this replica opens Listeners, where not at their own address: several replicas of a fleet
    /// on one machine need it.
    pub listen: BTreeMap<ListenerId, SocketAddr>,
    /// Sockets of the process before this one. Listeners that have their address use them.
    pub inherited: Vec<ListeningSockets>,
    /// The zone that the replica runs in, for Backends that prefer their own.
    pub zone: Option<Arc<str>>,
    /// The key of the cookies that keep clients at their Endpoints; replicas that share it read each
    /// other's. None makes one of this process: then clients are spread anew when it ends.
    pub sticky_key: Option<Vec<u8>>,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            trusted_proxies: Vec::new(),
            limits: Limits::default(),
            drain: Duration::from_secs(20),
            observe: ObserveSettings::default(),
            reserved: Reserved::default(),
            listen: BTreeMap::new(),
            inherited: Vec::new(),
            zone: None,
            sticky_key: None,
        }
    }
}

/// Why a replica did not start. Fatal.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system gave no thread or no runtime.
    #[error("cannot start a worker")]
    Worker(#[source] io::Error),
    /// The access log cannot be opened.
    #[error("cannot open the access log; give --access-log a path in a folder that can be written")]
    AccessLog(#[source] io::Error),
    /// The engine did not start; the message of its panic says why, mostly that the certificate
    /// store of the system is damaged.
    #[error("the engine of a worker did not start")]
    Engine,
    /// The system gave no random bytes for a key.
    #[error("the system gives no random bytes")]
    Random,
    /// There is no certificate of our own.
    #[error("cannot prepare TLS")]
    Tls(#[source] tls::FallbackError),
}

/// A running replica. [`drain`](Self::drain) ends it; dropped without, it serves on to the end of the process.
pub struct Proxy {
    shared: Arc<Shared>,
    workers: Vec<RunningWorker>,
    resolver: JoinHandle<()>,
    stop_resolver: oneshot::Sender<()>,
    background: Background,
    grace: Duration,
}

struct RunningWorker {
    /// How many connections were cut at its end.
    ended: oneshot::Receiver<usize>,
    thread: JoinHandle<()>,
}

/// What can be asked of a replica from anywhere. A clone is a pointer.
#[derive(Clone)]
pub struct ProxyFacts(pub(crate) Arc<Shared>);

impl ProxyFacts {
    /// All metrics in the text format of Prometheus.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.0.render_metrics()
    }

    /// Open connections, idle ones included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.connections.load(Ordering::Relaxed)
    }

    /// The digest of the configuration that is served.
    #[must_use]
    pub fn digest(&self) -> kubeng_config::canonical::Digest {
        self.0.table.load().digest()
    }

    /// What is known of every Endpoint at this moment, by Backend and address.
    #[must_use]
    pub fn health(&self) -> Vec<EndpointHealth> {
        health::of(&self.0)
    }

    /// How long the Table that serves has been in place.
    #[must_use]
    pub fn table_age(&self) -> Duration {
        self.0.table.load().made.elapsed()
    }
}

impl Proxy {
    /// Starts the threads of a replica that serves nothing yet, and gives the writer of its Tables.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(settings: ProxySettings) -> Result<(Self, TableWriter), StartError> {
        let ProxySettings {
            workers,
            trusted_proxies,
            limits,
            drain,
            observe,
            reserved,
            listen,
            inherited,
            zone,
            sticky_key,
        } = settings;
        let workers = workers.max(1);
        // The engine's TLS towards Backends uses the provider of the process.
        // An error says that there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let metrics = Metrics::with(workers, observe.metrics);
        let (observe, mut background) =
            Observe::start(observe, workers).map_err(StartError::AccessLog)?;
        let shared = Arc::new(Shared {
            table: ArcSwap::from_pointee(Table::empty()),
            limits,
            trusted_proxies: trusted_proxies.into(),
            metrics,
            observe,
            fallback_certificate: tls::fallback_certificate().map_err(StartError::Tls)?,
            connections: AtomicUsize::new(0),
            addresses: Addresses::default(),
            leaving: watch::Sender::new(false),
            is_leaving: AtomicBool::new(false),
            handover: Arc::new(Handover::of(inherited)),
            closing: watch::Sender::new(false),
            stopping: watch::Sender::new(false),
            reserved: Arc::new(reserved),
            listen,
            zone,
            sticky_key: StickyKey::new(sticky_key.as_deref()).map_err(|_| StartError::Random)?,
            passwords: Passwords::new(workers),
            key_sets: Arc::default(),
            started: Instant::now(),
        });
        let (ready, are_ready) = std::sync::mpsc::channel();
        let (workers, commands): (Vec<_>, Vec<_>) = (0..workers)
            .map(|number| start_worker(&shared, number, drain, ready.clone()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(StartError::Worker)?
            .into_iter()
            .unzip();
        drop(ready);
        if are_ready.iter().count() < workers.len() {
            return Err(StartError::Engine);
        }
        background.start(&shared).map_err(StartError::Worker)?;
        let named = watch::Sender::new(AllNamed::new());
        let (answers, known) = watch::channel(Answers::new());
        let asked = watch::Sender::new(AllAsked::new());
        let (resolver, stop_resolver) =
            start_resolver(named.subscribe(), answers, asked.subscribe(), shared.clone())
                .map_err(StartError::Worker)?;
        let names = Names { named, answers: known };
        let sockets = Sockets::new(commands, shared.handover.clone());
        let writer = TableWriter::new(shared.clone(), sockets, names, asked);
        let grace = drain;
        Ok((Self { shared, workers, resolver, stop_resolver, background, grace }, writer))
    }

    /// What can be asked of it from anywhere.
    #[must_use]
    pub fn facts(&self) -> ProxyFacts {
        ProxyFacts(self.shared.clone())
    }

    /// From here on answers say that the connection ends; new connections are still taken.
    ///
    /// The first step of leaving, while a balancer in front learns that we are not ready.
    pub fn leave(&self) {
        self.shared.leave();
    }

    /// Handles on all open ports, for the process that takes over.
    ///
    /// # Errors
    /// When the system gives no more descriptors.
    pub fn lend_sockets(&self) -> io::Result<Vec<ListeningSockets>> {
        self.shared.handover.lend()
    }

    /// Closes inherited sockets that no Listener has asked for. To be called when the process that
    /// lent them takes no connections any more.
    pub fn forget_inherited(&self) {
        self.shared.handover.forget_inherited();
    }

    /// Takes no more connections, except those that the kernel has completed by now; what is open
    /// is served on. Another process has the sockets.
    pub fn close_ports(&self) {
        self.shared.handover.give_up();
        self.shared.closing.send_replace(true);
    }

    /// Stops taking connections, closes those that wait, waits for those that work, at most for the
    /// time that the settings say, cuts the rest, and ends all threads.
    pub async fn drain(self) -> Drained {
        let Self { shared, workers, resolver, stop_resolver, background, grace } = self;
        let end = Instant::now() + grace;
        let open = shared.connections.load(Ordering::Relaxed);
        shared.leave();
        shared.handover.give_up();
        shared.stopping.send_replace(true);
        let mut cut = 0;
        let mut threads = vec![resolver];
        let mut ends = Vec::new();
        for RunningWorker { ended, thread } in workers {
            ends.push(ended);
            threads.push(thread);
        }
        for ended in ends {
            // A worker that ended without a word had a panic; its connections are gone.
            cut += ended.await.unwrap_or(0);
        }
        drop(stop_resolver);
        // Workers are through: what they recorded is all there.
        let within = end.saturating_duration_since(Instant::now()).clamp(LAST_MIN, LAST_MAX);
        threads.extend(background.stop(within));
        // Threads end at once now; joining them blocks, so it is done where blocking is fine.
        let joined = tokio::task::spawn_blocking(move || {
            shared.observe.finish_log(within);
            threads.into_iter().all(|thread| thread.join().is_ok())
        });
        if !joined.await.unwrap_or(false) {
            tracing::error!("a thread of the proxy ended with a panic");
        }
        Drained { finished: open.saturating_sub(cut), cut }
    }
}

fn start_worker(
    shared: &Arc<Shared>,
    number: usize,
    grace: Duration,
    ready: std::sync::mpsc::Sender<()>,
) -> io::Result<(RunningWorker, mpsc::Sender<Command>)> {
    let (commands, received) = mpsc::channel(COMMANDS_MAX);
    let (end, ended) = oneshot::channel();
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let shared = shared.clone();
    let thread = std::thread::Builder::new().name(format!("proxy-{number}")).spawn(move || {
        // The pool of the engine belongs to this runtime.
        let cut = runtime.block_on(async {
            let metrics = shared.metrics.workers.get(number).cloned().unwrap_or_default();
            let engine = Direct::new(&shared, number);
            // Counted at the other end, until the last worker has told or failed.
            let _ = ready.send(());
            drop(ready);
            let worker = Worker::new(engine, shared, metrics.clone(), number);
            tokio::select! {
                cut = worker.run(received, grace) => cut,
                never = lag::measure(metrics) => match never {},
            }
        });
        // What is left is cut here: its tasks are dropped with the runtime.
        drop(runtime);
        // Nobody waits when the replica is dropped without a drain.
        let _ = end.send(cut);
    })?;
    Ok((RunningWorker { ended, thread }, commands))
}

/// Starts what waits for the world outside: names, the health of Endpoints, and published keys.
/// Never on a worker.
fn start_resolver(
    named: watch::Receiver<AllNamed>,
    answers: watch::Sender<Answers>,
    asked: watch::Receiver<AllAsked>,
    shared: Arc<Shared>,
) -> io::Result<(JoinHandle<()>, oneshot::Sender<()>)> {
    let (stop, stopped) = oneshot::channel::<()>();
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("proxy-names".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                // Both end with the writer.
                ((), ()) = async { tokio::join!(resolve::run(named, answers), probe::run(asked)) } => {}
                never = fetch::run(shared) => match never {},
                // Whether it was told or dropped, the replica ends.
                _ = stopped => {}
            }
        });
        // A look-up that hangs must not hold the end up.
        runtime.shutdown_background();
    })?;
    Ok((thread, stop))
}

/// How long the last lines of the access log and the last spans may take: what is left of the drain,
/// but no longer than that.
const LAST_MAX: Duration = Duration::from_secs(2);
/// So long also when nothing is left.
const LAST_MIN: Duration = Duration::from_millis(100);
/// Commands that wait for one worker.
const COMMANDS_MAX: usize = 4096;
