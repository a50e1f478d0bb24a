//! One worker: a thread with a runtime of its own, its sockets, and its connections.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::Admitted;
use super::{Command, SocketSpec, serve};
use crate::engine::Engine;
use crate::metrics::WorkerMetrics;
use crate::shared::Shared;

/// What every connection of one worker uses.
pub(crate) struct Worker<E> {
    pub(crate) engine: E,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    /// TLS handshakes in progress.
    pub(crate) handshakes: AtomicUsize,
    connections: TaskTracker,
}

impl<E: Engine> Worker<E> {
    pub(crate) fn new(engine: E, shared: Arc<Shared>, metrics: Arc<WorkerMetrics>) -> Arc<Self> {
        Arc::new(Self {
            engine,
            shared,
            metrics,
            handshakes: AtomicUsize::new(0),
            connections: TaskTracker::new(),
        })
    }

    /// Runs until the replica stops, then drains: stop accepting, tell the engine, wait for the
    /// connections, at most `grace`. Gives how many were cut.
    pub(crate) async fn run(
        self: Arc<Self>,
        mut commands: mpsc::Receiver<Command>,
        grace: Duration,
    ) -> usize {
        let mut open = HashMap::<SocketAddr, CancellationToken>::new();
        let loops = TaskTracker::new();
        let mut stopping = self.shared.stopping.subscribe();
        let mut tidying = interval(TIDIED_EVERY);
        let mut closing = self.shared.closing.subscribe();
        let mut is_closed = false;
        loop {
            let command = tokio::select! {
                biased;
                // Before the end: a socket that still waits here may have connections.
                command = commands.recv() => command,
                _ = stopping.wait_for(|stopping| *stopping) => break,
                _ = closing.wait_for(|closing| *closing), if !is_closed => {
                    is_closed = true;
                    open.drain().for_each(|(_, stop)| stop.cancel());
                    continue;
                }
                _ = tidying.tick() => {
                    self.engine.tidy();
                    continue;
                }
            };
            let Some(command) = command else { break };
            match command {
                // The sockets are another process's now.
                Command::Open(..) if is_closed => {}
                Command::Open(spec, listener, listening) => {
                    let address = spec.address;
                    // There may be several: those of a process with more workers.
                    let stop = open.entry(address).or_default().clone();
                    match TcpListener::from_std(listener) {
                        Ok(listener) => {
                            let accept = self.clone().accept(listener, spec, stop);
                            loops.spawn(async move {
                                accept.await;
                                drop(listening);
                            });
                        }
                        Err(error) => tracing::error!(%address, %error, "cannot listen"),
                    }
                }
                Command::Close(address) => {
                    if let Some(stop) = open.remove(&address) {
                        stop.cancel();
                    }
                }
            }
        }
        for stop in open.into_values() {
            stop.cancel();
        }
        loops.close();
        loops.wait().await;
        self.connections.close();
        self.engine.drain().await;
        // Whether they ended in time or not shows in what is left.
        let _ = timeout(grace, self.connections.wait()).await;
        self.connections.len()
    }

    /// Takes connections until `stop`, and then those that the kernel has already completed.
    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        spec: Arc<SocketSpec>,
        stop: CancellationToken,
    ) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, from)) => self.admit(tcp, from, &spec),
                Err(error) if is_exhausted(&error) => sleep(PAUSE).await,
                // The client was gone before we took the connection.
                Err(_) => {}
            }
        }
        // Asked of the kernel itself: the reactor may not have heard of them yet.
        let Ok(listener) = listener.into_std() else { return };
        while let Ok((tcp, from)) = listener.accept() {
            if tcp.set_nonblocking(true).is_ok()
                && let Ok(tcp) = TcpStream::from_std(tcp)
            {
                self.admit(tcp, from, &spec);
            }
        }
    }

    fn admit(self: &Arc<Self>, tcp: TcpStream, from: SocketAddr, spec: &Arc<SocketSpec>) {
        self.metrics.connections.add(1);
        match Admitted::enter(&self.shared, spec, &tcp, from) {
            Ok(admitted) => {
                let task = serve::connection(self.clone(), tcp, from, spec.clone(), admitted);
                self.connections.spawn(task);
            }
            Err(reason) => self.metrics.turned_away(reason),
        }
    }
}

/// Whether descriptors or memory have run out, so that trying again at once would spin.
fn is_exhausted(error: &io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    matches!(error.raw_os_error(), Some(ENOMEM | ENFILE | EMFILE | ENOBUFS))
}

/// The pause when descriptors or memory have run out.
const PAUSE: Duration = Duration::from_millis(50);
/// How often the engine lets go of what nobody needs.
const TIDIED_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
