//! The side of the replica: follows one of several controllers, and moves to the next when it fails.
//!
//! [`Subscriber::run`] hands what it is told to `to`, and sends what comes from `from`. The channels
//! live as long as it does; what is said while there is no connection is dropped, and so are answers
//! to what an earlier connection brought. Numbers of Offers and questions are given anew, so that
//! none comes twice. It renews the certificate, too.

mod ledger;
mod state;

use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Streaming};
use tracing::{info, warn};

use super::connection::{Connection, ControllerUrl};
use super::identity::Identity;
use super::join::{renew, said};
use super::line::LINE_MESSAGES_MAX;
use super::wire::{from_replica, in_full, proto, to_replica};
use super::{FromReplica, Hello, ToReplica, tls};
use ledger::Ledger;
pub use state::{Link, LinkState, Reason};

/// How long a controller may take to say whether it takes the replica in.
const TAKEN_IN_WITHIN: Duration = Duration::from_secs(3);

/// A connection that lasted so long was a good one: after it the pauses begin anew.
const STEADY: Duration = Duration::from_secs(10);

/// The pause after all controllers have failed; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A controller that has not taken one frame in this time is left.
const PROGRESS_WITHIN: Duration = Duration::from_secs(30);

/// How often files of the identity are looked at again.
const REREAD_EVERY: Duration = Duration::from_secs(60);

/// The pause after no controller has renewed the certificate.
const RENEW_PAUSE: Duration = Duration::from_secs(10);

/// How long connections may take to end at the end.
const END_WITHIN: Duration = Duration::from_secs(1);

/// Follows one of several controllers.
pub struct Subscriber {
    /// The controllers; it begins with any.
    pub controllers: Vec<ControllerUrl>,
    /// As whom.
    pub identity: Identity,
}

impl Subscriber {
    /// Runs until `stop`, or until one of the channels is closed. `hello` is asked for each
    /// connection.
    pub async fn run(
        self,
        hello: impl Fn() -> Hello + Send + Sync,
        to: mpsc::Sender<ToReplica>,
        from: mpsc::Receiver<FromReplica>,
        state: watch::Sender<LinkState>,
        stop: CancellationToken,
    ) {
        let tracker = TaskTracker::new();
        let follower = Following {
            controllers: &self.controllers,
            identity: &self.identity,
            hello,
            to,
            from,
            state: &state,
            tracker: &tracker,
            ledger: Ledger::default(),
            renewed: Notify::new(),
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = follower.run() => {}
        }
        tracker.close();
        // Dropped connections end at once; what they are asked to send last may be lost.
        let _ = timeout(END_WITHIN, tracker.wait()).await;
    }
}

struct Following<'a, H> {
    controllers: &'a [ControllerUrl],
    identity: &'a Identity,
    hello: H,
    to: mpsc::Sender<ToReplica>,
    from: mpsc::Receiver<FromReplica>,
    state: &'a watch::Sender<LinkState>,
    tracker: &'a TaskTracker,
    ledger: Ledger,
    renewed: Notify,
}

/// Why a connection ended.
enum End {
    /// In words; another controller is tried.
    Broken(String),
    /// The replica itself ends.
    Over,
}

impl<H: Fn() -> Hello + Send + Sync> Following<'_, H> {
    async fn run(mut self) {
        let (identity, controllers) = (self.identity, self.controllers);
        let (state, tracker) = (self.state, self.tracker);
        let renewed = std::mem::take(&mut self.renewed);
        tokio::select! {
            () = self.follow_all(&renewed) => {}
            () = care(identity, controllers, state, tracker, &renewed) => {}
        }
    }

    /// Follows one controller after the other.
    async fn follow_all(&mut self, renewed: &Notify) {
        let count = self.controllers.len();
        let mut at = fastrand::usize(..count.max(1));
        let mut failures = 0_usize;
        let mut reasons: Vec<Reason> = Vec::new();
        loop {
            let Some(controller) = self.controllers.get(at % count.max(1)) else {
                // Without any there is nothing to do; the settings do not allow it.
                return std::future::pending().await;
            };
            let began = Instant::now();
            let why = match self.follow(controller).await {
                End::Over => return,
                End::Broken(why) => why,
            };
            warn!(%controller, error = why, "the controller is not followed");
            if self.state.borrow().is_following() {
                // What was wrong with the others before may be so no more.
                reasons.clear();
            }
            reasons.retain(|reason| reason.controller != controller.to_string());
            reasons.push(Reason { controller: controller.to_string(), why });
            self.state.send_modify(|state| state.apart(reasons.clone()));
            failures = if began.elapsed() >= STEADY { 0 } else { failures + 1 };
            at += 1;
            // The next one at once, and a pause only after all have failed.
            if count > 1 && (failures == 0 || !failures.is_multiple_of(count)) {
                continue;
            }
            let pause = pause(failures / count);
            tokio::select! {
                () = sleep(pause) => {}
                () = renewed.notified() => {}
                () = discard(&mut self.from) => return,
            }
        }
    }

    /// Follows one controller until the connection ends.
    async fn follow(&mut self, controller: &ControllerUrl) -> End {
        self.ledger.begin();
        let (frames, outgoing) = mpsc::channel(LINE_MESSAGES_MAX);
        let hello = FromReplica::Hello(Box::new((self.hello)()));
        let opened = tokio::select! {
            opened = open(controller, self.identity, self.tracker, hello, &frames, outgoing) => {
                opened
            }
            () = discard(&mut self.from) => return End::Over,
        };
        let (_connection, incoming) = match opened {
            Ok(opened) => opened,
            Err(why) => return End::Broken(why),
        };
        info!(%controller, "following");
        self.state.send_modify(|state| state.follows(controller.to_string()));
        let (own, answers) = mpsc::channel(LINE_MESSAGES_MAX);
        let hearing = Hearing { to: &self.to, ledger: &self.ledger, state: self.state, own };
        tokio::select! {
            end = hearing.run(incoming) => end,
            end = speak(&mut self.from, answers, &self.ledger, frames) => end,
        }
    }
}

/// Connects, says Hello, and waits until the replica is taken in.
async fn open(
    controller: &ControllerUrl,
    identity: &Identity,
    tracker: &TaskTracker,
    hello: FromReplica,
    frames: &mpsc::Sender<proto::FromReplica>,
    mut outgoing: mpsc::Receiver<proto::FromReplica>,
) -> Result<(Connection, Streaming<proto::ToReplica>), String> {
    let credentials = identity.credentials();
    if credentials.facts.ends <= SystemTime::now() {
        return Err(
            "the certificate of this replica has ended, and must be renewed first; when that \
             fails, join again with a new token"
                .into(),
        );
    }
    let tls = tls::client(&credentials).map_err(|error| in_full(&error))?;
    let connection = Connection::open(controller, tls, tracker).await;
    let connection = connection.map_err(|error| in_full(&error))?;
    for frame in from_replica::write(hello) {
        frames.try_send(frame).map_err(|_| "a Hello is one frame".to_owned())?;
    }
    let outgoing = futures::stream::poll_fn(move |cx| outgoing.poll_recv(cx));
    let mut client = connection.delivery();
    let answer = timeout(TAKEN_IN_WITHIN, client.follow(Request::new(outgoing))).await;
    let answer = answer.map_err(|_| "it does not answer".to_owned())?;
    let incoming = answer.map_err(|status| connection.why(&status))?.into_inner();
    Ok((connection, incoming))
}

/// Takes and drops what is said while nobody hears it; ends when nothing more will be.
async fn discard(from: &mut mpsc::Receiver<FromReplica>) {
    while from.recv().await.is_some() {}
}

/// Sends what the replica says, and answers of this program itself.
async fn speak(
    from: &mut mpsc::Receiver<FromReplica>,
    mut answers: mpsc::Receiver<FromReplica>,
    ledger: &Ledger,
    frames: mpsc::Sender<proto::FromReplica>,
) -> End {
    loop {
        let message = tokio::select! {
            message = from.recv() => match message {
                None => return End::Over,
                Some(message) => ledger.answer(message),
            },
            Some(answer) = answers.recv() => Some(answer),
        };
        let Some(message) = message else { continue };
        for frame in from_replica::write(message) {
            match timeout(PROGRESS_WITHIN, frames.send(frame)).await {
                Ok(Ok(())) => {}
                // Why is said to the other half.
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) => return End::Broken("it does not read".into()),
            }
        }
    }
}

/// The half of a connection that hears.
struct Hearing<'a> {
    to: &'a mpsc::Sender<ToReplica>,
    ledger: &'a Ledger,
    state: &'a watch::Sender<LinkState>,
    own: mpsc::Sender<FromReplica>,
}

impl Hearing<'_> {
    async fn run(self, mut incoming: Streaming<proto::ToReplica>) -> End {
        let mut reader = to_replica::Reader::default();
        loop {
            let frame = match incoming.message().await {
                Ok(Some(frame)) => frame,
                Ok(None) => return End::Broken("it ended the connection".into()),
                Err(status) => return End::Broken(said(&status)),
            };
            match reader.read(frame, Instant::now()) {
                Err(error) => return End::Broken(in_full(&error)),
                Ok(to_replica::Heard::Piece) => {}
                Ok(to_replica::Heard::Message(message)) => {
                    if self.to.send(self.ledger.question(message)).await.is_err() {
                        return End::Over;
                    }
                }
                Ok(to_replica::Heard::Unreadable { why, answer }) => {
                    warn!(error = why, "the controller says what this version cannot read");
                    self.state.send_modify(|state| state.unread(why));
                    if let Some(answer) = answer {
                        // The other half lives as long as this one.
                        let _ = self.own.send(answer).await;
                    }
                }
            }
        }
    }
}

/// Renews the certificate when it is due, or looks at its files again.
async fn care(
    identity: &Identity,
    controllers: &[ControllerUrl],
    state: &watch::Sender<LinkState>,
    tracker: &TaskTracker,
    renewed: &Notify,
) {
    loop {
        let Some(at) = identity.renew_at() else {
            sleep(REREAD_EVERY).await;
            let files = identity.clone();
            let reread = tokio::task::spawn_blocking(move || files.reread()).await;
            let fault = match reread {
                Ok(Err(error)) => Some(in_full(&error)),
                Ok(Ok(())) | Err(_) => None,
            };
            tell(state, fault);
            continue;
        };
        // The clock may be set, so it is looked at again and again.
        if let Ok(left) = at.duration_since(SystemTime::now()) {
            sleep(left.min(REREAD_EVERY)).await;
            continue;
        }
        let fault = renew_anywhere(identity, controllers, tracker).await;
        let is_renewed = fault.is_none();
        tell(state, fault);
        if is_renewed {
            info!("the certificate is renewed");
            renewed.notify_one();
        } else {
            sleep(jittered(RENEW_PAUSE)).await;
        }
    }
}

fn tell(state: &watch::Sender<LinkState>, fault: Option<String>) {
    if let Some(why) = &fault {
        warn!(error = why, "the certificate is not renewed");
    }
    state.send_if_modified(|state| {
        let is_other = state.renewal != fault;
        state.renewal = fault;
        is_other
    });
}

/// Asks one controller after the other; gives the reasons when none renews it.
async fn renew_anywhere(
    identity: &Identity,
    controllers: &[ControllerUrl],
    tracker: &TaskTracker,
) -> Option<String> {
    let mut reasons = Vec::new();
    for controller in controllers {
        match renew(controller, identity, tracker).await {
            Ok(()) => return None,
            Err(why) => reasons.push(format!("{controller}: {why}")),
        }
    }
    Some(reasons.join("; "))
}

/// The pause after so many rounds in which all controllers failed.
fn pause(rounds: usize) -> Duration {
    let doubled = u32::try_from(rounds.min(16))
        .map_or(PAUSE_MAX, |rounds| PAUSE.saturating_mul(1 << rounds.saturating_sub(1)));
    jittered(doubled.min(PAUSE_MAX))
}

/// Somewhat less, so that replicas that lost one controller do not come to the next one at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}
