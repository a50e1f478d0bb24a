//! How the process runs: flags, then environment, then settings file, then defaults.
//!
//! What can be given stands in [`given`]; each theme reads and checks its part in its own file.

pub(crate) mod address;
mod apart;
pub(crate) mod controller;
#[cfg(test)]
mod deployed;
pub(crate) mod given;
pub(crate) mod home;
pub(crate) mod kubernetes;
mod listeners;
mod observe;
pub(crate) mod process;
pub(crate) mod replica;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ipnet::IpNet;

use given::Given;
use kubernetes::{Kubernetes, Named, ServicePort, named, parse, service_port};
use listeners::{GivenListeners, Listeners};
use observe::Observe;
use process::{LogFormat, Process};

/// Where and whom to ask for Objects.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) manifests: Vec<PathBuf>,
    pub(crate) kubernetes: Option<Kubernetes>,
    pub(crate) namespaces: Vec<String>,
    pub(crate) ingress_classes: Vec<String>,
    pub(crate) without_class: bool,
    pub(crate) allow_external_name: bool,
    pub(crate) default_backend: Option<ServicePort>,
    pub(crate) default_certificate: Option<Named>,
    pub(crate) http: SocketAddr,
    pub(crate) https: Option<SocketAddr>,
    /// Those of `http` and `https`, and all others.
    pub(crate) listeners: Listeners,
    /// Open connections in all; None: the default.
    pub(crate) connections_max: Option<usize>,
    /// Open connections of one client; 0: no limit; None: the default.
    pub(crate) client_connections_max: Option<u32>,
    pub(crate) admin: SocketAddr,
    pub(crate) data: Option<PathBuf>,
    pub(crate) drain: Duration,
    pub(crate) drain_delay: Duration,
    pub(crate) upgrade_within: Duration,
    pub(crate) workers: usize,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) log_format: LogFormat,
    pub(crate) observe: Observe,
    pub(crate) zone: Option<String>,
    pub(crate) sticky_key_file: Option<PathBuf>,
}

impl Settings {
    /// The key of sticky cookies, where one is given.
    ///
    /// # Errors
    /// When the file cannot be read, or holds less than is safe.
    pub(crate) fn sticky_key(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(path) = &self.sticky_key_file else { return Ok(None) };
        let key = std::fs::read(path).with_context(|| {
            format!("cannot read the key of sticky cookies in {}", path.display())
        })?;
        if key.len() < STICKY_KEY_BYTES_MIN {
            bail!(
                "{} holds {} bytes, too few for a key; write at least {STICKY_KEY_BYTES_MIN} random ones",
                path.display(),
                key.len()
            );
        }
        Ok(Some(key))
    }
}

impl Given {
    /// The settings, complete and checked.
    pub(crate) fn settle(self) -> anyhow::Result<Settings> {
        let observe = Observe::settle(&self)?;
        let kubernetes = Kubernetes::settle(&self)?;
        let Process { admin, drain, drain_delay, upgrade_within, workers, log_format } =
            Process::settle(&self)?;
        process::networks("--trusted-proxy", &self.trusted_proxies)?;
        let connections_max = match self.connections_max {
            Some(0) => bail!("--connections-max 0 would serve nothing; write at least 1"),
            connections_max => connections_max,
        };
        let http = self.http.unwrap_or_else(|| ([0, 0, 0, 0], 8080).into());
        let listeners = GivenListeners {
            http,
            https: self.https,
            tcp: self.tcp,
            tls_passthrough: self.tls_passthrough,
            proxy_protocol_from: self.proxy_protocol_from,
            connections_max: self.listener_connections_max,
            tls_version_min: self.tls_version_min,
            tls_cipher_suites: self.tls_cipher_suites,
            client_certificates: self.client_certificates,
        };
        Ok(Settings {
            manifests: self.manifests,
            kubernetes,
            namespaces: self.namespaces,
            ingress_classes: self.ingress_classes,
            without_class: self.without_class.unwrap_or(false),
            allow_external_name: self.allow_external_name.unwrap_or(false),
            default_backend: parse(
                "--default-backend",
                "NAMESPACE/NAME:PORT, with the number of the port",
                self.default_backend.as_deref(),
                service_port,
            )?,
            default_certificate: parse(
                "--default-certificate",
                "NAMESPACE/NAME",
                self.default_certificate.as_deref(),
                named,
            )?,
            http,
            https: self.https,
            listeners: listeners.settle()?,
            connections_max,
            client_connections_max: self.client_connections_max,
            admin,
            data: self.data,
            drain,
            drain_delay,
            upgrade_within,
            workers,
            trusted_proxies: self.trusted_proxies,
            log_format,
            observe,
            zone: self.zone,
            sticky_key_file: self.sticky_key_file,
        })
    }
}

/// As many as the hash of the cookies has.
const STICKY_KEY_BYTES_MIN: usize = 32;

#[cfg(test)]
mod tests {
    use super::home::GivenHome;
    use super::*;

    fn settle(file: &str) -> anyhow::Result<Settings> {
        let given: Given = toml::from_str(file)?;
        given.settle()
    }

    #[test]
    fn flags_win_over_the_file_and_defaults_fill_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeng.toml");
        std::fs::write(&path, "http = \"127.0.0.1:1\"\ndrain = 3\nnamespace = 1\n").unwrap();
        let with_file =
            |given: Given| GivenHome::default().with_file(given, &path).map(|(_, given)| given);
        let error = with_file(Given::default()).unwrap_err();
        assert!(format!("{error:#}").contains("namespace"), "{error:#}");
        std::fs::write(&path, "http = \"127.0.0.1:1\"\ndrain = 3\n").unwrap();
        let flags = Given { http: Some("127.0.0.1:2".parse().unwrap()), ..Given::default() };
        let settings = with_file(flags).unwrap().settle().unwrap();
        assert_eq!(settings.http.port(), 2);
        assert_eq!(settings.drain, Duration::from_secs(3));
        assert_eq!(settings.admin, "127.0.0.1:9180".parse().unwrap());
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let service = "kubernetes = true\npublish-service = \"edge/front\"\n";
        let publish_both = format!("{service}publish-addresses = [\"192.0.2.7\"]");
        let publish_elsewhere = format!("{service}namespaces = [\"shop\"]");
        for (file, word) in [
            ("admin = \"0.0.0.0:1\"", "admin-exposed"),
            ("workers = 0", "at least 1"),
            ("connections-max = 0", "at least 1"),
            ("http = \"8080\"", "such as 0.0.0.0:8080 or [::]:8080"),
            ("admin = \"localhost:1\"", "\"localhost:1\": what stands in front of the port"),
            ("tcp = [\"127.0.0.1:1\"]", "--tcp \"127.0.0.1:1\""),
            ("tcp = [\"pg=db/pg:5432\"]", "such as 0.0.0.0:5432=db/postgres:5432"),
            ("tcp = [\"127.0.0.1:1=pg\"]", "\"pg\" is neither NAMESPACE/NAME:PORT"),
            ("tls-passthrough = [\"127.0.0.1:1=a/b:1\"]", "=shop.example.com="),
            ("tls-passthrough = [\"127.0.0.1:1=*.*.x=a/b:1\"]", "\"*.*.x\" is no host"),
            ("default-backend = \"shop/web\"", "--default-backend"),
            ("default-certificate = \"web\"", "--default-certificate"),
            ("log-format = \"xml\"", "text or json"),
            ("drain = 3\ndrain-delay = 3", "bounds the whole stop"),
            ("trusted-proxies = [\"10.1.2.3/8\"]", "write 10.0.0.0/8, or 10.1.2.3/32 for that"),
            ("trusted-proxies = [\"2001:db8::1/32\"]", "write 2001:db8::/32, or"),
            (publish_both.as_str(), "not both"),
            (publish_elsewhere.as_str(), "--namespace edge"),
            ("access-log = \"stdot\"", "write off, stdout or the path of a file"),
            ("access-log-format = \"$uris\"", "$uri is"),
            ("access-log-sample = 2.0", "from 0 to 1"),
            ("access-log-format = \"json\"", "say --access-log"),
            ("trace-to = \"grpc://otel\"", "neither http nor https"),
            ("trace-sample = 0.5", "say --trace-to"),
            ("debug-secret-file = \"/nonexistent\"", "/nonexistent"),
            ("recent-requests = 9999", "at most 1024"),
        ] {
            let error = settle(file).unwrap_err();
            assert!(format!("{error:#}").contains(word), "{file}: {error:#}");
        }
    }
}
