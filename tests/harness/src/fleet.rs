//! A fleet on one machine: controllers and replicas as processes of their own, started on free ports
//! with scratch folders, and ended for sure.

pub mod faults;
pub mod placed;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::client::{Answer, Client};
use crate::process::Lines;
use crate::usage::Usage;

/// The folders that controllers share, and how the program is started.
pub struct FleetRig {
    program: PathBuf,
    scratch: TempDir,
}

/// A running process of a fleet. It is killed when this is dropped.
pub struct Member {
    /// Its name: `controller-1`, `r1`.
    pub name: String,
    /// Where its admin listener is.
    pub admin: SocketAddr,
    /// Where replicas reach it, if it is a controller; where it serves HTTP, if it is a replica.
    pub address: SocketAddr,
    /// What it was started with, to start it again.
    arguments: Vec<OsString>,
    program: PathBuf,
    child: Child,
    lines: Lines,
}

impl FleetRig {
    /// Of the program at `program`, without any manifest yet.
    ///
    /// # Errors
    /// When there is no place for scratch folders.
    pub fn new(program: impl Into<PathBuf>) -> Result<Self> {
        let scratch = TempDir::with_prefix("kubeng-fleet-")?;
        std::fs::create_dir(scratch.path().join("manifests"))?;
        Ok(Self { program: program.into(), scratch })
    }

    /// The folder of manifests that all controllers read.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.scratch.path().join("manifests")
    }

    /// The folder of the authority that all controllers share.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.scratch.path().join("authority")
    }

    /// The folder of the data of the member of this name.
    #[must_use]
    pub fn data(&self, name: &str) -> PathBuf {
        self.scratch.path().join(format!("data-{name}"))
    }

    /// Writes a Fleet with one HTTP Listener at port 80, served by the class `kubeng`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_fleet(&self, name: &str, more: &str) -> Result<()> {
        let text = format!(
            "apiVersion: kubeng.io/v1alpha1\nkind: Fleet\nmetadata: {{ name: {name} }}\nspec:\n  \
             serves: {{ ingressClasses: [kubeng] }}\n  listeners:\n  \
             - {{ name: http, port: 80, protocol: HTTP }}\n{more}"
        );
        Ok(std::fs::write(self.manifests().join(format!("fleet-{name}.yaml")), text)?)
    }

    /// Starts a controller.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn controller(&self, name: &str, more: &[&str]) -> Result<Member> {
        let [address, admin] = free_addresses()?;
        let mut arguments: Vec<OsString> = vec!["controller".into()];
        let mut flag = |flag: &str, value: OsString| arguments.extend([flag.into(), value]);
        flag("--manifests", self.manifests().into());
        flag("--authority", self.authority().into());
        flag("--listen", address.to_string().into());
        flag("--admin", admin.to_string().into());
        flag("--data", self.data(name).into());
        arguments.extend(more.iter().map(Into::into));
        Member::start(&self.program, name, admin, address, arguments)
    }

    /// A token with which one replica can join `fleet`. The authority must exist: a controller makes it.
    ///
    /// # Errors
    /// When the program refuses.
    pub async fn token(&self, fleet: &str) -> Result<String> {
        self.token_with(fleet, &[]).await
    }

    /// Starts a replica that joins with a token of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn replica(
        &self,
        name: &str,
        fleet: &str,
        controllers: &[&Member],
        more: &[&str],
    ) -> Result<Member> {
        let controllers: Vec<SocketAddr> = controllers.iter().map(|c| c.address).collect();
        self.replica_through(name, fleet, &controllers, more).await
    }

    /// Starts a replica that reaches controllers at these addresses, which may be those of relays.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn replica_through(
        &self,
        name: &str,
        fleet: &str,
        controllers: &[SocketAddr],
        more: &[&str],
    ) -> Result<Member> {
        let token = self.token(fleet).await?;
        let (admin, address, mut arguments) =
            self.replica_arguments((fleet, name), controllers, Some(&token))?;
        arguments.extend(more.iter().map(Into::into));
        Member::start(&self.program, name, admin, address, arguments)
    }
}

impl Member {
    fn start(
        program: &Path,
        name: &str,
        admin: SocketAddr,
        address: SocketAddr,
        arguments: Vec<OsString>,
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(&arguments).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let lines = Lines::read(child.stdout.take(), child.stderr.take());
        let (name, program) = (name.to_owned(), program.to_owned());
        Ok(Self { name, admin, address, arguments, program, child, lines })
    }

    /// Starts it again with the same ports and folders, after it has ended.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_again(&mut self) -> Result<()> {
        let (arguments, name) =
            (std::mem::take(&mut self.arguments), std::mem::take(&mut self.name));
        *self = Self::start(&self.program.clone(), &name, self.admin, self.address, arguments)?;
        Ok(())
    }

    /// Its process id; none when it has ended.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().with_context(|| format!("{} has ended", self.name))?;
        Ok(kill_process(pid, signal)?)
    }

    /// Kills it, as `kill -9` does, and waits for its end.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Errors
    /// When it runs on after `within`.
    pub async fn stop(&mut self, within: Duration) -> Result<()> {
        self.signal(Signal::TERM)?;
        let ended = tokio::time::timeout(within, self.child.wait()).await;
        ended.with_context(|| format!("{} still runs after {within:?}", self.name))??;
        Ok(())
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// When it has ended.
    pub fn usage(&self) -> Result<Usage> {
        let pid = self.pid().with_context(|| format!("{} has ended", self.name))?;
        Usage::of(pid.as_raw_nonzero().get().cast_unsigned())
    }

    /// Asks its admin listener.
    ///
    /// # Errors
    /// When it does not answer; whether the status is a good one is for the caller.
    pub async fn admin(&self, path: &str) -> Result<Answer> {
        Client::plain(self.admin).get(&self.admin.to_string(), path).await
    }

    /// What its admin listener says at `path`, as JSON.
    ///
    /// # Errors
    /// When it does not answer with 200 and JSON.
    pub async fn json(&self, path: &str) -> Result<serde_json::Value> {
        let answer = self.admin(path).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(answer.status == 200, "{path} answers {}: {text}", answer.status);
        serde_json::from_str(&text).with_context(|| format!("{path}: {text}"))
    }

    /// Waits until `/readyz` says 200.
    ///
    /// # Errors
    /// When it ends, or is not ready within `within`. The error has the end of its log.
    pub async fn until_ready(&mut self, within: Duration) -> Result<()> {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}\n{}", self.name, self.log_end());
            }
            if self.admin("/readyz").await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("{} is not ready after {within:?}\n{}", self.name, self.log_end());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All lines that it has written so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.lines.all()
    }

    /// The end of its log, for errors.
    #[must_use]
    pub fn log_end(&self) -> String {
        let lines = self.log();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// Two addresses of 127.0.0.1 that nobody listens on at this moment.
fn free_addresses() -> Result<[SocketAddr; 2]> {
    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let held = [placed::bind_free(&[LOCALHOST])?, placed::bind_free(&[LOCALHOST])?];
    let [a, b] = held.each_ref().map(|held| &held[0]);
    Ok([a.local_addr()?, b.local_addr()?])
}
