//! Settings of `kubeng controller`: sources, and where replicas find it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use kubeng_admin::AdminClient;
use serde::Deserialize;

use super::given::Given;
use super::{Settings, address};

/// Everything that can be set, once: as flag, environment variable and line of the settings file.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct GivenController {
    /// Folder of manifests to serve, watched for changes; may be repeated, the first wins
    #[arg(long, value_name = "DIR", env = "KUBENG_MANIFESTS", value_delimiter = ',')]
    pub(crate) manifests: Vec<PathBuf>,

    /// Serve what a Kubernetes API server says
    #[arg(long, env = "KUBENG_KUBERNETES", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub(crate) kubernetes: Option<bool>,

    /// How to reach the API server; else $KUBECONFIG, ~/.kube/config or the Pod's own account
    #[arg(long, value_name = "FILE", env = "KUBENG_KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Namespace to read; may be repeated [default: all]
    #[arg(
        long = "namespace",
        value_name = "NAME",
        env = "KUBENG_NAMESPACES",
        value_delimiter = ','
    )]
    pub(crate) namespaces: Vec<String>,

    /// Serve Services of type ExternalName; they may reach hosts that only the proxies can reach
    #[arg(
        long,
        env = "KUBENG_ALLOW_EXTERNAL_NAME",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL",
        hide_possible_values = true
    )]
    pub(crate) allow_external_name: Option<bool>,

    /// Secrets to read: only those that are referred to, or all of type kubernetes.io/tls
    #[arg(long, value_name = "WHICH", env = "KUBENG_SECRETS", value_parser = ["referenced", "tls"])]
    pub(crate) secrets: Option<String>,

    /// Address and port where replicas find this controller [default: 127.0.0.1:9190]
    #[arg(long, value_name = "ADDR", env = "KUBENG_LISTEN", value_parser = address::address)]
    #[serde(deserialize_with = "address::in_file")]
    pub(crate) listen: Option<SocketAddr>,

    /// DNS name or IP address that replicas reach this controller under; may be repeated [default: the address of --listen]
    #[arg(long = "name", value_name = "NAME", env = "KUBENG_NAMES", value_delimiter = ',')]
    pub(crate) names: Vec<String>,

    /// Folder of the authority that replicas believe, shared by all controllers; they choose their
    /// leader by it where no API server does
    #[arg(long, value_name = "DIR", env = "KUBENG_AUTHORITY")]
    pub(crate) authority: Option<PathBuf>,

    /// Address and port of the admin listener; loopback only [default: 127.0.0.1:9180]
    #[arg(long, value_name = "ADDR", env = "KUBENG_ADMIN", value_parser = address::loopback)]
    #[serde(deserialize_with = "address::in_file")]
    pub(crate) admin: Option<SocketAddr>,

    /// Admin listener of another controller, as http://HOST:PORT, which is asked for its replicas, their
    /// drift and what it intends; may be repeated
    #[arg(
        long = "peer-admin",
        value_name = "URL",
        env = "KUBENG_PEER_ADMINS",
        value_delimiter = ','
    )]
    pub(crate) peer_admins: Vec<String>,

    /// Let the admin listener take another address than loopback; it has no login and no TLS
    #[arg(
        long,
        env = "KUBENG_ADMIN_EXPOSED",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL",
        hide_possible_values = true
    )]
    pub(crate) admin_exposed: Option<bool>,

    /// Folder for what must outlive the process
    #[arg(long, value_name = "DIR", env = "KUBENG_DATA")]
    pub(crate) data: Option<PathBuf>,

    /// Longest time from being told to stop to the end [default: 25]
    #[arg(long, value_name = "SECONDS", env = "KUBENG_DRAIN")]
    pub(crate) drain: Option<u64>,

    /// Address that statuses of Ingresses show; may be repeated
    #[arg(
        long = "publish-address",
        value_name = "ADDR",
        env = "KUBENG_PUBLISH_ADDRESSES",
        value_delimiter = ','
    )]
    pub(crate) publish_addresses: Vec<String>,

    /// Service whose addresses the statuses of Ingresses show
    #[arg(long, value_name = "NAMESPACE/NAME", env = "KUBENG_PUBLISH_SERVICE")]
    pub(crate) publish_service: Option<String>,

    /// Namespace of the lease that decides who leads [default: kubeng]
    #[arg(long, value_name = "NAME", env = "KUBENG_LEASE_NAMESPACE")]
    pub(crate) lease_namespace: Option<String>,

    /// Form of the log
    #[arg(long, value_name = "FORM", env = "KUBENG_LOG_FORMAT", value_parser = ["text", "json"])]
    pub(crate) log_format: Option<String>,
}

/// How a controller runs, complete and checked.
#[derive(Clone, Debug)]
pub(crate) struct ControllerSettings {
    /// What a controller has in common with `kubeng run`: sources, admin, log, end.
    pub(crate) common: Settings,
    /// Where replicas find it.
    pub(crate) listen: SocketAddr,
    /// The folder of the authority.
    pub(crate) authority: PathBuf,
    /// What replicas reach it under.
    pub(crate) names: Vec<String>,
    /// The other controllers.
    pub(crate) peers: Vec<AdminClient>,
}

impl GivenController {
    /// Fills what is not given from a settings file.
    pub(crate) fn with_file(self, path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the settings file {}", path.display()))?;
        let file: Self = toml::from_str(&text)
            .with_context(|| format!("cannot use the settings file {}", path.display()))?;
        Ok(self.or(file))
    }

    fn or(self, file: Self) -> Self {
        fn list<T>(given: Vec<T>, file: Vec<T>) -> Vec<T> {
            if given.is_empty() { file } else { given }
        }
        Self {
            manifests: list(self.manifests, file.manifests),
            kubernetes: self.kubernetes.or(file.kubernetes),
            kubeconfig: self.kubeconfig.or(file.kubeconfig),
            namespaces: list(self.namespaces, file.namespaces),
            allow_external_name: self.allow_external_name.or(file.allow_external_name),
            secrets: self.secrets.or(file.secrets),
            listen: self.listen.or(file.listen),
            names: list(self.names, file.names),
            authority: self.authority.or(file.authority),
            admin: self.admin.or(file.admin),
            peer_admins: list(self.peer_admins, file.peer_admins),
            admin_exposed: self.admin_exposed.or(file.admin_exposed),
            data: self.data.or(file.data),
            drain: self.drain.or(file.drain),
            publish_addresses: list(self.publish_addresses, file.publish_addresses),
            publish_service: self.publish_service.or(file.publish_service),
            lease_namespace: self.lease_namespace.or(file.lease_namespace),
            log_format: self.log_format.or(file.log_format),
        }
    }

    /// The settings, complete and checked.
    pub(crate) fn settle(self) -> anyhow::Result<ControllerSettings> {
        let listen = self.listen.unwrap_or_else(|| ([127, 0, 0, 1], 9190).into());
        let common = Given {
            manifests: self.manifests,
            kubernetes: self.kubernetes,
            kubeconfig: self.kubeconfig,
            namespaces: self.namespaces,
            allow_external_name: self.allow_external_name,
            secrets: self.secrets,
            admin: self.admin,
            admin_exposed: self.admin_exposed,
            data: self.data,
            drain: self.drain,
            publish_addresses: self.publish_addresses,
            publish_service: self.publish_service,
            lease_namespace: self.lease_namespace,
            log_format: self.log_format,
            ..Given::default()
        }
        .settle()?;
        if common.manifests.is_empty() && common.kubernetes.is_none() {
            bail!("nothing to read: say --manifests DIR, --kubernetes, or both");
        }
        let Some(authority) = self.authority else {
            bail!(
                "replicas believe an authority, which all controllers share: say --authority DIR"
            );
        };
        let names = if !self.names.is_empty() {
            self.names
        } else if listen.ip().is_unspecified() {
            bail!(
                "--listen {listen} tells no address that replicas could ask for: say --name NAME"
            );
        } else if listen.ip().is_loopback() {
            vec![listen.ip().to_string(), "localhost".to_owned()]
        } else {
            vec![listen.ip().to_string()]
        };
        let peers = self.peer_admins.iter().map(|url| {
            AdminClient::new(url).with_context(|| format!("--peer-admin {url:?} cannot be asked"))
        });
        let peers = peers.collect::<anyhow::Result<_>>()?;
        Ok(ControllerSettings { common, listen, authority, names, peers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(file: &str) -> anyhow::Result<ControllerSettings> {
        let given: GivenController = toml::from_str(file)?;
        given.settle()
    }

    #[test]
    fn defaults_fill_what_is_not_given_and_what_cannot_be_used_says_why() {
        let settings = settle("manifests = [\"m\"]\nauthority = \"a\"").unwrap();
        assert_eq!(settings.listen, "127.0.0.1:9190".parse().unwrap());
        assert_eq!(settings.common.admin, "127.0.0.1:9180".parse().unwrap());
        for (file, word) in [
            ("", "nothing to read"),
            ("manifests = [\"m\"]", "--authority"),
            ("manifests = [\"m\"]\nauthority = \"a\"\nlisten = \"0.0.0.0:1\"", "--name"),
            ("manifests = [\"m\"]\nhttp = \"0.0.0.0:80\"", "http"),
            (
                "manifests = [\"m\"]\nauthority = \"a\"\npeer-admins = [\"https://a:1\"]",
                "--peer-admin",
            ),
            ("manifests = [\"m\"]\nadmin = \"0.0.0.0:1\"", "admin-exposed"),
        ] {
            let error = settle(file).unwrap_err();
            assert!(format!("{error:#}").contains(word), "{file}: {error:#}");
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeng.toml");
        std::fs::write(
            &path,
            "listen = \"127.0.0.1:1\"\nmanifests = [\"a\"]\nauthority = \"a\"\ndrain = 3\n",
        )
        .unwrap();
        let listen = Some("127.0.0.1:2".parse().unwrap());
        let flags = GivenController { listen, ..GivenController::default() };
        let settings = flags.with_file(&path).unwrap().settle().unwrap();
        assert_eq!(settings.listen.port(), 2);
        assert_eq!(settings.common.drain.as_secs(), 3);
    }
}
