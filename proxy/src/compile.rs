//! Delta to Table, reusing what did not change.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Instant;

use kubeng_config::backend::Backend;
use kubeng_config::canonical::Digest;
use kubeng_config::certificate::{Certificate, Secret, ServerName, ServerNameId};
use kubeng_config::delta::{AnyPart, Delta, PartKey};
use kubeng_config::endpoint::EndpointSet;
use kubeng_config::matching::HostMatch;
use kubeng_config::name::{BackendId, CertificateId, RouteId, SecretId};
use kubeng_config::part::Part;
use kubeng_config::route::{Action, Route};
use kubeng_config::snapshot::{Snapshot, SnapshotError};
use rustls::sign::CertifiedKey;

use crate::backend::balance::{Schedule, Turn};
use crate::backend::{BackendState, CompiledBackend, resolve, tls};
use crate::metrics::{Metrics, RouteUse};
use crate::table::{CompiledListener, CompiledRoute, Table};
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
    pub(crate) secrets: &'a HashMap<SecretId, Secret>,
    pub(crate) keys: &'a mut KeyCache,
    /// What is known of names.
    pub(crate) answers: &'a resolve::Answers,
    pub(crate) metrics: &'a Metrics,
}

/// A Table that is ready, and the Endpoints that must be in place before it serves.
pub(crate) struct Compiled {
    pub(crate) table: Table,
    pub(crate) endpoints: Vec<(Arc<BackendState>, Arc<EndpointSet>)>,
}

impl Compiler<'_> {
    /// The Table that `delta` leads to from `before`. Has no effect on what serves.
    pub(crate) fn compile(&mut self, before: &Table, delta: &Delta) -> Result<Compiled, Rejection> {
        let snapshot = before.snapshot.with(delta)?;
        let table = Table { snapshot, made: Instant::now(), ..before.clone() };
        let mut compiled = Compiled { table, endpoints: Vec::new() };
        let mut are_listeners_touched = false;
        for key in &delta.removed {
            are_listeners_touched |= matches!(key, PartKey::Listener(_));
            remove(&mut compiled.table, &before.snapshot, key);
        }
        for part in &delta.upserts {
            are_listeners_touched |= matches!(part, AnyPart::Listener(..));
            self.put(&mut compiled, before, part)?;
        }
        if are_listeners_touched {
            compiled.table.sockets = Arc::new(self.sockets(&compiled.table.snapshot));
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
            AnyPart::Backend(id, part) => self.put_backend(to, id, part.value()),
            AnyPart::Certificate(id, part) => {
                let secret = self.secrets.get(&part.value().key);
                let parsed = self.keys.parse(part, secret);
                let key =
                    parsed.map_err(|source| Rejection::Certificate { id: id.clone(), source })?;
                to.table.certificates.insert(id.clone(), key);
            }
            AnyPart::ServerName(id, part) => put_server_name(&mut to.table, id, part.value()),
            AnyPart::Route(id, part) => {
                if let Some(old) = before.snapshot.routes().get(id) {
                    to.table.routes.remove(id, old.value());
                    to.table.names.remove(old.value());
                }
                put_route(&mut to.table, id, part.value(), self.metrics.of_route(id));
            }
        }
        Ok(())
    }

    fn put_backend(&self, to: &mut Compiled, id: &BackendId, spec: &Arc<Backend>) {
        let known = to.table.backends.get(id).map(|backend| backend.state.clone());
        let state = known.unwrap_or_default();
        if let Some(written) = resolve::written(spec) {
            let set = resolve::current(written, spec.addresses, self.answers, &state);
            to.endpoints.push((state.clone(), Arc::new(set)));
        }
        let backend = CompiledBackend {
            id: id.clone(),
            spec: spec.clone(),
            connection_key: tls::connection_key(spec),
            state,
            traffic: self.metrics.of_backend(id),
        };
        to.table.backends.insert(id.clone(), Arc::new(backend));
    }

    fn sockets(&self, snapshot: &Snapshot) -> HashMap<SocketAddr, Vec<CompiledListener>> {
        let mut sockets = HashMap::<SocketAddr, Vec<CompiledListener>>::new();
        for (id, part) in snapshot.listeners().iter() {
            let listener = part.value();
            sockets.entry(listener.address).or_default().push(CompiledListener {
                id: id.clone(),
                protocol: listener.protocol,
                host: listener.host.clone(),
                default_certificate: listener.default_certificate.clone(),
                metrics: self.metrics.of_listener(id),
            });
        }
        for listeners in sockets.values_mut() {
            // As `index::listener_for` decides: the most special host, then the smaller name.
            listeners.sort_by(|a, b| {
                b.host.specificity().cmp(&a.host.specificity()).then_with(|| a.id.cmp(&b.id))
            });
        }
        sockets
    }
}

fn put_server_name(table: &mut Table, id: &ServerNameId, value: &ServerName) {
    let mut names = table.server_names.get(&id.listener).cloned().unwrap_or_default();
    let inner = Arc::make_mut(&mut names);
    match &id.host {
        HostMatch::Exact(name) => {
            inner.exact.insert(name.as_str().into(), value.certificate.clone());
        }
        // A certificate never covers more than one label below a name (RFC 9525 section 6.3).
        HostMatch::OneLabelBelow(name) | HostMatch::AnyLabelsBelow(name) => {
            inner.one_label_below.insert(name.as_str().into(), value.certificate.clone());
        }
        // What is for every name is the default certificate of the Listener.
        HostMatch::Any => {}
    }
    table.server_names.insert(id.listener.clone(), names);
}

fn put_route(table: &mut Table, id: &RouteId, route: &Arc<Route>, usage: Arc<RouteUse>) {
    let schedule = match &route.action {
        Action::Forward(targets) => {
            Schedule::new(&targets.iter().map(|target| target.weight).collect::<Vec<_>>())
        }
        Action::Answer | Action::Refuse { .. } => Schedule::default(),
    };
    let compiled = CompiledRoute {
        id: id.clone(),
        route: route.clone(),
        schedule,
        turn: Turn::default(),
        usage,
    };
    table.names.insert(route);
    table.routes.insert(id, route, &Arc::new(compiled));
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
