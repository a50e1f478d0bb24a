//! A real API server with its etcd and `kubectl`: drives `kubebox`, see `tests/cluster`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A control plane; it ends when this is dropped.
pub struct Cluster {
    /// Where the API server is, also while it is stopped.
    pub server: String,
    program: PathBuf,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// Ends with its standard input, and for sure when it is dropped.
    _process: Child,
    dir: TempDir,
}

#[derive(Deserialize)]
struct Greeting {
    server: String,
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    error: Option<String>,
}

impl Cluster {
    /// Starts one with the kubebox at `program`, without controllers, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready within [`READY_WITHIN`]. The error has the end of its logs.
    pub async fn start(program: &Path) -> Result<Self> {
        let dir = TempDir::with_prefix("kubebox-")?;
        let mut process = Command::new(program)
            .args(["up", "--controllers", "none", "--dir"])
            .arg(dir.path().join(BOX))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let commands = process.stdin.take().context("no standard input")?;
        let answers = process.stdout.take().context("no standard output")?;
        let mut answers = BufReader::new(answers).lines();
        let greeting = tokio::time::timeout(READY_WITHIN, answers.next_line()).await;
        let greeting = greeting.context("the API server is not ready in time")??;
        let greeting = greeting.context("kubebox ended; what it said stands above")?;
        let Greeting { server } = serde_json::from_str(&greeting)?;
        Ok(Self { server, program: program.into(), commands, answers, _process: process, dir })
    }

    /// Gives a command of kubebox, such as `stop-apiserver`, and waits until it is carried out.
    ///
    /// # Errors
    /// When it cannot be carried out.
    pub async fn tell(&mut self, command: &str) -> Result<()> {
        self.commands.write_all(format!("{command}\n").as_bytes()).await?;
        let answer = tokio::time::timeout(READY_WITHIN, self.answers.next_line()).await;
        let answer = answer.with_context(|| format!("{command}: no answer"))??;
        let answer = answer.with_context(|| format!("{command}: kubebox ended"))?;
        let Answer { ok, error } = serde_json::from_str(&answer)?;
        ensure!(ok, "{command}: {}", error.unwrap_or_default());
        Ok(())
    }

    /// Runs `kubectl` as the administrator with `input` as its standard input; gives its output.
    ///
    /// # Errors
    /// When it fails. The error has what it said.
    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut kubectl = Command::new(&self.program)
            .arg("kubectl")
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(arguments)
            .env("KUBECACHEDIR", self.dir.path().join("cache"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut stdin = kubectl.stdin.take().context("no standard input")?;
        // One that does not read is heard by its exit code.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = tokio::time::timeout(KUBECTL_WITHIN, kubectl.wait_with_output()).await;
        let output = output.with_context(|| format!("kubectl {arguments:?} takes too long"))??;
        if !output.status.success() {
            bail!("kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The kubeconfig of the administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join(BOX).join("kubeconfig")
    }

    /// Writes a kubeconfig for a ServiceAccount that exists, and gives its path.
    ///
    /// # Errors
    /// When the API server makes no token for it.
    pub async fn kubeconfig_of(&self, namespace: &str, account: &str) -> Result<PathBuf> {
        let token = self.kubectl(&["create", "token", account, "-n", namespace], "").await?;
        let authority = self.dir.path().join(BOX).join("pki/ca.crt");
        // JSON is YAML.
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
            "clusters": [{ "name": "it", "cluster": {
                "server": self.server, "certificate-authority": authority,
            } }],
            "users": [{ "name": "it", "user": { "token": token.trim() } }],
        });
        let path = self.dir.path().join(format!("{namespace}-{account}.kubeconfig"));
        tokio::fs::write(&path, kubeconfig.to_string()).await?;
        Ok(path)
    }
}

/// The longest wait for the API server. Two cores that others use, too, may need much of it.
pub const READY_WITHIN: Duration = Duration::from_secs(120);

const KUBECTL_WITHIN: Duration = Duration::from_secs(60);

/// The folder of kubebox below ours.
const BOX: &str = "box";
