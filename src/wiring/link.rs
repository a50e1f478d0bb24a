//! The link between controller and replica when both are this process.

use std::sync::Arc;
use std::time::Duration;

use kubeng_config::delta::Delta;
use kubeng_config::problem::{self, Problem, Subject};
use kubeng_controller::control::Answer;
use kubeng_controller::distribution::publisher::Publisher;
use kubeng_controller::distribution::{FromReplica, ToReplica};
use kubeng_controller::metrics::Metrics;
use kubeng_proxy::{TableWriter, Unbound};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::error;

/// How often ports that could not be opened are tried again.
const RETRY_PORTS_EVERY: Duration = Duration::from_secs(3);

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
        let mut unbound = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return self.writer,
                () = tokio::time::sleep(RETRY_PORTS_EVERY), if !unbound.is_empty() => {
                    unbound = self.writer.retry_ports();
                    self.tell(Answer { serving: None, problems: problems_of(&unbound) }).await;
                }
                message = self.publisher.next() => match message {
                    None => return self.writer,
                    Some(ToReplica::Endpoints { sets, received }) => {
                        self.writer.set_endpoints(&sets);
                        if let Some(received) = received {
                            self.metrics.endpoints_propagated(received.elapsed());
                        }
                    }
                    Some(ToReplica::Delta { delta, received }) => {
                        if let Some(newer) = self.apply(&delta).await {
                            unbound = newer;
                            if let Some(received) = received {
                                self.metrics.propagated(received.elapsed());
                            }
                        }
                    }
                }
            }
        }
    }

    /// Applies a Delta; gives the ports that could not be opened when it is served.
    async fn apply(&mut self, delta: &Delta) -> Option<Vec<Unbound>> {
        let (answer, unbound) = match self.writer.apply(delta) {
            Ok(applied) => {
                self.metrics.applied.inc();
                let problems = problems_of(&applied.unbound);
                (FromReplica::Ack { digest: applied.digest, problems }, Some(applied.unbound))
            }
            Err(rejection) => {
                self.metrics.rejected.inc();
                let rejection = anyhow::Error::new(rejection);
                error!(error = %format!("{rejection:#}"), "the replica rejected a configuration");
                (FromReplica::Nack { problems: vec![rejected(&rejection)] }, None)
            }
        };
        self.publisher.answered(&answer);
        self.tell(match answer {
            FromReplica::Ack { digest, problems } => Answer { serving: Some(digest), problems },
            FromReplica::Nack { problems } => Answer { serving: None, problems },
        })
        .await;
        unbound
    }

    async fn tell(&self, answer: Answer) {
        // The loop has gone only when the process ends.
        let _ = self.answers.send(answer).await;
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

fn problems_of(unbound: &[Unbound]) -> Vec<Problem> {
    let problem = |port: &Unbound| Problem {
        subject: Subject::Other(format!("listener on {}", port.address)),
        field: String::new(),
        code: problem::PORT_NOT_BOUND,
        message: format!("{} cannot be opened: {}", port.address, port.error),
        remedy: "end the program that holds it, or choose another port; it is tried again".into(),
        provenance: None,
    };
    unbound.iter().map(problem).collect()
}
