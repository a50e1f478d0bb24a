//! SIGHUP, with which the file of the access log is opened again.

use kubeng_proxy::ProxyFacts;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Has the file of the access log opened again whenever SIGHUP comes.
pub(super) async fn reopen_on_hangup(facts: ProxyFacts, stop: CancellationToken) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            // It is noticed all the same when the file is moved away.
            tracing::warn!(%error, "SIGHUP cannot be listened for");
            return;
        }
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = hangup.recv() => facts.reopen_access_log(),
        }
    }
}
