//! Whether requests can be served, from whoever knows: the controller of the process, or its replica.

use kubeng_controller::control::Control;
use tokio::sync::watch;

/// Whether requests can be served.
#[derive(Clone)]
pub(crate) enum Readiness {
    /// The controller in this process knows.
    Controller(Control),
    /// There is none: the replica knows.
    Replica(watch::Receiver<bool>),
}

impl Readiness {
    /// Whether they can at this moment.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Self::Controller(control) => control.now().is_ready(),
            Self::Replica(ready) => *ready.borrow(),
        }
    }

    /// Waits until they can.
    pub(crate) async fn until_ready(mut self) {
        while !self.is_ready() {
            let may_change = match &mut self {
                Self::Controller(control) => control.changed().await,
                Self::Replica(ready) => ready.changed().await.is_ok(),
            };
            if !may_change {
                // Who knows has ended, and the process with it.
                std::future::pending::<()>().await;
            }
        }
    }
}
