//! Every kind that is read, one file each: only the fields that are used, already typed.

pub mod config_map;
pub mod endpoint_slice;
pub mod fleet;
pub mod ingress;
pub mod ingress_class;
pub mod route_override;
pub mod secret;
pub mod service;
pub mod upstream;

use config_map::ConfigMap;
use endpoint_slice::EndpointSlice;
use fleet::Fleet;
use ingress::Ingress;
use ingress_class::IngressClass;
use route_override::RouteOverride;
use secret::TlsSecret;
use service::Service;
use upstream::Upstream;

/// The contents of an Object, by kind.
///
/// A field that a person got wrong is kept as it was written, so that
/// translation can refuse the one Rule that needs it and say why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Body {
    /// `networking.k8s.io/v1` Ingress.
    Ingress(Ingress),
    /// `networking.k8s.io/v1` IngressClass.
    IngressClass(IngressClass),
    /// `v1` Service.
    Service(Service),
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice(EndpointSlice),
    /// `v1` Secret with something that is used.
    Secret(TlsSecret),
    /// `kubeng.io/v1alpha1` Upstream.
    Upstream(Box<Upstream>),
    /// `v1` ConfigMap.
    ConfigMap(ConfigMap),
    /// `kubeng.io/v1alpha1` RouteOverride.
    RouteOverride(RouteOverride),
    /// `kubeng.io/v1alpha1` Fleet.
    Fleet(Box<Fleet>),
}
