//! What is given: by flags, environment and settings file, before it is checked.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;
use serde::Deserialize;

use super::address;

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
    #[arg(long, value_name = "ADDR", env = "KUBENG_HTTP", value_parser = address::address)]
    #[serde(deserialize_with = "address::in_file")]
    pub(crate) http: Option<SocketAddr>,

    /// Address and port for HTTPS [default: none]
    #[arg(long, value_name = "ADDR", env = "KUBENG_HTTPS", value_parser = address::address)]
    #[serde(deserialize_with = "address::in_file")]
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

    /// What HTTPS clients are asked for, require or request, and the ConfigMap or Secret with the
    /// authorities in ca.crt; Ingresses may ask for more under their hosts [default: nothing]
    #[arg(long, value_name = "MODE=KIND/NAMESPACE/NAME", env = "KUBENG_CLIENT_CERTIFICATES")]
    pub(crate) client_certificates: Option<String>,

    /// Address and port of the admin listener; loopback only [default: 127.0.0.1:9180]
    #[arg(long, value_name = "ADDR", env = "KUBENG_ADMIN", value_parser = address::loopback)]
    #[serde(deserialize_with = "address::in_file")]
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

    /// Network of proxies in front whose X-Forwarded-* headers are believed, and Forwarded where they
    /// send no others; may be repeated
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

    /// Collector that gets spans, as OTLP over HTTP with JSON, for instance http://localhost:4318, over
    /// TLS where it begins with https; with it W3C trace context is taken part in [default: none]
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

impl Given {
    /// Fills what is not given from a settings file.
    pub(super) fn or(self, file: Self) -> Self {
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
            client_certificates: self.client_certificates.or(file.client_certificates),
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
}
