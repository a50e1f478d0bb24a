//! What the replica says of its Endpoints, and SIGHUP, with which the access log is opened again.

use std::collections::BTreeMap;

use kubeng_config::name::BackendId;
use kubeng_config::observed::EndpointHealth;
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

/// What the replica knows of its Endpoints, as the admin listener tells it.
pub(super) fn health(facts: &ProxyFacts) -> BTreeMap<BackendId, Vec<EndpointHealth>> {
    let mut all: BTreeMap<BackendId, Vec<EndpointHealth>> = BTreeMap::new();
    for known in facts.health() {
        let kubeng_proxy::EndpointHealth {
            backend,
            address,
            weight,
            health,
            fault,
            is_ejected: ejected,
            requests,
        } = known;
        let health = health.name();
        let one = EndpointHealth { address, weight, health, fault, ejected, requests };
        all.entry(backend).or_default().push(one);
    }
    all
}
