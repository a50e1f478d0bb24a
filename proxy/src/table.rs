//! The Table: the Snapshot compiled for lookup. One writer, many readers, one swap.

pub(crate) mod writer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use kubeng_config::canonical::Digest;
use kubeng_config::index::Index;
use kubeng_config::listener::Protocol;
use kubeng_config::matching::HostMatch;
use kubeng_config::name::{BackendId, CertificateId, ListenerId, PolicyId};
use kubeng_config::policy::Policy;
use kubeng_config::route::Route;
use kubeng_config::snapshot::Snapshot;
use rustls::sign::CertifiedKey;

use crate::backend::CompiledBackend;
use crate::backend::balance::{Schedule, Turn};
use crate::metrics::{ListenerMetrics, RouteUse};
use crate::sketch::selected::Names;

/// A persistent map with a fast hash: a clone is a pointer, a change copies a path.
pub(crate) type Map<K, V> =
    imbl::GenericHashMap<K, V, foldhash::fast::RandomState, imbl::shared_ptr::DefaultSharedPtr>;

/// All that a request is decided by. Never changes; a clone shares everything.
#[derive(Clone)]
pub(crate) struct Table {
    pub(crate) snapshot: Snapshot,
    pub(crate) routes: Index<Arc<CompiledRoute>>,
    /// By the address that the Listeners were given, the most special host first.
    pub(crate) sockets: Arc<std::collections::HashMap<SocketAddr, Vec<CompiledListener>>>,
    pub(crate) policies: Map<PolicyId, Arc<Policy>>,
    pub(crate) backends: Map<BackendId, Arc<CompiledBackend>>,
    pub(crate) certificates: Map<CertificateId, Arc<CertifiedKey>>,
    /// By Listener; exact names, and names one label below.
    pub(crate) server_names: Map<ListenerId, Arc<ServerNames>>,
    /// What Routes match on beside host, path and method.
    pub(crate) names: Names,
    /// When it was put in place.
    pub(crate) made: Instant,
}

/// A Listener as it is looked up for each request.
#[derive(Clone, Debug)]
pub(crate) struct CompiledListener {
    pub(crate) id: ListenerId,
    pub(crate) protocol: Protocol,
    pub(crate) host: HostMatch,
    pub(crate) default_certificate: Option<CertificateId>,
    pub(crate) metrics: Arc<ListenerMetrics>,
}

/// The certificates of one Listener by TLS name.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerNames {
    pub(crate) exact: Map<Box<str>, CertificateId>,
    pub(crate) one_label_below: Map<Box<str>, CertificateId>,
}

/// A Route ready to be carried out.
#[derive(Debug)]
pub(crate) struct CompiledRoute {
    pub(crate) id: kubeng_config::name::RouteId,
    pub(crate) route: Arc<Route>,
    /// The order in which the targets of a `Forward` take turns.
    pub(crate) schedule: Schedule,
    pub(crate) turn: Turn,
    pub(crate) usage: Arc<RouteUse>,
}

impl Table {
    /// A Table that serves nothing.
    pub(crate) fn empty() -> Self {
        Self {
            snapshot: Snapshot::default(),
            routes: Index::default(),
            sockets: Arc::default(),
            policies: Map::default(),
            backends: Map::default(),
            certificates: Map::default(),
            server_names: Map::default(),
            names: Names::default(),
            made: Instant::now(),
        }
    }

    /// The digest of what it runs.
    pub(crate) fn digest(&self) -> Digest {
        self.snapshot.digest()
    }

    /// The Listener that takes a request for `host` on this socket.
    pub(crate) fn listener(
        &self,
        socket: SocketAddr,
        host: Option<&str>,
    ) -> Option<&CompiledListener> {
        self.sockets.get(&socket)?.iter().find(|listener| listener.host.accepts(host))
    }

    /// The certificate for `name` on this socket: its own, then the default of the Listener.
    pub(crate) fn certificate(
        &self,
        socket: SocketAddr,
        name: Option<&str>,
    ) -> Option<&Arc<CertifiedKey>> {
        let listener = self.listener(socket, name)?;
        let of_name = name.and_then(|name| {
            let names = self.server_names.get(&listener.id)?;
            let below = || {
                let (_, parent) = name.split_once('.')?;
                names.one_label_below.get(parent)
            };
            names.exact.get(name).or_else(below)
        });
        self.certificates.get(of_name.or(listener.default_certificate.as_ref())?)
    }
}

#[cfg(test)]
mod tests;
