//! Which controller may write: a Lease in Kubernetes, renewed while it is held.
//!
//! Only time that passes here counts, on the monotonic clock; times that other
//! machines wrote are compared for equality and never read. A lease is not a
//! fence: whoever writes asks [`Leadership::epoch_at`] right before.

pub(crate) mod lease;
pub mod lock;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use kubeng_config::statement::Epoch;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cluster::{Access, AskError, FIELD_MANAGER};
use lease::{Attempt, Candidate, Record};

/// Whether this process may write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Leadership {
    /// Another one does, or nobody.
    Follower,
    /// This one, for a while.
    Leader {
        /// The number of the term; a later one is higher. `leaseTransitions` of the Lease.
        epoch: u64,
        /// The end of the term unless it is renewed before.
        until: Instant,
    },
}

impl Leadership {
    /// The epoch in which a write may begin at `now`.
    ///
    /// A process that was stopped for a while learns here that its term has ended.
    #[must_use]
    pub fn epoch_at(self, now: Instant) -> Option<u64> {
        match self {
            Self::Leader { epoch, until } if now < until => Some(epoch),
            Self::Leader { .. } | Self::Follower => None,
        }
    }
}

/// What a controller says is of a term: that of the newest leader it knows of, itself or another one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Term {
    /// Whether this process leads.
    pub is_leader: bool,
    /// The newest epoch that this process knows of; zero before it knows of any.
    pub epoch: Epoch,
}

/// The Lease, and how it is kept.
#[derive(Clone, Debug)]
pub struct LeaderSettings {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub name: String,
    /// Who this process is; no two have the same. See [`identity`].
    pub identity: Arc<str>,
    /// How often, and for how long.
    pub pace: Pace,
}

/// How a Lease is kept. `retry` < `renew_within` < `duration`.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long others wait after they saw the last renewal; whole seconds.
    pub duration: Duration,
    /// A leader that could not renew for so long is none any more.
    pub renew_within: Duration,
    /// The pause between two tries.
    pub retry: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_within: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// A name for this process that no other one has: that of the machine and a random number.
#[must_use]
pub fn identity() -> Arc<str> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // The keys of a new `RandomState` are random, so the hash of nothing is.
    let random = RandomState::new().build_hasher().finish();
    format!("{}_{random:016x}", host.trim()).into()
}

/// Tries to lead and to go on leading until told to stop; then gives the Lease back.
pub(crate) async fn run(
    access: Access,
    settings: LeaderSettings,
    told: watch::Sender<Leadership>,
    term: Option<watch::Sender<Term>>,
    heard: Option<watch::Receiver<Epoch>>,
    stop: CancellationToken,
) {
    let candidate = Candidate::new(Arc::clone(&settings.identity), settings.pace);
    let mut elector = Elector { access, settings, candidate, told, term, heard, failing: None };
    loop {
        let wait = tokio::select! {
            () = stop.cancelled() => break,
            wait = elector.turn() => wait,
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
        }
    }
    elector.release().await;
}

/// The shell around a [`Candidate`]: reads and writes the Lease.
struct Elector {
    access: Access,
    settings: LeaderSettings,
    candidate: Candidate,
    told: watch::Sender<Leadership>,
    /// For those who sign what they say with the newest epoch.
    term: Option<watch::Sender<Term>>,
    /// The newest epoch that replicas have heard of from somebody who may say so.
    heard: Option<watch::Receiver<Epoch>>,
    /// Why the last try failed, so that the same is not logged again.
    failing: Option<String>,
}

impl Elector {
    /// One try; gives the time until the next one.
    async fn turn(&mut self) -> Duration {
        if let Some(Epoch(heard)) = self.heard.as_ref().map(|heard| *heard.borrow()) {
            // A term has the number before its epoch; theirs is over unless it is that of the Lease.
            let known = self.candidate.transitions().map(|known| known + 1);
            if known.is_some_and(|known| u64::from(heard) > known) {
                self.candidate.not_before(u64::from(heard));
            }
        }
        match self.attempt().await {
            Ok(()) => self.failing = None,
            Err(error) => self.failed(&error),
        }
        self.candidate.end_term_if_over(Instant::now());
        self.tell();
        let pause = self.candidate.pause(Instant::now());
        if self.term.is_some() { pause.min(LOOK_EVERY) } else { pause }
    }

    async fn attempt(&mut self) -> Result<(), AskError> {
        let LeaderSettings { namespace, name, .. } = &self.settings;
        if self.candidate.must_read() {
            // A request that hangs must not outlast the term.
            let patience = self.candidate.patience(Instant::now());
            let get = |client| async move { leases(client, namespace).get_opt(name).await };
            let lease = self.access.ask(patience, get).await?;
            self.candidate.saw(lease.map(|lease| Record::of(&lease)), Instant::now());
        }
        let sent = Instant::now();
        let patience = self.candidate.patience(sent);
        let written = match self.candidate.decide(sent) {
            Attempt::Wait => return Ok(()),
            Attempt::Create { record } => {
                let lease = record.lease(&self.settings, None, jiff::Timestamp::now());
                let create =
                    |client| async move { leases(client, namespace).create(&post(), &lease).await };
                self.access.ask(patience, create).await
            }
            Attempt::Replace { record, version } => {
                let lease = record.lease(&self.settings, Some(version), jiff::Timestamp::now());
                let replace = |client| async move {
                    leases(client, namespace).replace(name, &post(), &lease).await
                };
                self.access.ask(patience, replace).await
            }
        };
        match written {
            Ok(lease) => self.candidate.wrote(Record::of(&lease), sent),
            Err(error) => {
                // Whether it was written is not known; somebody may have been faster.
                self.candidate.forget();
                if !matches!(error.code(), Some(404 | 409)) || self.is_missing(&error) {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Whether it is the namespace that is not there: the Lease itself would be created.
    fn is_missing(&self, error: &AskError) -> bool {
        matches!(error, AskError::Refused { code: 404, message } if message.contains("namespaces"))
    }

    fn failed(&mut self, error: &AskError) {
        self.candidate.forget();
        let error = error.to_string();
        if self.failing.as_ref() != Some(&error) {
            let LeaderSettings { namespace, name, .. } = &self.settings;
            warn!(lease = %format!("{namespace}/{name}"), error, "cannot read or write the lease; without it this process writes no statuses and no Events");
            self.failing = Some(error);
        }
    }

    fn tell(&self) {
        let next = self.candidate.leadership();
        self.tell_term(next);
        let before = self.told.send_replace(next);
        match (before, next) {
            (Leadership::Leader { epoch: before, .. }, Leadership::Leader { epoch, .. })
                if before == epoch => {}
            (_, Leadership::Leader { epoch, .. }) => info!(epoch, "leading: statuses are written"),
            (Leadership::Leader { epoch, .. }, Leadership::Follower) => {
                warn!(epoch, "leading no more: the lease could not be renewed or was taken");
            }
            (Leadership::Follower, Leadership::Follower) => {}
        }
    }

    fn tell_term(&self, leadership: Leadership) {
        let (Some(term), Some(transitions)) = (&self.term, self.candidate.transitions()) else {
            return;
        };
        // A new Lease has gone to nobody yet, and no epoch is zero.
        let epoch = Epoch(u32::try_from(transitions).unwrap_or(u32::MAX).saturating_add(1));
        let is_leader = leadership.epoch_at(Instant::now()).is_some();
        term.send_if_modified(|known| {
            let next = Term { is_leader, epoch: epoch.max(known.epoch) };
            std::mem::replace(known, next) != next
        });
    }

    /// Gives the Lease back, so that another one need not wait for its end.
    async fn release(mut self) {
        self.told.send_replace(Leadership::Follower);
        self.tell_term(Leadership::Follower);
        let Some((record, version)) = self.candidate.farewell() else { return };
        let lease = record.lease(&self.settings, Some(version), jiff::Timestamp::now());
        let LeaderSettings { namespace, name, .. } = &self.settings;
        let replace =
            |client| async move { leases(client, namespace).replace(name, &post(), &lease).await };
        // A failure costs the others only the duration of the Lease.
        match self.access.ask(RELEASE_WITHIN, replace).await {
            Ok(_) => info!("lease given back"),
            Err(error) => warn!(%error, "the lease could not be given back"),
        }
    }
}

fn leases(client: Client, namespace: &str) -> Api<Lease> {
    Api::namespaced(client, namespace)
}

fn post() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.into()), dry_run: false }
}

/// How often it is looked who leads, where others must know the newest epoch.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The longest wait for the answer when the Lease is given back.
const RELEASE_WITHIN: Duration = Duration::from_secs(1);
