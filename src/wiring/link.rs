//! The link between controller and replica when both are this process.

use std::sync::Arc;
use std::time::Duration;

use kubeng_config::canonical::Digest;
use kubeng_config::problem::{self, Problem, Subject};
use kubeng_controller::control::Answer;
use kubeng_controller::distribution::publisher::Publisher;
use kubeng_controller::distribution::{FromReplica, NackReason, Offer, ToReplica};
use kubeng_controller::metrics::Metrics;
use kubeng_proxy::{TableWriter, Unbound, Unresolved};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::error;

/// How often what waits for the world outside is looked at again.
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(3);

/// Hands what the publisher says to the writer of Tables, and its answers back.
pub(super) struct Link {
    pub(super) publisher: Publisher,
    pub(super) writer: TableWriter,
    pub(super) answers: mpsc::Sender<Answer>,
    pub(super) metrics: Arc<Metrics>,
}

impl Link {
    /// Runs until it is told to stop, and gives the writer back for the drain.
    pub(super) async fn run(mut self, stop: CancellationToken) -> TableWriter {
        let mut again = tokio::time::interval(LOOK_AGAIN_EVERY);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = Known::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return self.writer,
                _ = again.tick() => self.look_again(&mut known).await,
                message = self.publisher.next() => match message {
                    None => return self.writer,
                    Some(ToReplica::Endpoints { sets, received }) => {
                        self.writer.set_endpoints(&sets);
                        if let Some(received) = received {
                            self.metrics.endpoints_propagated(received.elapsed());
                        }
                    }
                    // Nobody shares with the only replica, and nobody asks it over this link.
                    Some(
                        ToReplica::Replicas(_) | ToReplica::TellHoldings | ToReplica::Ask { .. },
                    ) => {}
                    Some(ToReplica::Offer(offer)) => {
                        let served = self.apply(&offer, &mut known);
                        if let (Some(received), true) = (offer.received, served.is_some()) {
                            self.metrics.propagated(received.elapsed());
                        }
                        self.tell(served, &known).await;
                    }
                }
            }
        }
    }

    /// Applies the Delta of an Offer; gives the digest when it is served.
    fn apply(&mut self, offer: &Offer, known: &mut Known) -> Option<Digest> {
        let nonce = offer.nonce;
        match self.writer.apply(&offer.delta) {
            Ok(applied) => {
                self.metrics.applied.inc();
                known.unbound = applied.unbound.iter().map(unbound).collect();
                known.rejected = None;
                let (digest, problems) = (applied.digest, known.all());
                self.publisher.heard(&FromReplica::Ack { nonce, digest, problems });
                Some(digest)
            }
            Err(rejection) => {
                self.metrics.rejected.inc();
                let rejection = anyhow::Error::new(rejection);
                error!(error = %format!("{rejection:#}"), "the replica rejected a configuration");
                known.rejected = Some(rejected(&rejection));
                let (reason, problems) = (NackReason::Rejected, known.all());
                self.publisher.heard(&FromReplica::Nack { nonce, reason, problems });
                None
            }
        }
    }

    /// Tries ports again that could not be opened, and looks which names resolve.
    async fn look_again(&mut self, known: &mut Known) {
        let before = known.all();
        if !known.unbound.is_empty() {
            known.unbound = self.writer.retry_ports().iter().map(unbound).collect();
        }
        known.unresolved = self.writer.unresolved().iter().map(unresolved).collect();
        if known.all() != before {
            self.tell(None, known).await;
        }
    }

    async fn tell(&self, serving: Option<Digest>, known: &Known) {
        // The loop has gone only when the process ends.
        let _ = self.answers.send(Answer { serving, problems: known.all() }).await;
    }
}

/// What is wrong at the replica, each until it is mended.
#[derive(Default)]
struct Known {
    unbound: Vec<Problem>,
    rejected: Option<Problem>,
    unresolved: Vec<Problem>,
}

impl Known {
    fn all(&self) -> Vec<Problem> {
        self.unbound.iter().chain(&self.rejected).chain(&self.unresolved).cloned().collect()
    }
}

fn rejected(rejection: &anyhow::Error) -> Problem {
    Problem {
        subject: Subject::Other("replica".into()),
        field: String::new(),
        code: problem::REJECTED,
        message: format!("{rejection:#}"),
        remedy: "mend what it names; until then the former configuration is served".into(),
        provenance: None,
    }
}

fn unbound(port: &Unbound) -> Problem {
    Problem {
        subject: Subject::Other(format!("listener on {}", port.address)),
        field: String::new(),
        code: problem::PORT_NOT_BOUND,
        message: format!("{} cannot be opened: {}", port.address, port.error),
        remedy: "end the program that holds it, or choose another port; it is tried again".into(),
        provenance: None,
    }
}

fn unresolved(name: &Unresolved) -> Problem {
    Problem {
        subject: Subject::Object(name.backend.object.clone()),
        field: String::new(),
        code: problem::NAME_NOT_RESOLVED,
        message: format!("{:?} gives no address: {}", name.name, name.reason),
        remedy: "mend the name, or name an address; it is asked for again".into(),
        provenance: None,
    }
}
