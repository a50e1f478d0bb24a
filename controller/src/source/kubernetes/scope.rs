//! What one watch covers: a kind, perhaps in one namespace, perhaps one name.

use std::fmt;
use std::sync::Arc;

use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::provenance::Provenance;

use crate::kind::Body;
use crate::kind::config_map::ConfigMap;
use crate::kind::secret::{Access, TlsSecret};
use crate::object::{Author, Extent, Object};

/// What one watch covers.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Scope {
    /// The kind.
    pub(crate) kind: ObjectKind,
    /// The namespace; `None` for all of them, and for kinds without.
    namespace: Option<Arc<str>>,
    /// The only name, if it is a watch on one object.
    name: Option<Arc<str>>,
}

impl Scope {
    /// The scopes that cover `kind` in `namespaces`; none means all.
    pub(crate) fn of_kind(kind: ObjectKind, namespaces: &[String]) -> Vec<Self> {
        if namespaces.is_empty() || !kind.is_namespaced() {
            return vec![Self { kind, namespace: None, name: None }];
        }
        let of = |namespace: &String| Self {
            kind,
            namespace: Some(namespace.as_str().into()),
            name: None,
        };
        namespaces.iter().map(of).collect()
    }

    /// The scope that covers one object.
    pub(crate) fn of_object(key: &ObjectKey) -> Self {
        Self {
            kind: key.kind,
            namespace: key.kind.is_namespaced().then(|| Arc::clone(&key.namespace)),
            name: Some(Arc::clone(&key.name)),
        }
    }

    /// What stands for the one Secret or ConfigMap that it covers, and that may not be read.
    pub(crate) fn denied(&self) -> Option<Arc<Object>> {
        let name = self.name.as_deref()?;
        let body = match self.kind {
            ObjectKind::Secret => {
                Body::Secret(TlsSecret { access: Access::Denied, ..TlsSecret::default() })
            }
            ObjectKind::ConfigMap => {
                Body::ConfigMap(ConfigMap { access: Access::Denied, ..ConfigMap::default() })
            }
            ObjectKind::Ingress
            | ObjectKind::IngressClass
            | ObjectKind::Service
            | ObjectKind::EndpointSlice
            | ObjectKind::Upstream
            | ObjectKind::RouteOverride
            | ObjectKind::Fleet => return None,
        };
        Some(Arc::new(Object {
            key: ObjectKey::new(self.kind, self.namespace.as_deref().unwrap_or_default(), name),
            created: 0,
            uid: None,
            provenance: Provenance::Cluster { version: "".into() },
            author: Author::Tenant,
            body,
            status_addresses: Box::default(),
            problems: Box::default(),
        }))
    }

    /// What its lists cover.
    pub(crate) fn extent(&self) -> Extent {
        Extent { kind: self.kind, namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// The only object that it covers, if it is one.
    pub(crate) fn object(&self) -> Option<ObjectKey> {
        self.is_single().then(|| self.extent().first_key())
    }

    /// Whether it covers a single object.
    pub(crate) fn is_single(&self) -> bool {
        self.name.is_some()
    }

    /// The path of its collection.
    pub(crate) fn path(&self) -> String {
        let (prefix, resource) = match self.kind {
            ObjectKind::Ingress => ("/apis/networking.k8s.io/v1", "ingresses"),
            ObjectKind::IngressClass => ("/apis/networking.k8s.io/v1", "ingressclasses"),
            ObjectKind::Service => ("/api/v1", "services"),
            ObjectKind::EndpointSlice => ("/apis/discovery.k8s.io/v1", "endpointslices"),
            ObjectKind::Secret => ("/api/v1", "secrets"),
            ObjectKind::Upstream => ("/apis/kubeng.io/v1alpha1", "upstreams"),
            ObjectKind::ConfigMap => ("/api/v1", "configmaps"),
            ObjectKind::RouteOverride => ("/apis/kubeng.io/v1alpha1", "routeoverrides"),
            ObjectKind::Fleet => ("/apis/kubeng.io/v1alpha1", "fleets"),
        };
        match &self.namespace {
            Some(namespace) => format!("{prefix}/namespaces/{namespace}/{resource}"),
            None => format!("{prefix}/{resource}"),
        }
    }

    /// `apiVersion` and `kind` of its objects; the items of a list leave them out.
    pub(crate) fn type_of_items(&self) -> (&'static str, &'static str) {
        let version = match self.kind {
            ObjectKind::Ingress | ObjectKind::IngressClass => "networking.k8s.io/v1",
            ObjectKind::Service | ObjectKind::Secret | ObjectKind::ConfigMap => "v1",
            ObjectKind::EndpointSlice => "discovery.k8s.io/v1",
            ObjectKind::Upstream | ObjectKind::RouteOverride | ObjectKind::Fleet => {
                "kubeng.io/v1alpha1"
            }
        };
        (version, self.kind.as_str())
    }

    /// What narrows the collection.
    pub(crate) fn field_selector(&self) -> Option<String> {
        match (&self.name, self.kind) {
            (Some(name), _) => Some(format!("metadata.name={name}")),
            (None, ObjectKind::Secret) => Some("type=kubernetes.io/tls".to_owned()),
            (None, _) => None,
        }
    }

    /// Whether the server may lack the kind: its definition is ours to install.
    pub(crate) fn may_be_absent(&self) -> bool {
        match self.kind {
            ObjectKind::Upstream | ObjectKind::RouteOverride | ObjectKind::Fleet => true,
            ObjectKind::Ingress
            | ObjectKind::IngressClass
            | ObjectKind::Service
            | ObjectKind::EndpointSlice
            | ObjectKind::Secret
            | ObjectKind::ConfigMap => false,
        }
    }

    /// The resource as a role names it.
    pub(crate) fn role_resource(&self) -> &'static str {
        match self.kind {
            ObjectKind::Ingress => "ingresses.networking.k8s.io",
            ObjectKind::IngressClass => "ingressclasses.networking.k8s.io",
            ObjectKind::Service => "services",
            ObjectKind::EndpointSlice => "endpointslices.discovery.k8s.io",
            ObjectKind::Secret => "secrets",
            ObjectKind::Upstream => "upstreams.kubeng.io",
            ObjectKind::ConfigMap => "configmaps",
            ObjectKind::RouteOverride => "routeoverrides.kubeng.io",
            ObjectKind::Fleet => "fleets.kubeng.io",
        }
    }

    /// Where a right is needed, in words.
    pub(crate) fn role_place(&self) -> String {
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => format!("for {name} in namespace {namespace}"),
            (Some(namespace), None) => format!("in namespace {namespace}"),
            (None, _) => "in the whole cluster".to_owned(),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role_resource(), self.role_place())
    }
}
