//! The process of `kubeng controller`: sources, the loop, who leads, the admin listener, and what is
//! delivered to replicas in other processes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use anyhow::Context as _;
use kubeng_admin::{Admin, LocalReplica};
use kubeng_config::address::Reserved;
use kubeng_config::name::{BackendId, RouteId};
use kubeng_config::observed::{EndpointHealth, KeyQuery, RecordQuery};
use kubeng_config::statement::Epoch;
use kubeng_controller::control::{Control, ControlState};
use kubeng_controller::distribution::feed::FleetFeeds;
use kubeng_controller::fleets::Fleets;
use kubeng_controller::leader::{Term, lock};
use kubeng_controller::metrics::Metrics;
use kubeng_controller::reconcile::{Channels, EVENTS_WAITING_MAX, Reconciler};
use kubeng_controller::world::World;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{cluster, log_changes, reserved, sources, translate_settings};
use crate::data::DataFolder;
use crate::notify;
use crate::settings::Settings;
use crate::settings::controller::ControllerSettings;
use crate::shutdown::{Signals, Told};

/// What those who serve replicas are given.
pub(crate) struct Delivery {
    /// All fleets, from the moment when everything has been read once.
    pub(crate) feeds: watch::Receiver<Arc<FleetFeeds>>,
    /// Whether this controller leads, and the newest epoch that it knows of.
    pub(crate) term: watch::Receiver<Term>,
    /// What the admin plane is answered from.
    pub(crate) control: Control,
    /// Ends the lines to replicas.
    pub(crate) stop: CancellationToken,
}

/// Runs until the process is told to stop.
///
/// # Errors
/// When it cannot start, or a task that everything hangs on ends.
pub(crate) async fn serve(settings: ControllerSettings) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let data = settings.common.data.as_deref().map(DataFolder::open).transpose()?;
    let metrics = Arc::new(Metrics::default());
    let stop = CancellationToken::new();
    let stop_lines = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let (control, feeds) = start_loop(&settings, &stop, &mut tasks).await?;
    let term = start_leading(&settings, &control, &metrics, &stop, &mut tasks)?;
    let replica =
        Arc::new(Nobody { metrics: Arc::clone(&metrics), is_leaving: AtomicBool::new(false) });
    let admin = Admin::bind(settings.common.admin, control.clone(), replica.clone()).await?;
    info!(address = %admin.address()?, "admin listener open");
    tasks.spawn(log_changes(control.clone(), metrics));
    if let Some(data) = &data {
        data.sign().context("cannot write to the data folder")?;
    }
    let mut serving = JoinSet::new();
    let stop_admin = CancellationToken::new();
    let admin_stop = stop_admin.clone();
    serving.spawn(async move { Ok(admin.serve(admin_stop).await?) });
    let delivery = Delivery { feeds, term, control: control.clone(), stop: stop_lines.clone() };
    serve_replicas(&settings, delivery, &mut serving).await?;
    tasks.spawn(tell_when_ready(control));
    loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::Stop(signal) => {
                    info!(signal, "told to stop");
                    break;
                }
                // Replicas go on by themselves and find another controller, or the next one.
                Told::Upgrade => info!("a controller is restarted rather than exchanged"),
            },
            Some(ended) = serving.join_next() => ended.context("a listener panicked")??,
            panic = super::running::first_panic(&mut tasks) => {
                return Err(panic).context("a task panicked");
            }
        }
    }
    notify::stopping();
    replica.is_leaving.store(true, Ordering::Release);
    stop_lines.cancel();
    stop.cancel();
    let ended = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(settings.common.drain, ended).await;
    stop_admin.cancel();
    let ended = async { while serving.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(settings.common.drain, ended).await;
    serving.shutdown().await;
    tasks.shutdown().await;
    Ok(())
}

/// Starts what replicas connect to: THE place where the server and the hub are put in.
///
/// `settings.listen` is where, `settings.authority` whom they believe. Tasks go into `serving`; when
/// one of them ends with an error, so does the process.
async fn serve_replicas(
    settings: &ControllerSettings,
    delivery: Delivery,
    serving: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let ControllerSettings { common: _, listen, authority } = settings;
    let Delivery { feeds, term, control, stop } = delivery;
    info!(%listen, authority = ?authority, "replicas are not served by this build");
    serving.spawn(async move {
        // Kept until the end, as whoever serves keeps them.
        let _kept = (feeds, term, control);
        stop.cancelled().await;
        Ok(())
    });
    Ok(())
}

/// Starts the sources and the one loop, with a World for each Fleet.
async fn start_loop(
    settings: &ControllerSettings,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<(Control, watch::Receiver<Arc<FleetFeeds>>)> {
    let (events, told) = mpsc::channel(EVENTS_WAITING_MAX);
    let (references, referenced) = watch::channel(BTreeSet::new());
    let names = sources::start(&settings.common, &events, &referenced, stop, tasks)?;
    let mut common = translate_settings(&settings.common);
    // Listeners are those of Fleets.
    common.listeners.clear();
    common.home = None;
    common.reserved = inside(settings).await;
    let state = ControlState::new(World::new(common.clone()));
    let (state, control) = watch::channel(Arc::new(state));
    let fleets = Fleets::of_objects(common);
    let feeds = fleets.feeds();
    // Replicas answer to whoever serves them.
    let (_, answers) = mpsc::channel(1);
    let reconciler = Reconciler::new(names, fleets);
    tasks.spawn(reconciler.run(Channels { events: told, state, referenced: references, answers }));
    Ok((Control::new(control), feeds))
}

/// Sockets of our own inside, which tenants may not name as endpoints.
async fn inside(settings: &ControllerSettings) -> Reserved {
    reserved(&settings.common, [settings.listen]).await
}

/// Starts what decides who leads: a Lease where there is an API server, else a lock in the folder of
/// the authority. Without either this controller is the only one.
fn start_leading(
    settings: &ControllerSettings,
    control: &Control,
    metrics: &Arc<Metrics>,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<watch::Receiver<Term>> {
    let (told, term) = watch::channel(Term::default());
    let ControllerSettings { common, listen: _, authority } = settings;
    let Settings { kubernetes, .. } = common;
    match (kubernetes, authority) {
        (Some(_), _) => cluster::tell(common, control, metrics, stop, tasks, Some(told))?,
        (None, Some(folder)) => {
            tasks.spawn(lock::run(folder.clone(), told, stop.clone()));
        }
        (None, None) => drop(told.send_replace(Term { is_leader: true, epoch: Epoch(1) })),
    }
    Ok(term)
}

/// Tells whoever has started the process once everything has been read.
async fn tell_when_ready(mut control: Control) {
    while !control.now().is_ready() {
        if !control.changed().await {
            return;
        }
    }
    notify::ready();
}

/// There is no replica in this process.
struct Nobody {
    metrics: Arc<Metrics>,
    is_leaving: AtomicBool,
}

impl LocalReplica for Nobody {
    fn metrics(&self) -> String {
        self.metrics.render()
    }

    fn connections(&self) -> usize {
        0
    }

    fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    fn requests(&self, _: &RecordQuery) -> Vec<Value> {
        Vec::new()
    }

    fn request_keys(&self, _: &KeyQuery) -> Value {
        Value::Null
    }

    fn last_hit(&self, _: &RouteId) -> Option<SystemTime> {
        None
    }

    fn health(&self) -> BTreeMap<BackendId, Vec<EndpointHealth>> {
        BTreeMap::new()
    }
}
