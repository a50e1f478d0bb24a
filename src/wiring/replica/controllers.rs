//! The controllers of a replica: who it is towards them, and the way to one of them.

use std::time::Duration;

use anyhow::{Context as _, bail};
use kubeng_controller::distribution::authority::token::JoinToken;
use kubeng_controller::distribution::connection::ControllerUrl;
use kubeng_controller::distribution::identity::{Files, Identity};
use kubeng_controller::distribution::join::join;
use kubeng_controller::distribution::line::Identified;
use kubeng_controller::distribution::signing::{VerifyingKey, VerifyingKeys};
use kubeng_controller::distribution::subscriber::{LinkState, Subscriber};
use kubeng_controller::distribution::{FromReplica, Hello, ToReplica};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::super::agent::Who;
use crate::settings::replica::{Credentials, ReplicaSettings};

/// The controllers of a replica.
pub(super) struct Controllers {
    urls: Vec<ControllerUrl>,
    identity: Identity,
    build: kubeng_config::heartbeat::Build,
}

/// Whom the replica believes at this moment: keys are exchanged while it runs.
#[derive(Clone)]
pub(super) struct Keys(Identity);

impl Keys {
    /// The keys, if they can be read.
    pub(super) fn now(&self) -> Option<VerifyingKeys> {
        keys(&self.0.signing_keys()).ok()
    }
}

fn keys(text: &str) -> anyhow::Result<VerifyingKeys> {
    let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    let keys: Result<Vec<VerifyingKey>, _> = words.map(str::parse).collect();
    Ok(VerifyingKeys::new(keys?)?)
}

impl Controllers {
    /// Finds out who this replica is; joins its fleet the first time, trying again until a controller
    /// answers.
    ///
    /// # Errors
    /// When no controller will ever take it in as it is.
    pub(super) async fn of(settings: &ReplicaSettings) -> anyhow::Result<Self> {
        let urls = settings.controllers.iter().map(|url| {
            url.parse().with_context(|| format!("--controller {url:?} is not of its form"))
        });
        let urls: Vec<ControllerUrl> = urls.collect::<anyhow::Result<_>>()?;
        let version = env!("CARGO_PKG_VERSION");
        let build = tokio::task::spawn_blocking(|| kubeng_proxy::build(version)).await?;
        let identity = identity(settings, &urls).await?;
        let Identified { fleet, replica } = identity.identified();
        if fleet != settings.fleet || replica != settings.name {
            bail!(
                "the certificate is for replica {replica} of fleet {fleet}, but this is {} of {}: \
                 say --fleet {fleet} --name {replica}, or take another --data and join again",
                settings.name,
                settings.fleet
            );
        }
        Ok(Self { urls, identity, build })
    }

    pub(super) fn who(&self, settings: &ReplicaSettings) -> Who {
        let (replica, fleet) = (settings.name.clone(), settings.fleet.clone());
        let labels = settings.labels.clone();
        Who { replica, fleet, build: self.build.clone(), admin: None, labels }
    }

    /// Whom the replica believes.
    ///
    /// # Errors
    /// When there is no key among what it was given.
    pub(super) fn believed(&self) -> anyhow::Result<VerifyingKeys> {
        keys(&self.identity.signing_keys()).context("the signing keys cannot be used")
    }

    pub(super) fn keys(&self) -> Keys {
        Keys(self.identity.clone())
    }

    /// Follows one of them, and moves to the next when it fails, until told to stop.
    pub(super) async fn follow(
        self,
        hello: watch::Receiver<Hello>,
        to: mpsc::Sender<ToReplica>,
        from: mpsc::Receiver<FromReplica>,
        state: watch::Sender<LinkState>,
        stop: CancellationToken,
    ) {
        let subscriber = Subscriber { controllers: self.urls, identity: self.identity };
        subscriber.run(move || hello.borrow().clone(), to, from, state, stop).await;
    }
}

async fn identity(settings: &ReplicaSettings, urls: &[ControllerUrl]) -> anyhow::Result<Identity> {
    match settings.credentials.clone() {
        Credentials::Files { cert, key, ca, signing_keys } => {
            let files = Files { certificate: cert, key, authorities: ca, signing_keys };
            Ok(Identity::from_files(files)?)
        }
        Credentials::Joined { token } => {
            if let Some(identity) = Identity::open(&settings.data)? {
                return Ok(identity);
            }
            let Some(token) = token.map_err(anyhow::Error::msg)? else {
                bail!(
                    "this replica has not joined its fleet yet: say --join-token, or give it \
                     certificates by --cert, --key, --ca and --signing-keys"
                );
            };
            joined(settings, urls, &token).await
        }
    }
}

async fn joined(
    settings: &ReplicaSettings,
    urls: &[ControllerUrl],
    token: &str,
) -> anyhow::Result<Identity> {
    let (fleet, replica) = (settings.fleet.clone(), settings.name.clone());
    let identified = Identified { fleet, replica };
    let token: JoinToken = token.parse().context("the join token cannot be used")?;
    loop {
        match join(urls, &token, &identified, &settings.data).await {
            Ok(identity) => return Ok(identity),
            Err(error) if error.is_final() => return Err(error).context("cannot join the fleet"),
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                warn!(%error, "cannot join the fleet yet; it is tried again");
            }
        }
        tokio::time::sleep(JOIN_AGAIN).await;
    }
}

const JOIN_AGAIN: Duration = Duration::from_secs(2);
