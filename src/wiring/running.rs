//! The process while it serves, and the two ways in which it ends: it is told to, or replaced.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use kubeng_admin::{Admin, ServeError};
use kubeng_proxy::{Proxy, TableWriter};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::data::DataFolder;
use crate::notify;
use crate::readiness::Readiness;
use crate::settings::Settings;
use crate::shutdown::{Signals, Told};
use crate::upgrade::{self, Before, Desk, Lent, Next, Outcome};

/// Everything that runs.
pub(super) struct Running {
    pub(super) settings: Settings,
    pub(super) readiness: Readiness,
    /// What only one process may do at a time, beside answering as admin: to be begun once.
    pub(super) begin: Option<Begin>,
    pub(super) proxy: Proxy,
    /// Held until the end.
    pub(super) data: Option<DataFolder>,
    /// The sources, the loop, and what writes to the cluster.
    pub(super) tasks: JoinSet<()>,
    pub(super) stop: CancellationToken,
    /// What writes to the cluster ends before the sources do.
    pub(super) stop_cluster: CancellationToken,
    pub(super) linked: JoinSet<TableWriter>,
    pub(super) stop_link: CancellationToken,
    pub(super) admins: JoinSet<Result<(), ServeError>>,
    pub(super) stop_admin: CancellationToken,
    pub(super) is_leaving: Arc<AtomicBool>,
    /// A second handle, for the next process.
    pub(super) admin_socket: TcpListener,
}

/// Begins tasks. What they write may be written by one process at a time.
pub(super) type Begin = Box<dyn FnOnce(&mut JoinSet<()>) -> anyhow::Result<()> + Send>;

/// Why the process ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Why {
    /// It was told to.
    Stopped,
    /// Another process serves.
    Replaced,
}

impl Running {
    /// Runs to the end.
    ///
    /// # Errors
    /// When a task that everything hangs on ends.
    pub(super) async fn run(
        mut self,
        mut signals: Signals,
        before: Option<Before>,
        admin: Admin,
    ) -> anyhow::Result<()> {
        let why = self.until_told(&mut signals, before, admin).await?;
        self.end(why, &mut signals).await
    }

    async fn until_told(
        &mut self,
        signals: &mut Signals,
        before: Option<Before>,
        admin: Admin,
    ) -> anyhow::Result<Why> {
        let mut admin = Some(admin);
        if before.is_none() {
            self.open_up(admin.take())?;
        }
        let mut taking_over = JoinSet::new();
        taking_over.spawn(take_over(before, self.readiness.clone()));
        let mut upgrades: JoinSet<anyhow::Result<Next>> = JoinSet::new();
        let mut is_upgrade_wanted = false;
        let mut desk = Desk::open();
        loop {
            if is_upgrade_wanted && taking_over.is_empty() {
                is_upgrade_wanted = false;
                match self.lend() {
                    Ok(lent) => {
                        let within = self.settings.upgrade_within;
                        upgrades.spawn(upgrade::start_next(lent, within));
                    }
                    Err(error) => refuse_upgrade(&mut desk, &error),
                }
            }
            let may_ask = upgrades.is_empty();
            tokio::select! {
                told = next(signals, &mut desk, may_ask) => match told {
                    Told::Stop(signal) => {
                        info!(signal, "told to stop");
                        // A process that was to come next is ended.
                        upgrades.shutdown().await;
                        return Ok(Why::Stopped);
                    }
                    Told::Upgrade if upgrades.is_empty() => {
                        info!("upgrade: told to hand over to a new process");
                        // A process that is not ready itself does it when it is.
                        is_upgrade_wanted = true;
                    }
                    Told::Upgrade => warn!("upgrade: one is in progress"),
                },
                Some(taken) = taking_over.join_next() => {
                    taken.context("taking over panicked")?.context("cannot take over")?;
                    self.open_up(admin.take())?;
                    if self.readiness.is_ready() {
                        self.proxy.forget_inherited();
                        notify::ready();
                    } else {
                        // The one before ended early: its sockets are still to be asked for.
                        taking_over.spawn(take_over(None, self.readiness.clone()));
                    }
                }
                Some(upgraded) = upgrades.join_next() => match upgraded.context("it panicked") {
                    Ok(Ok(Next { pid })) => {
                        info!(pid, "upgrade: the next process serves");
                        desk.tell(&Outcome::Serves { pid });
                        return Ok(Why::Replaced);
                    }
                    Ok(Err(error)) | Err(error) => refuse_upgrade(&mut desk, &error),
                },
                Some(ended) = self.admins.join_next() => {
                    ended.context("the admin listener panicked")??;
                }
                Some(_) = self.linked.join_next() => anyhow::bail!("the link to the replica ended"),
                panic = first_panic(&mut self.tasks) => return Err(panic).context("a task panicked"),
            }
        }
    }

    /// What only one process may do at a time: answer as admin, and write to the cluster.
    fn open_up(&mut self, admin: Option<Admin>) -> anyhow::Result<()> {
        let Some(admin) = admin else { return Ok(()) };
        if let Some(data) = &self.data
            && let Err(error) = data.sign()
        {
            warn!(%error, "kubeng upgrade cannot find this process by its data folder");
        }
        self.admins.spawn(admin.serve(self.stop_admin.clone()));
        self.begin.take().map_or(Ok(()), |begin| begin(&mut self.tasks))
    }

    fn lend(&self) -> anyhow::Result<Lent> {
        Ok(Lent {
            ports: self.proxy.lend_sockets()?,
            admin: self.admin_socket.try_clone()?,
            data: self.data.as_ref().map(DataFolder::lend).transpose()?,
        })
    }

    async fn end(mut self, why: Why, signals: &mut Signals) -> anyhow::Result<()> {
        let began = Instant::now();
        // Readiness off first; requests go on while balancers notice.
        self.is_leaving.store(true, Ordering::Release);
        let farewell = match why {
            Why::Stopped => {
                notify::stopping();
                // Connections are as before until balancers have noticed: a client that is sent away
                // earlier would only come back.
                wait_unless_told_again(self.settings.drain_delay, signals).await;
                self.proxy.leave();
                self.proxy.close_ports();
                farewell(&self.settings)
            }
            Why::Replaced => {
                self.proxy.leave();
                self.proxy.close_ports();
                self.stop_admin.cancel();
                self.stop_cluster.cancel();
                // No balancer has to notice, but clients learn by their next answer to come back.
                self.settings.drain_delay.max(LEAVE.min(self.settings.drain / 2))
            }
        };
        let deadline = began + self.settings.drain.max(farewell);
        // Clients that keep connections learn by their next answer that these end.
        wait_unless_told_again(farewell, signals).await;
        self.stop_link.cancel();
        if let Some(writer) = self.linked.join_next().await {
            drop(writer.context("the link to the replica panicked")?);
        }
        // Beside the requests that end; whoever leads gives the Lease back.
        self.stop_cluster.cancel();
        self.stop.cancel();
        let tasks = &mut self.tasks;
        let ended = async { while tasks.join_next().await.is_some() {} };
        let farewell = tokio::time::timeout_at(deadline.max(Instant::now() + FAREWELL), ended);
        let (drained, _) = tokio::join!(self.proxy.drain(), farewell);
        info!(finished = drained.finished, cut = drained.cut, "drained");
        // What does not end by itself is ended.
        self.tasks.shutdown().await;
        self.stop_admin.cancel();
        while self.admins.join_next().await.is_some() {}
        Ok(())
    }
}

/// How long a process that was told to stop tells clients to go elsewhere before it closes idle
/// connections, behind the delay and within what the whole stop may take. Without a delay nobody is waited for.
pub(super) fn farewell(settings: &Settings) -> Duration {
    if settings.drain_delay.is_zero() {
        return Duration::ZERO;
    }
    LEAVE.min(settings.drain.saturating_sub(settings.drain_delay) / 2)
}

/// Waits, at most until the process is told to stop once more.
async fn wait_unless_told_again(wait: Duration, signals: &mut Signals) {
    if wait.is_zero() {
        return;
    }
    let told_again = async {
        loop {
            match signals.next().await {
                Told::Stop(signal) => return signal,
                Told::Upgrade => warn!("upgrade: this process is stopping"),
            }
        }
    };
    if let Ok(signal) = tokio::time::timeout(wait, told_again).await {
        info!(signal, "told to stop once more: the rest of the delay is left out");
    }
}

/// Waits until this process serves and, if there was one before, that one leaves.
async fn take_over(before: Option<Before>, readiness: Readiness) -> anyhow::Result<()> {
    match before {
        Some(before) => {
            before.take_over(readiness).await?;
            info!("upgrade: taken over from the process before");
        }
        None => readiness.until_ready().await,
    }
    Ok(())
}

/// What is told next, by a signal or by `kubeng upgrade`.
async fn next(signals: &mut Signals, desk: &mut Desk, may_ask: bool) -> Told {
    tokio::select! {
        biased;
        told = signals.next() => told,
        () = desk.asked(may_ask) => Told::Upgrade,
    }
}

fn refuse_upgrade(desk: &mut Desk, error: &anyhow::Error) {
    let reason = format!("{error:#}");
    error!(error = %reason, "upgrade: it failed; this process goes on as before");
    desk.tell(&Outcome::Failed(reason));
}

/// Waits for a task that panics; tasks that end well are none of its business.
pub(super) async fn first_panic(tasks: &mut JoinSet<()>) -> JoinError {
    loop {
        match tasks.join_next().await {
            Some(Err(panic)) => return panic,
            Some(Ok(())) => {}
            None => std::future::pending().await,
        }
    }
}

/// How long a process that leaves tells clients to come back or to go elsewhere, before it closes idle
/// connections.
const LEAVE: Duration = Duration::from_secs(1);

/// How long tasks may take to end although no time is left.
const FAREWELL: Duration = Duration::from_millis(200);
