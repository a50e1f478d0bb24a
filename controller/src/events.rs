//! Events about Ingresses and Upstreams: the leader only, once for each change of a verdict, paced and bounded.

mod note;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use kubeng_config::name::{ObjectKey, ObjectKind};
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::cluster::{ANSWER_WITHIN, Access, AskError, FIELD_MANAGER};
use crate::control::Control;
use crate::judged::{Judged, judged, upstreams};
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::object::Object;
use crate::pace::{Backoff, Bucket};
use crate::settings::CONTROLLER;
use crate::status::Publish;
use crate::translate::verdict::Verdict;
use note::{Note, Told};

/// Who reports, and where.
pub(crate) struct Reporter {
    pub(crate) access: Access,
    /// The name of this process.
    pub(crate) identity: Arc<str>,
    /// What statuses show: an Ingress that shows it was accepted in an earlier term.
    pub(crate) publish: Publish,
}

/// Writes Events for as long as it is let.
pub(crate) async fn run(
    reporter: Reporter,
    mut control: Control,
    mut leadership: watch::Receiver<Leadership>,
    metrics: Arc<Metrics>,
) {
    let mut events = Events { reporter, metrics, told: None, queue: Queue::default() };
    loop {
        let epoch = leadership.borrow_and_update().epoch_at(Instant::now());
        let Some(epoch) = epoch else {
            events.told = None;
            events.queue = Queue::default();
            if leadership.changed().await.is_err() {
                return;
            }
            continue;
        };
        events.look(&control);
        let looked = Instant::now();
        let mut has_news = false;
        while leadership.borrow().epoch_at(Instant::now()) == Some(epoch) {
            let now = Instant::now();
            if has_news && now >= looked + LOOK_EVERY_MIN {
                break;
            }
            let wait = events.queue.wait(now);
            if wait.is_some_and(|wait| wait.is_zero()) {
                events.write_next(epoch).await;
                continue;
            }
            let look = if has_news { Some(looked + LOOK_EVERY_MIN) } else { None };
            let wake = wait.map(|wait| now + wait).into_iter().chain(look).min();
            tokio::select! {
                is_there = control.changed(), if !has_news => {
                    if !is_there {
                        return;
                    }
                    has_news = true;
                }
                told = leadership.changed() => {
                    if told.is_err() {
                        return;
                    }
                }
                () = sleep_until(wake) => {}
            }
        }
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}

struct Events {
    reporter: Reporter,
    metrics: Arc<Metrics>,
    /// What was told of each Ingress; none before the first look of a term.
    told: Option<BTreeMap<ObjectKey, Told>>,
    queue: Queue,
}

impl Events {
    /// Puts what has changed since the last look into the queue.
    fn look(&mut self, control: &Control) {
        let state = control.now();
        if !state.is_ready() {
            return;
        }
        let is_first = self.told.is_none();
        let addresses = if is_first { self.reporter.publish.addresses(&state) } else { None };
        let told = self.told.get_or_insert_default();
        let mut ours = 0;
        for ingress in judged(&state) {
            let known = told.get(ingress.key);
            let Some((newest, mut notes)) = note::changes(&ingress.verdict, known) else {
                continue;
            };
            ours += 1;
            if known == Some(&newest) {
                continue;
            }
            told.insert(ingress.key.clone(), newest);
            if is_first && was_accepted_before(&ingress, addresses.as_deref()) {
                notes.retain(|note| note.reason != note::ACCEPTED);
            }
            if !notes.is_empty() {
                let dropped = self.queue.put(ingress.key, ingress.object, notes, is_first);
                self.metrics.events_dropped.inc_by(dropped);
            }
        }
        for (object, problems) in upstreams(&state) {
            let verdict = Verdict::Ours { problems: &problems };
            let known = told.get(&object.key);
            let Some((newest, mut notes)) = note::changes(&verdict, known) else { continue };
            ours += 1;
            if known == Some(&newest) {
                continue;
            }
            if known.is_none() {
                // That one is as it should be need not be said; that it is again must.
                notes.retain(|note| note.reason != note::ACCEPTED);
            }
            told.insert(object.key.clone(), newest);
            if !notes.is_empty() {
                let dropped = self.queue.put(&object.key, object, notes, is_first);
                self.metrics.events_dropped.inc_by(dropped);
            }
        }
        if told.len() > ours {
            told.retain(|key, _| {
                let is_upstream = key.kind == ObjectKind::Upstream;
                is_upstream && state.world().object(key).is_some()
                    || matches!(state.verdict(key), Some(Verdict::Ours { .. }))
            });
        }
    }

    async fn write_next(&mut self, epoch: u64) {
        let now = Instant::now();
        let Some((waiting, note)) = self.queue.take(now) else { return };
        // The name says what is told. So what was true at the beginning of a term
        // and was told by an earlier leader is not told twice.
        let object = &waiting.object;
        let event = self.reporter.event(object, &note, None);
        let mut written = self.reporter.write(&object.key, &event).await;
        if is_told_already(&written) {
            written = if waiting.is_first {
                Ok(())
            } else {
                // It has become so again.
                let again = Some((epoch, self.queue.count));
                self.reporter.write(&object.key, &self.reporter.event(object, &note, again)).await
            };
        }
        match written {
            Ok(()) => {
                debug!(object = %waiting.object.key, reason = note.reason, "event written");
                self.metrics.events_written.inc();
                self.queue.trouble.succeeded();
            }
            Err(error) => {
                warn!(object = %waiting.object.key, %error, "event not written");
                match error.code() {
                    // It will never be: the namespace goes, or the right is missing.
                    Some(400..429) => drop(self.metrics.events_dropped.inc()),
                    Some(_) | None => {
                        self.queue.give_back(waiting, note);
                        self.queue.trouble.failed(Instant::now());
                    }
                }
            }
        }
    }
}

fn is_told_already(written: &Result<(), AskError>) -> bool {
    written.as_ref().is_err_and(|error| error.code() == Some(409))
}

/// Whether the status says that an earlier leader has accepted it.
fn was_accepted_before(ingress: &Judged<'_>, addresses: Option<&[String]>) -> bool {
    addresses.is_some_and(|addresses| *ingress.object.status_addresses == *addresses)
}

impl Reporter {
    /// `again` tells it from an earlier one that says the same.
    fn event(&self, object: &Object, note: &Note, again: Option<(u64, u64)>) -> Event {
        let key = &object.key;
        let mark = note::mark(&(&object.uid, note.reason, &note.text, again));
        // Names have at most 253 characters.
        let name: String = key.name.chars().take(230).collect();
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{mark:016x}")),
                namespace: Some(key.namespace.as_ref().to_owned()),
                ..ObjectMeta::default()
            },
            action: Some("Translate".to_owned()),
            event_time: Some(MicroTime(jiff::Timestamp::now())),
            note: Some(note.text.clone()),
            reason: Some(note.reason.to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some(api_version(key.kind).to_owned()),
                kind: Some(key.kind.as_str().to_owned()),
                namespace: Some(key.namespace.as_ref().to_owned()),
                name: Some(key.name.as_ref().to_owned()),
                uid: object.uid.as_deref().map(str::to_owned),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.identity.chars().take(128).collect()),
            type_: Some(note.severity.to_owned()),
            ..Event::default()
        }
    }

    async fn write(&self, key: &ObjectKey, event: &Event) -> Result<(), AskError> {
        let post = PostParams { field_manager: Some(FIELD_MANAGER.into()), dry_run: false };
        let create = |client| async move {
            Api::<Event>::namespaced(client, &key.namespace).create(&post, event).await
        };
        self.access.ask(ANSWER_WITHIN, create).await.map(|_| ())
    }
}

/// Of the kinds that Events are about.
fn api_version(kind: ObjectKind) -> &'static str {
    if kind == ObjectKind::Upstream { "kubeng.io/v1alpha1" } else { "networking.k8s.io/v1" }
}

/// Notes that wait to be written; who waits longest comes first.
struct Queue {
    waiting: BTreeMap<ObjectKey, Waiting>,
    order: VecDeque<ObjectKey>,
    notes: usize,
    /// Events written or given up so far.
    count: u64,
    bucket: Bucket,
    trouble: Backoff,
}

#[derive(Clone)]
struct Waiting {
    object: Arc<Object>,
    notes: VecDeque<Note>,
    /// Whether it was so at the first look of the term.
    is_first: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
            notes: 0,
            count: 0,
            bucket: Bucket::new(PER_SECOND, AT_ONCE),
            trouble: Backoff::default(),
        }
    }
}

impl Queue {
    /// Puts `notes` in; those that still wait for the same Ingress are out of
    /// date and go. Gives the number of those that found no place.
    fn put(
        &mut self,
        key: &ObjectKey,
        object: &Arc<Object>,
        notes: Vec<Note>,
        is_first: bool,
    ) -> u64 {
        match self.waiting.remove(key) {
            Some(old) => self.notes -= old.notes.len(),
            None => self.order.push_back(key.clone()),
        }
        let room = WAITING_MAX - self.notes.min(WAITING_MAX);
        let dropped = notes.len().saturating_sub(room);
        let notes: VecDeque<Note> = notes.into_iter().take(room).collect();
        self.notes += notes.len();
        if notes.is_empty() {
            self.order.retain(|waiting| waiting != key);
        } else {
            let waiting = Waiting { object: Arc::clone(object), notes, is_first };
            self.waiting.insert(key.clone(), waiting);
        }
        dropped.try_into().unwrap_or(u64::MAX)
    }

    /// How long the next one waits; none: there is no next one.
    fn wait(&self, now: Instant) -> Option<Duration> {
        (!self.order.is_empty()).then(|| self.bucket.wait(now).max(self.trouble.wait(now)))
    }

    /// The next one.
    fn take(&mut self, now: Instant) -> Option<(Waiting, Note)> {
        let key = self.order.front()?.clone();
        let waiting = self.waiting.get_mut(&key)?;
        let note = waiting.notes.pop_front()?;
        let taken = Waiting { notes: VecDeque::new(), ..waiting.clone() };
        if waiting.notes.is_empty() {
            self.waiting.remove(&key);
            self.order.pop_front();
        }
        self.notes -= 1;
        self.count += 1;
        self.bucket.took(now);
        Some((taken, note))
    }

    /// What was taken could not be written and is the next one again.
    fn give_back(&mut self, taken: Waiting, note: Note) {
        let key = taken.object.key.clone();
        if !self.waiting.contains_key(&key) {
            self.order.push_front(key.clone());
        }
        self.waiting.entry(key).or_insert(taken).notes.push_front(note);
        self.notes += 1;
    }
}

/// Looks are at least so far apart while changes come in.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(100);

/// Notes that wait at most; those beyond are dropped and counted.
const WAITING_MAX: usize = 1_000;

/// Events per second, of all Ingresses together.
const PER_SECOND: u32 = 10;

/// Events at once after a quiet time.
const AT_ONCE: u32 = 30;

/// What is told of an Ingress with these Problems at first: severity, reason and text.
#[cfg(test)]
pub(crate) fn notes_of(
    problems: &[kubeng_config::problem::Problem],
) -> Vec<(&'static str, &'static str, String)> {
    let told = note::changes(&Verdict::Ours { problems }, None);
    let notes = told.map(|(_, notes)| notes).unwrap_or_default();
    notes.into_iter().map(|note| (note.severity, note.reason, note.text)).collect()
}

#[cfg(test)]
mod tests;
