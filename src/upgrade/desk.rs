//! Where `kubeng upgrade` asks a process for an upgrade, and is told what became of it.
//!
//! A connection is the question; one line of JSON is the answer. The socket has a name in the
//! abstract namespace that follows from the process id, so there is no file to leave behind. Only
//! the user of the process, and root, is heard.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener as Listener};

use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tracing::warn;

/// What became of an upgrade.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// The process that serves from here on.
    Serves {
        /// Its id.
        pid: u32,
    },
    /// Nothing has changed; why.
    Failed(String),
}

/// The side of the process that is asked.
#[derive(Debug)]
pub(crate) struct Desk {
    /// None when the name could not be taken.
    listener: Option<UnixListener>,
    /// Who waits for what becomes of it; at most [`WAITING_MAX`].
    waiting: Vec<UnixStream>,
}

/// The name of the socket of the process `pid`.
///
/// # Errors
/// Never: it is short.
pub(crate) fn address(pid: u32) -> std::io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("kubeng/{pid}"))
}

impl Desk {
    /// Opens it. A process without one goes on and can be told by SIGUSR2.
    pub(crate) fn open() -> Self {
        let bound = address(std::process::id()).and_then(|address| {
            let listener = Listener::bind_addr(&address)?;
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        });
        let listener = bound.inspect_err(|error| warn!(%error, "kubeng upgrade cannot ask")).ok();
        Self { listener, waiting: Vec::new() }
    }

    /// Waits until somebody asks who may; where nobody `may_ask` because one is in progress, says so.
    /// Nothing is lost when it is dropped before.
    pub(crate) async fn asked(&mut self, may_ask: bool) {
        let Some(listener) = &self.listener else { return std::future::pending().await };
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Descriptors have run out; a signal works without.
                return std::future::pending().await;
            };
            let own = rustix::process::geteuid().as_raw();
            let is_allowed =
                stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0);
            if !is_allowed {
                tell(&stream, &Outcome::Failed("only the user of the process may ask".into()));
            } else if !may_ask {
                tell(&stream, &Outcome::Failed("an upgrade is in progress".into()));
            } else if self.waiting.len() >= WAITING_MAX {
                tell(&stream, &Outcome::Failed("too many wait for an upgrade".into()));
            } else {
                self.waiting.push(stream);
                return;
            }
        }
    }

    /// Tells all who wait.
    pub(crate) fn tell(&mut self, outcome: &Outcome) {
        self.waiting.drain(..).for_each(|stream| tell(&stream, outcome));
    }
}

fn tell(stream: &UnixStream, outcome: &Outcome) {
    let text = serde_json::to_string(outcome).unwrap_or_default();
    // It fits into the buffer of the socket; who has gone away does not want it.
    let _ = stream.try_write(text.as_bytes());
}

const WAITING_MAX: usize = 16;
