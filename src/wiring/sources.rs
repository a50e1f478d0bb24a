//! Starts the sources that the settings name; each is a task that feeds the one loop.

use std::collections::BTreeSet;

use anyhow::Context as _;
use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_controller::object::SourceName;
use kubeng_controller::reconcile::Told;
use kubeng_controller::source::kubernetes::{self, Kubernetes, KubernetesSettings};
use kubeng_controller::source::manifests::Manifests;
use kubeng_controller::source::{Received, Source};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::settings::Settings;
use crate::settings::kubernetes::Secrets;

/// Names of the sources, in order of preference, with the kinds that each will tell.
pub(super) type Names = Vec<(SourceName, BTreeSet<ObjectKind>)>;

/// Starts all of them: folders first, in the order in which they were named.
pub(super) fn start(
    settings: &Settings,
    events: &mpsc::Sender<Told>,
    referenced: &watch::Receiver<BTreeSet<ObjectKey>>,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<Names> {
    let mut names = Names::new();
    for folder in &settings.manifests {
        let source = Manifests::watch(folder.clone())
            .with_context(|| format!("cannot watch {}", folder.display()))?;
        names.push((source.name().clone(), ObjectKind::ALL.into_iter().collect()));
        tasks.spawn(feed(names.len() - 1, source, events.clone(), stop.clone()));
    }
    if let Some(kubernetes) = &settings.kubernetes {
        let source = Kubernetes::watch(KubernetesSettings {
            kubeconfig: kubernetes.kubeconfig.clone(),
            namespaces: settings.namespaces.clone(),
            secrets: match kubernetes.secrets {
                Secrets::Referenced => kubernetes::Secrets::Referenced,
                Secrets::AllOfTypeTls => kubernetes::Secrets::AllTls,
            },
            referenced: referenced.clone(),
        });
        names.push((source.name().clone(), ObjectKind::ALL.into_iter().collect()));
        tasks.spawn(feed(names.len() - 1, source, events.clone(), stop.clone()));
    }
    Ok(names)
}

/// Passes on what a source tells, until the loop has gone or the process stops.
async fn feed(
    number: usize,
    mut source: impl Source,
    events: mpsc::Sender<Told>,
    stop: CancellationToken,
) {
    loop {
        let Received { event, at } = tokio::select! {
            () = stop.cancelled() => return,
            received = source.next() => received,
        };
        if events.send(Told { source: number, event, at }).await.is_err() {
            return;
        }
    }
}
