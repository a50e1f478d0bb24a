//! An API server in memory, for faults only: what a real one does when it is
//! well is tested against a real one.

mod answer;
mod leases;
mod state;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use state::State;
pub use state::{Asked, Backup, Fault, Verb};

/// A running fake. It ends when dropped.
pub struct ApiServer {
    address: SocketAddr,
    state: Arc<Shared>,
    server: JoinSet<()>,
}

/// What all connections share.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Counts changes, so that watches wake.
    changed: tokio::sync::watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl ApiServer {
    /// Starts on a free port of the loopback address, with nothing in it.
    pub async fn start() -> Self {
        let state = Shared { state: Mutex::default(), changed: tokio::sync::watch::Sender::new(0) };
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { address: loopback, state: Arc::new(state), server: JoinSet::new() };
        server.resume().await;
        server
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Writes a kubeconfig that leads to it.
    pub fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let path = folder.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: '{}'}}}}]\n\
             users: [{{name: u, user: {{}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
            self.url()
        );
        std::fs::write(&path, text).expect("the folder of a test can be written");
        path
    }

    /// Refuses and cuts every connection. What it holds stays.
    pub async fn stop(&mut self) {
        self.server.shutdown().await;
    }

    /// Answers again, at the same address.
    pub async fn resume(&mut self) {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                // The port of the cut connections may be busy for a moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        self.address = listener.local_addr().expect("a bound socket has an address");
        self.server.spawn(accept(listener, Arc::clone(&self.state)));
    }

    /// Creates an object, or changes it.
    pub fn put(&self, object: Value) {
        self.state.lock().put(object);
        self.wake();
    }

    /// Deletes an object; `resource` is the plural name.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) {
        self.state.lock().delete(resource, namespace, name);
        self.wake();
    }

    /// Forgets an object without telling the watches, as in a gap.
    pub fn lose(&self, resource: &str, namespace: &str, name: &str) {
        self.state.lock().lose(resource, namespace, name);
    }

    /// Forgets its history: every version so far has expired.
    pub fn compact(&self) {
        self.state.lock().compact();
    }

    /// What it holds, to be restored later.
    #[must_use]
    pub fn back_up(&self) -> Backup {
        self.state.lock().back_up()
    }

    /// Holds again what it held then, at the version of then. Watches are not told.
    pub fn restore(&self, backup: Backup) {
        self.state.lock().restore(backup);
    }

    /// Tells every watch of `resource` the current version.
    pub fn bookmark(&self, resource: &str) {
        self.state.lock().bookmark(resource);
        self.wake();
    }

    /// Ends every open watch of `resource` with this event, as one JSON line.
    pub fn end_watches(&self, resource: &str, event: Value) {
        self.state.lock().end_watches(resource, event);
        self.wake();
    }

    /// Lets the next `times` requests of this kind fail.
    pub fn fail(&self, resource: &str, verb: Verb, times: usize, fault: Fault) {
        self.state.lock().fail(resource, verb, times, fault);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.state.lock().heal();
    }

    /// What has been asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().asked()
    }

    fn wake(&self) {
        self.state.changed.send_modify(|count| *count += 1);
    }
}

async fn accept(listener: TcpListener, state: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let state = Arc::clone(&state);
                connections.spawn(async move {
                    let service = service_fn(|request| answer::answer(request, Arc::clone(&state)));
                    // A connection that is cut on purpose is no fault of the test.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
