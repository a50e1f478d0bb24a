//! The one writer of Tables.

mod heal;
mod refuse;

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use kubeng_config::canonical::Digest;
use kubeng_config::certificate::Secret;
use kubeng_config::delta::{AnyPart, Delta, PartKey};
use kubeng_config::endpoint::EndpointSet;
use kubeng_config::filter::Filter;
use kubeng_config::name::{BackendId, RouteId, SecretId};
use kubeng_config::snapshot::Snapshot;
use tokio::sync::watch;

use crate::backend::BackendState;
use crate::backend::probe::{AllAsked, Asked};
use crate::backend::resolve::{self, AllNamed, Answers, Named, Unresolved};
use crate::compile::{Compiled, Compiler, KeyCache, Rejection};
use crate::filter::state::Memory;
use crate::listener::{Sockets, Unbound, Wanted};
use crate::shared::Shared;
use crate::table::{CompiledRoute, Map, Table};
use crate::tls::config::TlsCache;

/// Puts Tables in place. There is one for each replica.
pub struct TableWriter {
    pub(crate) shared: Arc<Shared>,
    /// The keys of all certificates that are served, and what Filters need.
    pub(super) secrets: Map<SecretId, Secret>,
    keys: KeyCache,
    memory: Memory,
    tls: TlsCache,
    sockets: Sockets,
    names: Names,
    /// The Backends whose Endpoints are asked whether they are well.
    asked: watch::Sender<AllAsked>,
    /// Routes that answer 503 on this replica alone, with what served them before.
    refused: BTreeMap<RouteId, Option<Arc<CompiledRoute>>>,
}

/// What is exchanged with the resolver of names.
pub(crate) struct Names {
    pub(crate) named: watch::Sender<AllNamed>,
    pub(crate) answers: watch::Receiver<Answers>,
}

/// Secrets that were served at one moment.
#[derive(Clone)]
pub struct Secrets(pub(crate) Map<SecretId, Secret>);

/// A Delta is served.
#[derive(Debug)]
pub struct Applied {
    /// The digest of what is served.
    pub digest: Digest,
    /// Ports that could not be opened; [`TableWriter::retry_ports`] tries them again.
    pub unbound: Vec<Unbound>,
}

impl TableWriter {
    pub(crate) fn new(
        shared: Arc<Shared>,
        sockets: Sockets,
        names: Names,
        asked: watch::Sender<AllAsked>,
    ) -> Self {
        let memory = Memory::new(shared.key_sets.clone());
        Self {
            shared,
            secrets: Map::default(),
            keys: KeyCache::default(),
            memory,
            tls: TlsCache::default(),
            sockets,
            names,
            asked,
            refused: BTreeMap::new(),
        }
    }

    /// Serves what `delta` leads to: compiles what it touches, puts the Endpoints of its Backends in
    /// place, swaps once, then opens and closes ports.
    ///
    /// # Errors
    /// When it does not fit, or a part of it cannot be served. Nothing has changed then.
    pub fn apply(&mut self, delta: &Delta) -> Result<Applied, Rejection> {
        #[cfg(debug_assertions)]
        if let Some(rejection) = crate::tamper::reject::rejection() {
            return Err(rejection);
        }
        let before = self.shared.table.load_full();
        self.apply_to(&before, delta)
    }

    /// Serves what `delta` leads to from `before`, in the place of what serves.
    fn apply_to(&mut self, before: &Table, delta: &Delta) -> Result<Applied, Rejection> {
        let replaced = self.put_secrets(delta);
        let answers = self.names.answers.borrow();
        let mut compiler = Compiler {
            secrets: &self.secrets,
            keys: &mut self.keys,
            memory: &self.memory,
            answers: &answers,
            reserved: &self.shared.reserved,
            metrics: &self.shared.metrics,
            shared: &Arc::downgrade(&self.shared),
            tls: &mut self.tls,
        };
        let compiled = compiler.compile(before, delta);
        // The resolver waits for it.
        drop(answers);
        let Compiled { mut table, endpoints, remembering, backends } = match compiled {
            Ok(compiled) => compiled,
            Err(rejection) => {
                self.take_back(replaced);
                return Err(rejection);
            }
        };
        remembering.iter().for_each(|route| self.memory.keep(route));
        let touched: Vec<_> = removed_backends(delta).chain(backends).collect();
        self.put_endpoints(&touched, before, &table, &endpoints);
        self.refuse_again(&mut table);
        let table = Arc::new(table);
        self.shared.table.store(table.clone());
        self.ask(&touched, &table);
        self.forget_unused(delta, &before.snapshot, &table.snapshot);
        // `Snapshot::with` has checked that the Delta led where it says.
        Ok(Applied { digest: delta.target, unbound: self.become_like(&table) })
    }

    /// Puts Endpoints in place, beside the configuration. A Backend that is not served is passed over.
    pub fn set_endpoints(&self, sets: &[(BackendId, Arc<EndpointSet>)]) {
        let table = self.shared.table.load();
        for (id, set) in sets {
            if let Some(backend) = table.backends.get(id) {
                backend.state.store(set);
            }
        }
    }

    /// From here on `replicas` share out what is the fleet's, such as rate limits. Nothing that was
    /// used up is forgotten.
    pub fn set_replicas(&self, replicas: NonZeroU32) {
        self.memory.set_replicas(replicas);
    }

    /// The private keys and other secrets that are served, for the disk. A clone is a pointer.
    #[must_use]
    pub fn secrets(&self) -> Secrets {
        Secrets(self.secrets.clone())
    }

    /// Tries the ports again that could not be opened; gives those that still cannot.
    pub fn retry_ports(&mut self) -> Vec<Unbound> {
        let table = self.shared.table.load_full();
        self.become_like(&table)
    }

    /// What is served.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.table.load().snapshot.clone()
    }

    /// The Endpoints of a Backend now, with names resolved; None when it is not served.
    #[must_use]
    pub fn endpoints(&self, id: &BackendId) -> Option<Arc<EndpointSet>> {
        self.shared.table.load().backends.get(id).map(|backend| backend.state.endpoints())
    }

    /// The names of Backends that lead nowhere, or cannot be resolved any more, at this moment.
    ///
    /// Cheap to ask every few seconds: nothing is resolved for it.
    #[must_use]
    pub fn unresolved(&self) -> Vec<Unresolved> {
        let Names { named, answers } = &self.names;
        resolve::unresolved(&named.borrow(), &answers.borrow())
    }

    /// Where connections are taken: the address that a Listener was given, and the real one, which
    /// differs where port 0 was asked for.
    #[must_use]
    pub fn open_ports(&self) -> Vec<(SocketAddr, SocketAddr)> {
        self.sockets.open().collect()
    }

    fn become_like(&mut self, table: &Table) -> Vec<Unbound> {
        let wanted = table.sockets.iter().map(|(&address, socket)| {
            let names = socket.listeners.iter().map(|listener| &listener.id);
            let elsewhere = names.filter_map(|id| self.shared.listen.get(id)).next().copied();
            (address, Wanted { opening: socket.opening, at: elsewhere.unwrap_or(address) })
        });
        let wanted: BTreeMap<SocketAddr, Wanted> = wanted.collect();
        self.sockets.become_like(&wanted)
    }

    /// Tells which Backends want their Endpoints to be asked.
    fn ask(&self, touched: &[BackendId], table: &Table) {
        self.asked.send_if_modified(|all| {
            let mut is_other = false;
            for id in touched {
                match table.backends.get(id).and_then(|backend| Asked::of(backend)) {
                    Some(asked) => {
                        is_other = true;
                        all.insert(id.clone(), asked);
                    }
                    None => is_other |= all.remove(id).is_some(),
                }
            }
            is_other
        });
    }

    /// Puts Endpoints in place, and tells the resolver which names there are.
    fn put_endpoints(
        &self,
        touched: &[BackendId],
        before: &Table,
        after: &Table,
        endpoints: &[(Arc<BackendState>, Arc<EndpointSet>)],
    ) {
        let store = || endpoints.iter().for_each(|(state, set)| state.store(set));
        let has_names = |table: &Table, id: &BackendId| {
            let backend = table.backends.get(id);
            backend.is_some_and(|backend| {
                resolve::written(&backend.spec).is_some_and(resolve::has_names)
            })
        };
        let touched: Vec<_> =
            touched.iter().filter(|id| has_names(before, id) || has_names(after, id)).collect();
        if touched.is_empty() {
            return store();
        }
        self.names.named.send_modify(|named| {
            // In the same breath: the resolver stores under this lock as well.
            store();
            for &id in &touched {
                match after.backends.get(id).filter(|_| has_names(after, id)) {
                    Some(backend) => {
                        let state = Arc::downgrade(&backend.state);
                        let reserved = self.shared.reserved.clone();
                        let one = Named { spec: backend.spec.clone(), reserved, state };
                        named.insert(id.clone(), one);
                    }
                    None => drop(named.remove(id)),
                }
            }
        });
    }

    /// Puts the keys of `delta` in; gives what they replace.
    fn put_secrets(&mut self, delta: &Delta) -> Vec<(SecretId, Option<Secret>)> {
        let put = delta.secrets.iter().cloned();
        put.map(|(id, secret)| (id.clone(), self.secrets.insert(id, secret))).collect()
    }

    fn take_back(&mut self, replaced: Vec<(SecretId, Option<Secret>)>) {
        // Backwards, for a key may have come twice.
        for (id, before) in replaced.into_iter().rev() {
            match before {
                Some(secret) => drop(self.secrets.insert(id, secret)),
                None => drop(self.secrets.remove(&id)),
            }
        }
    }

    /// Forgets keys of `delta` and of what it removed that no certificate and no Filter uses; they
    /// are wiped when freed.
    fn forget_unused(&mut self, delta: &Delta, before: &Snapshot, after: &Snapshot) {
        let old_key = |id| before.certificates().get(id).map(|part| part.value().key.clone());
        let mut doubtful: HashSet<SecretId> =
            delta.secrets.iter().map(|(id, _)| id.clone()).collect();
        doubtful.extend(delta.removed.iter().filter_map(|key| match key {
            PartKey::Certificate(id) => old_key(id),
            PartKey::Listener(_)
            | PartKey::Policy(_)
            | PartKey::Backend(_)
            | PartKey::ServerName(_)
            | PartKey::Route(_) => None,
        }));
        for part in &delta.upserts {
            if let AnyPart::Certificate(id, part) = part {
                doubtful.extend(old_key(id));
                doubtful.remove(&part.value().key);
            }
        }
        doubtful.extend(touched_routes(delta).flat_map(|id| filter_secrets(before, id)));
        if doubtful.is_empty() {
            return;
        }
        for (_, part) in after.certificates().iter() {
            doubtful.remove(&part.value().key);
        }
        for (_, part) in after.routes().iter() {
            for id in part.value().filters.iter().filter_map(Filter::secret) {
                doubtful.remove(id);
            }
        }
        for id in &doubtful {
            self.secrets.remove(id);
        }
    }
}

/// The Routes that are put in or taken out.
fn touched_routes(delta: &Delta) -> impl Iterator<Item = &RouteId> {
    let put = delta.upserts.iter().filter_map(|part| match part {
        AnyPart::Route(id, _) => Some(id),
        AnyPart::Listener(..)
        | AnyPart::Policy(..)
        | AnyPart::Backend(..)
        | AnyPart::Certificate(..)
        | AnyPart::ServerName(..) => None,
    });
    put.chain(delta.removed.iter().filter_map(|key| match key {
        PartKey::Route(id) => Some(id),
        PartKey::Listener(_)
        | PartKey::Policy(_)
        | PartKey::Backend(_)
        | PartKey::Certificate(_)
        | PartKey::ServerName(_) => None,
    }))
}

/// What the Filters of a Route need.
fn filter_secrets(of: &Snapshot, id: &RouteId) -> Vec<SecretId> {
    let route = of.routes().get(id);
    route.map_or_else(Vec::new, |part| {
        part.value().filters.iter().filter_map(Filter::secret).cloned().collect()
    })
}

/// The Backends that are taken out.
fn removed_backends(delta: &Delta) -> impl Iterator<Item = BackendId> {
    delta.removed.iter().cloned().filter_map(|key| match key {
        PartKey::Backend(id) => Some(id),
        PartKey::Listener(_)
        | PartKey::Policy(_)
        | PartKey::Certificate(_)
        | PartKey::ServerName(_)
        | PartKey::Route(_) => None,
    })
}
