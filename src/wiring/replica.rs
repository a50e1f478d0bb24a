//! `kubeng proxy`: a replica whose controllers are elsewhere. It serves from disk at once if there is
//! something, and follows a controller when one is heard.

mod controllers;
mod follow;
mod on_machine;
mod status;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kubeng_admin::Admin;
use kubeng_config::address::Reserved;
use kubeng_controller::distribution::follower::Follower;
use kubeng_controller::distribution::line::LINE_MESSAGES_MAX;
use kubeng_proxy::{Proxy, ProxySettings, Walker};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::agent::{Agent, Disk, Walking};
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
    let controllers = tokio::select! {
        controllers = Controllers::of(&replica) => controllers?,
        told = stopped(&mut signals) => {
            info!(signal = told, "told to stop before it had joined");
            return Ok(());
        }
    };
    let mut who = controllers.who(&replica);
    let plane = data_plane(&settings, Reserved::new([settings.admin]), ports)?;
    let (proxy, mut writer) =
        Proxy::start(ProxySettings { listen: replica.listen.clone(), ..plane })?;
    let (is_leaving, stop) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
    let stop_following = CancellationToken::new();
    let mut tasks = JoinSet::new();

    let disk = Disk::open(&replica.data, replica.data_key_file.as_deref())?;
    let believed = controllers.believed()?;
    let found = disk.start(&mut writer, &replica.fleet, Some(&believed));
    let (keeper, keeping) = disk.keeper(proxy.facts(), &found);
    let follower = Follower::new(replica.fleet.clone(), Some(believed), found.serves.clone());
    let follower = (replica.fleet.clone(), follower.having_heard(found.epoch));
    let is_anything_found = found.serves.is_some();

    let wanted = Arc::new(Notify::new());
    let (walked, walking) = watch::channel(None);
    let walker = Walker::new(proxy.facts(), replica.table_check, walked);
    tasks.spawn({
        let (wanted, stop) = (Arc::clone(&wanted), stop.clone());
        async move { walker.run(&wanted, stop).await }
    });
    let walking = Walking::new(wanted, walking);
    let mut agent = Agent::new(writer, proxy.facts(), follower, walking, Some(keeping));
    agent.found(found);

    let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
    let (told, to) = mpsc::channel(LINE_MESSAGES_MAX);
    let (from, tells) = mpsc::channel(LINE_MESSAGES_MAX);
    let (link, link_state) = watch::channel(Default::default());
    let inherited = admin_socket
        .filter(|socket| socket.local_addr().is_ok_and(|local| local == settings.admin));
    let (seen, seen_by) = watch::channel(Default::default());
    let on_machine = Arc::new(OnMachine {
        facts: proxy.facts(),
        is_leaving: Arc::clone(&is_leaving),
        seen: seen_by,
        link: link_state,
        commands,
        replica: replica.clone(),
    });
    let admin = match inherited {
        Some(socket) => Admin::replica_on(socket, on_machine)?,
        None => Admin::bind_replica(settings.admin, on_machine).await?,
    };
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
    linked.spawn(follow.run(replica.heartbeat, stop_link.clone()));
    let subscriber = {
        let stop = stop_following.clone();
        controllers.follow(hellos, told, tells, link, stop)
    };
    let begin: Begin = {
        let stop = stop_following.clone();
        // Two processes of one name would take the line from each other, so the next one follows when
        // the one before leaves; unless it has nothing to serve by until then.
        let late = if is_anything_found {
            Some(subscriber)
        } else {
            tasks.spawn(subscriber);
            None
        };
        Box::new(move |tasks| {
            tasks.spawn(keeper.run(stop));
            if let Some(subscriber) = late {
                tasks.spawn(subscriber);
            }
            Ok(())
        })
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
