//! `kubeng.io/v1alpha1` Upstream: a service outside containers.

pub mod care;
pub mod route;
pub(crate) mod stand_in;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubeng_config::endpoint::PRIORITY_MAX;
use kubeng_config::problem::{BAD_VALUE, Problem};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::decode::notes::Notes;
use care::{UpstreamCare, UpstreamEjection, UpstreamLimits, UpstreamResolve, UpstreamRetryBudget};
use route::UpstreamRoute;

/// What an Upstream says, as it was written; defaults are filled in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    /// `spec.displayName`, for people.
    pub display_name: Option<Box<str>>,
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
    /// `spec.resolve`; absent: the defaults.
    pub resolve: Option<Box<UpstreamResolve>>,
    /// What protects it and its clients.
    pub care: Box<UpstreamCare>,
    /// `spec.routes`.
    pub routes: Box<[UpstreamRoute]>,
    /// `spec.fleets`: those that serve the routes; empty: all that allow the namespace.
    pub fleets: Box<[String]>,
    /// Whether it is served.
    pub standing: Standing,
}

/// Whether an Upstream is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It is.
    Served,
    /// It could not be taken, so its routes refuse; what is wrong is told by its source.
    Closed,
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
    /// The zone it runs in.
    pub zone: Option<String>,
    /// `active`, `drain` or `disabled`.
    pub state: String,
    /// Those with a higher number serve only while none with a lower one can.
    pub priority: u8,
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
    display_name: Option<Box<str>>,
    protocol: Option<String>,
    #[serde(default)]
    endpoints: Vec<EndpointOnWire>,
    #[serde(default)]
    tls: UpstreamTls,
    #[serde(default)]
    balance: UpstreamBalance,
    health: Option<UpstreamHealth>,
    proxy_protocol: Option<String>,
    resolve: Option<Box<UpstreamResolve>>,
    #[serde(default)]
    limits: UpstreamLimits,
    #[serde(default)]
    retry_budget: UpstreamRetryBudget,
    #[serde(default)]
    ejection: UpstreamEjection,
    panic_threshold: Option<String>,
    slow_start: Option<String>,
    #[serde(default)]
    routes: Vec<UpstreamRoute>,
    #[serde(default)]
    fleets: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndpointOnWire {
    address: String,
    port: i64,
    weight: Option<i64>,
    zone: Option<String>,
    state: Option<String>,
    priority: Option<i64>,
}

/// `spec.tls` as it is written.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamTls {
    /// The name that the certificate must cover.
    pub server_name: Option<String>,
    /// The authorities that it must come from, in PEM; absent: those of the machine.
    pub ca_bundle: Option<String>,
    /// The authorities that it must come from: those of the machine, or of a ConfigMap.
    pub roots: Option<UpstreamRoots>,
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

/// `spec.tls.roots` as it is written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UpstreamRoots {
    /// A word; `system` is known.
    Word(String),
    /// A ConfigMap.
    ConfigMap(ConfigMapRef),
}

/// The name of a ConfigMap.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct ConfigMapRef {
    /// Its namespace; absent: that of the Upstream.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl<'de> Deserialize<'de> for UpstreamRoots {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = UpstreamRoots;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("system, or namespace and name of a ConfigMap")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<UpstreamRoots, E> {
                Ok(UpstreamRoots::Word(word.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<UpstreamRoots, A::Error> {
                ConfigMapRef::deserialize(MapAccessDeserializer::new(map))
                    .map(UpstreamRoots::ConfigMap)
            }
        }
        from.deserialize_any(Either)
    }
}

/// `spec.balance` as it is written.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamBalance {
    /// `round-robin`, `least-requests`, `ewma` or `hash`.
    pub policy: Option<String>,
    /// What `hash` hashes: `client-address`, `path`, `header:NAME` or `cookie:NAME`.
    pub hash_on: Option<String>,
    /// Keeps clients at their endpoints.
    pub sticky: Option<UpstreamSticky>,
    /// The part of the own zone that must be usable for it to take all requests: a percentage.
    pub prefer_own_zone: Option<String>,
}

/// A cookie that keeps clients at their endpoints.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamSticky {
    /// Its name.
    pub cookie: String,
    /// How long browsers keep it, a duration; absent: for their session.
    pub max_age: Option<String>,
}

/// `spec.health` as it is written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamHealth {
    /// `http`, `grpc` or `tcp`; absent: `http`.
    pub probe: Option<String>,
    /// The path that `http` asks for.
    pub path: Option<String>,
    /// The host that `http` asks for.
    pub host: Option<String>,
    /// What `http` takes as good: `200` or `200-399`.
    #[serde(default)]
    pub expect: Vec<String>,
    /// The service that `grpc` asks about.
    pub service: Option<String>,
    /// From one question to the next: a duration.
    pub interval: Option<String>,
    /// How long an answer may take: a duration.
    pub timeout: Option<String>,
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
            display_name: spec.display_name,
            protocol: spec.protocol.unwrap_or_else(|| "http".to_owned()),
            endpoints: endpoints
                .map(|(index, endpoint)| UpstreamEndpoint::decode(endpoint, index, notes))
                .collect::<Result<_, _>>()?,
            tls: spec.tls,
            balance: Box::new(spec.balance),
            health: spec.health.map(Box::new),
            proxy_protocol: spec.proxy_protocol,
            resolve: spec.resolve,
            care: Box::new(UpstreamCare {
                limits: spec.limits,
                retry_budget: spec.retry_budget,
                ejection: spec.ejection,
                panic_threshold: spec.panic_threshold,
                slow_start: spec.slow_start,
            }),
            routes: spec.routes.into(),
            fleets: spec.fleets.into(),
            standing: Standing::Served,
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
        let priority = endpoint.priority.unwrap_or(0);
        let level = u8::try_from(priority).ok().filter(|level| *level <= PRIORITY_MAX);
        Ok(Self {
            address: endpoint.address,
            port: port.ok_or_else(|| {
                wrong("port", format!("{} is not a port", endpoint.port), "write 1 to 65535")
            })?,
            weight: usable.ok_or_else(|| {
                wrong("weight", format!("{weight} is out of range"), "write 0 to 1000")
            })?,
            zone: endpoint.zone,
            state: endpoint.state.unwrap_or_else(|| "active".to_owned()),
            priority: level.ok_or_else(|| {
                wrong("priority", format!("{priority} is out of range"), "write 0 to 7")
            })?,
        })
    }
}
