//! The side of the old process: starts the next one and waits until it serves.

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use kubeng_proxy::ListeningSockets;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tracing::info;

use super::channel::{Channel, DESCRIPTORS_MAX, FORMAT, Message};
use super::inherit::HANDOVER;
use crate::notify;

/// What the next process gets.
pub(crate) struct Lent {
    pub(crate) ports: Vec<ListeningSockets>,
    pub(crate) admin: TcpListener,
    pub(crate) data: Option<File>,
}

/// The next process. It serves.
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) pid: u32,
}

/// Starts the program again, lends it everything, and waits at most `within` until it serves.
///
/// Dropped before the end it kills the process that it started.
///
/// # Errors
/// When there is no next process afterwards. Nothing has changed then.
pub(crate) async fn start_next(lent: Lent, within: Duration) -> anyhow::Result<Next> {
    ensure!(
        std::process::id() != 1,
        "this is process 1, whose end is the end of its container; roll out a new container instead"
    );
    let program = program()?;
    let (channel, theirs) = Channel::pair()?;
    let mut command = Command::new(&program);
    command.args(std::env::args_os().skip(1)).env(HANDOVER, "1").stdin(Stdio::from(theirs));
    let child = command.spawn();
    // It holds the other end; the child alone must, so that its end is seen.
    drop(command);
    let child = child.with_context(|| format!("cannot start {}", program.display()))?;
    let pid = child.id().context("the next process ended at once")?;
    info!(pid, program = %program.display(), "upgrade: the next process is starting");
    let mut starting = Starting(Some(child));
    let served = timeout(within, starting.until_it_serves(&channel, lent)).await;
    let failed = match served {
        Ok(Ok(())) => {
            // Before it may speak for the unit.
            notify::handing_over_to(pid);
            match channel.send(&Message::Go, &[]).await {
                Ok(()) => {
                    starting.0 = None;
                    return Ok(Next { pid });
                }
                Err(error) => error,
            }
        }
        Ok(Err(error)) => error,
        Err(_) => anyhow::anyhow!(
            "it does not serve after {} s; its own lines in the log say what it waits for",
            within.as_secs()
        ),
    };
    starting.end().await;
    Err(failed)
}

/// A process that is not yet to be relied on.
struct Starting(Option<Child>);

impl Starting {
    async fn until_it_serves(&mut self, channel: &Channel, lent: Lent) -> anyhow::Result<()> {
        let Some(child) = &mut self.0 else { bail!("it has ended") };
        let pid = child.id();
        let talk = async {
            lend(channel, lent).await?;
            info!(pid, "upgrade: the next process has the sockets");
            match channel.receive().await? {
                Some((Message::Ready, _)) => Ok(()),
                Some((other, _)) => bail!("it says {other:?} instead of that it is ready"),
                // How it ended is the better news.
                None => std::future::pending().await,
            }
        };
        let talked = tokio::select! {
            biased;
            ended = child.wait() => return Err(ended_early(ended?)),
            talked = talk => talked,
        };
        let Err(error) = talked else { return Ok(()) };
        // A process that ends closes its socket first: how it ended is the better news.
        match timeout(END_SEEN_WITHIN, child.wait()).await {
            Ok(ended) => Err(ended_early(ended?)),
            Err(_) => Err(error),
        }
    }

    /// Tells it to stop, for it may have taken connections by now; then kills it.
    async fn end(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // It may be gone.
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(ENDS_WITHIN, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may be gone.
            let _ = child.start_kill();
        }
    }
}

fn ended_early(status: ExitStatus) -> anyhow::Error {
    anyhow::anyhow!("it ended with {status} before it served; its own lines in the log say why")
}

async fn lend(channel: &Channel, lent: Lent) -> anyhow::Result<()> {
    let Lent { ports, admin, data } = lent;
    channel.send(&Message::Begin { format: FORMAT }, &[]).await?;
    for ListeningSockets { address, sockets } in &ports {
        for sockets in sockets.chunks(DESCRIPTORS_MAX) {
            let descriptors: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
            channel.send(&Message::Ports { address: *address }, &descriptors).await?;
        }
    }
    channel.send(&Message::Admin, &[admin.as_fd()]).await?;
    if let Some(data) = &data {
        channel.send(&Message::Data, &[data.as_fd()]).await?;
    }
    channel.send(&Message::End, &[]).await
}

/// The file to start: as this process was called, so that a new file or link in its place is taken.
fn program() -> anyhow::Result<PathBuf> {
    let called = std::env::args_os().next().unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    find(&called, &path).map_or_else(|| Ok(std::env::current_exe()?), Ok)
}

fn find(called: &OsStr, path: &OsStr) -> Option<PathBuf> {
    if Path::new(called).components().count() > 1 || Path::new(called).is_absolute() {
        return std::path::absolute(called).ok();
    }
    if called.is_empty() {
        return None;
    }
    std::env::split_paths(path).map(|folder| folder.join(called)).find(|file| file.is_file())
}

/// Between the socket of a process that ends and its end.
const END_SEEN_WITHIN: Duration = Duration::from_secs(2);
/// How long a process that failed may take to finish what it has taken.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_as_it_was_called() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kubeng");
        std::fs::write(&file, "").unwrap();
        let path = std::env::join_paths([Path::new("/nowhere"), folder.path()]).unwrap();
        assert_eq!(find(OsStr::new("kubeng"), &path), Some(file.clone()));
        assert_eq!(find(OsStr::new("missing"), &path), None);
        assert_eq!(find(file.as_os_str(), OsStr::new("")), Some(file));
        let here = std::env::current_dir().unwrap();
        assert_eq!(find(OsStr::new("a/kubeng"), &path), Some(here.join("a/kubeng")));
    }
}
