//! What is needed to treat a fleet badly: replicas behind relays, with tokens of any kind, on a disk
//! of their own; and how processes end.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Command;

use super::{FleetRig, Member, free_addresses};

/// For replicas whose faults are to be seen soon.
const SOON_HEARD: [&str; 2] = ["--heartbeat", "1"];

impl FleetRig {
    /// A token for `fleet` as the flags in `more` say, such as `--for 1s`.
    ///
    /// # Errors
    /// When the program refuses.
    pub async fn token_with(&self, fleet: &str, more: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(["token", "create", "--fleet", fleet, "--authority"]).arg(self.authority());
        let output = command.args(more).kill_on_drop(true).output().await?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "no token: {error}");
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Starts a replica that finds its controllers at `controllers`, with this token if there is one.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn replica_at(
        &self,
        (fleet, name): (&str, &str),
        controllers: &[SocketAddr],
        token: Option<&str>,
        more: &[&str],
    ) -> Result<Member> {
        let (admin, address, mut arguments) =
            self.replica_arguments((fleet, name), controllers, token)?;
        arguments.extend(SOON_HEARD.iter().chain(more).map(Into::into));
        Member::start(&self.program, name, admin, address, arguments)
    }

    /// The same, under conditions of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn replica_under(
        &self,
        under: &Under,
        (fleet, name): (&str, &str),
        controllers: &[SocketAddr],
        token: &str,
    ) -> Result<Member> {
        let (admin, address, mut arguments) =
            self.replica_arguments((fleet, name), controllers, Some(token))?;
        arguments.extend(SOON_HEARD.iter().map(Into::into));
        std::fs::create_dir_all(self.data(name))?;
        let (program, arguments) = under.command(&self.program, arguments, &self.data(name));
        Member::start(&program, name, admin, address, arguments)
    }

    /// What every replica is started with.
    pub(super) fn replica_arguments(
        &self,
        (fleet, name): (&str, &str),
        controllers: &[SocketAddr],
        token: Option<&str>,
    ) -> Result<(SocketAddr, SocketAddr, Vec<OsString>)> {
        let [address, admin] = free_addresses()?;
        let mut arguments: Vec<OsString> = vec!["proxy".into()];
        let mut flag = |flag: &str, value: OsString| arguments.extend([flag.into(), value]);
        flag("--fleet", fleet.into());
        flag("--name", name.into());
        for controller in controllers {
            flag("--controller", format!("https://{controller}").into());
        }
        if let Some(token) = token {
            flag("--join-token", token.into());
        }
        flag("--data", self.data(name).into());
        flag("--admin", admin.to_string().into());
        flag("--listen", format!("http={address}").into());
        flag("--workers", "1".into());
        flag("--drain", "1".into());
        Ok((admin, address, arguments))
    }
}

impl Member {
    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When it still runs after `within`.
    pub async fn until_end(&mut self, within: Duration) -> Result<ExitStatus> {
        let ended = async {
            let ended = self.child.wait().await;
            // What it said last is still in the pipe.
            self.lines.until_end().await;
            ended
        };
        match tokio::time::timeout(within, ended).await {
            Ok(ended) => Ok(ended?),
            Err(_) => bail!("{} still runs after {within:?}\n{}", self.name, self.log_end()),
        }
    }

    /// Waits until a line of its log has all of `words`, and gives that line.
    ///
    /// # Errors
    /// When there is none within `within`.
    pub async fn until_said(&self, within: Duration, words: &[&str]) -> Result<String> {
        let until = Instant::now() + within;
        loop {
            let has_all = |line: &String| words.iter().all(|word| line.contains(word));
            if let Some(line) = self.log().into_iter().find(has_all) {
                return Ok(line);
            }
            if Instant::now() > until {
                bail!("{} does not say {words:?}\n{}", self.name, self.log_end());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The screen that its admin listener shows.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn screen(&self) -> Result<String> {
        let answer = self.admin("/status").await?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// What it is started with from now on in place of `flag` and its value.
    ///
    /// # Errors
    /// When it has no such flag.
    pub fn exchange(&mut self, flag: &str, value: &str) -> Result<()> {
        let at = self.arguments.iter().position(|argument| *argument == *flag);
        let at = at.with_context(|| format!("{} is not started with {flag}", self.name))?;
        let place = self.arguments.get_mut(at + 1).context("a flag without a value")?;
        *place = value.into();
        Ok(())
    }

    /// Starts it again under conditions of its own, after it has ended. `data` is its data folder.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_again_under(&mut self, under: &Under, data: &Path) -> Result<()> {
        let arguments = std::mem::take(&mut self.arguments);
        (self.program, self.arguments) = under.command(&self.program, arguments, data);
        self.start_again()
    }
}

/// Conditions that a process has for itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Under {
    /// Its data folder is an empty file system in memory with so much room.
    SmallDisk {
        /// In bytes.
        bytes: u64,
    },
    /// Its data folder is on a file system that is read-only.
    ReadOnlyDisk,
    /// Modes of files count for it: it is not the administrator, whoever runs this.
    NoPrivileges,
    /// It looks for faults that tests want in [`hooks`]: builds for tests only do so.
    Hooks,
}

/// Where a process with its data folder at `data` looks for faults under [`Under::Hooks`].
#[must_use]
pub fn hooks(data: &Path) -> PathBuf {
    data.with_extension("hooks")
}

impl Under {
    /// Why this cannot be had on this machine; none when it can.
    pub async fn reason_against(self) -> Option<String> {
        let Ok(scratch) = tempfile::tempdir() else { return Some("no scratch folder".into()) };
        let (program, arguments) = self.command(Path::new("true"), Vec::new(), scratch.path());
        match Command::new(&program).args(arguments).output().await {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Some(format!("{}: {error}", program.display())),
        }
    }

    fn command(
        self,
        program: &Path,
        arguments: Vec<OsString>,
        data: &Path,
    ) -> (PathBuf, Vec<OsString>) {
        let mut wrapper = "unshare";
        let mut all: Vec<OsString> = match self {
            Self::SmallDisk { bytes } => {
                let script = format!(
                    "mount -t tmpfs -o size={bytes},mode=700 own \"$1\" && shift && exec \"$@\""
                );
                vec![
                    "-rm".into(),
                    "sh".into(),
                    "-c".into(),
                    script.into(),
                    "sh".into(),
                    data.into(),
                ]
            }
            Self::ReadOnlyDisk => {
                let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && \
                              shift && exec \"$@\"";
                vec![
                    "-rm".into(),
                    "sh".into(),
                    "-c".into(),
                    script.into(),
                    "sh".into(),
                    data.into(),
                ]
            }
            Self::NoPrivileges => {
                ["-U", "--map-user=1000", "--map-group=1000"].map(OsString::from).into()
            }
            Self::Hooks => {
                wrapper = "env";
                let mut variable = OsString::from("KUBENG_TEST_TAMPER=");
                variable.push(hooks(data));
                vec![variable]
            }
        };
        all.push(program.into());
        all.extend(arguments);
        (wrapper.into(), all)
    }
}

/// The small disk of a replica that was started under [`Under::SmallDisk`], seen from outside.
pub struct SmallDisk {
    process: String,
    folder: PathBuf,
}

impl SmallDisk {
    /// That of `member`, whose data folder is at `folder` for itself.
    ///
    /// # Errors
    /// When the member has ended.
    pub fn of(member: &Member, folder: PathBuf) -> Result<Self> {
        let pid = member.pid().with_context(|| format!("{} has ended", member.name))?;
        Ok(Self { process: pid.as_raw_nonzero().to_string(), folder })
    }

    /// A path below it, for this process.
    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        let inside = self.folder.strip_prefix("/").unwrap_or(&self.folder);
        Path::new("/proc").join(&self.process).join("root").join(inside).join(below)
    }

    /// Fills it to the last byte; gives what was put there, to be removed.
    ///
    /// # Errors
    /// When nothing can be put there at all.
    pub fn fill(&self) -> Result<PathBuf> {
        use std::io::Write as _;
        let path = self.path("filler");
        let mut file = std::fs::File::create(&path)?;
        // From large pieces to single bytes, so that nothing is left.
        for piece in [vec![0; 4096], vec![0; 1]] {
            while file.write_all(&piece).is_ok() {}
        }
        Ok(path)
    }
}
