//! Starts what writes to the cluster: the Lease, statuses, Events.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::ensure;
use kubeng_config::name::{Hostname, ObjectKey, ObjectKind};
use kubeng_config::statement::Epoch;
use kubeng_controller::cluster::{self, ClusterSettings};
use kubeng_controller::control::Control;
use kubeng_controller::fleet_status::Served;
use kubeng_controller::leader::Term;
use kubeng_controller::metrics::Metrics;
use kubeng_controller::status::Publish;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::settings::Settings;
use crate::settings::kubernetes::Kubernetes;

/// What a controller of fleets needs beside what a process for itself does.
pub(super) struct OfFleets {
    /// Where the term of the newest leader is told.
    pub(super) term: watch::Sender<Term>,
    /// The newest epoch that replicas have heard of from a controller.
    pub(super) heard: watch::Receiver<Epoch>,
    /// What is known of replicas, once they are served.
    pub(super) replicas: Served,
}

/// Starts it if a cluster is served.
///
/// # Errors
/// When an address to publish is neither an IP address nor a host name.
pub(super) fn tell(
    settings: &Settings,
    control: &Control,
    metrics: &Arc<Metrics>,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
    fleets: Option<OfFleets>,
) -> anyhow::Result<()> {
    let Some(kubernetes) = &settings.kubernetes else { return Ok(()) };
    let (term, heard, replicas) = match fleets {
        Some(OfFleets { term, heard, replicas }) => (Some(term), Some(heard), Some(replicas)),
        None => (None, None, None),
    };
    let settings = ClusterSettings {
        kubeconfig: kubernetes.kubeconfig.clone(),
        lease_namespace: kubernetes.lease_namespace.clone(),
        publish: publish(kubernetes)?,
        term,
        heard,
        replicas,
    };
    tasks.spawn(cluster::write(settings, control.clone(), Arc::clone(metrics), stop.clone()));
    Ok(())
}

/// The Service whose addresses statuses show, if it is one.
pub(super) fn published(settings: &Settings) -> Option<ObjectKey> {
    let service = settings.kubernetes.as_ref()?.publish_service.as_ref()?;
    Some(ObjectKey::new(ObjectKind::Service, &service.namespace, &service.name))
}

/// What statuses show: addresses that are given, or those of a Service.
fn publish(kubernetes: &Kubernetes) -> anyhow::Result<Publish> {
    for address in &kubernetes.publish_addresses {
        let is_usable = address.parse::<IpAddr>().is_ok() || address.parse::<Hostname>().is_ok();
        ensure!(
            is_usable,
            "--publish-address {address:?} is neither an IP address nor a host name"
        );
    }
    Ok(match &kubernetes.publish_service {
        Some(service) => {
            Publish::Service(ObjectKey::new(ObjectKind::Service, &service.namespace, &service.name))
        }
        None if kubernetes.publish_addresses.is_empty() => Publish::Nothing,
        None => Publish::Addresses(kubernetes.publish_addresses.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::given::Given;

    fn publish_of(file: &str) -> anyhow::Result<Publish> {
        let given: Given = toml::from_str(file)?;
        let settings = given.settle()?;
        publish(settings.kubernetes.as_ref().expect("the file asks for a cluster"))
    }

    #[test]
    fn addresses_or_a_service_are_shown_and_what_is_no_address_is_refused() {
        let service = "kubernetes = true\npublish-service = \"edge/front\"\n";
        let addresses = "kubernetes = true\npublish-addresses = [\"192.0.2.7\", \"lb.example\"]";
        assert!(matches!(publish_of("kubernetes = true").unwrap(), Publish::Nothing));
        assert!(matches!(publish_of(service).unwrap(), Publish::Service(key)
            if key.to_string() == "Service/edge/front"));
        assert!(
            matches!(publish_of(addresses).unwrap(), Publish::Addresses(all) if all.len() == 2)
        );
        let error = publish_of("kubernetes = true\npublish-addresses = [\"a b\"]").unwrap_err();
        assert!(error.to_string().contains("--publish-address \"a b\""), "{error}");
    }
}
