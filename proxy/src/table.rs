//! The Table: the Snapshot compiled for lookup. One writer, many readers, one swap.

pub(crate) mod writer;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use kubeng_config::canonical::Digest;
use kubeng_config::index::Index;
use kubeng_config::listener::{Opening, Protocol};
use kubeng_config::matching::HostMatch;
use kubeng_config::name::{BackendId, CertificateId, ListenerId, PolicyId};
use kubeng_config::policy::Policy;
use kubeng_config::route::Route;
use kubeng_config::snapshot::Snapshot;
use rustls::sign::CertifiedKey;

use crate::backend::CompiledBackend;
use crate::backend::balance::Rotation;
use crate::filter::state::State;
use crate::forward::is_trusted;
use crate::metrics::{ListenerMetrics, RouteUse};
use crate::sketch::selected::Names;
use crate::tls::client::ClientPolicy;
use crate::tls::config::SpokenTls;

/// A persistent map with a fast hash: a clone is a pointer, a change copies a path.
pub(crate) type Map<K, V> =
    imbl::GenericHashMap<K, V, foldhash::fast::RandomState, imbl::shared_ptr::DefaultSharedPtr>;

/// All that a request is decided by. Never changes; a clone shares everything.
#[derive(Clone)]
pub(crate) struct Table {
    pub(crate) snapshot: Snapshot,
    pub(crate) routes: Index<Arc<CompiledRoute>>,
    /// By the address that the Listeners were given.
    pub(crate) sockets: Arc<std::collections::HashMap<SocketAddr, CompiledSocket>>,
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

/// The Listeners of one address and port, and what they have in common.
#[derive(Clone, Debug)]
pub(crate) struct CompiledSocket {
    pub(crate) opening: Opening,
    /// The most special host first.
    pub(crate) listeners: Vec<CompiledListener>,
    /// Who speaks the PROXY protocol here; nobody if absent.
    pub(crate) proxy_from: Option<Arc<[IpNet]>>,
    pub(crate) connections_max: Option<usize>,
}

impl CompiledSocket {
    /// Whether `address` must say by the PROXY protocol whom it speaks for.
    pub(crate) fn speaks_for_others(&self, address: IpAddr) -> bool {
        self.proxy_from.as_ref().is_some_and(|from| is_trusted(address.to_canonical(), from))
    }

    /// Whether some name here asks clients for certificates.
    pub(crate) fn asks_clients(&self) -> bool {
        self.listeners
            .iter()
            .any(|listener| listener.tls.as_ref().is_some_and(SpokenTls::asks_clients))
    }
}

/// A Listener as it is looked up for each request.
#[derive(Clone, Debug)]
pub(crate) struct CompiledListener {
    pub(crate) id: ListenerId,
    pub(crate) protocol: Protocol,
    pub(crate) host: HostMatch,
    pub(crate) default_certificate: Option<CertificateId>,
    /// How TLS is spoken; absent where it is not ended.
    pub(crate) tls: Option<SpokenTls>,
    pub(crate) metrics: Arc<ListenerMetrics>,
}

/// The certificates of one Listener by TLS name.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerNames {
    pub(crate) exact: Map<Box<str>, NamedTls>,
    pub(crate) one_label_below: Map<Box<str>, NamedTls>,
}

impl ServerNames {
    /// What is said under `name` itself.
    pub(crate) fn find(&self, name: &str) -> Option<&NamedTls> {
        let below = || {
            let (_, parent) = name.split_once('.')?;
            self.one_label_below.get(parent)
        };
        self.exact.get(name).or_else(below)
    }
}

/// What TLS says under one name.
#[derive(Clone, Debug)]
pub(crate) struct NamedTls {
    pub(crate) certificate: CertificateId,
    /// What is asked of clients; absent: what the Listener says.
    pub(crate) policy: Option<Arc<ClientPolicy>>,
}

/// A Route ready to be carried out.
#[derive(Debug)]
pub(crate) struct CompiledRoute {
    pub(crate) route: Arc<Route>,
    /// What its Filters remember, in their order; empty where none does.
    pub(crate) states: Box<[State]>,
    /// How the targets of a `Forward` take turns; absent where one gets everything.
    pub(crate) rotation: Option<Box<Rotation>>,
    /// Also knows its name.
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
        let listeners = &self.sockets.get(&socket)?.listeners;
        listeners.iter().find(|listener| listener.host.accepts(host))
    }

    /// What the Listeners of a socket have in common.
    pub(crate) fn socket(&self, socket: SocketAddr) -> Option<&CompiledSocket> {
        self.sockets.get(&socket)
    }

    /// The certificate for `name` on this socket: its own, then the default of the Listener.
    pub(crate) fn certificate(
        &self,
        socket: SocketAddr,
        name: Option<&str>,
    ) -> Option<&Arc<CertifiedKey>> {
        self.certificates.get(self.terms(socket, name)?.certificate?)
    }
}

#[cfg(test)]
mod tests;
