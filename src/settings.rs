//! How the process runs: flags, then environment, then settings file, then defaults.

mod listeners;
mod observe;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use ipnet::IpNet;
use serde::Deserialize;

use listeners::{GivenListeners, Listeners};
use observe::Observe;

/// Everything that can be set, once: as flag, environment variable and line of the settings file.
///
/// The names in the file are those of the flags without `--`; those that may be
/// repeated are lists with a plural name, such as `namespaces`.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Given {
    /// Folder of manifests to serve, watched for changes; may be repeated, the first wins
    #[arg(long, value_name = "DIR", env = "KUBENG_MANIFESTS", value_delimiter = ',')]
    pub(crate) manifests: Vec<PathBuf>,

    /// Serve what a Kubernetes API server says
    #[arg(long, env = "KUBENG_KUBERNETES", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub(crate) kubernetes: Option<bool>,

    /// How to reach the API server; else $KUBECONFIG, ~/.kube/config or the Pod's own account
    #[arg(long, value_name = "FILE", env = "KUBENG_KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Namespace to serve; may be repeated [default: all]
    #[arg(
        long = "namespace",
        value_name = "NAME",
        env = "KUBENG_NAMESPACES",
        value_delimiter = ','
    )]
    pub(crate) namespaces: Vec<String>,

    /// IngressClass to serve; may be repeated [default: all of controller kubeng.io/ingress-controller]
    #[arg(
        long = "ingress-class",
        value_name = "NAME",
        env = "KUBENG_INGRESS_CLASSES",
        value_delimiter = ','
    )]
    pub(crate) ingress_classes: Vec<String>,

    /// Serve Ingresses that name no class, too
    #[arg(long, env = "KUBENG_WITHOUT_CLASS", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub(crate) without_class: Option<bool>,

    /// Serve Services of type ExternalName; they may reach hosts that only the proxy can reach
    #[arg(
        long,
        env = "KUBENG_ALLOW_EXTERNAL_NAME",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL",
        hide_possible_values = true
    )]
    pub(crate) allow_external_name: Option<bool>,

    /// Service that gets requests which no Ingress takes
    #[arg(long, value_name = "NAMESPACE/NAME:PORT", env = "KUBENG_DEFAULT_BACKEND")]
    pub(crate) default_backend: Option<String>,

    /// Secret with the certificate for hosts that have none of their own
    #[arg(long, value_name = "NAMESPACE/NAME", env = "KUBENG_DEFAULT_CERTIFICATE")]
    pub(crate) default_certificate: Option<String>,

    /// Secrets to read: only those that are referred to, or all of type kubernetes.io/tls
    #[arg(long, value_name = "WHICH", env = "KUBENG_SECRETS", value_parser = ["referenced", "tls"])]
    pub(crate) secrets: Option<String>,

    /// Address and port for HTTP [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR", env = "KUBENG_HTTP")]
    pub(crate) http: Option<SocketAddr>,

    /// Address and port for HTTPS [default: none]
    #[arg(long, value_name = "ADDR", env = "KUBENG_HTTPS")]
    pub(crate) https: Option<SocketAddr>,

    /// Address and port whose connections are passed on as they are, and the Service
    /// (NAMESPACE/NAME:PORT) or Upstream (NAMESPACE/NAME) that gets them; may be repeated
    #[arg(long, value_name = "ADDR=TARGET", env = "KUBENG_TCP", value_delimiter = ',')]
    pub(crate) tcp: Vec<String>,

    /// As --tcp for TLS that is not ended here but by its target, which the server name decides; may
    /// be repeated, also for one address, and may share that of --https
    #[arg(
        long,
        value_name = "ADDR=HOST=TARGET",
        env = "KUBENG_TLS_PASSTHROUGH",
        value_delimiter = ','
    )]
    pub(crate) tls_passthrough: Vec<String>,

    /// Network of balancers in front of all listeners, which must say by the PROXY protocol (version
    /// 1 or 2) whom they speak for; may be repeated
    #[arg(long, value_name = "CIDR", env = "KUBENG_PROXY_PROTOCOL_FROM", value_delimiter = ',')]
    pub(crate) proxy_protocol_from: Vec<IpNet>,

    /// Open connections in all; what comes above is closed at once [default: 80 % of the limit of open files]
    #[arg(long, value_name = "N", env = "KUBENG_CONNECTIONS_MAX")]
    pub(crate) connections_max: Option<usize>,

    /// Open connections of each address and port that is listened on [default: no limit of its own]
    #[arg(long, value_name = "N", env = "KUBENG_LISTENER_CONNECTIONS_MAX")]
    pub(crate) listener_connections_max: Option<u32>,

    /// Open connections of one client; trusted proxies and balancers have no such limit; 0: no limit [default: 1024]
    #[arg(long, value_name = "N", env = "KUBENG_CLIENT_CONNECTIONS_MAX")]
    pub(crate) client_connections_max: Option<u32>,

    /// Oldest version of TLS that is spoken [default: 1.2]
    #[arg(long, value_name = "VERSION", env = "KUBENG_TLS_VERSION_MIN", value_parser = ["1.2", "1.3"])]
    pub(crate) tls_version_min: Option<String>,

    /// Cipher suite that may be agreed on, by its name in the IANA registry; may be repeated [default: all that there are]
    #[arg(
        long = "tls-cipher-suite",
        value_name = "NAME",
        env = "KUBENG_TLS_CIPHER_SUITES",
        value_delimiter = ','
    )]
    pub(crate) tls_cipher_suites: Vec<String>,

    /// Address and port of the admin listener; loopback only [default: 127.0.0.1:9180]
    #[arg(long, value_name = "ADDR", env = "KUBENG_ADMIN")]
    pub(crate) admin: Option<SocketAddr>,

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

    /// Longest time from being told to stop to the end; what still runs then is cut [default: 25]
    #[arg(long, value_name = "SECONDS", env = "KUBENG_DRAIN")]
    pub(crate) drain: Option<u64>,

    /// How much of it passes between readiness going off and the ports closing, for balancers to
    /// notice [default: 0]
    #[arg(long, value_name = "SECONDS", env = "KUBENG_DRAIN_DELAY")]
    pub(crate) drain_delay: Option<u64>,

    /// How long the process that SIGUSR2 starts may take until it serves; then it is ended, and this
    /// one goes on [default: 60]
    #[arg(long, value_name = "SECONDS", env = "KUBENG_UPGRADE_WITHIN")]
    pub(crate) upgrade_within: Option<u64>,

    /// Threads that serve requests [default: one per core]
    #[arg(long, value_name = "N", env = "KUBENG_WORKERS")]
    pub(crate) workers: Option<usize>,

    /// Network of proxies in front whose X-Forwarded-* headers are believed; may be repeated
    #[arg(
        long = "trusted-proxy",
        value_name = "CIDR",
        env = "KUBENG_TRUSTED_PROXIES",
        value_delimiter = ','
    )]
    pub(crate) trusted_proxies: Vec<IpNet>,

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

    /// Namespace of the lease that decides who writes statuses [default: kubeng]
    #[arg(long, value_name = "NAME", env = "KUBENG_LEASE_NAMESPACE")]
    pub(crate) lease_namespace: Option<String>,

    /// Form of the log
    #[arg(long, value_name = "FORM", env = "KUBENG_LOG_FORMAT", value_parser = ["text", "json"])]
    pub(crate) log_format: Option<String>,

    /// Write a line for each request: off, stdout, or a file, which is opened again on SIGHUP and
    /// when it was moved away [default: off]
    #[arg(long, env = "KUBENG_ACCESS_LOG", num_args = 0..=1, default_missing_value = "stdout", value_name = "WHERE")]
    pub(crate) access_log: Option<String>,

    /// What a line looks like: json, combined, or a text with $variables, see docs/access-log.md
    /// [default: json]
    #[arg(long, value_name = "FORMAT", env = "KUBENG_ACCESS_LOG_FORMAT")]
    pub(crate) access_log_format: Option<String>,

    /// Part of the requests that is logged, 0 to 1; failures always are [default: 1]
    #[arg(long, value_name = "FRACTION", env = "KUBENG_ACCESS_LOG_SAMPLE")]
    pub(crate) access_log_sample: Option<f64>,

    /// Keep query strings in the access log, in recent requests and in spans; they may hold tokens
    #[arg(
        long,
        env = "KUBENG_KEEP_QUERIES",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL",
        hide_possible_values = true
    )]
    pub(crate) keep_queries: Option<bool>,

    /// Memory for the recent requests that the admin listener shows; 0 keeps none [default: 8]
    #[arg(long, value_name = "MIB", env = "KUBENG_RECENT_REQUESTS")]
    pub(crate) recent_requests: Option<usize>,

    /// Distinct requests of the last minutes that are counted for planning; 0 counts none
    /// [default: 20000]
    #[arg(long, value_name = "N", env = "KUBENG_REQUEST_KEYS")]
    pub(crate) request_keys: Option<usize>,

    /// Most backends, and most tenants, with metrics of their own; the rest is counted as `other`
    /// [default: 100]
    #[arg(long, value_name = "N", env = "KUBENG_METRICS_SERIES")]
    pub(crate) metrics_series: Option<usize>,

    /// Metrics for each route, too, for as many as --metrics-series says
    #[arg(
        long,
        env = "KUBENG_METRICS_ROUTES",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL",
        hide_possible_values = true
    )]
    pub(crate) metrics_routes: Option<bool>,

    /// Collector that gets spans, as OTLP over HTTP with JSON, for instance http://localhost:4318, or
    /// over TLS, https://otel.example.com:4318; with it W3C trace context is taken part in [default: none]
    #[arg(long, value_name = "URL", env = "KUBENG_TRACE_TO")]
    pub(crate) trace_to: Option<String>,

    /// Authorities, in PEM, by which an https collector is believed [default: those of the machine]
    #[arg(long, value_name = "FILE", env = "KUBENG_TRACE_CA_FILE")]
    pub(crate) trace_ca_file: Option<PathBuf>,

    /// Part of the traces that is exported, 0 to 1; what a trusted proxy decided holds [default: 0.1]
    #[arg(long, value_name = "FRACTION", env = "KUBENG_TRACE_SAMPLE")]
    pub(crate) trace_sample: Option<f64>,

    /// Network whose clients get debug headers when they send X-Kubeng-Debug: 1; may be repeated
    #[arg(
        long = "debug-network",
        value_name = "CIDR",
        env = "KUBENG_DEBUG_NETWORKS",
        value_delimiter = ','
    )]
    pub(crate) debug_networks: Vec<IpNet>,

    /// File with the secret that X-Kubeng-Debug-Secret must hold for debug headers; with
    /// --debug-network both are needed
    #[arg(long, value_name = "FILE", env = "KUBENG_DEBUG_SECRET_FILE")]
    pub(crate) debug_secret_file: Option<PathBuf>,

    /// Zone that this replica runs in, for backends that prefer their own
    #[arg(long, value_name = "NAME", env = "KUBENG_ZONE")]
    pub(crate) zone: Option<String>,

    /// File with the key of sticky cookies, at least 32 bytes, the same for all replicas [default: one that ends with the process]
    #[arg(long, value_name = "FILE", env = "KUBENG_STICKY_KEY_FILE")]
    pub(crate) sticky_key_file: Option<PathBuf>,
}

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

/// As many as the hash of the cookies has.
const STICKY_KEY_BYTES_MIN: usize = 32;

/// How the API server is reached, and what is written there.
#[derive(Clone, Debug)]
pub(crate) struct Kubernetes {
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) secrets: Secrets,
    pub(crate) publish_addresses: Vec<String>,
    pub(crate) publish_service: Option<Named>,
    pub(crate) lease_namespace: String,
}

/// Which Secrets are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Secrets {
    Referenced,
    AllOfTypeTls,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// An object of a namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Named {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// One port of a Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ServicePort {
    pub(crate) service: Named,
    pub(crate) port: u16,
}

impl Given {
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
            ingress_classes: list(self.ingress_classes, file.ingress_classes),
            without_class: self.without_class.or(file.without_class),
            allow_external_name: self.allow_external_name.or(file.allow_external_name),
            default_backend: self.default_backend.or(file.default_backend),
            default_certificate: self.default_certificate.or(file.default_certificate),
            secrets: self.secrets.or(file.secrets),
            http: self.http.or(file.http),
            https: self.https.or(file.https),
            tcp: list(self.tcp, file.tcp),
            tls_passthrough: list(self.tls_passthrough, file.tls_passthrough),
            proxy_protocol_from: list(self.proxy_protocol_from, file.proxy_protocol_from),
            connections_max: self.connections_max.or(file.connections_max),
            listener_connections_max: self
                .listener_connections_max
                .or(file.listener_connections_max),
            client_connections_max: self.client_connections_max.or(file.client_connections_max),
            tls_version_min: self.tls_version_min.or(file.tls_version_min),
            tls_cipher_suites: list(self.tls_cipher_suites, file.tls_cipher_suites),
            admin: self.admin.or(file.admin),
            admin_exposed: self.admin_exposed.or(file.admin_exposed),
            data: self.data.or(file.data),
            drain: self.drain.or(file.drain),
            drain_delay: self.drain_delay.or(file.drain_delay),
            upgrade_within: self.upgrade_within.or(file.upgrade_within),
            workers: self.workers.or(file.workers),
            trusted_proxies: list(self.trusted_proxies, file.trusted_proxies),
            publish_addresses: list(self.publish_addresses, file.publish_addresses),
            publish_service: self.publish_service.or(file.publish_service),
            lease_namespace: self.lease_namespace.or(file.lease_namespace),
            log_format: self.log_format.or(file.log_format),
            access_log: self.access_log.or(file.access_log),
            access_log_format: self.access_log_format.or(file.access_log_format),
            access_log_sample: self.access_log_sample.or(file.access_log_sample),
            keep_queries: self.keep_queries.or(file.keep_queries),
            recent_requests: self.recent_requests.or(file.recent_requests),
            request_keys: self.request_keys.or(file.request_keys),
            metrics_series: self.metrics_series.or(file.metrics_series),
            metrics_routes: self.metrics_routes.or(file.metrics_routes),
            trace_to: self.trace_to.or(file.trace_to),
            trace_ca_file: self.trace_ca_file.or(file.trace_ca_file),
            trace_sample: self.trace_sample.or(file.trace_sample),
            debug_networks: list(self.debug_networks, file.debug_networks),
            debug_secret_file: self.debug_secret_file.or(file.debug_secret_file),
            zone: self.zone.or(file.zone),
            sticky_key_file: self.sticky_key_file.or(file.sticky_key_file),
        }
    }

    /// The settings, complete and checked.
    pub(crate) fn settle(self) -> anyhow::Result<Settings> {
        let observe = Observe::settle(&self)?;
        let admin = self.admin.unwrap_or_else(|| ([127, 0, 0, 1], 9180).into());
        if !admin.ip().is_loopback() && self.admin_exposed != Some(true) {
            bail!(
                "--admin {admin} is not a loopback address, and the admin listener has no login; \
                 use 127.0.0.1, or say --admin-exposed if only trusted hosts can reach it"
            );
        }
        let kubernetes = self.kubernetes.unwrap_or(self.kubeconfig.is_some()).then(|| {
            Ok::<_, anyhow::Error>(Kubernetes {
                kubeconfig: self.kubeconfig,
                secrets: match self.secrets.as_deref() {
                    Some("tls") => Secrets::AllOfTypeTls,
                    Some("referenced") | None => Secrets::Referenced,
                    Some(other) => bail!("secrets is {other:?}; write referenced or tls"),
                },
                publish_addresses: self.publish_addresses,
                publish_service: parse("--publish-service", self.publish_service, named)?,
                lease_namespace: self.lease_namespace.unwrap_or_else(|| "kubeng".into()),
            })
        });
        let workers = match self.workers {
            Some(0) => bail!("--workers 0 would serve nothing; write at least 1"),
            Some(workers) => workers,
            None => std::thread::available_parallelism().map_or(1, Into::into),
        };
        let (drain, drain_delay) = drain(self.drain, self.drain_delay)?;
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
        };
        Ok(Settings {
            manifests: self.manifests,
            kubernetes: kubernetes.transpose()?,
            namespaces: self.namespaces,
            ingress_classes: self.ingress_classes,
            without_class: self.without_class.unwrap_or(false),
            allow_external_name: self.allow_external_name.unwrap_or(false),
            default_backend: parse("--default-backend", self.default_backend, service_port)?,
            default_certificate: parse("--default-certificate", self.default_certificate, named)?,
            http,
            https: self.https,
            listeners: listeners.settle()?,
            connections_max,
            client_connections_max: self.client_connections_max,
            admin,
            data: self.data,
            drain,
            drain_delay,
            upgrade_within: Duration::from_secs(self.upgrade_within.unwrap_or(60)),
            workers,
            trusted_proxies: self.trusted_proxies,
            log_format: log_format(self.log_format.as_deref())?,
            observe,
            zone: self.zone,
            sticky_key_file: self.sticky_key_file,
        })
    }
}

fn log_format(written: Option<&str>) -> anyhow::Result<LogFormat> {
    match written {
        Some("json") => Ok(LogFormat::Json),
        Some("text") | None => Ok(LogFormat::Text),
        Some(other) => bail!("log-format is {other:?}; write text or json"),
    }
}

/// The time of the whole stop, and of the delay in it.
fn drain(drain: Option<u64>, delay: Option<u64>) -> anyhow::Result<(Duration, Duration)> {
    let (drain, delay) = (drain.unwrap_or(25), delay.unwrap_or(0));
    if delay > 0 && delay >= drain {
        bail!(
            "drain-delay is {delay} s and drain {drain} s, so no request in flight could end; \
             make drain the longer one, for it bounds the whole stop"
        );
    }
    Ok((Duration::from_secs(drain), Duration::from_secs(delay)))
}

fn parse<T>(
    flag: &str,
    text: Option<String>,
    read: impl Fn(&str) -> Option<T>,
) -> anyhow::Result<Option<T>> {
    text.map(|text| read(&text).with_context(|| format!("{flag} {text:?} is not of its form")))
        .transpose()
}

fn named(text: &str) -> Option<Named> {
    let (namespace, name) = text.split_once('/')?;
    let is_name = |part: &str| !part.is_empty() && !part.contains(['/', ':']);
    (is_name(namespace) && is_name(name))
        .then(|| Named { namespace: namespace.into(), name: name.into() })
}

fn service_port(text: &str) -> Option<ServicePort> {
    let (service, port) = text.split_once(':')?;
    Some(ServicePort { service: named(service)?, port: port.parse().ok()? })
}

#[cfg(test)]
mod tests {
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
        let error = Given::default().with_file(&path).unwrap_err();
        assert!(format!("{error:#}").contains("namespace"), "{error:#}");
        std::fs::write(&path, "http = \"127.0.0.1:1\"\ndrain = 3\n").unwrap();
        let flags = Given { http: Some("127.0.0.1:2".parse().unwrap()), ..Given::default() };
        let settings = flags.with_file(&path).unwrap().settle().unwrap();
        assert_eq!(settings.http.port(), 2);
        assert_eq!(settings.drain, Duration::from_secs(3));
        assert_eq!(settings.admin, "127.0.0.1:9180".parse().unwrap());
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (file, word) in [
            ("admin = \"0.0.0.0:1\"", "admin-exposed"),
            ("workers = 0", "at least 1"),
            ("connections-max = 0", "at least 1"),
            ("tcp = [\"127.0.0.1:1\"]", "--tcp"),
            ("default-backend = \"shop/web\"", "--default-backend"),
            ("default-certificate = \"web\"", "--default-certificate"),
            ("log-format = \"xml\"", "text or json"),
            ("drain = 3\ndrain-delay = 3", "bounds the whole stop"),
            ("access-log = \"stdot\"", "write off, stdout or the path of a file"),
            ("access-log-format = \"$uris\"", "$uri is"),
            ("access-log-sample = 2.0", "from 0 to 1"),
            ("access-log-format = \"json\"", "say --access-log"),
            ("trace-to = \"https://otel\"", "is not http"),
            ("trace-sample = 0.5", "say --trace-to"),
            ("debug-secret-file = \"/nonexistent\"", "/nonexistent"),
            ("recent-requests = 9999", "at most 1024"),
        ] {
            let error = settle(file).unwrap_err();
            assert!(format!("{error:#}").contains(word), "{file}: {error:#}");
        }
    }
}
