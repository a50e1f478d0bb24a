//! The one loop of a replica: what controllers say, what somebody on the machine wants, heartbeats.

use std::time::Duration;

use kubeng_config::canonical::Digest;
use kubeng_config::fleet::Pulse;
use kubeng_config::heartbeat::{Emergency, Heartbeat, Origin, Resources};
use kubeng_config::statement::SignedStatement;
use kubeng_controller::distribution::{FromReplica, Hello, Reply, ToReplica};
use kubeng_proxy::TableWriter;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::super::agent::{Agent, Change, Ended, Noticed, Who};
use super::super::link::LOOK_AGAIN_EVERY;
use super::controllers::Keys;

/// What somebody on the machine wants.
pub(super) enum Command {
    Refuse(Change, oneshot::Sender<Result<Emergency, String>>),
    End(oneshot::Sender<bool>),
}

/// Commands that wait for the loop.
pub(super) const COMMANDS_MAX: usize = 8;

/// What the replica looks like from outside.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) heartbeat: Option<Heartbeat>,
    pub(super) serves: Option<SignedStatement>,
    pub(super) origin: Origin,
    pub(super) since: Option<std::time::SystemTime>,
    pub(super) problems: Vec<String>,
    pub(super) is_ready: bool,
    pub(super) pulse: Pulse,
}

/// The loop.
pub(super) struct Follow {
    agent: Agent,
    who: Who,
    keys: Keys,
    to: mpsc::Receiver<ToReplica>,
    from: mpsc::Sender<FromReplica>,
    commands: mpsc::Receiver<Command>,
    hello: watch::Sender<Hello>,
    seen: watch::Sender<Seen>,
    ready: watch::Sender<bool>,
    /// What takes too long to find out for this loop.
    measuring: JoinSet<(Digest, Resources)>,
    /// When it may tell of itself again, and whether it should.
    beat: Beat,
}

/// When to tell.
#[derive(Clone, Copy)]
struct Beat {
    last: Option<Instant>,
    due: Instant,
}

impl Beat {
    /// As soon as it may be.
    fn hurry(&mut self) {
        let soonest = self.last.map_or_else(Instant::now, |last| last + BEAT_AGAIN);
        self.due = self.due.min(soonest);
    }
}

type Ends = (mpsc::Receiver<ToReplica>, mpsc::Sender<FromReplica>, mpsc::Receiver<Command>);
type Shown = (watch::Sender<Hello>, watch::Sender<Seen>, watch::Sender<bool>);

impl Follow {
    pub(super) fn new(agent: Agent, who: Who, keys: Keys, ends: Ends, shown: Shown) -> Self {
        let (to, from, commands) = ends;
        let (hello, seen, ready) = shown;
        let beat = Beat { last: None, due: Instant::now() };
        let measuring = JoinSet::new();
        Self { agent, who, keys, to, from, commands, hello, seen, ready, measuring, beat }
    }

    /// Runs until it is told to stop, and gives the writer back for the drain.
    pub(super) async fn run(mut self, stop: CancellationToken) -> TableWriter {
        let pulse = self.agent.pulse();
        let mut again = tokio::time::interval(LOOK_AGAIN_EVERY);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.show();
        loop {
            let may_measure = self.measuring.is_empty();
            tokio::select! {
                () = stop.cancelled() => return self.agent.writer,
                Some(message) = self.to.recv() => self.take(message).await,
                noticed = self.agent.noticed() => self.notice(noticed).await,
                Some(command) = self.commands.recv() => self.obey(command),
                _ = again.tick() => if self.agent.look_again() {
                    self.show();
                    self.beat.hurry();
                },
                () = tokio::time::sleep_until(self.beat.due), if may_measure => self.measure(),
                Some(measured) = self.measuring.join_next() => {
                    let every = pulse.borrow().heartbeat_every;
                    self.beat = Beat { last: Some(Instant::now()), due: Instant::now() + every };
                    if let Ok((endpoints, resources)) = measured {
                        self.tell_of_itself(endpoints, resources);
                    }
                }
            }
        }
    }

    async fn notice(&mut self, noticed: Noticed) {
        match noticed {
            Noticed::Replied(reply) => {
                let is_healed =
                    matches!(&reply, FromReplica::Reply { reply: Ok(Reply::Healed(_)), .. });
                self.tell(reply).await;
                if is_healed {
                    self.beat.hurry();
                }
            }
            Noticed::Walked => self.beat.hurry(),
            Noticed::File => {
                if self.agent.look_at_file() {
                    self.show();
                    self.beat.hurry();
                }
            }
        }
    }

    async fn take(&mut self, message: ToReplica) {
        if let (ToReplica::Offer(_), Some(keys)) = (&message, self.keys.now()) {
            self.agent.believe(keys);
        }
        let is_pulse = matches!(message, ToReplica::Pulse(_));
        let Some(answer) = self.agent.take(message).await else {
            if is_pulse {
                // It begins every line, and who is at its end has heard nothing of this replica yet.
                self.beat.hurry();
                self.show();
            }
            return;
        };
        let is_yes = matches!(answer, FromReplica::Ack { .. });
        let is_no = matches!(answer, FromReplica::Nack { .. });
        // Also where nobody hears the answer the next controller is told the truth.
        self.hello.send_replace(self.agent.hello(&self.who));
        self.tell(answer).await;
        if is_yes || is_no {
            self.show();
        }
        if is_no {
            self.beat.hurry();
        }
    }

    async fn tell(&self, message: FromReplica) {
        // Who hears has gone only when the process ends.
        let _ = self.from.send(message).await;
    }

    fn obey(&mut self, command: Command) {
        // Who asked may have gone.
        match command {
            Command::Refuse(change, reply) => drop(reply.send(self.agent.refuse(&change))),
            Command::End(reply) => {
                let _ = reply.send(self.agent.end_emergency() == Ended::Ended);
            }
        }
        self.show();
        self.beat.hurry();
    }

    /// Finds out what takes a while with many Backends.
    fn measure(&mut self) {
        let facts = self.agent.facts();
        self.measuring
            .spawn_blocking(move || (facts.endpoints_digest(), kubeng_proxy::resources(&facts)));
    }

    fn tell_of_itself(&mut self, endpoints: Digest, resources: Resources) {
        let Some(heartbeat) = self.agent.heartbeat(&self.who, endpoints, resources) else {
            // It has not looked yet; it does so at once, and says when it has.
            self.beat.hurry();
            return;
        };
        self.seen.send_modify(|seen| seen.heartbeat = Some(heartbeat.clone()));
        // A controller that does not read gets the next one.
        let _ = self.from.try_send(FromReplica::Heartbeat(Box::new(heartbeat)));
    }

    /// Shows those who ask on this machine how it is.
    fn show(&mut self) {
        let (origin, since) = self.agent.origin();
        let problems = self.agent.problems();
        let is_ready = self.agent.is_ready();
        let pulse = *self.agent.pulse().borrow();
        self.seen.send_modify(|seen| {
            seen.serves = self.agent.serves().cloned();
            (seen.origin, seen.since) = (origin, Some(since));
            seen.problems = problems.iter().map(ToString::to_string).collect();
            seen.is_ready = is_ready;
            seen.pulse = pulse;
        });
        self.ready.send_if_modified(|before| std::mem::replace(before, is_ready) != is_ready);
    }
}

/// At least so long between two heartbeats.
const BEAT_AGAIN: Duration = Duration::from_secs(1);
