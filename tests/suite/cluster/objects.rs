//! Objects as tenants write them, all in one namespace.

use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use rcgen::CertifiedKey;
use serde_json::{Value, json};

/// The namespace of all of them.
pub(super) const NAMESPACE: &str = "shop";

/// The port on which all backends listen.
pub(super) const PORT: u16 = 8080;

/// An Ingress of class `kubeng` that sends all of `host` to a Service.
pub(super) fn ingress(name: &str, host: &str, service: &str) -> Ingress {
    ingress_of("kubeng", name, host, service)
}

/// The same of another class.
pub(super) fn ingress_of(class: &str, name: &str, host: &str, service: &str) -> Ingress {
    let backend = json!({ "service": { "name": service, "port": { "number": 80 } } });
    object(ingress_to(class, name, host, &backend))
}

/// An Ingress that sends all of `host` to an Upstream.
pub(super) fn ingress_to_upstream(name: &str, host: &str, upstream: &str) -> Ingress {
    let resource = json!({ "apiGroup": "kubeng.io", "kind": "Upstream", "name": upstream });
    object(ingress_to("kubeng", name, host, &json!({ "resource": resource })))
}

fn ingress_to(class: &str, name: &str, host: &str, backend: &Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "ingressClassName": class,
            "rules": [{ "host": host, "http": { "paths": [
                { "path": "/", "pathType": "Prefix", "backend": backend },
            ] } }],
        },
    })
}

/// The same Ingress with a tls section for its host.
pub(super) fn with_tls(mut ingress: Ingress, host: &str, secret: &str) -> Ingress {
    let tls = object(json!([{ "hosts": [host], "secretName": secret }]));
    if let Some(spec) = &mut ingress.spec {
        spec.tls = tls;
    }
    ingress
}

pub(super) fn ingress_class(name: &str, controller: &str) -> IngressClass {
    object(json!({ "metadata": { "name": name }, "spec": { "controller": controller } }))
}

/// A Service of one port, whose EndpointSlices are written by hand.
pub(super) fn service(name: &str) -> Service {
    object(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": { "ports": [{ "name": "http", "port": 80, "targetPort": PORT }] },
    }))
}

/// The EndpointSlice of a Service, of the same name.
pub(super) fn slice(service: &str, addresses: &[&str]) -> EndpointSlice {
    let family =
        if addresses.iter().any(|address| address.contains(':')) { "IPv6" } else { "IPv4" };
    let endpoints: Vec<Value> =
        addresses.iter().map(|address| json!({ "addresses": [address] })).collect();
    object(json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": service,
            "namespace": NAMESPACE,
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": family,
        "ports": [{ "name": "http", "port": PORT }],
        "endpoints": endpoints,
    }))
}

/// A TLS Secret for `host` and the certificate in it, as DER.
pub(super) fn secret(name: &str, host: &str) -> (Secret, Vec<u8>) {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed([host.to_owned()]).expect("a host can be certified");
    let secret = object(json!({
        "metadata": { "name": name, "namespace": NAMESPACE },
        "type": "kubernetes.io/tls",
        "stringData": { "tls.crt": cert.pem(), "tls.key": signing_key.serialize_pem() },
    }));
    (secret, cert.der().to_vec())
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("what is written here is of its kind")
}
