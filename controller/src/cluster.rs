//! What is written to a cluster: the Lease, statuses, Events. The leader only writes the last two.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kubeng_config::statement::Epoch;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::events;
use crate::fleet_status;
use crate::leader::{self, LeaderSettings, Leadership, Term};
use crate::metrics::Metrics;
use crate::source::kubernetes::connection::{ConnectError, Connection};
use crate::status::{self, Publish};

/// What is written to a cluster, and how it is reached.
#[derive(Clone)]
pub struct ClusterSettings {
    /// The kubeconfig file; `None` for `KUBECONFIG`, `~/.kube/config` or the
    /// service account of the Pod, in this order.
    pub kubeconfig: Option<PathBuf>,
    /// The namespace of the Lease.
    pub lease_namespace: String,
    /// Which addresses statuses show.
    pub publish: Publish,
    /// Where the term of the newest leader is told, if somebody must know it.
    pub term: Option<watch::Sender<Term>>,
    /// The newest epoch that replicas have heard of, as far as a controller had said it.
    pub heard: Option<watch::Receiver<Epoch>>,
    /// What is known of replicas, for the statuses of Fleets, if any replica is served.
    pub replicas: Option<fleet_status::Served>,
}

/// Writes until told to stop; then gives the Lease back. Every failure is tried again.
pub async fn write(
    settings: ClusterSettings,
    control: Control,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let access = Access::new(settings.kubeconfig);
    let identity = leader::identity();
    let (told, leadership) = watch::channel(Leadership::Follower);
    let lead = leader::run(
        access.clone(),
        LeaderSettings {
            namespace: settings.lease_namespace,
            name: LEASE.to_owned(),
            identity: Arc::clone(&identity),
            pace: leader::Pace::default(),
        },
        told,
        settings.term,
        settings.heard,
        stop.clone(),
    );
    let statuses = status::run(
        access.clone(),
        settings.publish.clone(),
        control.clone(),
        leadership.clone(),
        Arc::clone(&metrics),
    );
    let fleets = settings.replicas.map(|replicas| {
        let (access, control, leadership) = (access.clone(), control.clone(), leadership.clone());
        fleet_status::run(access, control, replicas, leadership, Arc::clone(&metrics))
    });
    let fleets = futures::future::OptionFuture::from(fleets);
    let reporter = events::Reporter { access, identity, publish: settings.publish };
    let events = events::run(reporter, control, leadership, metrics);
    let writers = async {
        tokio::join!(statuses, events, fleets);
    };
    // Writers end first, so that nothing is written after the Lease was given back.
    let writers = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = writers => {}
        }
    };
    tokio::join!(writers, lead);
}

/// Asks the API server, with credentials that may change on disk.
#[derive(Clone, Debug)]
pub(crate) struct Access(Arc<Connection>);

/// Why a request came to nothing. All are tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// There is no way to the server.
    #[error("{}", chain(.0))]
    Connect(#[source] ConnectError),
    /// The server said no.
    #[error("the API server answers {code}: {message}")]
    Refused {
        /// The status code.
        code: u16,
        /// What it says.
        message: String,
    },
    /// The server was not reached, or what it said was not understood.
    #[error("{}", chain(.0))]
    Failed(#[source] Box<kube::Error>),
    /// The server did not answer in time.
    #[error("{}", silence(*.0))]
    Silent(Duration),
}

impl AskError {
    /// The status code, if the server gave one.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Connect(_) | Self::Failed(_) | Self::Silent(_) => None,
        }
    }
}

impl Access {
    pub(crate) fn new(kubeconfig: Option<PathBuf>) -> Self {
        Self(Arc::new(Connection::new(kubeconfig, ANSWER_WITHIN)))
    }

    /// Asks, and waits at most `within` for the answer.
    pub(crate) async fn ask<T, F>(
        &self,
        within: Duration,
        request: impl FnOnce(Client) -> F,
    ) -> Result<T, AskError>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let ask = async {
            let (number, client) = self.0.client().await.map_err(AskError::Connect)?;
            match request(client).await {
                Ok(answer) => Ok(answer),
                Err(kube::Error::Api(status)) => {
                    if status.code == 401 {
                        // The next request reads the credentials again.
                        self.0.forget(number).await;
                    }
                    Err(AskError::Refused { code: status.code, message: status.message })
                }
                Err(error) => Err(AskError::Failed(Box::new(error))),
            }
        };
        let answer = tokio::time::timeout(within, ask).await;
        answer.unwrap_or(Err(AskError::Silent(within)))
    }
}

/// That nothing came within a time, in words.
fn silence(within: Duration) -> String {
    match (within.as_secs(), within.as_millis()) {
        (0, 0) => "there was no time left for an answer".to_owned(),
        (0..2, millis) => format!("no answer within {millis} ms"),
        (seconds, _) => format!("no answer within {seconds} s"),
    }
}

/// An error and its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

/// Our name as a writer of fields.
pub(crate) const FIELD_MANAGER: &str = "kubeng";

/// The longest wait for one answer.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The name of the Lease; `deploy/rbac.yaml` names it, too.
const LEASE: &str = "kubeng";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_told_in_round_numbers() {
        let check = |millis, expected: &str| {
            assert_eq!(AskError::Silent(Duration::from_millis(millis)).to_string(), expected);
        };
        check(0, "there was no time left for an answer");
        check(250, "no answer within 250 ms");
        check(7_899, "no answer within 7 s");
    }
}
