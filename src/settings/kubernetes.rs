//! Settings of how the API server is reached, and how its Objects are written.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::given::Given;

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

impl Kubernetes {
    /// Reads and checks what is given; None where no API server is asked.
    pub(super) fn settle(given: &Given) -> anyhow::Result<Option<Self>> {
        if !given.kubernetes.unwrap_or(given.kubeconfig.is_some()) {
            return Ok(None);
        }
        let publish_service =
            parse("--publish-service", "NAMESPACE/NAME", given.publish_service.as_deref(), named)?;
        if let Some(service) = &publish_service {
            can_be_published(service, given)?;
        }
        Ok(Some(Self {
            kubeconfig: given.kubeconfig.clone(),
            secrets: match given.secrets.as_deref() {
                Some("tls") => Secrets::AllOfTypeTls,
                Some("referenced") | None => Secrets::Referenced,
                Some(other) => bail!("secrets is {other:?}; write referenced or tls"),
            },
            publish_addresses: given.publish_addresses.clone(),
            publish_service,
            lease_namespace: given.lease_namespace.clone().unwrap_or_else(|| "kubeng".into()),
        }))
    }
}

/// Whether the addresses of `service` can be what statuses show.
fn can_be_published(service: &Named, given: &Given) -> anyhow::Result<()> {
    let Named { namespace, name } = service;
    if !given.publish_addresses.is_empty() {
        bail!(
            "--publish-service {namespace}/{name} beside --publish-address: statuses show the one or \
             the other, not both; leave one of them out"
        );
    }
    if !given.namespaces.is_empty() && !given.namespaces.contains(namespace) {
        bail!(
            "--publish-service {namespace}/{name} lies in a namespace that is not read; say \
             --namespace {namespace} as well, or give its addresses by --publish-address"
        );
    }
    Ok(())
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

/// Reads the value of `flag`, which is of this `form`.
///
/// # Errors
/// When there is one that `read` cannot read.
pub(super) fn parse<T>(
    flag: &str,
    form: &str,
    text: Option<&str>,
    read: impl Fn(&str) -> Option<T>,
) -> anyhow::Result<Option<T>> {
    text.map(|text| read(text).with_context(|| format!("{flag} {text:?}: write {form}")))
        .transpose()
}

/// Reads NAMESPACE/NAME.
pub(super) fn named(text: &str) -> Option<Named> {
    let (namespace, name) = text.split_once('/')?;
    let is_name = |part: &str| !part.is_empty() && !part.contains(['/', ':']);
    (is_name(namespace) && is_name(name))
        .then(|| Named { namespace: namespace.into(), name: name.into() })
}

/// Reads NAMESPACE/NAME:PORT.
pub(super) fn service_port(text: &str) -> Option<ServicePort> {
    let (service, port) = text.split_once(':')?;
    Some(ServicePort { service: named(service)?, port: port.parse().ok()? })
}
