//! The client, made from settings that may change on disk.

use std::path::PathBuf;
use std::time::Duration;

use kube::Client;
use kube::config::{Config, InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use tokio::sync::Mutex;

/// Makes clients, and keeps the one that works.
pub(crate) struct Connection {
    kubeconfig: Option<PathBuf>,
    silence: Duration,
    current: Mutex<Option<(u64, Client)>>,
    generation: std::sync::atomic::AtomicU64,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("kubeconfig", &self.kubeconfig).finish_non_exhaustive()
    }
}

/// Why there is no client. All are retried: files may come late.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The file named in the settings.
    #[error("the kubeconfig cannot be used")]
    Kubeconfig(#[from] KubeconfigError),
    /// The surroundings: environment, home directory, service account.
    #[error("neither a kubeconfig nor a service account was found")]
    Surroundings(#[from] Box<InferConfigError>),
    /// What they say does not make a client.
    #[error("the settings of the connection cannot be used")]
    Client(#[from] Box<kube::Error>),
}

impl Connection {
    pub(crate) fn new(kubeconfig: Option<PathBuf>, silence: Duration) -> Self {
        Self {
            kubeconfig,
            silence,
            current: Mutex::new(None),
            generation: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// The client, and its number.
    pub(crate) async fn client(&self) -> Result<(u64, Client), ConnectError> {
        let mut current = self.current.lock().await;
        if let Some(current) = &*current {
            return Ok(current.clone());
        }
        let client = self.make().await?;
        let number = self.generation.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        *current = Some((number, client.clone()));
        Ok((number, client))
    }

    /// Gives a client up whose credentials were refused: they are read again
    /// from their file.
    pub(crate) async fn forget(&self, number: u64) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|(known, _)| *known == number) {
            *current = None;
        }
    }

    async fn make(&self) -> Result<Client, ConnectError> {
        let mut config = read(self.kubeconfig.as_deref()).await?;
        config.connect_timeout = Some(Duration::from_secs(10));
        config.read_timeout = Some(self.silence);
        config.reset_reader_on_write = true;
        // Retries are ours: they tell of the failure and heed Retry-After.
        config.default_retry = false;
        Ok(Client::try_from(config).map_err(Box::new)?)
    }
}

async fn read(kubeconfig: Option<&std::path::Path>) -> Result<Config, ConnectError> {
    Ok(match kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?
        }
        None => Config::infer().await.map_err(Box::new)?,
    })
}

/// Where the API server listens, if its URL says so by an IP address. None also when nothing can be
/// read: then there is no API server that anybody could be led to by our credentials.
pub async fn api_server(kubeconfig: Option<&std::path::Path>) -> Option<std::net::SocketAddr> {
    let url = read(kubeconfig).await.ok()?.cluster_url;
    let host = url.host()?.trim_start_matches('[').trim_end_matches(']');
    let default = if url.scheme_str() == Some("http") { 80 } else { 443 };
    Some(std::net::SocketAddr::new(host.parse().ok()?, url.port_u16().unwrap_or(default)))
}
