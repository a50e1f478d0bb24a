//! The link between controller and replica when both are this process.

mod told;

use std::sync::Arc;
use std::time::Duration;

use kubeng_config::canonical::Digest;
use kubeng_controller::control::Answer;
use kubeng_controller::distribution::{FromReplica, ToReplica};
use kubeng_controller::metrics::Metrics;
use kubeng_proxy::TableWriter;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::agent::Agent;
pub(super) use told::Teller;

/// How often what waits for the world outside is looked at again.
pub(super) const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(3);

/// Hands what the publisher says to the replica, and its answers back.
pub(super) struct Link {
    pub(super) teller: Teller,
    pub(super) agent: Agent,
    pub(super) answers: mpsc::Sender<Answer>,
    pub(super) metrics: Arc<Metrics>,
}

impl Link {
    /// Runs until it is told to stop, and gives the writer back for the drain.
    pub(super) async fn run(mut self, stop: CancellationToken) -> TableWriter {
        let mut again = tokio::time::interval(LOOK_AGAIN_EVERY);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return self.agent.writer,
                _ = again.tick() => if self.agent.look_again() {
                    self.tell(None).await;
                },
                reply = self.agent.replied() => self.teller.heard(&reply),
                message = self.teller.next() => match message {
                    None => return self.agent.writer,
                    Some(message) => self.pass_on(message).await,
                }
            }
        }
    }

    async fn pass_on(&mut self, message: ToReplica) {
        let timing = Timing::of(&message);
        let answer = self.agent.take(message).await;
        let is_served = match &answer {
            Some(FromReplica::Nack { .. }) => false,
            Some(
                FromReplica::Ack { .. }
                | FromReplica::Hello(_)
                | FromReplica::Holdings(..)
                | FromReplica::Heartbeat(_)
                | FromReplica::Unread(_)
                | FromReplica::Reply { .. },
            )
            | None => true,
        };
        timing.note(is_served, &self.metrics);
        let Some(answer) = answer else { return };
        self.teller.heard(&answer);
        match answer {
            FromReplica::Ack { digest, .. } => self.tell(Some(digest)).await,
            FromReplica::Nack { .. } => self.tell(None).await,
            FromReplica::Hello(_)
            | FromReplica::Holdings(..)
            | FromReplica::Heartbeat(_)
            | FromReplica::Unread(_)
            | FromReplica::Reply { .. } => {}
        }
    }

    async fn tell(&self, serving: Option<Digest>) {
        // The loop has gone only when the process ends.
        let _ = self.answers.send(Answer { serving, problems: self.agent.problems() }).await;
    }
}

/// When what a message says had been read: the clock is the same on both sides.
#[derive(Clone, Copy)]
enum Timing {
    Configuration(Option<std::time::Instant>),
    Endpoints(Option<std::time::Instant>),
    Nothing,
}

impl Timing {
    fn of(message: &ToReplica) -> Self {
        match message {
            ToReplica::Offer(offer) => Self::Configuration(offer.received),
            ToReplica::Endpoints { received, .. } => Self::Endpoints(*received),
            ToReplica::TellHoldings
            | ToReplica::Replicas(_)
            | ToReplica::Pulse(_)
            | ToReplica::Ask { .. } => Self::Nothing,
        }
    }

    fn note(self, is_served: bool, metrics: &Metrics) {
        match self {
            Self::Configuration(received) => {
                if !is_served {
                    metrics.rejected.inc();
                    return;
                }
                metrics.applied.inc();
                if let Some(received) = received {
                    metrics.propagated(received.elapsed());
                }
            }
            Self::Endpoints(Some(received)) => metrics.endpoints_propagated(received.elapsed()),
            Self::Endpoints(None) | Self::Nothing => {}
        }
    }
}
