//! The one writer of Tables.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use kubeng_config::canonical::Digest;
use kubeng_config::certificate::Secret;
use kubeng_config::delta::{Delta, PartKey};
use kubeng_config::endpoint::EndpointSet;
use kubeng_config::listener::Protocol;
use kubeng_config::name::{BackendId, SecretId};
use kubeng_config::snapshot::Snapshot;
use tokio::sync::watch;

use crate::backend::resolve::{self, AllNamed, Named};
use crate::compile::{Compiled, Compiler, KeyCache, Rejection};
use crate::listener::{Sockets, Unbound};
use crate::shared::Shared;
use crate::table::Table;

/// Puts Tables in place. There is one for each replica.
pub struct TableWriter {
    shared: Arc<Shared>,
    /// The keys of all certificates that are served.
    secrets: HashMap<SecretId, Secret>,
    keys: KeyCache,
    sockets: Sockets,
    named: watch::Sender<Arc<AllNamed>>,
}

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
        named: watch::Sender<Arc<AllNamed>>,
    ) -> Self {
        Self { shared, secrets: HashMap::new(), keys: KeyCache::default(), sockets, named }
    }

    /// Serves what `delta` leads to: compiles what it touches, puts the Endpoints of its Backends in
    /// place, swaps once, then opens and closes ports.
    ///
    /// # Errors
    /// When it does not fit, or a part of it cannot be served. Nothing has changed then.
    pub fn apply(&mut self, delta: &Delta) -> Result<Applied, Rejection> {
        let before = self.shared.table.load_full();
        let with_new = (!delta.secrets.is_empty()).then(|| {
            let mut secrets = self.secrets.clone();
            secrets.extend(delta.secrets.iter().cloned());
            secrets
        });
        let mut compiler = Compiler {
            secrets: with_new.as_ref().unwrap_or(&self.secrets),
            keys: &mut self.keys,
            metrics: &self.shared.metrics,
        };
        let Compiled { table, endpoints } = compiler.compile(&before, delta)?;
        for (state, set) in endpoints {
            state.store(&set);
        }
        let table = Arc::new(table);
        self.shared.table.store(table.clone());
        if let Some(secrets) = with_new {
            self.secrets = secrets;
        }
        if touches(delta, |key| matches!(key, PartKey::Certificate(_))) {
            keep_used(&mut self.secrets, &table.snapshot);
        }
        if touches(delta, |key| matches!(key, PartKey::Backend(_))) {
            self.tell_names(&table);
        }
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

    /// Where connections are taken: the address that a Listener was given, and the real one, which
    /// differs where port 0 was asked for.
    #[must_use]
    pub fn open_ports(&self) -> Vec<(SocketAddr, SocketAddr)> {
        self.sockets.open().collect()
    }

    fn become_like(&mut self, table: &Table) -> Vec<Unbound> {
        let mut wanted = BTreeMap::<SocketAddr, Protocol>::new();
        for (&address, listeners) in table.sockets.iter() {
            // Of Listeners that disagree about their socket the first decides.
            if let Some(first) = listeners.first() {
                wanted.insert(address, first.protocol);
            }
        }
        self.sockets.become_like(&wanted, &self.shared)
    }

    /// Tells the resolver which names there are.
    fn tell_names(&self, table: &Table) {
        let mut all = AllNamed::new();
        for backend in table.backends.values() {
            if resolve::written(&backend.spec).is_some_and(resolve::has_names) {
                let state = Arc::downgrade(&backend.state);
                all.insert(backend.id.clone(), Named { spec: backend.spec.clone(), state });
            }
        }
        self.named.send_if_modified(|now| {
            let is_same = now.len() == all.len()
                && now.iter().zip(&all).all(|((id, one), (other_id, other))| {
                    id == other_id
                        && Arc::ptr_eq(&one.spec, &other.spec)
                        && one.state.ptr_eq(&other.state)
                });
            if !is_same {
                *now = Arc::new(all);
            }
            !is_same
        });
    }
}

/// Whether a Part with such a key is put in or taken out.
fn touches(delta: &Delta, is_such: impl Fn(&PartKey) -> bool) -> bool {
    delta.removed.iter().any(&is_such) || delta.upserts.iter().any(|part| is_such(&part.key()))
}

/// Forgets keys that no certificate uses; they are wiped when freed.
fn keep_used(secrets: &mut HashMap<SecretId, Secret>, snapshot: &Snapshot) {
    let used: std::collections::HashSet<&SecretId> =
        snapshot.certificates().iter().map(|(_, part)| &part.value().key).collect();
    secrets.retain(|id, _| used.contains(id));
}
