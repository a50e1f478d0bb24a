//! Creates channels and tasks; reads like the picture in docs/ARCHITECTURE.md.

mod agent;
mod cluster;
pub(crate) mod controller;
mod link;
mod observe;
mod problem_log;
pub(crate) mod replica;
mod running;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use kubeng_admin::{Admin, LocalReplica};
use kubeng_config::address::Reserved;
use kubeng_config::name::{BackendId, FleetName, ObjectKey, ObjectKind, RouteId};
use kubeng_config::observed::{EndpointHealth, KeyQuery, RecordQuery};
use kubeng_controller::control::{Answer, Control, ControlState};
use kubeng_controller::distribution::follower::Follower;
use kubeng_controller::distribution::publisher::Publisher;
use kubeng_controller::fleets::Fleets;
use kubeng_controller::kind::ingress::PortName;
use kubeng_controller::metrics::Metrics;
use kubeng_controller::reconcile::{Channels, EVENTS_WAITING_MAX, Reconciler};
use kubeng_controller::settings::{DefaultBackend, ExternalNames, TranslateSettings, WithoutClass};
use kubeng_controller::source::kubernetes::connection::api_server;
use kubeng_controller::world::World;
use kubeng_proxy::{Limits, ListeningSockets, Proxy, ProxyFacts, ProxySettings};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::data::DataFolder;
use crate::readiness::Readiness;
use crate::settings::Settings;
use crate::settings::home::Home;
use crate::shutdown::Signals;
use crate::upgrade::{self, Inherited};
use agent::{Agent, Walking};
use link::Teller;
use problem_log::ProblemLog;
use running::{Begin, Running};

/// The name of the one fleet that a process serves by itself.
pub(crate) const FLEET: &str = "default";

/// Answers of the replica that wait for the loop; it reads them between rounds.
const ANSWERS_MAX: usize = 16;

/// Serves until the process is told to stop, or another one has taken over, and then ends well.
///
/// # Errors
/// When it cannot start, or a task that everything hangs on ends.
pub(crate) async fn serve(settings: Settings, home: Option<Home>) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let Inherited { ports, admin: admin_socket, data: lock, before } = upgrade::inherit().await?;
    // Held until the end, so that no process but the next one shares it.
    let open = |path| match lock {
        Some(lock) => DataFolder::inherit(path, lock),
        None => DataFolder::open(path),
    };
    let data = settings.data.as_deref().map(open).transpose()?;
    let mut translate = translate_settings(&settings);
    if let Some(home) = &home {
        translate = translate.only_of(home.fleet.clone());
    }
    translate.reserved = reserved(&settings, []).await;
    let metrics = Arc::new(Metrics::default());
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();

    let reserved = translate.reserved.clone();
    let listen = home.as_ref().map(|home| home.listen.clone()).unwrap_or_default();
    let plane = data_plane(&settings, reserved, ports)?;
    let (proxy, writer) = Proxy::start(ProxySettings { listen, ..plane })?;

    let world = World::new(translate);
    let fleets = fleets(&world, home);
    let controller = start_controller(&settings, (world, fleets), &stop, &mut tasks)?;
    let Started { control, teller, answers } = controller;
    let fleet = control.now().fleet().clone();
    let stop_link = CancellationToken::new();
    // Nobody could come between, so nothing is signed; and nobody asks for digests over this link.
    let follower = (fleet.clone(), Follower::new(fleet, None, None));
    let agent = Agent::new(writer, proxy.facts(), follower, Walking::nobody(), None);
    let link = link::Link { teller, agent, answers, metrics: Arc::clone(&metrics) };
    let mut linked = JoinSet::new();
    linked.spawn(link.run(stop_link.clone()));

    let is_leaving = Arc::new(AtomicBool::new(false));
    let replica = Arc::new(Local {
        facts: proxy.facts(),
        metrics: Arc::clone(&metrics),
        is_leaving: Arc::clone(&is_leaving),
    });
    let admin = open_admin(settings.admin, admin_socket, control.clone(), replica).await?;
    info!(address = %admin.address()?, "admin listener open");
    tasks.spawn(log_changes(control.clone(), Arc::clone(&metrics)));
    if settings.observe.has_log_file() {
        tasks.spawn(observe::reopen_on_hangup(proxy.facts(), stop.clone()));
    }
    let stop_cluster = CancellationToken::new();
    let begin = {
        let (settings, control, stop) = (settings.clone(), control.clone(), stop_cluster.clone());
        let begin = move |tasks: &mut JoinSet<()>| {
            cluster::tell(&settings, &control, &metrics, &stop, tasks, None)
        };
        Some(Box::new(begin) as Begin)
    };
    let running = Running {
        admin_socket: admin.lend_socket()?,
        proxy,
        data,
        tasks,
        stop,
        stop_cluster,
        linked,
        stop_link,
        admins: JoinSet::new(),
        stop_admin: CancellationToken::new(),
        is_leaving,
        settings,
        readiness: Readiness::Controller(control),
        begin,
    };
    running.run(signals, before, admin).await
}

/// The fleet that settings describe, or the one that an Object does.
fn fleets(world: &World, home: Option<Home>) -> Fleets {
    match home {
        Some(Home { fleet, listen: _ }) => Fleets::of_object(world.settings().clone(), fleet),
        None => Fleets::of_settings(world.clone()),
    }
}

/// On the socket of the process before, if it is that of this address, or on its own.
async fn open_admin(
    address: SocketAddr,
    inherited: Option<TcpListener>,
    control: Control,
    replica: Arc<Local>,
) -> anyhow::Result<Admin> {
    match inherited.filter(|socket| socket.local_addr().is_ok_and(|local| local == address)) {
        Some(socket) => Ok(Admin::on(socket, control, replica)?),
        None => Ok(Admin::bind(address, control, replica).await?),
    }
}

/// How the data plane runs, whoever feeds it.
fn data_plane(
    settings: &Settings,
    reserved: Reserved,
    inherited: Vec<ListeningSockets>,
) -> anyhow::Result<ProxySettings> {
    Ok(ProxySettings {
        workers: settings.workers,
        trusted_proxies: settings.trusted_proxies.clone(),
        drain: settings.drain - settings.drain_delay - running::farewell(settings),
        observe: settings.observe.proxy(),
        reserved,
        listen: BTreeMap::new(),
        inherited,
        zone: settings.zone.as_deref().map(Arc::from),
        sticky_key: settings.sticky_key()?,
        limits: limits(settings),
    })
}

fn limits(settings: &Settings) -> Limits {
    let mut limits = Limits::default();
    if let Some(max) = settings.connections_max {
        limits.connections_max = max;
    }
    if let Some(max) = settings.client_connections_max {
        limits.connections_per_address_max = (max > 0).then_some(max);
    }
    limits
}

/// What the rest of the process needs of the controller.
struct Started {
    control: Control,
    teller: Teller,
    answers: mpsc::Sender<Answer>,
}

/// Starts the sources and the one loop.
fn start_controller(
    settings: &Settings,
    (world, fleets): (World, Fleets),
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<Started> {
    let (events, told) = mpsc::channel(EVENTS_WAITING_MAX);
    let (references, referenced) = watch::channel(BTreeSet::new());
    let names = sources::start(settings, &events, &referenced, stop, tasks)?;
    let name = world.settings().fleet.clone();
    let (state, control) = watch::channel(Arc::new(ControlState::new(world)));
    let teller = match fleets.home() {
        Some(home) => {
            Teller::Settings(Publisher::inside(name, home.newest, home.endpoints.follow()))
        }
        None => Teller::Object(name, fleets.feeds(), None),
    };
    let (answers, answered) = mpsc::channel(ANSWERS_MAX);
    let reconciler = Reconciler::new(names, fleets).publishing(cluster::published(settings));
    tasks.spawn(reconciler.run(Channels {
        events: told,
        state,
        referenced: references,
        answers: answered,
    }));
    Ok(Started { control: Control::new(control), teller, answers })
}

/// Sockets of our own inside, which tenants may not name as endpoints.
async fn reserved(settings: &Settings, own: impl IntoIterator<Item = SocketAddr>) -> Reserved {
    let api_server = match &settings.kubernetes {
        Some(kubernetes) => api_server(kubernetes.kubeconfig.as_deref()).await,
        None => None,
    };
    Reserved::new(api_server.into_iter().chain([settings.admin]).chain(own))
}

/// What translation is told.
pub(crate) fn translate_settings(settings: &Settings) -> TranslateSettings {
    let fleet: FleetName = FLEET.parse().expect("the name of the fleet is not empty");
    let mut translate = TranslateSettings::new(fleet, settings.listeners.all.clone());
    translate.forwards.clone_from(&settings.listeners.forwards);
    translate.clients.clone_from(&settings.listeners.clients);
    translate.classes.clone_from(&settings.ingress_classes);
    translate.namespaces.clone_from(&settings.namespaces);
    if settings.without_class {
        translate.without_class = WithoutClass::Serve;
    }
    if settings.allow_external_name {
        translate.external_names = ExternalNames::Allow;
    }
    translate.default_backend = settings.default_backend.as_ref().map(|backend| DefaultBackend {
        namespace: backend.service.namespace.clone(),
        service: backend.service.name.clone(),
        port: PortName::Number(backend.port),
    });
    translate.default_certificate = settings
        .default_certificate
        .as_ref()
        .map(|named| ObjectKey::new(ObjectKind::Secret, &named.namespace, &named.name));
    translate
}

/// The replica in this process, as the admin listener sees it.
struct Local {
    facts: ProxyFacts,
    metrics: Arc<Metrics>,
    is_leaving: Arc<AtomicBool>,
}

impl LocalReplica for Local {
    fn metrics(&self) -> String {
        self.facts.metrics() + &self.metrics.render()
    }

    fn connections(&self) -> usize {
        self.facts.connections()
    }

    fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    fn requests(&self, query: &RecordQuery) -> Vec<Value> {
        self.facts.requests(query)
    }

    fn request_keys(&self, query: &KeyQuery) -> Value {
        self.facts.request_keys(query)
    }

    fn last_hit(&self, route: &RouteId) -> Option<SystemTime> {
        self.facts.last_hit(route)
    }

    fn health(&self) -> BTreeMap<BackendId, Vec<EndpointHealth>> {
        observe::health(&self.facts)
    }
}

/// Logs each Problem once when it comes, and once when its place is mended.
async fn log_changes(mut control: Control, metrics: Arc<Metrics>) {
    let mut log = ProblemLog::default();
    let mut version = None;
    let mut was_ready = false;
    loop {
        let state = control.now();
        if version.replace(state.problems_version()) != Some(state.problems_version()) {
            let problems = state.problems();
            metrics.problems.set(i64::try_from(problems.len()).unwrap_or(i64::MAX));
            log.take(&problems);
        }
        if state.is_ready() && !was_ready {
            was_ready = true;
            info!(routes = state.snapshot().routes().len(), "ready: serving");
        }
        if !control.changed().await {
            return;
        }
    }
}
