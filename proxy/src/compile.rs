//! Delta to Table, reusing what did not change.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Instant;

use kubeng_config::address::Reserved;
use kubeng_config::backend::Backend;
use kubeng_config::canonical::Digest;
use kubeng_config::certificate::{
    Certificate, ClientCertificates, Secret, ServerName, ServerNameId,
};
use kubeng_config::delta::{AnyPart, Delta, PartKey};
use kubeng_config::endpoint::EndpointSet;
use kubeng_config::listener::{Listener, Protocol};
use kubeng_config::matching::HostMatch;
use kubeng_config::name::{BackendId, CertificateId, ListenerId, RouteId, SecretId};
use kubeng_config::part::Part;
use kubeng_config::route::{Action, Route};
use kubeng_config::snapshot::{Snapshot, SnapshotError};
use rustls::sign::CertifiedKey;

use crate::backend::balance::Rotation;
use crate::backend::{BackendState, CompiledBackend, resolve, tls};
use crate::filter::state::Memory;
use crate::metrics::Metrics;
use crate::shared::Shared;
use crate::table::{CompiledListener, CompiledRoute, CompiledSocket, Map, NamedTls, Table};
use crate::tls::client::{ClientPolicy, ClientPolicyError};
use crate::tls::config::{SpokenTls, TlsCache};
use crate::tls::{CertificateError, certified_key};

/// Why a Delta was rejected. Nothing has changed; the former Table goes on serving.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The Parts do not lead to a valid Snapshot.
    #[error("the delta does not fit")]
    Snapshot(#[from] SnapshotError),
    /// A certificate cannot be presented.
    #[error("certificate {id} cannot be presented")]
    Certificate {
        /// Which one.
        id: CertificateId,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// The authorities that vouch for clients cannot be used.
    #[error("clients of {part} cannot be verified")]
    ClientCertificates {
        /// The Listener or Server name that asks for them.
        part: Box<PartKey>,
        /// What is wrong with them.
        source: Box<ClientPolicyError>,
    },
    /// TLS cannot be spoken as a Listener says.
    #[error("TLS of listener {id} cannot be spoken as it says")]
    Tls {
        /// Which one.
        id: ListenerId,
        /// What the library says.
        source: rustls::Error,
    },
}

/// Parsed certificates by the digest of their Part, so that each is parsed once.
#[derive(Debug, Default)]
pub(crate) struct KeyCache(HashMap<Digest, Weak<CertifiedKey>>);

impl KeyCache {
    fn parse(
        &mut self,
        part: &Part<Certificate>,
        secret: Option<&Secret>,
    ) -> Result<Arc<CertifiedKey>, CertificateError> {
        if let Some(known) = self.0.get(&part.digest()).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let parsed = certified_key(part.value(), secret)?;
        self.0.retain(|_, key| key.strong_count() > 0);
        self.0.insert(part.digest(), Arc::downgrade(&parsed));
        Ok(parsed)
    }
}

/// What compiling reads beside the Delta.
pub(crate) struct Compiler<'a> {
    pub(crate) secrets: &'a Map<SecretId, Secret>,
    pub(crate) keys: &'a mut KeyCache,
    /// What Filters remember.
    pub(crate) memory: &'a Memory,
    /// What is known of names.
    pub(crate) answers: &'a resolve::Answers,
    /// What tenants may not name on this replica.
    pub(crate) reserved: &'a Reserved,
    pub(crate) metrics: &'a Metrics,
    /// Where certificates are looked up at each handshake.
    pub(crate) shared: &'a Weak<Shared>,
    pub(crate) tls: &'a mut TlsCache,
}

/// A Table that is ready, and the Endpoints that must be in place before it serves.
pub(crate) struct Compiled {
    pub(crate) table: Table,
    pub(crate) endpoints: Vec<(Arc<BackendState>, Arc<EndpointSet>)>,
    /// Routes whose Filters remember something.
    pub(crate) remembering: Vec<Arc<CompiledRoute>>,
    /// Backends that were made anew.
    pub(crate) backends: Vec<BackendId>,
}

impl Compiler<'_> {
    /// The Table that `delta` leads to from `before`. Has no effect on what serves.
    pub(crate) fn compile(&mut self, before: &Table, delta: &Delta) -> Result<Compiled, Rejection> {
        let snapshot = before.snapshot.with(delta)?;
        let table = Table { snapshot, made: Instant::now(), ..before.clone() };
        let mut compiled = Compiled {
            table,
            endpoints: Vec::new(),
            remembering: Vec::new(),
            backends: Vec::new(),
        };
        let asks_clients = |snapshot: &Snapshot, id: &ServerNameId| {
            let part = snapshot.server_names().get(id);
            part.is_some_and(|part| part.value().client_certificates.is_some())
        };
        let touches_sockets = |key: &PartKey, snapshot: &Snapshot| match key {
            PartKey::Listener(_) => true,
            PartKey::ServerName(id) => {
                asks_clients(&before.snapshot, id) || asks_clients(snapshot, id)
            }
            PartKey::Policy(_)
            | PartKey::Backend(_)
            | PartKey::Certificate(_)
            | PartKey::Route(_) => false,
        };
        let mut are_sockets_touched = false;
        for key in &delta.removed {
            are_sockets_touched |= touches_sockets(key, &compiled.table.snapshot);
            remove(&mut compiled.table, &before.snapshot, key);
        }
        for part in &delta.upserts {
            are_sockets_touched |= touches_sockets(&part.key(), &compiled.table.snapshot);
            self.put(&mut compiled, before, part)?;
        }
        // Behind all certificates, for a Backend may present one that has come or changed.
        for (id, spec) in touched_backends(&compiled.table.snapshot, delta) {
            self.put_backend(&mut compiled, &id, &spec);
            compiled.backends.push(id);
        }
        if are_sockets_touched {
            compiled.table.sockets = Arc::new(self.sockets(&compiled.table)?);
        }
        for (id, set) in &delta.endpoints {
            if let Some(backend) = compiled.table.backends.get(id) {
                compiled.endpoints.push((backend.state.clone(), set.clone()));
            }
        }
        Ok(compiled)
    }

    fn put(&mut self, to: &mut Compiled, before: &Table, part: &AnyPart) -> Result<(), Rejection> {
        match part {
            // All Listeners are compiled together, for those of one socket have an order.
            AnyPart::Listener(..) => {}
            AnyPart::Policy(id, part) => {
                to.table.policies.insert(id.clone(), part.value().clone());
            }
            // Behind all others.
            AnyPart::Backend(..) => {}
            AnyPart::Certificate(id, part) => {
                let secret = self.secrets.get(&part.value().key);
                let parsed = self.keys.parse(part, secret);
                let key =
                    parsed.map_err(|source| Rejection::Certificate { id: id.clone(), source })?;
                to.table.certificates.insert(id.clone(), key);
            }
            AnyPart::ServerName(id, part) => {
                let ServerName { certificate, client_certificates } = &**part.value();
                let asked = client_certificates.as_ref();
                let policy = asked.map(|asked| self.policy(&part_key(id), asked)).transpose()?;
                let named = NamedTls { certificate: certificate.clone(), policy };
                put_server_name(&mut to.table, id, named);
            }
            AnyPart::Route(id, part) => {
                if let Some(old) = before.snapshot.routes().get(id) {
                    to.table.routes.remove(id, old.value());
                    to.table.names.remove(old.value());
                }
                self.put_route(to, id, part.value());
            }
        }
        Ok(())
    }

    fn put_backend(&self, to: &mut Compiled, id: &BackendId, spec: &Arc<Backend>) {
        let known = to.table.backends.get(id).map(|backend| backend.state.clone());
        let state = known.unwrap_or_default();
        if let Some(written) = resolve::written(spec) {
            let terms = resolve::Terms::of(spec, self.reserved);
            let set = resolve::current(written, terms, self.answers, &state);
            to.endpoints.push((state.clone(), Arc::new(set)));
        }
        let presented = spec.tls.as_ref().and_then(|tls| tls.client_certificate.as_ref());
        let presented = presented.and_then(|id| to.table.certificates.get(id));
        let backend = CompiledBackend {
            id: id.clone(),
            spec: spec.clone(),
            connection_key: tls::connection_key(spec, presented),
            tls: tls::CompiledTls::of(id, spec, presented),
            state,
            traffic: self.metrics.of_backend(id),
        };
        to.table.backends.insert(id.clone(), Arc::new(backend));
    }

    fn put_route(&self, to: &mut Compiled, id: &RouteId, route: &Arc<Route>) {
        let rotation = match &route.action {
            Action::Forward(targets) => {
                Rotation::of(&targets.iter().map(|target| target.weight).collect::<Vec<_>>())
            }
            Action::Answer | Action::Refuse { .. } => None,
        };
        let compiled = Arc::new(CompiledRoute {
            route: route.clone(),
            states: self.memory.states(id, route, self.secrets),
            rotation: rotation.map(Box::new),
            usage: self.metrics.of_route(id),
        });
        to.table.names.insert(route);
        to.table.routes.insert(id, route, &compiled);
        if !compiled.states.is_empty() {
            to.remembering.push(compiled);
        }
    }

    fn policy(
        &mut self,
        part: &PartKey,
        asked: &ClientCertificates,
    ) -> Result<Arc<ClientPolicy>, Rejection> {
        let policy = self.tls.policy(asked);
        policy.map_err(|source| Rejection::ClientCertificates {
            part: Box::new(part.clone()),
            source: Box::new(source),
        })
    }

    fn sockets(&mut self, table: &Table) -> Result<HashMap<SocketAddr, CompiledSocket>, Rejection> {
        let mut sockets = HashMap::<SocketAddr, CompiledSocket>::new();
        for (id, part) in table.snapshot.listeners().iter() {
            let listener = part.value();
            let compiled = CompiledListener {
                id: id.clone(),
                protocol: listener.protocol,
                host: listener.host.clone(),
                default_certificate: listener.default_certificate.clone(),
                tls: self.spoken_tls(table, id, listener)?,
                metrics: self.metrics.of_listener(id),
            };
            // What all of a socket have in common; a Snapshot has no others.
            let socket = || CompiledSocket {
                opening: listener.protocol.opening(),
                listeners: Vec::new(),
                proxy_from: listener.proxy_protocol.as_ref().map(|proxy| proxy.from.clone().into()),
                connections_max: listener.connections_max.map(|max| max as usize),
            };
            sockets.entry(listener.address).or_insert_with(socket).listeners.push(compiled);
        }
        for CompiledSocket { listeners, .. } in sockets.values_mut() {
            // As `index::listener_for` decides: the most special host, then the smaller name.
            listeners.sort_by(|a, b| {
                b.host.specificity().cmp(&a.host.specificity()).then_with(|| a.id.cmp(&b.id))
            });
        }
        Ok(sockets)
    }

    fn spoken_tls(
        &mut self,
        table: &Table,
        id: &ListenerId,
        listener: &Listener,
    ) -> Result<Option<SpokenTls>, Rejection> {
        match listener.protocol {
            Protocol::Https => {}
            Protocol::Http | Protocol::Tcp | Protocol::TlsPassthrough => return Ok(None),
        }
        let asked = listener.client_certificates.as_ref();
        let key = PartKey::Listener(id.clone());
        let own = asked.map(|asked| self.policy(&key, asked)).transpose()?;
        let names = table.server_names.get(id).map(|names| &**names);
        let of_names = names.into_iter().flat_map(|names| {
            let all = names.exact.values().chain(names.one_label_below.values());
            all.filter_map(|named| named.policy.clone())
        });
        let spoken = SpokenTls::new(self.tls, self.shared, listener, own, of_names);
        spoken.map(Some).map_err(|source| Rejection::Tls { id: id.clone(), source })
    }
}

/// The Backends that `delta` puts in, and those that present a certificate which it puts in.
fn touched_backends(after: &Snapshot, delta: &Delta) -> BTreeMap<BackendId, Arc<Backend>> {
    let mut touched = BTreeMap::new();
    let mut are_presented_touched = false;
    for part in &delta.upserts {
        match part {
            AnyPart::Backend(id, part) => {
                touched.insert(id.clone(), part.value().clone());
            }
            AnyPart::Certificate(..) => are_presented_touched = true,
            AnyPart::Listener(..)
            | AnyPart::Policy(..)
            | AnyPart::ServerName(..)
            | AnyPart::Route(..) => {}
        }
    }
    if are_presented_touched {
        let is_put = |wanted: &CertificateId| {
            let mut put = delta.upserts.iter().map(AnyPart::key);
            put.any(|key| matches!(&key, PartKey::Certificate(id) if id == wanted))
        };
        for (id, part) in after.backends().iter() {
            let tls = part.value().tls.as_ref();
            if tls.and_then(|tls| tls.client_certificate.as_ref()).is_some_and(is_put) {
                touched.insert(id.clone(), part.value().clone());
            }
        }
    }
    touched
}

fn part_key(id: &ServerNameId) -> PartKey {
    PartKey::ServerName(id.clone())
}

fn put_server_name(table: &mut Table, id: &ServerNameId, named: NamedTls) {
    let mut names = table.server_names.get(&id.listener).cloned().unwrap_or_default();
    let inner = Arc::make_mut(&mut names);
    match &id.host {
        HostMatch::Exact(name) => {
            inner.exact.insert(name.as_str().into(), named);
        }
        // A certificate never covers more than one label below a name (RFC 9525 section 6.3).
        HostMatch::OneLabelBelow(name) | HostMatch::AnyLabelsBelow(name) => {
            inner.one_label_below.insert(name.as_str().into(), named);
        }
        // What is for every name is the default certificate of the Listener.
        HostMatch::Any => {}
    }
    table.server_names.insert(id.listener.clone(), names);
}

fn remove(table: &mut Table, before: &Snapshot, key: &PartKey) {
    match key {
        PartKey::Listener(_) => {}
        PartKey::Policy(id) => {
            table.policies.remove(id);
        }
        PartKey::Backend(id) => {
            table.backends.remove(id);
        }
        PartKey::Certificate(id) => {
            table.certificates.remove(id);
        }
        PartKey::ServerName(id) => remove_server_name(table, id),
        PartKey::Route(id) => {
            if let Some(old) = before.routes().get(id) {
                table.routes.remove(id, old.value());
                table.names.remove(old.value());
            }
        }
    }
}

fn remove_server_name(table: &mut Table, id: &ServerNameId) {
    let Some(mut names) = table.server_names.remove(&id.listener) else { return };
    let inner = Arc::make_mut(&mut names);
    match &id.host {
        HostMatch::Exact(name) => {
            inner.exact.remove(name.as_str());
        }
        HostMatch::OneLabelBelow(name) | HostMatch::AnyLabelsBelow(name) => {
            inner.one_label_below.remove(name.as_str());
        }
        HostMatch::Any => {}
    }
    if !inner.exact.is_empty() || !inner.one_label_below.is_empty() {
        table.server_names.insert(id.listener.clone(), names);
    }
}
