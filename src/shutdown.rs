//! What the process is told by signals.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that mean something to the process.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    upgrade: Signal,
}

/// What a signal says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Told {
    /// Stop; the name of the signal.
    Stop(&'static str),
    /// Start the program again and hand over to it.
    Upgrade,
}

impl Signals {
    /// Listens for SIGTERM, SIGINT and SIGUSR2 from here on.
    ///
    /// # Errors
    /// When the system does not let the process listen for signals.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Told {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Told::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Told::Stop("SIGINT"),
            _ = self.upgrade.recv() => Told::Upgrade,
        }
    }
}
