//! The registry: what is known of every replica, and questions to those that are there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use kubeng_config::heartbeat::Build;
use kubeng_config::name::FleetName;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::entry::{Entry, LiveLine, ReplicaId, ReplicaView, Wanted};
use super::strangers::{Stranger, Strangers};
use crate::distribution::feed::FleetFeeds;
use crate::distribution::{FromReplica, Hello, Question, Reply, ToReplica};

/// How many replicas have a line at one time.
pub const REPLICAS_MAX: usize = 1024;

/// How many replicas are known at one time; of more those are forgotten that were heard least lately.
pub const KNOWN_MAX: usize = 4096;

/// How many questions to one replica wait for a reply.
const QUESTIONS_MAX: usize = 8;

/// Why a question has no reply. It may be asked again.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AskError {
    /// Nothing is known of it.
    #[error("there is no replica {0}")]
    Unknown(ReplicaId),
    /// It has no line to this controller.
    #[error("replica {0} has no line to this controller; ask the one that it is connected to")]
    Away(ReplicaId),
    /// It has questions enough.
    #[error("replica {0} has not answered earlier questions yet")]
    Busy(ReplicaId),
    /// It did not reply in time, or its line ended.
    #[error("replica {replica} did not reply within {} s", .within.as_secs())]
    Silent {
        /// The replica.
        replica: ReplicaId,
        /// How long was waited.
        within: Duration,
    },
    /// It said why there is no reply.
    #[error("replica {replica} cannot answer: {why}")]
    Refused {
        /// The replica.
        replica: ReplicaId,
        /// What it said.
        why: String,
    },
}

/// What is known of every replica.
pub(crate) struct Registry {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    feeds: watch::Receiver<Arc<FleetFeeds>>,
    own: Build,
    strangers: Strangers,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<ReplicaId, Entry>,
    counts: BTreeMap<FleetName, watch::Sender<NonZeroU32>>,
    /// How many replicas of a fleet are at other controllers.
    elsewhere: BTreeMap<FleetName, u32>,
    connections: u64,
    questions: u64,
}

/// What a line needs to be driven.
pub(crate) struct Joined {
    pub(crate) connection: u64,
    pub(crate) ended: CancellationToken,
    pub(crate) asked: mpsc::Receiver<(u64, Question)>,
    pub(crate) count: watch::Receiver<NonZeroU32>,
}

impl Registry {
    pub(crate) fn new(feeds: watch::Receiver<Arc<FleetFeeds>>, own: Build) -> Self {
        let (state, changed) = (Mutex::default(), watch::Sender::new(0));
        Self { state, changed, feeds, own, strangers: Strangers::default() }
    }

    /// Puts replicas in that were known before this process began.
    pub(crate) fn remember(&self, known: impl IntoIterator<Item = Entry>) {
        let mut state = self.lock();
        for entry in known {
            state.entries.entry(entry.id.clone()).or_insert(entry);
        }
    }

    /// A replica has come; `None` when there are too many.
    pub(crate) fn join(&self, hello: &Hello, is_believed: bool) -> Option<Joined> {
        let id = ReplicaId { fleet: hello.fleet.clone(), name: hello.replica.clone() };
        let mut state = self.lock();
        let live = state.entries.values().filter(|entry| entry.line.is_some()).count();
        let is_back = state.entries.get(&id).is_some_and(|entry| entry.line.is_some());
        if live >= REPLICAS_MAX && !is_back {
            return None;
        }
        state.connections += 1;
        let connection = state.connections;
        let ended = CancellationToken::new();
        let (ask, asked) = mpsc::channel(QUESTIONS_MAX);
        let line =
            LiveLine { connection, ended: ended.clone(), ask, questions: BTreeMap::default() };
        let now = now();
        let build = hello.build.clone();
        let entry =
            state.entries.entry(id.clone()).or_insert_with(|| Entry::new(id.clone(), build, now));
        entry.joined(hello, line, is_believed, now);
        state.forget_oldest();
        let count = state.count(&id.fleet);
        drop(state);
        self.tell();
        Some(Joined { connection, ended, asked, count })
    }

    /// Its line has ended.
    pub(crate) fn left(&self, id: &ReplicaId, connection: u64) {
        let mut state = self.lock();
        if let Some(entry) = state.entries.get_mut(id) {
            entry.left(connection);
        }
        state.count(&id.fleet);
        drop(state);
        self.tell();
    }

    /// It is sent a message.
    pub(crate) fn sent(&self, id: &ReplicaId, message: &ToReplica) {
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(id) else { return };
        match message {
            ToReplica::Offer(offer) => entry.offered(offer, now()),
            ToReplica::Pulse(_) => entry.paced(now()),
            ToReplica::Endpoints { .. }
            | ToReplica::TellHoldings
            | ToReplica::Replicas(_)
            | ToReplica::Ask { .. } => return,
        }
        drop(state);
        self.tell();
    }

    /// It has said something.
    pub(crate) fn told(&self, id: &ReplicaId, message: &FromReplica) {
        if let Some(entry) = self.lock().entries.get_mut(id) {
            entry.told(message, now());
        }
        self.tell();
    }

    /// It has replied to a question.
    pub(crate) fn replied(&self, id: &ReplicaId, question: u64, reply: Result<Reply, String>) {
        let waiting = self
            .lock()
            .entries
            .get_mut(id)
            .and_then(|entry| entry.line.as_mut())
            .and_then(|line| line.questions.remove(&question));
        // Who asked may have gone in the meantime.
        let _gone = waiting.map(|waiting| waiting.send(reply));
    }

    /// Asks a replica, and waits for its reply.
    pub(crate) async fn ask(
        &self,
        id: &ReplicaId,
        question: Question,
        within: Duration,
    ) -> Result<Reply, AskError> {
        let (number, reply) = self.put(id, question)?;
        let told = tokio::time::timeout(within, reply).await;
        if let Some(line) = self.lock().entries.get_mut(id).and_then(|entry| entry.line.as_mut()) {
            line.questions.remove(&number);
        }
        match told {
            Ok(Ok(Ok(reply))) => Ok(reply),
            Ok(Ok(Err(why))) => Err(AskError::Refused { replica: id.clone(), why }),
            Ok(Err(_)) | Err(_) => Err(AskError::Silent { replica: id.clone(), within }),
        }
    }

    fn put(
        &self,
        id: &ReplicaId,
        question: Question,
    ) -> Result<(u64, oneshot::Receiver<Result<Reply, String>>), AskError> {
        let mut state = self.lock();
        state.questions += 1;
        let number = state.questions;
        let entry = state.entries.get_mut(id).ok_or_else(|| AskError::Unknown(id.clone()))?;
        let line = entry.line.as_mut().ok_or_else(|| AskError::Away(id.clone()))?;
        line.questions.retain(|_, waiting| !waiting.is_closed());
        if line.questions.len() >= QUESTIONS_MAX || line.ask.try_send((number, question)).is_err() {
            return Err(AskError::Busy(id.clone()));
        }
        let (answer, reply) = oneshot::channel();
        line.questions.insert(number, answer);
        Ok((number, reply))
    }

    /// Forgets a replica that is not there; `false` when it is, or nothing is known of it.
    pub(crate) fn forget(&self, id: &ReplicaId) -> bool {
        let mut state = self.lock();
        let is_gone = state.entries.get(id).is_some_and(|entry| entry.line.is_none());
        if is_gone {
            state.entries.remove(id);
        }
        drop(state);
        self.tell();
        is_gone
    }

    /// All replicas, or those of one fleet, judged at this moment.
    pub(crate) fn list(&self, fleet: Option<&FleetName>) -> Vec<ReplicaView> {
        let wanted = self.wanted();
        let now = now();
        let mut state = self.lock();
        state
            .entries
            .iter_mut()
            .filter(|(id, _)| fleet.is_none_or(|fleet| id.fleet == *fleet))
            .map(|(id, entry)| entry.view(wanted.get(&id.fleet), &self.own, now))
            .collect()
    }

    /// One replica, judged at this moment.
    pub(crate) fn get(&self, id: &ReplicaId) -> Option<ReplicaView> {
        let wanted = self.wanted();
        let mut state = self.lock();
        let entry = state.entries.get_mut(id)?;
        Some(entry.view(wanted.get(&id.fleet), &self.own, now()))
    }

    /// Reads or notes something about one replica.
    pub(crate) fn with<T>(&self, id: &ReplicaId, work: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let done = self.lock().entries.get_mut(id).map(work);
        self.tell();
        done
    }

    /// What `read` gives of every replica.
    pub(crate) fn each<T>(&self, read: impl Fn(&Entry) -> T) -> Vec<T> {
        self.lock().entries.values().map(read).collect()
    }

    /// How many replicas of each fleet are at other controllers.
    pub(crate) fn set_elsewhere(&self, elsewhere: BTreeMap<FleetName, u32>) {
        let mut state = self.lock();
        state.elsewhere = elsewhere;
        let fleets: Vec<FleetName> = state.counts.keys().cloned().collect();
        for fleet in fleets {
            state.count(&fleet);
        }
    }

    /// What must be known of every fleet to judge its replicas.
    pub(crate) fn wanted(&self) -> BTreeMap<FleetName, Wanted> {
        let feeds = Arc::clone(&self.feeds.borrow());
        feeds
            .iter()
            .map(|(name, feed)| {
                let target = feed.newest.borrow().snapshot.digest();
                (name.clone(), Wanted { care: feed.facts.care.clone(), target })
            })
            .collect()
    }

    pub(crate) fn feeds(&self) -> Arc<FleetFeeds> {
        Arc::clone(&self.feeds.borrow())
    }

    /// Whether all fleets are known, be it that there is none: then they have been told once. Nobody
    /// marks as seen what comes here.
    pub(crate) fn knows_all_fleets(&self) -> bool {
        self.feeds.has_changed().unwrap_or(true) || !self.feeds.borrow().is_empty()
    }

    /// A replica was turned away, for its fleet does not exist; gives whether the log is to tell it.
    pub(crate) fn turned_away(&self, id: &ReplicaId, address: IpAddr) -> bool {
        self.strangers.note(id, address, now())
    }

    /// Those that were turned away lately.
    pub(crate) fn strangers(&self) -> Vec<Stranger> {
        let feeds = self.feeds();
        self.strangers.list(|fleet| feeds.contains_key(fleet), now())
    }

    pub(crate) fn own(&self) -> &Build {
        &self.own
    }

    /// Changes whenever something is noted.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn tell(&self) {
        self.changed.send_modify(|number| *number += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Tells how many replicas of `fleet` are there.
    fn count(&mut self, fleet: &FleetName) -> watch::Receiver<NonZeroU32> {
        let here = self.entries.values();
        let here = here.filter(|entry| entry.id.fleet == *fleet && entry.line.is_some()).count();
        let elsewhere = self.elsewhere.get(fleet).copied().unwrap_or(0);
        let all = u32::try_from(here).unwrap_or(u32::MAX).saturating_add(elsewhere);
        let all = NonZeroU32::new(all).unwrap_or(NonZeroU32::MIN);
        let told =
            self.counts.entry(fleet.clone()).or_insert_with(|| watch::Sender::new(NonZeroU32::MIN));
        told.send_if_modified(|count| std::mem::replace(count, all) != all);
        told.subscribe()
    }

    fn forget_oldest(&mut self) {
        while self.entries.len() > KNOWN_MAX {
            let gone = self.entries.values().filter(|entry| entry.line.is_none());
            let Some(oldest) = gone.min_by_key(|entry| entry.heard).map(|entry| entry.id.clone())
            else {
                return;
            };
            self.entries.remove(&oldest);
        }
    }
}

/// The time since 1970.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
