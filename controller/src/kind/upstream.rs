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
    /// `spec.tls`.
    pub tls: UpstreamTls,
    /// `spec.balance`.
    pub balance: Box<UpstreamBalance>,
    /// `spec.health`; absent: endpoints are not asked.
    pub health: Option<Box<UpstreamHealth>>,
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
    #[serde(default)]
    tls: UpstreamTls,
    #[serde(default)]
    balance: UpstreamBalance,
    health: Option<UpstreamHealth>,
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

/// `spec.tls` as it is written.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamTls {
    /// The name that the certificate must cover.
    pub server_name: Option<String>,
    /// The authorities that it must come from, in PEM; absent: those of the machine.
    pub ca_bundle: Option<String>,
    /// Who else it may be for than `serverName`: DNS names, and URIs by their scheme.
    #[serde(default)]
    pub subject_alt_names: Vec<String>,
    /// The Secret whose certificate is presented to the endpoints.
    pub client_certificate: Option<UpstreamClientCertificate>,
    /// `1.2` or `1.3`; absent: `1.2`.
    pub min_version: Option<String>,
}

/// `spec.tls.clientCertificate` as it is written.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamClientCertificate {
    /// The name of a Secret of type `kubernetes.io/tls` in the same namespace.
    pub name: String,
}

/// `spec.balance` as it is written.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamBalance {
    /// `round-robin`, `least-requests`, `peak-ewma` or `consistent-hash`.
    pub policy: Option<String>,
    /// What `consistent-hash` hashes.
    pub hash: Option<UpstreamHash>,
    /// Keeps clients at their endpoints.
    pub sticky: Option<UpstreamSticky>,
    /// How long an endpoint that joined takes to reach its full share.
    pub slow_start_seconds: Option<i64>,
}

/// What `consistent-hash` hashes: exactly one of these.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamHash {
    /// `header`, `cookie`, `client-address` or `path`.
    pub by: String,
    /// The name of the header or cookie.
    pub name: Option<String>,
}

/// A cookie that keeps clients at their endpoints.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamSticky {
    /// Its name.
    pub cookie: String,
    /// How long browsers keep it; absent: for their session.
    pub max_age_seconds: Option<i64>,
}

/// `spec.health` as it is written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamHealth {
    /// `http`, `grpc` or `tcp`.
    pub probe: String,
    /// The path that `http` asks for.
    pub path: Option<String>,
    /// The host that `http` asks for.
    pub host: Option<String>,
    /// What `http` takes as good: `200` or `200-399`.
    #[serde(default)]
    pub statuses: Vec<String>,
    /// The service that `grpc` asks about.
    pub service: Option<String>,
    /// From one question to the next, in seconds.
    pub interval_seconds: Option<i64>,
    /// How long an answer may take, in seconds.
    pub timeout_seconds: Option<i64>,
    /// Bad answers in a row until an endpoint is out.
    pub unhealthy_after: Option<i64>,
    /// Good answers in a row until it is back.
    pub healthy_after: Option<i64>,
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
            tls: spec.tls,
            balance: Box::new(spec.balance),
            health: spec.health.map(Box::new),
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
