//! The program itself: started on free ports with scratch folders, watched, and ended for sure.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, kill_process, test_kill_process, waitpid,
};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{Answer, Client};
use crate::cores;
use crate::usage::Usage;

/// How `kubeng run` is to be started.
///
/// Without [`manifests`](Self::manifests) and [`bare`](Self::bare) it reads a
/// folder of its own, empty at first: [`Kubeng::manifests`].
pub struct Launch {
    command: Command,
    core: Option<usize>,
    has_source: bool,
    /// Whether a Fleet says where it listens.
    has_fleet: bool,
    errors: Option<Stdio>,
}

/// A running `kubeng run`. It is killed when this is dropped.
pub struct Kubeng {
    /// Where it serves HTTP.
    pub http: SocketAddr,
    /// Where it serves HTTPS.
    pub https: SocketAddr,
    /// Where its admin listener is.
    pub admin: SocketAddr,
    child: Child,
    /// The process that serves: that of `child`, or one that took over.
    pid: Pid,
    /// All that took over.
    successors: Vec<Pid>,
    lines: Lines,
    scratch: TempDir,
}

/// What the program has written, standard output and error together.
pub(crate) struct Lines {
    all: Arc<Mutex<Vec<String>>>,
    count: watch::Receiver<usize>,
    readers: JoinSet<()>,
}

impl Launch {
    /// Of the program at `program`.
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.arg("run");
        Self { command, core: None, has_source: false, has_fleet: false, errors: None }
    }

    /// Reads this folder of manifests, besides others that are named.
    #[must_use]
    pub fn manifests(mut self, folder: impl AsRef<OsStr>) -> Self {
        self.command.arg("--manifests").arg(folder);
        self.has_source = true;
        self
    }

    /// Reads no folder of its own: the sources are among the arguments.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.has_source = true;
        self
    }

    /// Serves the Fleet object of this name, with its listener `http` where [`Kubeng::http`] is.
    #[must_use]
    pub fn fleet(mut self, name: &str) -> Self {
        self.command.arg("--fleet").arg(name);
        self.has_fleet = true;
        self
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Sets a variable in its environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts it in this folder, from which relative paths count.
    #[must_use]
    pub fn in_folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Keeps all of its threads on this core.
    #[must_use]
    pub fn on_core(mut self, core: Option<usize>) -> Self {
        self.core = core;
        self
    }

    /// Gives it this standard error, which is not read then.
    #[must_use]
    pub fn errors(mut self, to: impl Into<Stdio>) -> Self {
        self.errors = Some(to.into());
        self
    }

    /// Starts it. It need not be ready, nor stay: see [`Kubeng::wait_until_ready`].
    ///
    /// # Errors
    /// When the program cannot be started at all.
    pub fn start(mut self) -> Result<Kubeng> {
        let scratch = TempDir::with_prefix("kubeng-")?;
        let [http, https, admin] = free_addresses()?;
        if !self.has_source {
            std::fs::create_dir(scratch.path().join(MANIFESTS))?;
            self.command.arg("--manifests").arg(scratch.path().join(MANIFESTS));
        }
        if self.has_fleet {
            self.command.arg("--listen").arg(format!("http={http}"));
        } else {
            self.command.arg("--http").arg(http.to_string());
            self.command.arg("--https").arg(https.to_string());
        }
        self.command.arg("--admin").arg(admin.to_string());
        self.command.arg("--data").arg(scratch.path().join("data"));
        let errors = self.errors.take().unwrap_or_else(Stdio::piped);
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        self.command.kill_on_drop(true);
        let program = PathBuf::from(self.command.as_std().get_program());
        let spawn = || self.command.spawn();
        let mut child = cores::on_core(self.core, spawn)
            .with_context(|| format!("cannot start {}", program.display()))?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.context("it ended at once")?;
        let lines = Lines::read(child.stdout.take(), child.stderr.take());
        Ok(Kubeng { http, https, admin, child, pid, successors: Vec::new(), lines, scratch })
    }

    /// Starts it and waits until it is ready; tries again when another program was faster
    /// to take one of the ports.
    ///
    /// # Errors
    /// When it ends, or is not ready within `within`.
    pub async fn start_until_ready(make: impl Fn() -> Self, within: Duration) -> Result<Kubeng> {
        for _ in 0..2 {
            let mut kubeng = make().start()?;
            match kubeng.wait_until_ready(within).await {
                Ok(()) => return Ok(kubeng),
                Err(_) if kubeng.log().iter().any(|line| line.contains("in use")) => {}
                Err(error) => return Err(error),
            }
        }
        let mut kubeng = make().start()?;
        kubeng.wait_until_ready(within).await?;
        Ok(kubeng)
    }
}

impl Kubeng {
    /// The folder that it reads when [`Launch`] names no other source.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.scratch.path().join(MANIFESTS)
    }

    /// A folder for anything; it goes with the process.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Waits until `/readyz` says 200.
    ///
    /// # Errors
    /// When it ends, or is not ready within `within`. The error has the end of its log.
    pub async fn wait_until_ready(&mut self, within: Duration) -> Result<()> {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("kubeng ended with {status}\n{}", self.log_end());
            }
            if self.admin("/readyz").await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("kubeng is not ready after {within:?}\n{}", self.log_end());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks the admin listener.
    ///
    /// # Errors
    /// When it does not answer; whether the status is a good one is for the caller.
    pub async fn admin(&self, path: &str) -> Result<Answer> {
        Client::plain(self.admin).get(&self.admin.to_string(), path).await
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// When the admin listener does not give them.
    pub async fn metrics(&self) -> Result<String> {
        let answer = self.admin("/metrics").await?;
        anyhow::ensure!(answer.status == 200, "/metrics answers {}", answer.status);
        Ok(String::from_utf8(answer.body.into())?)
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.pid())
    }

    /// All lines that it has written so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.lines.all()
    }

    /// Waits for a line that `is_wanted`; lines that came before count.
    ///
    /// # Errors
    /// When no such line comes within `within`, or the output ends before.
    pub async fn wait_for_line(
        &mut self,
        within: Duration,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let mut count = self.lines.count.clone();
        let wait = async {
            let mut from = 0;
            loop {
                count.borrow_and_update();
                let lines = self.log();
                if let Some(line) = lines.iter().skip(from).find(|line| is_wanted(line)) {
                    return Ok(line.clone());
                }
                from = lines.len();
                count.changed().await.context("the output ended")?;
            }
        };
        let found = tokio::time::timeout(within, wait).await;
        found
            .unwrap_or_else(|_| bail!("no such line within {within:?}"))
            .with_context(|| self.log_end())
    }

    /// Asks it to end, as `kill` does.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn terminate(&self) -> Result<()> {
        Ok(kill_process(self.pid, Signal::TERM)?)
    }

    /// Asks it to hand over to a new process, as SIGUSR2 does.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn ask_for_upgrade(&self) -> Result<()> {
        reap_orphans()?;
        Ok(kill_process(self.pid, Signal::USR2)?)
    }

    /// Hands over to a new process and waits until that one serves. The old one may still drain.
    ///
    /// # Errors
    /// When that takes longer than `within`, or fails.
    pub async fn upgrade(&mut self, within: Duration) -> Result<()> {
        let (serves, failed) = ("upgrade: the next process serves", "upgrade: it failed");
        let count =
            |lines: &[String], text| lines.iter().filter(|line| line.contains(text)).count();
        let before = self.log();
        let (done, failures) = (count(&before, serves), count(&before, failed));
        self.ask_for_upgrade()?;
        let until = Instant::now() + within;
        loop {
            let lines = self.log();
            if let Some(line) = lines.iter().filter(|line| line.contains(serves)).nth(done) {
                return self.follow(line);
            }
            if count(&lines, failed) > failures {
                bail!("the upgrade failed\n{}", self.log_end());
            }
            if Instant::now() > until {
                bail!("no upgrade within {within:?}\n{}", self.log_end());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the next process has the sockets, and takes that one for the process that serves.
    ///
    /// # Errors
    /// When none has them within `within`.
    pub async fn follow_next(&mut self, within: Duration) -> Result<()> {
        let has_all = |line: &str| line.contains("upgrade: the next process has the sockets");
        let line = self.wait_for_line(within, has_all).await?;
        self.follow(&line)
    }

    fn follow(&mut self, line: &str) -> Result<()> {
        let (_, pid) = line.split_once("pid=").context("the line names no process")?;
        let pid = pid.split_whitespace().next().unwrap_or_default().parse()?;
        self.pid = Pid::from_raw(pid).context("the line names no process")?;
        self.successors.push(self.pid);
        Ok(())
    }

    /// Kills the process that was started first.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn kill_first(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Waits until every process that was replaced has ended: true when each ended well.
    ///
    /// # Errors
    /// When one runs on after `within`.
    pub async fn wait_for_replaced(&mut self, within: Duration) -> Result<bool> {
        if self.successors.is_empty() {
            return Ok(true);
        }
        let mut is_well = self.wait_for_first(within).await?.success();
        let replaced: Vec<Pid> =
            self.successors.iter().copied().filter(|pid| *pid != self.pid).collect();
        for pid in replaced {
            // The status of one that ended before the process that started it went to that one.
            let status = wait_for(pid, within).await?;
            is_well &= status.is_none_or(|status| status.exit_status() == Some(0));
            self.successors.retain(|one| *one != pid);
        }
        Ok(is_well)
    }

    /// Waits until it has ended; where another process took over, until that one has: its status is
    /// then that of the last, if those before have ended: see [`wait_for_replaced`](Self::wait_for_replaced).
    ///
    /// # Errors
    /// When it runs on after `within`.
    pub async fn wait_for_end(&mut self, within: Duration) -> Result<ExitStatus> {
        if self.successors.is_empty() {
            return self.wait_for_first(within).await;
        }
        let status = wait_for(self.pid, within).await?;
        self.successors.retain(|pid| *pid != self.pid);
        let status = status.context("its status went to the process that it replaced")?;
        Ok(ExitStatus::from_raw(status.as_raw()))
    }

    async fn wait_for_first(&mut self, within: Duration) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(within, self.child.wait()).await;
        Ok(ended.with_context(|| format!("it still runs after {within:?}"))??)
    }

    fn log_end(&self) -> String {
        let lines = self.log();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Kubeng {
    fn drop(&mut self) {
        for pid in &self.successors {
            // It may have ended.
            let _ = kill_process(*pid, Signal::KILL);
            let _ = waitpid(Some(*pid), WaitOptions::empty());
        }
    }
}

/// From here on what a process has started becomes a child of this one when that process ends, so
/// that its end is seen.
///
/// # Errors
/// When the system refuses.
pub fn reap_orphans() -> Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Waits for a process that took over. None when its status went to the process that started it.
async fn wait_for(pid: Pid, within: Duration) -> Result<Option<WaitStatus>> {
    let until = Instant::now() + within;
    while Instant::now() < until {
        match waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => return Ok(Some(status)),
            Ok(None) => {}
            // It is not ours as long as its parent lives.
            Err(Errno::CHILD) if test_kill_process(pid) == Err(Errno::SRCH) => return Ok(None),
            Err(Errno::CHILD) => {}
            Err(error) => return Err(error).context("a process that took over"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bail!("process {pid:?} still runs after {within:?}")
}

impl Lines {
    pub(crate) fn read(
        out: Option<impl AsyncRead + Send + Unpin + 'static>,
        err: Option<impl AsyncRead + Send + Unpin + 'static>,
    ) -> Self {
        let all = Arc::new(Mutex::new(Vec::new()));
        let (sender, count) = watch::channel(0);
        let mut readers = JoinSet::new();
        if let Some(out) = out {
            readers.spawn(keep_lines(out, Arc::clone(&all), sender.clone()));
        }
        if let Some(err) = err {
            readers.spawn(keep_lines(err, Arc::clone(&all), sender));
        }
        Self { all, count, readers }
    }

    /// Waits until nothing more can come: the process has ended, and all of it was read.
    pub(crate) async fn until_end(&mut self) {
        while self.readers.join_next().await.is_some() {}
    }

    /// All that came so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn keep_lines(
    from: impl AsyncRead + Unpin,
    to: Arc<Mutex<Vec<String>>>,
    count: watch::Sender<usize>,
) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut all = to.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(line);
        count.send_replace(all.len());
    }
}

/// Three addresses of 127.0.0.1 that nobody listens on at this moment.
fn free_addresses() -> Result<[SocketAddr; 3]> {
    // All are held until all are known, so that they differ.
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let held = [bind()?, bind()?, bind()?];
    let [a, b, c] = &held;
    Ok([a.local_addr()?, b.local_addr()?, c.local_addr()?])
}

const MANIFESTS: &str = "manifests";

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    /// A stand-in for the program: `sh`, which takes the word `run` for the name of a script.
    fn stand_in(script: &str) -> (Kubeng, TempDir) {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("run"), script).unwrap();
        (Launch::new("sh").in_folder(folder.path()).start().unwrap(), folder)
    }

    #[tokio::test]
    async fn lines_and_exit_codes_are_seen() {
        let script = "echo err >&2; trap 'exit 7' TERM; echo armed; while :; do sleep 0.05; done";
        let (mut program, _folder) = stand_in(script);
        program.wait_for_line(WITHIN, |line| line == "armed").await.unwrap();
        program.wait_for_line(WITHIN, |line| line == "err").await.unwrap();
        program.terminate().unwrap();
        assert_eq!(program.wait_for_end(WITHIN).await.unwrap().code(), Some(7));
        assert!(program.wait_for_line(WITHIN, |line| line == "never").await.is_err());
    }

    #[tokio::test]
    async fn a_program_that_ends_is_not_waited_for() {
        let (mut program, _folder) = stand_in("echo broken; exit 3");
        let error = program.wait_until_ready(WITHIN).await.unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
    }
}
