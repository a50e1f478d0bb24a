//! `kubeng proxy`: a replica whose controllers are elsewhere. It serves from disk at once if there is
//! something, and follows a controller when one is heard.

mod controllers;
mod follow;
mod on_machine;
mod status;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kubeng_admin::Admin;
use kubeng_config::address::Reserved;
use kubeng_controller::distribution::follower::Follower;
use kubeng_controller::distribution::line::LINE_MESSAGES_MAX;
use kubeng_proxy::persist::Keeper;
use kubeng_proxy::{Background, Proxy, ProxySettings, TableWriter, Walker};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::agent::{Agent, Disk, Pulsing, Walking};
use super::running::{Begin, Running};
use super::{data_plane, observe};
use crate::data::DataFolder;
use crate::readiness::Readiness;
use crate::settings::Settings;
use crate::settings::replica::ReplicaSettings;
use crate::shutdown::{Signals, Told};
use crate::upgrade::{self, Inherited};
use controllers::Controllers;
use follow::{COMMANDS_MAX, Follow};
use on_machine::OnMachine;

/// Serves until the process is told to stop, or another one has taken over, and then ends well.
///
/// # Errors
/// When it cannot start, or a task that everything hangs on ends.
pub(crate) async fn serve(settings: Settings, replica: ReplicaSettings) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let Inherited { ports, admin: admin_socket, data: lock, before } = upgrade::inherit().await?;
    let data = match lock {
        Some(lock) => DataFolder::inherit(&replica.data, lock),
        None => DataFolder::open(&replica.data),
    }?;
    let Some(controllers) = joined(&replica, &mut signals).await? else { return Ok(()) };
    let mut who = controllers.who(&replica);
    let plane = data_plane(&settings, Reserved::new([settings.admin]), ports)?;
    let (proxy, writer) = Proxy::start(ProxySettings { listen: replica.listen.clone(), ..plane })?;
    let (is_leaving, stop) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
    let stop_following = CancellationToken::new();
    let mut tasks = JoinSet::new();

    let (agent, keeper, is_anything_found) =
        agent(&proxy, writer, (&replica, &controllers), &stop, &mut tasks)?;

    let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
    let (told, to) = mpsc::channel(LINE_MESSAGES_MAX);
    let (from, tells) = mpsc::channel(LINE_MESSAGES_MAX);
    let (link, link_state) = watch::channel(Default::default());
    let (seen, seen_by) = watch::channel(Default::default());
    let on_machine = Arc::new(OnMachine {
        facts: proxy.facts(),
        is_leaving: Arc::clone(&is_leaving),
        seen: seen_by,
        link: link_state,
        commands,
        replica: replica.clone(),
    });
    let admin = open_admin(settings.admin, admin_socket, on_machine).await?;
    who.admin = Some(admin.address()?);
    info!(address = %admin.address()?, "admin listener open");
    if settings.observe.has_log_file() {
        tasks.spawn(observe::reopen_on_hangup(proxy.facts(), stop.clone()));
    }

    let (hello, hellos) = watch::channel(agent.hello(&who));
    let (ready, readiness) = watch::channel(false);
    let keys = controllers.keys();
    let follow = Follow::new(agent, who, keys, (to, from, commanded), (hello, seen, ready));
    let stop_link = CancellationToken::new();
    let mut linked = JoinSet::new();
    linked.spawn(follow.run(stop_link.clone()));
    let subscriber = controllers.follow(hellos, told, tells, link, stop_following.clone());
    let keeping = keeper.run(stop_following.clone());
    let begin = if is_anything_found {
        late([keeping.boxed(), subscriber.boxed()])
    } else {
        tasks.spawn(subscriber);
        late([keeping.boxed()])
    };
    let running = Running {
        admin_socket: admin.lend_socket()?,
        proxy,
        data: Some(data),
        tasks,
        stop,
        stop_cluster: stop_following,
        linked,
        stop_link,
        admins: JoinSet::new(),
        stop_admin: CancellationToken::new(),
        is_leaving,
        settings,
        readiness: Readiness::Replica(readiness),
        begin: Some(begin),
    };
    running.run(signals, before, admin).await
}

/// What carries out what controllers say, with what it finds on disk; what keeps that; and whether
/// anything was found.
fn agent(
    proxy: &Proxy,
    mut writer: TableWriter,
    (replica, controllers): (&ReplicaSettings, &Controllers),
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<(Agent, Keeper, bool)> {
    let disk = Disk::open(&replica.data, replica.data_key_file.as_deref())?;
    let believed = controllers.believed()?;
    let found = disk.start(&mut writer, &replica.fleet, Some(&believed));
    let background = Background::start().context("cannot start a thread")?;
    let (keeper, keeping) = disk.keeper(proxy.facts(), background.clone(), &found);
    let follower = Follower::new(replica.fleet.clone(), Some(believed), found.serves.clone());
    let follower = (replica.fleet.clone(), follower.having_heard(found.epoch));

    let pulsing = Pulsing::at_least(replica.heartbeat, replica.table_check);
    let walking = walk(proxy, (&pulsing, background), stop, tasks);
    let agent = Agent::new(writer, proxy.facts(), follower, walking, Some(keeping));
    let mut agent = agent.with_pulse(pulsing);
    let is_anything = found.serves.is_some();
    agent.found(found);
    Ok((agent, keeper, is_anything))
}

/// Those that it follows, once it has joined; none when it was told to stop before.
async fn joined(
    replica: &ReplicaSettings,
    signals: &mut Signals,
) -> anyhow::Result<Option<Controllers>> {
    tokio::select! {
        controllers = Controllers::of(replica) => controllers.map(Some),
        signal = stopped(signals) => {
            info!(signal, "told to stop before it had joined");
            Ok(None)
        }
    }
}

/// What begins when the process before leaves: two of one name would take the line from each other,
/// and both would write the file. What has nothing to serve by until then follows at once.
fn late<const N: usize>(tasks: [BoxFuture<'static, ()>; N]) -> Begin {
    Box::new(move |set| {
        for task in tasks {
            set.spawn(task);
        }
        Ok(())
    })
}

/// Computes the digest of what runs again and again, beside the requests.
fn walk(
    proxy: &Proxy,
    (pulsing, background): (&Pulsing, Background),
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Walking {
    let wanted = Arc::new(Notify::new());
    let (walked, walking) = watch::channel(None);
    let walker = Walker::new(proxy.facts(), background, pulsing.follow(), walked);
    let (told, stop) = (Arc::clone(&wanted), stop.clone());
    tasks.spawn(async move { walker.run(&told, stop).await });
    Walking::new(wanted, walking)
}

/// On the socket of the process before, if it is that of this address, or on its own.
async fn open_admin(
    address: SocketAddr,
    inherited: Option<TcpListener>,
    on_machine: Arc<OnMachine>,
) -> anyhow::Result<Admin> {
    match inherited.filter(|socket| socket.local_addr().is_ok_and(|local| local == address)) {
        Some(socket) => Ok(Admin::replica_on(socket, on_machine)?),
        None => Ok(Admin::bind_replica(address, on_machine).await?),
    }
}

/// Waits until it is told to stop, while there is nothing to hand over.
async fn stopped(signals: &mut Signals) -> &'static str {
    loop {
        match signals.next().await {
            Told::Stop(signal) => return signal,
            Told::Upgrade => {}
        }
    }
}

/// Whether the process was told to stop.
fn is_set(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Acquire)
}
