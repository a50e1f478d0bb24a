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
use kubeng_controller::distribution::authority::Authority;
use kubeng_controller::distribution::feed::{FleetFeed, FleetFeeds};
use kubeng_controller::distribution::identity::server::ServerIdentity;
use kubeng_controller::distribution::publisher::Publisher;
use kubeng_controller::distribution::signing::{SigningKey, VerifyingKeys};
use kubeng_controller::distribution::{Hello, server};
use kubeng_controller::fleet_status::Served;
use kubeng_controller::fleets::Fleets;
use kubeng_controller::hub::ReplicaHub;
use kubeng_controller::leader::{Term, lock};
use kubeng_controller::metrics::Metrics;
use kubeng_controller::reconcile::{Channels, EVENTS_WAITING_MAX, Reconciler};
use kubeng_controller::replicas::{Inputs, Replicas};
use kubeng_controller::world::World;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::cluster::OfFleets;
use super::{cluster, log_changes, reserved, sources, translate_settings};
use crate::data::DataFolder;
use crate::notify;
use crate::settings::controller::ControllerSettings;
use crate::shutdown::{Signals, Told};

/// What those who serve replicas are given.
pub(crate) struct Delivery {
    /// All fleets, from the moment when everything has been read once.
    pub(crate) feeds: watch::Receiver<Arc<FleetFeeds>>,
    /// Whether this controller leads, and the newest epoch that it knows of.
    pub(crate) term: watch::Receiver<Term>,
    /// Where it is told which epoch replicas have heard of from a controller.
    pub(crate) heard: watch::Sender<Epoch>,
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
    let (known, replicas_known) = watch::channel(None);
    let (heard, epoch_heard) = watch::channel(Epoch::default());
    let of_replicas = (epoch_heard, replicas_known);
    let term = start_leading(&settings, (&control, of_replicas), &metrics, &stop, &mut tasks)?;
    let replica =
        Arc::new(Nobody { metrics: Arc::clone(&metrics), is_leaving: AtomicBool::new(false) });
    let mut serving = JoinSet::new();
    let delivery = Delivery { feeds, term, heard, stop: stop_lines.clone() };
    let replicas = serve_replicas(&settings, delivery, &mut serving).await?;
    known.send_replace(Some(replicas.clone()));
    if !settings.peers.is_empty() {
        let peers = settings.peers.clone();
        tasks.spawn(kubeng_admin::follow_peers(replicas.clone(), peers, stop.clone()));
    }
    let admin = Admin::bind(settings.common.admin, control.clone(), replica.clone()).await?;
    let admin = admin.with_replicas(replicas);
    info!(address = %admin.address()?, "admin listener open");
    tasks.spawn(log_changes(control.clone(), metrics));
    if let Some(data) = &data
        && let Err(error) = data.sign()
    {
        // Whoever has to write there says so when it cannot; replicas are served from memory.
        warn!(%error, "cannot write to the data folder");
    }
    let stop_admin = CancellationToken::new();
    let admin_stop = stop_admin.clone();
    serving.spawn(async move { Ok(admin.serve(admin_stop).await?) });
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

/// Starts what replicas connect to: the hub that takes them in, and the server in front of it. Tasks go
/// into `serving`; when one of them ends with an error, so does the process.
async fn serve_replicas(
    settings: &ControllerSettings,
    delivery: Delivery,
    serving: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Replicas> {
    let ControllerSettings { common, listen, authority, names, peers: _ } = settings;
    let Delivery { feeds, term, heard, stop } = delivery;
    let authority = Arc::new(Authority::open(authority).context("cannot use the authority")?);
    let signer = SigningKey::from_pkcs8(authority.signing_key_pkcs8().expose())
        .context("cannot sign with the key of the authority")?;
    let signer = Arc::new(signer);
    let believed = VerifyingKeys::new(vec![signer.verifying_key()])?;
    let identity = Arc::new(ServerIdentity::issued(&authority, names.clone())?);
    let (epochs, epoch) = watch::channel(Epoch::default());
    serving.spawn(follow_epoch(term.clone(), epochs, stop.clone()));
    let publisher = move |hello: &Hello, feed: &FleetFeed, replicas| {
        Publisher::new(feed, hello, epoch.clone(), Some(Arc::clone(&signer)), replicas)
    };
    let (hub, replicas, cared_for) = Replicas::start(Inputs {
        feeds,
        publisher: Arc::new(publisher),
        believes: Arc::new(move |signed| {
            let is_believed = believed.verify(signed).is_ok();
            if is_believed {
                let epoch = signed.statement.epoch;
                heard.send_if_modified(|known| {
                    let is_newer = *known < epoch;
                    *known = epoch.max(*known);
                    is_newer
                });
            }
            is_believed
        }),
        own: tokio::task::spawn_blocking(|| kubeng_proxy::build(env!("CARGO_PKG_VERSION"))).await?,
        data: common.data.clone(),
        stop: stop.clone(),
    });
    serving.spawn(async move {
        cared_for.await;
        Ok(())
    });
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen for replicas on {listen}"))?;
    info!(address = %listener.local_addr()?, "listening for replicas");
    serving.spawn(accept_replicas(listener, term, (identity, authority, hub), stop));
    Ok(replicas)
}

/// Lets replicas in as soon as an epoch is known: what is said in none would be refused.
async fn accept_replicas(
    listener: TcpListener,
    mut term: watch::Receiver<Term>,
    (identity, authority, hub): (Arc<ServerIdentity>, Arc<Authority>, Arc<ReplicaHub>),
    stop: CancellationToken,
) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        known = term.wait_for(|term| term.epoch > Epoch::default()) => drop(known?),
    }
    Ok(server::serve(listener, identity, authority, hub, stop).await?)
}

/// Tells publishers the newest epoch.
async fn follow_epoch(
    mut term: watch::Receiver<Term>,
    epochs: watch::Sender<Epoch>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let epoch = term.borrow_and_update().epoch;
        epochs.send_if_modified(|known| std::mem::replace(known, epoch) != epoch);
        let changed = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = term.changed() => changed,
        };
        if changed.is_err() {
            // Whoever decides has ended, which it does with the process only.
            stop.cancelled().await;
        }
    }
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
    let published = cluster::published(&settings.common);
    let reconciler = Reconciler::new(names, fleets).publishing(published);
    tasks.spawn(reconciler.run(Channels { events: told, state, referenced: references, answers }));
    Ok((Control::new(control), feeds))
}

/// Sockets of our own inside, which tenants may not name as endpoints.
async fn inside(settings: &ControllerSettings) -> Reserved {
    reserved(&settings.common, [settings.listen]).await
}

/// Starts what decides who leads: a Lease where there is an API server, else a lock in the folder of
/// the authority.
fn start_leading(
    settings: &ControllerSettings,
    (control, (heard, replicas)): (&Control, (watch::Receiver<Epoch>, Served)),
    metrics: &Arc<Metrics>,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<watch::Receiver<Term>> {
    let (told, term) = watch::channel(Term::default());
    let ControllerSettings { common, listen: _, authority, names: _, peers: _ } = settings;
    if common.kubernetes.is_some() {
        let fleets = OfFleets { term: told, heard, replicas };
        cluster::tell(common, control, metrics, stop, tasks, Some(fleets))?;
    } else {
        tasks.spawn(lock::run(authority.clone(), told, stop.clone()));
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
