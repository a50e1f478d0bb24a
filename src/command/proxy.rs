//! `kubeng proxy`: a replica of a fleet whose controllers are elsewhere.

use std::path::PathBuf;

use clap::Args;

use super::Finding;
use super::run::on_runtime;
use crate::settings::given::Given;
use crate::settings::replica::GivenReplica;
use crate::{telemetry, wiring};

/// Serve what controllers say: one replica of a fleet
#[derive(Debug, Args)]
#[command(after_help = "Every flag can also be given as the environment variable that stands \
                        beside it, or as a line of the settings file; flags win over the \
                        environment, and that over the file. The replica starts from what it kept \
                        under --data when no controller answers.")]
#[command(mut_args(|arg| {
    let is_of_controllers = OF_CONTROLLERS.contains(&arg.get_id().as_str());
    if is_of_controllers { arg.hide(true) } else { arg }
}))]
pub(super) struct Proxy {
    /// Settings file in TOML
    #[arg(long, value_name = "FILE", env = "KUBENG_SETTINGS")]
    settings: Option<PathBuf>,
    #[command(flatten)]
    replica: GivenReplica,
    #[command(flatten)]
    given: Given,
}

/// Flags of `kubeng run` that say what controllers say here.
const OF_CONTROLLERS: &[&str] = &[
    "manifests",
    "kubernetes",
    "kubeconfig",
    "namespaces",
    "ingress_classes",
    "without_class",
    "allow_external_name",
    "default_backend",
    "default_certificate",
    "secrets",
    "http",
    "https",
    "tcp",
    "tls_passthrough",
    "proxy_protocol_from",
    "listener_connections_max",
    "tls_version_min",
    "tls_cipher_suites",
    "client_certificates",
    "publish_addresses",
    "publish_service",
    "lease_namespace",
];

impl Proxy {
    pub(super) fn run(self) -> anyhow::Result<Finding> {
        let (replica, given) = match &self.settings {
            Some(path) => self.replica.with_file(self.given, path)?,
            None => (self.replica, self.given),
        };
        let (replica, settings) = replica.settle(given)?;
        let _log = telemetry::start(settings.log_format);
        on_runtime(wiring::replica::serve(settings, replica))?;
        Ok(Finding::Fine)
    }
}
