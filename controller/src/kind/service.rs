//! `v1` Service.

use k8s_openapi::api::core::v1 as foreign;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Body;
use super::ingress::PortName;
use crate::decode::notes::Notes;
use crate::object::Object;

/// What a Service says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Service {
    /// `spec.externalName`, of type ExternalName only.
    pub external_name: Option<String>,
    /// The ports that speak TCP.
    pub ports: Vec<ServicePort>,
    /// The addresses under which it can be reached, for the status of Ingresses:
    /// those of its load balancer, then `spec.externalIPs`.
    pub addresses: Vec<String>,
}

/// One port of a Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServicePort {
    /// Its name; none where there is only one port.
    pub name: Option<String>,
    /// Its number.
    pub port: u16,
    /// The port of the Pods.
    pub target: PortName,
    /// `appProtocol`: what is spoken there.
    pub app_protocol: Option<String>,
}

/// The Service in `object`.
pub(crate) fn service_of(object: &Object) -> Option<&Service> {
    match &object.body {
        Body::Service(service) => Some(service),
        Body::Ingress(_)
        | Body::IngressClass(_)
        | Body::EndpointSlice(_)
        | Body::Secret(_)
        | Body::Upstream(_)
        | Body::ConfigMap(_)
        | Body::RouteOverride(_)
        | Body::Fleet(_) => None,
    }
}

impl Service {
    pub(crate) fn decode(object: foreign::Service, notes: &mut Notes) -> Self {
        let spec = object.spec.unwrap_or_default();
        let balancer = object.status.and_then(|status| status.load_balancer);
        let balanced = balancer.and_then(|balancer| balancer.ingress).unwrap_or_default();
        let addresses = balanced.into_iter().filter_map(|entry| entry.ip.or(entry.hostname));
        let is_external = spec.type_.as_deref() == Some("ExternalName");
        Self {
            external_name: spec.external_name.filter(|_| is_external),
            addresses: addresses.chain(spec.external_ips.unwrap_or_default()).collect(),
            ports: spec
                .ports
                .unwrap_or_default()
                .into_iter()
                .enumerate()
                .filter(|(_, port)| port.protocol.as_deref().unwrap_or("TCP") == "TCP")
                .filter_map(|(index, port)| {
                    ServicePort::decode(port, &format!("/spec/ports/{index}"), notes)
                })
                .collect(),
        }
    }
}

impl ServicePort {
    /// `None` for a port that cannot be: it is noted, and nothing can lead to it.
    fn decode(port: foreign::ServicePort, field: &str, notes: &mut Notes) -> Option<Self> {
        let number = port_number(port.port, &format!("{field}/port"), notes)?;
        let target = match port.target_port {
            None | Some(IntOrString::Int(0)) => PortName::Number(number),
            Some(IntOrString::Int(target)) => {
                PortName::Number(port_number(target, &format!("{field}/targetPort"), notes)?)
            }
            Some(IntOrString::String(name)) if name.is_empty() => PortName::Number(number),
            Some(IntOrString::String(name)) => PortName::Name(name),
        };
        Some(Self {
            name: port.name.filter(|name| !name.is_empty()),
            port: number,
            target,
            app_protocol: port.app_protocol,
        })
    }
}

fn port_number(number: i32, field: &str, notes: &mut Notes) -> Option<u16> {
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    if port.is_none() {
        notes.bad_value(field, format!("{number} is not a port"), "write 1 to 65535");
    }
    port
}
