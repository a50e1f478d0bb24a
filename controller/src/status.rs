//! Writes `status.loadBalancer` of our Ingresses: the leader only, differences only, paced.
//!
//! The status of an Ingress that is not ours is never touched, but for one
//! case: addresses that we wrote ourselves, and that nobody has changed since,
//! go when the Ingress leaves our class. Nothing is removed at shutdown.

mod plan;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kubeng_config::name::ObjectKey;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::cluster::{Access, AskError};
use crate::control::{Control, ControlState};
use crate::judged::{Judged, judged, judged_one};
use crate::kind::service::service_of;
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::pace::Backoff;
use plan::{Next, Queue, Wish};
use write::{Blame, Writer, blame};

/// Which addresses the statuses show.
#[derive(Clone, Debug)]
pub enum Publish {
    /// None: no status is written.
    Nothing,
    /// These: IP addresses and host names.
    Addresses(Vec<String>),
    /// Those of this Service.
    Service(ObjectKey),
}

impl Publish {
    /// The addresses, sorted; none as long as they are not known.
    pub(crate) fn addresses(&self, state: &ControlState) -> Option<Vec<String>> {
        let mut addresses = match self {
            Self::Nothing => return None,
            Self::Addresses(addresses) => addresses.clone(),
            Self::Service(key) => service_of(state.world().object(key)?)?.addresses.clone(),
        };
        addresses.sort_unstable();
        addresses.dedup();
        // A Service without an address yet says nothing about the Ingresses.
        (!addresses.is_empty()).then_some(addresses)
    }
}

/// Writes statuses for as long as it is let.
pub(crate) async fn run(
    access: Access,
    publish: Publish,
    control: Control,
    leadership: watch::Receiver<Leadership>,
    metrics: Arc<Metrics>,
) {
    if matches!(publish, Publish::Nothing) {
        info!("no address to publish is set: statuses of Ingresses are not written");
        return;
    }
    let statuses = Statuses {
        writer: Writer::new(access),
        publish,
        control,
        leadership,
        metrics,
        queue: Queue::default(),
        assumed: BTreeMap::new(),
        trouble: Backoff::default(),
        last_error: None,
    };
    statuses.run().await;
}

struct Statuses {
    writer: Writer,
    publish: Publish,
    control: Control,
    leadership: watch::Receiver<Leadership>,
    metrics: Arc<Metrics>,
    queue: Queue,
    /// What was written and is not yet in what the watch tells.
    assumed: BTreeMap<ObjectKey, Assumed>,
    /// After a failure that is not the fault of one Ingress.
    trouble: Backoff,
    /// Why the last write that failed did, so that the same is not logged again.
    last_error: Option<String>,
}

/// What an Ingress shows, as long as the watch tells of no version after `behind`.
struct Assumed {
    behind: Arc<str>,
    shows: Vec<String>,
    /// When it is believed no more; none: as long as the version is the same.
    until: Option<Instant>,
}

impl Statuses {
    async fn run(mut self) {
        loop {
            if self.leadership.borrow_and_update().epoch_at(Instant::now()).is_none() {
                // The next term begins with a look at everything.
                self.queue = Queue::default();
                self.assumed.clear();
                if self.leadership.changed().await.is_err() {
                    return;
                }
                continue;
            }
            self.look();
            let looked = Instant::now();
            if !self.write_until_news(looked).await {
                return;
            }
        }
    }

    /// Compares what all Ingresses show with what they should.
    fn look(&mut self) {
        let now = Instant::now();
        let state = self.control.now();
        if !state.is_ready() {
            // Half of what there is says nothing about the rest.
            return;
        }
        let Some(addresses) = self.publish.addresses(&state) else { return };
        self.assumed.retain(|key, assumed| {
            let is_there = state.world().object(key).is_some();
            is_there && assumed.until.is_none_or(|until| now < until)
        });
        self.queue.keep(|key| state.world().object(key).is_some());
        for ingress in judged(&state) {
            let shows = shows(&self.assumed, &ingress);
            self.queue.ask(ingress.key, plan::wish(&ingress.verdict, shows, &addresses), now);
        }
    }

    /// Writes what is due until it is time for another look; `false` when the loop has gone.
    async fn write_until_news(&mut self, looked: Instant) -> bool {
        let mut has_news = false;
        loop {
            let now = Instant::now();
            if has_news && now >= looked + LOOK_EVERY_MIN || now >= looked + LOOK_EVERY {
                return true;
            }
            if self.leadership.borrow().epoch_at(now).is_none() {
                return true;
            }
            let look = if has_news { looked + LOOK_EVERY_MIN } else { looked + LOOK_EVERY };
            let mut wake = look;
            match self.queue.next(now) {
                Next::Write(key, wish) if self.trouble.wait(now).is_zero() => {
                    self.write(&key, &wish).await;
                    continue;
                }
                Next::Write(..) => wake = wake.min(now + self.trouble.wait(now)),
                Next::At(at) => wake = wake.min(at.max(now + self.trouble.wait(now))),
                Next::Idle => {}
            }
            tokio::select! {
                is_there = self.control.changed(), if !has_news => {
                    if !is_there {
                        return false;
                    }
                    has_news = true;
                }
                told = self.leadership.changed() => {
                    if told.is_err() {
                        return false;
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    async fn write(&mut self, key: &ObjectKey, wish: &Wish) {
        let state = self.control.now();
        let Some(ingress) = judged_one(&state, key) else {
            self.queue.done(key, Instant::now());
            return;
        };
        let outcome = self.writer.write(&ingress, wish).await;
        let now = Instant::now();
        match outcome {
            Ok(shows) => {
                debug!(object = %key, ?shows, "status written");
                self.metrics.statuses_written.inc();
                self.trouble.succeeded();
                self.last_error = None;
                self.queue.done(key, now);
                // What of our addresses is left after a Clear belongs to somebody else.
                let (shows, until) = match wish {
                    Wish::Clear => (Vec::new(), None),
                    Wish::Leave | Wish::Show(_) => (shows, Some(now + ASSUMED_MAX)),
                };
                let behind = Arc::clone(ingress.version);
                self.assumed.insert(key.clone(), Assumed { behind, shows, until });
            }
            Err(error) => self.failed(key, &error),
        }
    }

    fn failed(&mut self, key: &ObjectKey, error: &AskError) {
        let now = Instant::now();
        match blame(error) {
            Blame::Change => {
                debug!(object = %key, %error, "status not written");
                self.queue.failed(key, now);
                return;
            }
            Blame::Ingress => self.queue.failed(key, now),
            Blame::Server => self.trouble.failed(now),
        }
        self.metrics.statuses_failed.inc();
        let error = error.to_string();
        // A server that is away fails every write in the same way.
        if self.last_error.as_ref() != Some(&error) {
            warn!(object = %key, error, "status not written");
            self.last_error = Some(error);
        }
    }
}

/// What an Ingress shows: what the watch told, or what was written after that.
fn shows<'a>(assumed: &'a BTreeMap<ObjectKey, Assumed>, ingress: &Judged<'a>) -> &'a [String] {
    match assumed.get(ingress.key) {
        Some(assumed) if assumed.behind == *ingress.version => &assumed.shows,
        Some(_) | None => &ingress.object.status_addresses,
    }
}

/// Everything is compared again so often, though nothing has changed.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Looks are at least so far apart while changes come in.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(100);

/// How long a write is believed that the watch does not confirm.
const ASSUMED_MAX: Duration = Duration::from_secs(10);
