//! Asks Endpoints whether they are well: once for each Backend of a replica, beside the workers.

pub(crate) mod ask;
mod grpc;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use kubeng_config::backend::Backend;
use kubeng_config::backend::health::HealthCheck;
use kubeng_config::name::BackendId;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::balance::consistent_hash::hash_of;
use super::member::Member;
use super::{BackendState, CompiledBackend};
use ask::Asker;

/// What the last questions said about one Endpoint. Until it was found unwell it counts as well.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// A [`Health`].
    health: AtomicU8,
    /// Answers in a row that say otherwise.
    against: AtomicU32,
    /// What was wrong with the last bad answer.
    fault: Mutex<Option<Box<str>>>,
}

/// What is known of the health of an Endpoint by asking it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// It was not asked, or not often enough.
    Unknown,
    /// It answers as it should.
    Well,
    /// It does not; it gets no requests while enough others are there.
    Unwell,
}

impl Health {
    fn of(number: u8) -> Self {
        match number {
            1 => Self::Well,
            2 => Self::Unwell,
            _ => Self::Unknown,
        }
    }

    /// The name, in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Well => "well",
            Self::Unwell => "unwell",
        }
    }
}

impl Verdict {
    pub(crate) fn health(&self) -> Health {
        Health::of(self.health.load(Ordering::Relaxed))
    }

    /// Whether it was found unwell.
    pub(crate) fn is_unwell(&self) -> bool {
        self.health() == Health::Unwell
    }

    /// What was wrong with the last bad answer; None while it is well.
    pub(crate) fn fault(&self) -> Option<Box<str>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes one answer in; gives what it is from here on, when that is something else. Only the one
    /// who asks calls it.
    fn note(&self, answer: Result<(), Box<str>>, rule: &HealthCheck) -> Option<Health> {
        let (health, is_good) = (self.health(), answer.is_ok());
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = answer.err();
        let (next, needed) = match (health, is_good) {
            (Health::Well, true) | (Health::Unwell, false) => {
                self.against.store(0, Ordering::Relaxed);
                return None;
            }
            (Health::Unknown, true) => (Health::Well, 1),
            (Health::Unwell, true) => (Health::Well, rule.healthy_after),
            (Health::Unknown | Health::Well, false) => (Health::Unwell, rule.unhealthy_after),
        };
        let against = self.against.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if against < u32::from(needed) {
            return None;
        }
        self.set(next);
        Some(next)
    }

    fn set(&self, health: Health) {
        self.against.store(0, Ordering::Relaxed);
        self.health.store(health as u8, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn set_unwell(&self, is_unwell: bool) {
        self.set(if is_unwell { Health::Unwell } else { Health::Well });
    }
}

/// A Backend whose Endpoints are asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    spec: Arc<Backend>,
    asker: Arc<Asker>,
    /// Gone when no Table uses it any more.
    state: Weak<BackendState>,
}

impl Asked {
    /// What `backend` wants; None when it does not want to be asked.
    pub(crate) fn of(backend: &CompiledBackend) -> Option<Self> {
        backend.spec.resilience.as_ref()?.health.as_ref()?;
        let (spec, state) = (backend.spec.clone(), Arc::downgrade(&backend.state));
        Some(Self { asker: Arc::new(Asker::of(backend)), spec, state })
    }

    fn check(&self) -> Option<&HealthCheck> {
        self.spec.resilience.as_ref()?.health.as_ref()
    }
}

/// All such Backends, as the writer of Tables tells them.
pub(crate) type AllAsked = BTreeMap<BackendId, Asked>;

/// Asks until the writer is gone. Each Backend has a task, each question one below it; all end with it.
pub(crate) async fn run(mut asked: watch::Receiver<AllAsked>) {
    let turns = Arc::new(Semaphore::new(QUESTIONS_MAX));
    let mut running: BTreeMap<BackendId, (Asked, JoinSet<()>)> = BTreeMap::new();
    loop {
        let wanted = asked.borrow_and_update().clone();
        running.retain(|id, (before, _)| {
            let stays = wanted.get(id).is_some_and(|now| Arc::ptr_eq(&now.asker, &before.asker));
            if !stays {
                forget(before);
            }
            stays
        });
        for (id, now) in wanted {
            running.entry(id.clone()).or_insert_with(|| {
                let mut task = JoinSet::new();
                task.spawn(watch_over(id, now.clone(), turns.clone()));
                (now, task)
            });
        }
        if asked.changed().await.is_err() {
            return;
        }
    }
}

/// What was found by another check counts no more.
fn forget(asked: &Asked) {
    for member in asked.state.upgrade().iter().flat_map(|state| state.members()) {
        member.probed.set(Health::Unknown);
    }
}

/// Asks all Endpoints of one Backend, again and again, until it is gone.
async fn watch_over(id: BackendId, asked: Asked, turns: Arc<Semaphore>) {
    let Some(check) = asked.check().cloned() else { return };
    let mut round = 0_u64;
    loop {
        let Some(members) = asked.state.upgrade().map(|state| state.members()) else { return };
        let mut questions = JoinSet::new();
        for member in members {
            let (id, asker, check, turns) =
                (id.clone(), asked.asker.clone(), check.clone(), turns.clone());
            questions.spawn(async move {
                // Not all at the same moment.
                sleep(scatter(&member, round, check.interval / SCATTER)).await;
                // Never closed, so an error cannot come; it would only lift the bound.
                let _turn = turns.acquire().await;
                question(&id, &asker, &check, &member).await;
            });
        }
        while questions.join_next().await.is_some() {}
        sleep(check.interval.max(INTERVAL_MIN)).await;
        round += 1;
    }
}

async fn question(id: &BackendId, asker: &Asker, check: &HealthCheck, member: &Member) {
    let answer = match timeout(check.timeout, asker.ask(member.address)).await {
        Ok(answer) => answer,
        Err(_) => Err("no answer in time".into()),
    };
    let fault = answer.as_ref().err().cloned();
    match member.probed.note(answer, check) {
        Some(Health::Unwell) => {
            let fault = fault.unwrap_or_default();
            tracing::warn!(backend = %id, endpoint = %member.address, fault, "endpoint unwell");
        }
        Some(Health::Well | Health::Unknown) => {
            tracing::info!(backend = %id, endpoint = %member.address, "endpoint well");
        }
        None => {}
    }
}

fn scatter(member: &Member, round: u64, most: Duration) -> Duration {
    let text = format!("{} {round}", member.address);
    let part = u32::try_from(hash_of(text.as_bytes()) % 1024).unwrap_or(0);
    most * part / 1024
}

/// Questions at once, of all Backends.
const QUESTIONS_MAX: usize = 64;
/// The part of an interval over which questions are scattered.
const SCATTER: u32 = 10;
/// Whatever is configured.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use kubeng_config::backend::health::Probe;

    use super::*;

    fn notes(rule: &HealthCheck, answers: &str) -> String {
        let verdict = Verdict::default();
        let note = |answer: char| {
            let answer = if answer == '+' { Ok(()) } else { Err("bad".into()) };
            verdict.note(answer, rule);
            match verdict.health() {
                Health::Unknown => '?',
                Health::Well => '+',
                Health::Unwell => '-',
            }
        };
        answers.chars().map(note).collect()
    }

    #[test]
    fn health_changes_with_as_many_answers_in_a_row_as_the_rule_says() {
        let rule = HealthCheck::new(Probe::Tcp);
        // Three bad ones in a row take it out, two good ones bring it back.
        assert_eq!(notes(&rule, "+--+---++-"), "++++++--++");
        assert_eq!(notes(&rule, "--"), "??", "it counts as well until the third");
        assert_eq!(notes(&rule, "---+-+++"), "??----++");
        let quick = HealthCheck { unhealthy_after: 1, healthy_after: 1, ..rule };
        assert_eq!(notes(&quick, "-+-+"), "-+-+");
    }

    #[test]
    fn a_fault_is_told_while_it_lasts() {
        let (verdict, rule) = (Verdict::default(), HealthCheck::new(Probe::Tcp));
        verdict.note(Err("refused".into()), &rule);
        assert_eq!(verdict.fault().as_deref(), Some("refused"));
        verdict.note(Ok(()), &rule);
        assert_eq!(verdict.fault(), None);
    }
}
