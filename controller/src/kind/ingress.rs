//! `networking.k8s.io/v1` Ingress.

pub(crate) mod lenient;
pub(crate) mod stand_in;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1 as foreign;

/// What an Ingress says, as it was written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ingress {
    /// `spec.ingressClassName`.
    pub class: Option<Box<str>>,
    /// The deprecated annotation `kubernetes.io/ingress.class`; it counts only without a class.
    pub class_annotation: Option<Box<str>>,
    /// `spec.defaultBackend`.
    pub default_backend: Option<Box<IngressBackend>>,
    /// `spec.tls`.
    pub tls: Vec<IngressTls>,
    /// `spec.rules`.
    pub rules: Vec<IngressRule>,
    /// Annotations of families that are translated.
    pub annotations: BTreeMap<String, String>,
    /// What nobody can tell of it; none where all of it can be read.
    pub doubt: Option<Box<Doubt>>,
}

/// What nobody can tell of an Ingress, because something in it has a wrong type.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Doubt {
    /// Whether its class cannot be read, so that it may be ours.
    pub is_class_unread: bool,
    /// Whether it could not be taken and was never known, so that this only stands for it.
    pub is_stand_in: bool,
    /// What it may have meant, which is refused behind all other Rules.
    pub blocked: Vec<Blocked>,
}

/// Requests that an Ingress may have meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Blocked {
    /// The host; none means every host that no rule names.
    pub host: Option<String>,
    /// The paths under it.
    pub paths: BlockedPaths,
}

/// Paths that an Ingress may have meant under a host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BlockedPaths {
    /// All that nobody else has.
    Rest,
    /// This one and those below it.
    Below(String),
    /// This one alone.
    Only(String),
}

impl Blocked {
    /// All of `host` that nobody else has.
    pub(crate) fn rest_of(host: Option<String>) -> Self {
        Self { host, paths: BlockedPaths::Rest }
    }
}

/// One entry of `spec.tls`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct IngressTls {
    /// The hosts; none means those of all rules.
    pub hosts: Vec<String>,
    /// The Secret, in the namespace of the Ingress.
    pub secret: Option<String>,
}

/// One entry of `spec.rules`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct IngressRule {
    /// The host; none means every host that no other rule names.
    pub host: Option<String>,
    /// `http.paths`; none means that the default backend takes all paths.
    pub paths: Vec<IngressPath>,
}

/// One entry of `http.paths`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IngressPath {
    /// The path; none means `/`.
    pub path: Option<String>,
    /// `Exact`, `Prefix` or `ImplementationSpecific`, as it was written.
    pub path_type: String,
    /// Where it leads.
    pub backend: IngressBackend,
}

/// Where a path leads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum IngressBackend {
    /// A Service of the same namespace.
    Service {
        /// Its name.
        name: String,
        /// One of its ports.
        port: PortName,
    },
    /// Another object of the same namespace.
    Resource {
        /// The API group; empty for the core group.
        group: String,
        /// The kind.
        kind: String,
        /// The name.
        name: String,
    },
    /// Neither, or both: it cannot be honoured.
    Unusable {
        /// What is wrong.
        why: String,
    },
    /// It cannot be honoured, or not be told from what cannot be read; that is noted at the Object.
    Unread,
}

/// A port by number or by name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum PortName {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

impl std::fmt::Display for PortName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Ingress {
    pub(crate) fn decode(object: foreign::Ingress) -> Self {
        let mut annotations = object.metadata.annotations.unwrap_or_default();
        let class_annotation = annotations.remove(CLASS_ANNOTATION);
        let spec = object.spec.unwrap_or_default();
        Self {
            class: spec.ingress_class_name.map(Into::into),
            class_annotation: class_annotation.map(Into::into),
            default_backend: spec
                .default_backend
                .map(|backend| Box::new(IngressBackend::decode(backend))),
            tls: spec.tls.unwrap_or_default().into_iter().map(IngressTls::decode).collect(),
            rules: spec.rules.unwrap_or_default().into_iter().map(IngressRule::decode).collect(),
            annotations: kept(annotations),
            doubt: None,
        }
    }

    /// The addresses in the status: IP address or host name of each entry.
    pub(crate) fn status_addresses(object: &foreign::Ingress) -> Vec<String> {
        let balancer = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        balancer
            .and_then(|balancer| balancer.ingress.as_ref())
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ip.clone().or_else(|| entry.hostname.clone()))
            .collect()
    }
}

impl IngressRule {
    fn decode(rule: foreign::IngressRule) -> Self {
        let paths = rule.http.map(|http| http.paths).unwrap_or_default();
        Self {
            host: rule.host.filter(|host| !host.is_empty()),
            paths: paths.into_iter().map(IngressPath::decode).collect(),
        }
    }
}

impl IngressPath {
    fn decode(path: foreign::HTTPIngressPath) -> Self {
        Self {
            path: path.path.filter(|path| !path.is_empty()),
            path_type: path.path_type,
            backend: IngressBackend::decode(path.backend),
        }
    }
}

impl IngressTls {
    fn decode(entry: foreign::IngressTLS) -> Self {
        Self {
            hosts: entry.hosts.unwrap_or_default(),
            secret: entry.secret_name.filter(|name| !name.is_empty()),
        }
    }
}

impl IngressBackend {
    fn decode(backend: foreign::IngressBackend) -> Self {
        let unusable = |why: &str| Self::Unusable { why: why.to_owned() };
        match (backend.service, backend.resource) {
            (Some(service), None) => {
                let port = service.port.unwrap_or_default();
                match PortName::decode(port.name.filter(|name| !name.is_empty()), port.number) {
                    Ok(port) => Self::Service { name: service.name, port },
                    Err(why) => Self::Unusable { why },
                }
            }
            (None, Some(resource)) => Self::Resource {
                group: resource.api_group.unwrap_or_default(),
                kind: resource.kind,
                name: resource.name,
            },
            (Some(_), Some(_)) => unusable("both service and resource are set; one is allowed"),
            (None, None) => unusable("neither service nor resource is set"),
        }
    }
}

impl PortName {
    fn decode(name: Option<String>, number: Option<i32>) -> Result<Self, String> {
        // An API server stores 0 for a number that was not written.
        match (name, number.filter(|number| *number != 0)) {
            (Some(name), None) => Ok(Self::Name(name)),
            (None, Some(number)) => u16::try_from(number)
                .map(Self::Number)
                .map_err(|_| format!("{number} is not a port; 1 to 65535 are")),
            (Some(_), Some(_)) => Err("the port has both name and number".to_owned()),
            (None, None) => Err("the port has neither name nor number".to_owned()),
        }
    }
}

/// Those of families that are translated.
fn kept(mut annotations: BTreeMap<String, String>) -> BTreeMap<String, String> {
    annotations.retain(|name, _| FAMILIES.iter().any(|family| name.starts_with(family)));
    annotations
}

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Prefixes of the annotations that are kept.
const FAMILIES: &[&str] = &["kubeng.io/", "nginx.ingress.kubernetes.io/"];
