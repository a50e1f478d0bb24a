//! `discovery.k8s.io/v1` EndpointSlice.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1 as foreign;

use crate::decode::notes::Notes;

/// What an EndpointSlice says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EndpointSlice {
    /// The Service that it belongs to: the label `kubernetes.io/service-name`.
    pub service: Option<Arc<str>>,
    /// The ports of every Endpoint.
    pub ports: Vec<SlicePort>,
    /// The Endpoints; those of slices of address type FQDN have no addresses here.
    pub endpoints: Vec<SliceEndpoint>,
}

/// One port of a slice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SlicePort {
    /// The name of the Service port that it stands for; none where that has none.
    pub name: Option<Arc<str>>,
    /// The number; a slice port without one cannot be used.
    pub port: u16,
}

/// One Endpoint of a slice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SliceEndpoint {
    /// Its addresses. All lead to the same Pod, so the first is used.
    pub addresses: Vec<IpAddr>,
    /// `conditions.ready`; true if absent.
    pub is_ready: bool,
    /// `conditions.serving`; as `ready` if absent.
    pub is_serving: bool,
    /// `conditions.terminating`; false if absent.
    pub is_terminating: bool,
    /// The zone it runs in.
    pub zone: Option<Arc<str>>,
}

impl EndpointSlice {
    pub(crate) fn decode(object: foreign::EndpointSlice, notes: &mut Notes) -> Self {
        let labels = object.metadata.labels.unwrap_or_default();
        let has_addresses = object.address_type != "FQDN";
        Self {
            service: labels.get("kubernetes.io/service-name").map(|name| name.as_str().into()),
            ports: object
                .ports
                .unwrap_or_default()
                .into_iter()
                .enumerate()
                .filter(|(_, port)| port.protocol.as_deref().unwrap_or("TCP") == "TCP")
                .filter_map(|(index, port)| SlicePort::decode(port, index, notes))
                .collect(),
            endpoints: object
                .endpoints
                .unwrap_or_default()
                .into_iter()
                .enumerate()
                .map(|(index, mut endpoint)| {
                    if !has_addresses {
                        endpoint.addresses.clear();
                    }
                    SliceEndpoint::decode(endpoint, index, notes)
                })
                .collect(),
        }
    }
}

impl SlicePort {
    fn decode(port: foreign::EndpointPort, index: usize, notes: &mut Notes) -> Option<Self> {
        let number = port.port?;
        let Some(usable) = u16::try_from(number).ok().filter(|port| *port != 0) else {
            let field = format!("/ports/{index}/port");
            notes.bad_value(&field, format!("{number} is not a port"), "write 1 to 65535");
            return None;
        };
        let name = port.name.filter(|name| !name.is_empty()).map(Arc::from);
        Some(Self { name, port: usable })
    }
}

impl SliceEndpoint {
    fn decode(endpoint: foreign::Endpoint, index: usize, notes: &mut Notes) -> Self {
        let conditions = endpoint.conditions.unwrap_or_default();
        let is_ready = conditions.ready.unwrap_or(true);
        let mut addresses = Vec::with_capacity(endpoint.addresses.len());
        for (at, text) in endpoint.addresses.iter().enumerate() {
            match text.parse::<IpAddr>() {
                Ok(address) => addresses.push(address),
                Err(_) => notes.bad_value(
                    &format!("/endpoints/{index}/addresses/{at}"),
                    format!("{text:?} is not an IP address"),
                    "write one, without port and without leading zeros",
                ),
            }
        }
        Self {
            addresses,
            is_ready,
            is_serving: conditions.serving.unwrap_or(is_ready),
            is_terminating: conditions.terminating.unwrap_or(false),
            zone: endpoint.zone.map(Arc::from),
        }
    }
}
