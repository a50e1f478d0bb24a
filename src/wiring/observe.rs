//! Questions about requests on their way from the admin listener to the replica, and SIGHUP.

use std::collections::BTreeMap;

use kubeng_admin::{EndpointHealth, RequestKeyQuery, RequestQuery, StatusQuery};
use kubeng_config::name::BackendId;
use kubeng_proxy::{KeyQuery, ProxyFacts, RecordQuery};
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

/// The question as the replica has it.
pub(super) fn record_query(query: &RequestQuery) -> RecordQuery {
    let RequestQuery { since, until, host, status, namespace, route, limit } = query.clone();
    let status = status.map(|status| match status {
        StatusQuery::Code(code) => kubeng_proxy::StatusQuery::Code(code),
        StatusQuery::Class(class) => kubeng_proxy::StatusQuery::Class(class),
        StatusQuery::Unanswered => kubeng_proxy::StatusQuery::Unanswered,
    });
    RecordQuery { since, until, host, status, namespace, route, limit }
}

/// The question as the replica has it.
pub(super) fn key_query(query: &RequestKeyQuery) -> KeyQuery {
    let RequestKeyQuery { host, listener, limit } = query.clone();
    KeyQuery { host, listener, limit }
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
