//! The replica's end of delivery: takes what a controller says, and answers. One for both roles: it
//! does not know whether the controller is this process or another one.

mod asked;
mod beat;
mod emergency;
mod known;
mod pulse;
mod saved;

use std::sync::Arc;
use std::time::SystemTime;

use kubeng_config::canonical::Digest;
use kubeng_config::fleet::Pulse;
use kubeng_config::heartbeat::{Origin, Rejected, ReportedProblem};
use kubeng_config::name::FleetName;
use kubeng_config::problem::Problem;
use kubeng_controller::distribution::follower::Follower;
use kubeng_controller::distribution::signing::VerifyingKeys;
use kubeng_controller::distribution::{FromReplica, NackReason, Offer, Reply, ToReplica};
use kubeng_proxy::{ProxyFacts, TableWriter, Walked};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, info, warn};

pub(super) use beat::Who;
use emergency::InForce;
pub(super) use emergency::{Change, Ended};
use known::Known;
pub(super) use pulse::Pulsing;
pub(super) use saved::Disk;
use saved::Keeping;

/// The replica's end of delivery.
pub(super) struct Agent {
    pub(super) writer: TableWriter,
    facts: ProxyFacts,
    fleet: FleetName,
    follower: Follower,
    /// Whom the follower was last told to believe.
    believed: Option<VerifyingKeys>,
    /// What lies on disk; absent where nothing is kept.
    keeping: Option<Keeping>,
    known: Known,
    rejected: Option<Rejected>,
    origin: Origin,
    since: SystemTime,
    emergency: Option<InForce>,
    /// All ports of something that was served were open.
    was_ready: bool,
    walking: Walking,
    pulsing: Pulsing,
    /// Answers that take a while.
    asked: JoinSet<(u64, Result<Reply, String>)>,
}

/// The way to the task that walks the running Table; nobody walks where nobody is told.
pub(super) struct Walking {
    pub(super) wanted: Arc<Notify>,
    pub(super) found: watch::Receiver<Option<(Walked, Instant)>>,
    /// What was found when somebody was told last.
    last: Option<Walked>,
    /// What was looked at before is not there any more.
    rebuilt: Option<Instant>,
}

/// What came by itself.
pub(super) enum Noticed {
    /// An answer that took a while.
    Replied(FromReplica),
    /// The file that is kept is in another state.
    File,
    /// Something else was found in the running Table.
    Walked,
}

impl Walking {
    /// Where nobody walks.
    pub(super) fn nobody() -> Self {
        Self::new(Arc::default(), watch::channel(None).1)
    }

    /// Where somebody walks when it is `wanted`, and tells what was `found`.
    pub(super) fn new(
        wanted: Arc<Notify>,
        found: watch::Receiver<Option<(Walked, Instant)>>,
    ) -> Self {
        Self { wanted, found, last: None, rebuilt: None }
    }

    /// All was built anew: what was found before counts no more.
    fn rebuilt(&mut self) {
        self.rebuilt = Some(Instant::now());
        self.wanted.notify_one();
    }

    /// What was found last, and when it was looked at; none where that is not there any more.
    fn newest(&self) -> Option<(Walked, Instant)> {
        let found = *self.found.borrow();
        found.filter(|(_, at)| self.rebuilt.is_none_or(|rebuilt| *at >= rebuilt))
    }

    /// Waits until something else was found in the running Table. Cancel safe.
    async fn walked(&mut self) {
        loop {
            if self.found.changed().await.is_err() {
                // Nobody walks, or the process ends.
                return std::future::pending().await;
            }
            let found = self.found.borrow().map(|(walked, _)| walked);
            if std::mem::replace(&mut self.last, found) != found {
                return;
            }
        }
    }
}

impl Agent {
    pub(super) fn new(
        writer: TableWriter,
        facts: ProxyFacts,
        (fleet, follower): (FleetName, Follower),
        walking: Walking,
        keeping: Option<Keeping>,
    ) -> Self {
        Self {
            writer,
            facts,
            fleet,
            follower,
            believed: None,
            keeping,
            known: Known::default(),
            rejected: None,
            origin: Origin::Nothing,
            since: SystemTime::now(),
            emergency: None,
            was_ready: false,
            walking,
            pulsing: Pulsing::default(),
            asked: JoinSet::new(),
        }
    }

    /// The same, with how often it tells of itself and looks at what it runs.
    pub(super) fn with_pulse(self, pulsing: Pulsing) -> Self {
        Self { pulsing, ..self }
    }

    /// How often it does so, told anew when that changes.
    pub(super) fn pulse(&self) -> watch::Receiver<Pulse> {
        self.pulsing.follow()
    }

    /// Does what a controller says; gives what is to be answered at once. What takes a while comes by
    /// [`replied`](Self::replied).
    pub(super) async fn take(&mut self, message: ToReplica) -> Option<FromReplica> {
        if self.origin == Origin::Disk {
            info!("a controller has been heard");
            self.origin = Origin::Controller;
        }
        match message {
            ToReplica::Offer(offer) => Some(self.offered(&offer).await),
            ToReplica::Endpoints { sets, received: _ } => {
                self.writer.set_endpoints(&sets);
                None
            }
            ToReplica::TellHoldings => {
                let snapshot = self.writer.snapshot();
                Some(FromReplica::Holdings(snapshot.digest(), asked::holdings(&snapshot)))
            }
            ToReplica::Replicas(replicas) => {
                self.writer.set_replicas(replicas);
                None
            }
            ToReplica::Pulse(pulse) => {
                self.pulsing.told(pulse);
                None
            }
            ToReplica::Ask { id, question } => self.ask(id, question),
        }
    }

    /// Waits for the next answer that took a while. Cancel safe.
    pub(super) async fn replied(&mut self) -> FromReplica {
        asked::replied(&mut self.asked).await
    }

    /// Waits for whatever comes by itself. Cancel safe.
    pub(super) async fn noticed(&mut self) -> Noticed {
        tokio::select! {
            reply = asked::replied(&mut self.asked) => Noticed::Replied(reply),
            () = saved::file_changed(&mut self.keeping) => Noticed::File,
            () = self.walking.walked() => Noticed::Walked,
        }
    }

    /// Judges an Offer, and serves it.
    async fn offered(&mut self, offer: &Offer) -> FromReplica {
        let heard = self.follower.epoch();
        let judged = self.follower.judge(offer, self.writer.snapshot().digest());
        if self.follower.epoch() != heard {
            self.note_epoch().await;
        }
        if let Err(reason) = judged {
            return self.refused(offer, reason);
        }
        match self.writer.apply(&offer.delta) {
            Ok(applied) => {
                self.follower.applied(offer);
                self.note_ports(applied.unbound.iter().map(known::unbound).collect());
                self.known.rejected = None;
                self.rejected = None;
                (self.origin, self.since) = (Origin::Controller, SystemTime::now());
                self.walking.wanted.notify_one();
                self.keep();
                let (nonce, digest) = (offer.nonce, applied.digest);
                FromReplica::Ack { nonce, digest, problems: self.known.all() }
            }
            Err(rejection) => {
                let rejection = anyhow::Error::new(rejection);
                error!(error = %format!("{rejection:#}"), "a configuration is rejected");
                let problem = known::rejected(&rejection);
                self.rejected = Some(rejected(offer.delta.target, &problem));
                self.known.rejected = Some(problem);
                let (nonce, reason) = (offer.nonce, NackReason::Rejected);
                FromReplica::Nack { nonce, reason, problems: self.known.all() }
            }
        }
    }

    /// Says why an Offer is not looked at.
    fn refused(&mut self, offer: &Offer, reason: NackReason) -> FromReplica {
        let problem = known::refused(reason, &offer.statement.statement);
        match reason {
            // It happens whenever somebody has another one than was thought, and mends itself.
            NackReason::Base => info!(?reason, "an offer is refused"),
            NackReason::Behind | NackReason::Epoch => warn!("{problem}"),
            NackReason::Unbelieved | NackReason::Rejected => {
                error!("{problem}");
                self.rejected = Some(rejected(offer.delta.target, &problem));
            }
        }
        let mut problems = self.known.all();
        problems.push(problem);
        FromReplica::Nack { nonce: offer.nonce, reason, problems }
    }

    /// Tries again what the world outside has refused: ports, names. True when something has changed.
    pub(super) fn look_again(&mut self) -> bool {
        let before = self.known.all();
        if !self.known.unbound.is_empty() {
            let ports = self.writer.retry_ports();
            self.note_ports(ports.iter().map(known::unbound).collect());
        }
        self.known.unresolved = self.writer.unresolved().iter().map(known::unresolved).collect();
        let is_over = self.end_emergency_if_due(SystemTime::now());
        #[cfg(debug_assertions)]
        if self.writer.tamper() {
            self.walking.wanted.notify_one();
        }
        self.known.all() != before || is_over
    }

    /// Notes which ports are not open, and logs those that were not known.
    fn note_ports(&mut self, unbound: Vec<Problem>) {
        let before = std::mem::replace(&mut self.known.unbound, unbound);
        for port in self.known.unbound.iter().filter(|port| !before.contains(port)) {
            warn!("{port}");
        }
        self.was_ready |= self.is_ready();
    }

    /// Everything that is wrong although something is served.
    pub(super) fn problems(&self) -> Vec<Problem> {
        self.known.all()
    }
}

fn rejected(target: Digest, problem: &Problem) -> Rejected {
    Rejected { target, problems: vec![ReportedProblem::from(problem)] }
}

#[cfg(test)]
mod tests;
