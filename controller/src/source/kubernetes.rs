//! The source that watches a Kubernetes API server.
//!
//! One task follows each kind, in each namespace that is watched: it lists page
//! by page, then watches from the version of the list. What has expired is
//! listed again, and nothing is told before a list is whole. Objects reach us
//! as plain values, so that one that cannot be decoded never costs a list.

mod board;
pub mod connection;
mod failure;
mod follow;
mod pauses;
mod raw;
pub(crate) mod scope;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kubeng_config::name::{ObjectKey, ObjectKind};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};

use super::{Received, Source};
use crate::object::{Event, SourceName};
use board::Board;
use connection::Connection;
use follow::{Known, Said, follow};
use scope::Scope;

/// Most things that tasks have said and nobody has taken.
const SAID_MAX: usize = 1024;

/// How an API server is watched.
#[derive(Clone, Debug)]
pub struct KubernetesSettings {
    /// The kubeconfig file; `None` for `KUBECONFIG`, `~/.kube/config` or the
    /// service account of the Pod, in this order.
    pub kubeconfig: Option<PathBuf>,
    /// The namespaces that are watched; none means all.
    pub namespaces: Vec<String>,
    /// Which Secrets are read.
    pub secrets: Secrets,
    /// The Secrets and ConfigMaps that are referenced.
    ///
    /// What is watched by reference is told as soon as a first set has been *sent* (an empty one
    /// counts, the value that the channel begins with does not) and every watch of it has answered.
    /// So the sender must not wait for Secrets and ConfigMaps before it sends.
    pub referenced: watch::Receiver<BTreeSet<ObjectKey>>,
}

/// Which Secrets are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Secrets {
    /// Those that are referenced, each by a watch of its own on a single name, as ConfigMaps are.
    Referenced,
    /// All of type `kubernetes.io/tls`. Needs the right to list Secrets.
    AllTls,
}

/// How long things take. Tests shorten it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// How long a watch lives before the server ends it.
    pub(crate) watch: Duration,
    /// How long a watch, or an answer, may be silent.
    pub(crate) silence: Duration,
    /// The first pause after a failure. It doubles each time, with jitter.
    pub(crate) pause_min: Duration,
    /// The longest pause.
    pub(crate) pause_max: Duration,
    /// How often a kind is looked for that the server does not have.
    pub(crate) absent: Duration,
    /// How much later a list that lost many objects is made again.
    pub(crate) second_list: Duration,
    /// Most objects of one page.
    pub(crate) page: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            watch: Duration::from_secs(55),
            silence: Duration::from_secs(60),
            pause_min: Duration::from_millis(800),
            pause_max: Duration::from_secs(30),
            absent: Duration::from_secs(30),
            second_list: Duration::from_secs(61),
            page: 500,
        }
    }
}

/// An API server that is watched.
///
/// What is there belongs to tenants. A kind whose definition is absent counts
/// as told and empty, and is looked for again.
#[derive(Debug)]
pub struct Kubernetes {
    name: SourceName,
    settings: KubernetesSettings,
    timing: Timing,
    connection: Arc<Connection>,
    board: Board,
    ready: VecDeque<Received>,
    /// The greatest version that was seen.
    read_to: u64,
    said: mpsc::Receiver<Said>,
    sender: mpsc::Sender<Said>,
    tasks: JoinSet<()>,
    followed: BTreeMap<Scope, AbortHandle>,
}

impl Kubernetes {
    /// Begins to watch. An unreachable server is tried again for ever.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn watch(settings: KubernetesSettings) -> Self {
        Self::watch_with(settings, Timing::default())
    }

    pub(crate) fn watch_with(settings: KubernetesSettings, timing: Timing) -> Self {
        let (sender, said) = mpsc::channel(SAID_MAX);
        let is_referenced = |kind: ObjectKind| match (kind, settings.secrets) {
            (ObjectKind::Secret, Secrets::AllTls) => false,
            (kind, Secrets::AllTls | Secrets::Referenced) => kind.is_referenced(),
        };
        let (by_reference, by_kind): (BTreeSet<ObjectKind>, BTreeSet<_>) =
            ObjectKind::ALL.into_iter().partition(|kind| is_referenced(*kind));
        let mut source = Self {
            name: SourceName("kubernetes".into()),
            connection: Arc::new(Connection::new(settings.kubeconfig.clone(), timing.silence)),
            board: Board::new(by_reference),
            ready: VecDeque::new(),
            read_to: 0,
            said,
            sender,
            tasks: JoinSet::new(),
            followed: BTreeMap::new(),
            settings,
            timing,
        };
        for kind in by_kind {
            for scope in Scope::of_kind(kind, &source.settings.namespaces) {
                source.follow(scope, Known::Nothing);
            }
        }
        source
    }

    fn follow(&mut self, scope: Scope, known: Known) {
        self.board.add(&scope);
        let (connection, sender) = (Arc::clone(&self.connection), self.sender.clone());
        let task = follow(scope.clone(), connection, self.timing, sender, known);
        self.followed.insert(scope, self.tasks.spawn(task));
    }

    /// Watches what is referenced, and no others of its kinds.
    fn refer(&mut self, referenced: &BTreeSet<ObjectKey>) {
        let is_wanted = |key: &&ObjectKey| {
            let namespaces = &self.settings.namespaces;
            self.board.is_by_reference(key.kind)
                && (namespaces.is_empty() || namespaces.iter().any(|name| **name == *key.namespace))
        };
        let wanted: BTreeSet<Scope> =
            referenced.iter().filter(is_wanted).map(Scope::of_object).collect();
        let unwanted: Vec<Scope> = self
            .followed
            .keys()
            .filter(|scope| self.board.is_by_reference(scope.kind) && !wanted.contains(*scope))
            .cloned()
            .collect();
        for scope in unwanted {
            if let Some(task) = self.followed.remove(&scope) {
                task.abort();
            }
            self.board.remove(&scope);
        }
        for scope in wanted {
            if !self.followed.contains_key(&scope) {
                self.follow(scope, Known::Nothing);
            }
        }
        self.board.know_references();
        self.take_events(std::time::Instant::now());
    }

    fn hear(&mut self, said: Said) {
        // A task that was stopped may have spoken before.
        if self.followed.contains_key(&said.scope) {
            if said.version > self.read_to {
                self.read_to = said.version;
                let event = Event::ReadTo(self.read_to);
                self.ready.push_back(Received { event, at: said.at });
            }
            self.board.take(&said.scope, said.what);
            self.take_events(said.at);
        }
    }

    fn take_events(&mut self, at: std::time::Instant) {
        let events = self.board.events();
        self.ready.extend(events.into_iter().map(|event| Received { event, at }));
    }

    /// A task never ends by itself: it was stopped, or has a fault of ours in
    /// it and begins anew.
    fn replace_ended(&mut self, ended: Result<(tokio::task::Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) if error.is_cancelled() => return,
            Err(error) => error.id(),
        };
        let scope = self.followed.iter().find(|(_, task)| task.id() == id);
        if let Some(scope) = scope.map(|(scope, _)| scope.clone()) {
            tracing::error!(%scope, "watch ended, beginning anew");
            self.follow(scope, Known::Perhaps);
        }
    }
}

impl Source for Kubernetes {
    fn name(&self) -> &SourceName {
        &self.name
    }

    async fn next(&mut self) -> Received {
        loop {
            if let Some(received) = self.ready.pop_front() {
                return received;
            }
            tokio::select! {
                Some(said) = self.said.recv() => self.hear(said),
                Some(ended) = self.tasks.join_next_with_id() => self.replace_ended(ended),
                referenced = next_references(&mut self.settings.referenced) => {
                    self.refer(&referenced);
                }
            }
        }
    }
}

/// Waits until another set is referenced.
async fn next_references(
    referenced: &mut watch::Receiver<BTreeSet<ObjectKey>>,
) -> BTreeSet<ObjectKey> {
    if referenced.changed().await.is_ok() {
        return referenced.borrow_and_update().clone();
    }
    std::future::pending().await
}
