//! `kubeng upgrade`: exchanges the program of a running process, and says what became of it.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use rustix::net::sockopt::socket_peercred;

use super::Finding;
use super::say::{say_line, tell_line};
use crate::data::LOCK;
use crate::upgrade::{Outcome, address};

/// Exchange the program of a running process under load, and wait until the next one serves
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("process").required(true).args(["pid", "data"]),
    after_help = "The process is named by its id (--pid) or by the data folder that it holds (--data, or \
                        KUBENG_DATA). Its log alone tells what becomes of SIGUSR2, which asks for the \
                        same. The process starts the file that it was started from again, with the same \
                        arguments, and hands its sockets over. Exit codes: 0 the next process \
                        serves, 1 it failed and the old one goes on, 2 nobody could be asked."
)]
pub(super) struct Upgrade {
    /// The process, by its id
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// The process, by the data folder that it holds
    #[arg(long, value_name = "DIR", env = "KUBENG_DATA")]
    data: Option<PathBuf>,
    /// Longest wait for the next process to serve, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    within: u64,
}

impl Upgrade {
    pub(super) fn run(self) -> anyhow::Result<Finding> {
        let pid = match (self.pid, &self.data) {
            (Some(pid), _) => pid,
            (None, Some(folder)) => holder(folder)?,
            (None, None) => bail!("which process? say --pid or --data"),
        };
        ensure!(self.within > 0, "within is 0 seconds; write at least 1");
        match ask(pid, Duration::from_secs(self.within))? {
            Outcome::Serves { pid: next } => {
                say_line(format_args!("process {next} serves; process {pid} finishes and ends"))?;
                Ok(Finding::Fine)
            }
            Outcome::Failed(reason) => {
                tell_line(format_args!(
                    "the upgrade failed, process {pid} goes on as before: {reason}"
                ));
                Ok(Finding::Problems)
            }
        }
    }
}

/// The process that holds a data folder.
fn holder(folder: &Path) -> anyhow::Result<u32> {
    let (shown, path) = (folder.display(), folder.join(LOCK));
    let mut lock = File::open(&path)
        .with_context(|| format!("{shown} is no data folder of a process that runs"))?;
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        Ok(()) => bail!("no process holds the data folder {shown}; start one with kubeng run"),
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot look at {}", path.display()));
        }
    }
    let mut text = String::new();
    lock.read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    let pid = text.trim().parse();
    pid.with_context(|| format!("{} names no process yet; say --pid", path.display()))
}

fn ask(pid: u32, within: Duration) -> anyhow::Result<Outcome> {
    let stream = UnixStream::connect_addr(&address(pid)?);
    let mut stream = stream.with_context(|| format!("process {pid} is no kubeng that serves"))?;
    let peer = socket_peercred(&stream)?;
    ensure!(
        u32::try_from(peer.pid.as_raw_nonzero().get()) == Ok(pid),
        "another process speaks in the name of process {pid}; nothing was asked"
    );
    stream.set_read_timeout(Some(within))?;
    let mut text = String::new();
    match stream.read_to_string(&mut text) {
        Ok(0) => bail!("process {pid} ended before the next one served; its log says why"),
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            bail!("no answer after {} s; the log of process {pid} says more", within.as_secs())
        }
        Err(error) => return Err(error).context("cannot hear the answer"),
    }
    serde_json::from_str(&text).context("the process says what this version does not understand")
}
