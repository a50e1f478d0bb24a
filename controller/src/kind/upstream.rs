//! `kubeng.io/v1alpha1` Upstream: a service outside containers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubeng_config::problem::{BAD_VALUE, Problem};
use serde::Deserialize;
use serde_json::Value;

use crate::decode::notes::Notes;

/// What an Upstream says, as it was written; defaults are filled in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    /// `spec.protocol`: `http`, `https`, `h2c`, `grpc` or `grpcs`.
    pub protocol: String,
    /// `spec.endpoints`.
    pub endpoints: Vec<UpstreamEndpoint>,
    /// `spec.tls.serverName`.
    pub tls_server_name: Option<String>,
    /// `spec.balance.policy`: `round-robin` or `least-requests`.
    pub balance: String,
    /// `spec.proxyProtocol`: `v1` or `v2`; absent: its endpoints are not told who the client is.
    pub proxy_protocol: Option<String>,
}

/// One entry of `spec.endpoints`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UpstreamEndpoint {
    /// An IP address in canonical form, or a DNS name.
    pub address: String,
    /// The port.
    pub port: u16,
    /// Its share of new requests, 0 to 1000.
    pub weight: u16,
    /// `active`, `drain` or `disabled`.
    pub state: String,
}

/// An Upstream as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpstreamOnWire {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    metadata: ObjectMeta,
    spec: SpecOnWire,
    #[serde(rename = "status", default)]
    _status: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecOnWire {
    protocol: Option<String>,
    #[serde(default)]
    endpoints: Vec<EndpointOnWire>,
    tls: Option<TlsOnWire>,
    balance: Option<BalanceOnWire>,
    proxy_protocol: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndpointOnWire {
    address: String,
    port: i64,
    weight: Option<i64>,
    state: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TlsOnWire {
    server_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BalanceOnWire {
    policy: Option<String>,
}

impl Upstream {
    /// Fills the defaults in. A number out of range fails: the kind is ours and strict.
    pub(crate) fn decode(
        object: UpstreamOnWire,
        notes: &Notes,
    ) -> Result<(ObjectMeta, Self), Box<Problem>> {
        let spec = object.spec;
        let endpoints = spec.endpoints.into_iter().enumerate();
        let upstream = Self {
            protocol: spec.protocol.unwrap_or_else(|| "http".to_owned()),
            endpoints: endpoints
                .map(|(index, endpoint)| UpstreamEndpoint::decode(endpoint, index, notes))
                .collect::<Result<_, _>>()?,
            tls_server_name: spec.tls.and_then(|tls| tls.server_name),
            balance: spec
                .balance
                .and_then(|balance| balance.policy)
                .unwrap_or_else(|| "round-robin".to_owned()),
            proxy_protocol: spec.proxy_protocol,
        };
        Ok((object.metadata, upstream))
    }
}

impl UpstreamEndpoint {
    fn decode(endpoint: EndpointOnWire, index: usize, notes: &Notes) -> Result<Self, Box<Problem>> {
        let wrong = |name: &str, message: String, remedy: &str| {
            let field = format!("/spec/endpoints/{index}/{name}");
            Box::new(notes.problem(&field, BAD_VALUE, message, remedy))
        };
        let port = u16::try_from(endpoint.port).ok().filter(|port| *port != 0);
        let weight = endpoint.weight.unwrap_or(1);
        let usable = u16::try_from(weight).ok().filter(|weight| *weight <= 1000);
        Ok(Self {
            address: endpoint.address,
            port: port.ok_or_else(|| {
                wrong("port", format!("{} is not a port", endpoint.port), "write 1 to 65535")
            })?,
            weight: usable.ok_or_else(|| {
                wrong("weight", format!("{weight} is out of range"), "write 0 to 1000")
            })?,
            state: endpoint.state.unwrap_or_else(|| "active".to_owned()),
        })
    }
}
