//! Starts what writes to the cluster: the Lease, statuses, Events.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::ensure;
use kubeng_config::name::{ObjectKey, ObjectKind};
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
        ensure!(
            is_publishable(address),
            "--publish-address {address:?} is neither an IP address nor a DNS name in lower case \
             (RFC 1123); an API server would take no status with it. Write one such as 192.0.2.10, \
             2001:db8::10 or lb.example.com"
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

/// Whether an API server takes it in a status: an IP address, or a subdomain as RFC 1123 has it, in
/// lower case. What looks like an IPv4 address and is none is no name either.
fn is_publishable(address: &str) -> bool {
    let is_label = |label: &str| {
        let is_sign = |sign: u8| sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == b'-';
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(is_sign)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = address.len() <= NAME_BYTES_MAX
        && address.split('.').all(is_label)
        && !address.bytes().all(|sign| sign.is_ascii_digit() || sign == b'.');
    address.parse::<IpAddr>().is_ok() || is_name
}

/// The longest label of a name (RFC 1123 section 2.1, RFC 1035 section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;
/// The longest name that an API server takes.
const NAME_BYTES_MAX: usize = 253;

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

    #[test]
    fn only_what_a_status_can_hold_is_taken_as_an_address() {
        for good in ["192.0.2.7", "2001:db8::1", "lb.example.com", "lb", "4.lb-1.example"] {
            assert!(is_publishable(good), "{good}");
        }
        let long = format!("{}.example", "a".repeat(64));
        for bad in [
            "LB.Example.com",
            "foo_bar",
            "300.1.1.1",
            "1.2.3",
            "12",
            "010.0.0.1",
            "192.0.2.1:80",
            "",
            ".",
            "lb.example.com.",
            "-a.example",
            "a-.example",
            "*.example.com",
            "[::1]",
            "fe80::1%eth0",
            "bücher.example",
            "a..b",
            " lb",
            &long,
        ] {
            assert!(!is_publishable(bad), "{bad}");
            let file = format!("kubernetes = true\npublish-addresses = [{bad:?}]");
            let error = publish_of(&file).unwrap_err().to_string();
            assert!(error.contains(&format!("--publish-address {bad:?}")), "{bad}: {error}");
        }
    }
}
