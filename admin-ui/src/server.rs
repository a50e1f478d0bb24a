//! The listener itself.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::FromRef;
use axum::middleware;
use kubeng_config::name::{BackendId, RouteId};
use kubeng_config::observed::{EndpointHealth, KeyQuery, RecordQuery};
use kubeng_controller::control::Control;
use kubeng_controller::replicas::Replicas;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::replica::{self, StandaloneReplica};
use crate::{api, host, probes, problem, status, writing};

/// What the replica in this process says of itself.
pub trait LocalReplica: Send + Sync + 'static {
    /// All metrics in the text format of Prometheus.
    fn metrics(&self) -> String;
    /// Open connections, idle ones included.
    fn connections(&self) -> usize;
    /// Whether it was told to stop: it is not ready then, although it serves.
    fn is_leaving(&self) -> bool;
    /// The recent requests that `query` wants, the newest first.
    fn requests(&self, query: &RecordQuery) -> Vec<Value>;
    /// The distinct keys of recent requests with their counts; null when none are counted.
    fn request_keys(&self, query: &KeyQuery) -> Value;
    /// When a request last came to a Route; None for never.
    fn last_hit(&self, route: &RouteId) -> Option<SystemTime>;
    /// What is known of the Endpoints of every Backend that is served, in order of address.
    fn health(&self) -> BTreeMap<BackendId, Vec<EndpointHealth>>;
}

/// What every handler sees.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) control: Control,
    pub(crate) replica: Arc<dyn LocalReplica>,
    /// What is known of replicas, where any are connected to this process.
    pub(crate) replicas: Option<Replicas>,
    /// Whether only this machine can reach the listener.
    pub(crate) is_loopback: bool,
}

impl FromRef<Context> for Arc<dyn LocalReplica> {
    fn from_ref(context: &Context) -> Self {
        Self::clone(&context.replica)
    }
}

/// The admin listener, bound but not serving yet.
pub struct Admin {
    listener: TcpListener,
    answers: Answers,
}

/// What it answers from.
enum Answers {
    Controller(Context),
    Replica(Arc<dyn StandaloneReplica>),
}

/// Why the admin listener does not serve. Fatal: without it nobody could see what goes on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be opened.
    #[error(
        "cannot open the admin listener on {address}; end what holds it, or give --admin another address"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// It stopped by itself.
    #[error("the admin listener stopped")]
    Serve(#[source] io::Error),
}

impl Admin {
    /// Opens `address`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn bind(
        address: SocketAddr,
        control: Control,
        replica: Arc<dyn LocalReplica>,
    ) -> Result<Self, ServeError> {
        let listener = bind_to(address).await?;
        Self::new(listener, control, replica).map_err(ServeError::Serve)
    }

    /// Opens `address` for a process that has no controller.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn bind_replica(
        address: SocketAddr,
        replica: Arc<dyn StandaloneReplica>,
    ) -> Result<Self, ServeError> {
        Ok(Self { listener: bind_to(address).await?, answers: Answers::Replica(replica) })
    }

    /// On a socket that another process has opened.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn on(
        socket: std::net::TcpListener,
        control: Control,
        replica: Arc<dyn LocalReplica>,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Self::new(TcpListener::from_std(socket)?, control, replica)
    }

    /// The same for a process that has no controller.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn replica_on(
        socket: std::net::TcpListener,
        replica: Arc<dyn StandaloneReplica>,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from_std(socket)?;
        Ok(Self { listener, answers: Answers::Replica(replica) })
    }

    fn new(
        listener: TcpListener,
        control: Control,
        replica: Arc<dyn LocalReplica>,
    ) -> io::Result<Self> {
        let is_loopback = listener.local_addr()?.ip().is_loopback();
        let context = Context { control, replica, replicas: None, is_loopback };
        Ok(Self { listener, answers: Answers::Controller(context) })
    }

    /// It tells of these replicas, too. A process without a controller knows none.
    #[must_use]
    pub fn with_replicas(mut self, replicas: Replicas) -> Self {
        match &mut self.answers {
            Answers::Controller(context) => context.replicas = Some(replicas),
            Answers::Replica(_) => {}
        }
        self
    }

    /// A second handle on its socket, for the process that takes over. It holds the port open.
    ///
    /// # Errors
    /// When the system gives no more descriptors.
    pub fn lend_socket(&self) -> io::Result<std::net::TcpListener> {
        Ok(self.listener.as_fd().try_clone_to_owned()?.into())
    }

    /// Where it listens: the port that the system gave, if 0 was asked for.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is cancelled.
    ///
    /// # Errors
    /// When the listener fails for good.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), ServeError> {
        let router = match self.answers {
            Answers::Controller(context) => router(context),
            Answers::Replica(replica) => replica::router(replica),
        };
        let serving = axum::serve(self.listener, router)
            .with_graceful_shutdown({
                let stop = stop.clone();
                async move { stop.cancelled().await }
            })
            .into_future();
        tokio::select! {
            result = serving => result.map_err(ServeError::Serve),
            // A client that holds its connection must not hold the process.
            () = async { stop.cancelled().await; tokio::time::sleep(LINGER).await } => Ok(()),
        }
    }
}

async fn bind_to(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| ServeError::Bind { address, source })
}

/// How long answers in progress may take once the listener is told to stop.
const LINGER: Duration = Duration::from_secs(1);

fn router(context: Context) -> Router {
    Router::new()
        .merge(probes::routes())
        .merge(status::routes())
        .nest("/api/v1", api::routes())
        .fallback(problem::not_found)
        .layer(middleware::from_fn_with_state(context.clone(), writing::check))
        .layer(middleware::from_fn(host::check))
        .with_state(context)
}
