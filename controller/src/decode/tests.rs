use kubeng_config::problem::{BAD_VALUE, UNKNOWN_FIELD, UNSUPPORTED_VERSION};
use serde_json::json;

use super::*;
use crate::kind::ingress::{IngressBackend, PortName};

fn file() -> Provenance {
    Provenance::File { path: "a.yaml".into(), line: 1 }
}

fn cluster() -> Provenance {
    Provenance::Cluster { version: "7".into() }
}

#[track_caller]
fn object(value: Value) -> Object {
    match decode(value, file(), Author::Operator) {
        Decoded::Object(object) => *object,
        other @ (Decoded::Ignored | Decoded::Undecodable(..) | Decoded::Closed(..)) => {
            panic!("{other:?}")
        }
    }
}

#[track_caller]
fn undecodable(value: Value) -> (Option<String>, Problem) {
    match decode(value, file(), Author::Operator) {
        Decoded::Undecodable(key, problem) => (key.map(|key| key.to_string()), problem),
        Decoded::Closed(object, problem) => (Some(object.key.to_string()), problem),
        other @ (Decoded::Ignored | Decoded::Object(_)) => panic!("{other:?}"),
    }
}

fn ingress(spec: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "web", "namespace": "shop"}, "spec": spec,
    })
}

fn service(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec})
}

fn upstream(spec: Value) -> Value {
    json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "Upstream",
        "metadata": {"name": "erp", "namespace": "fin"}, "spec": spec,
    })
}

#[test]
fn documents_of_other_kinds_are_ignored() {
    for (version, kind) in [
        ("apps/v1", "Deployment"),
        ("v1", "ServiceAccount"),
        ("v1", "Endpoints"),
        ("serving.knative.dev/v1", "Service"),
        ("config.openshift.io/v1", "Ingress"),
        ("gateway.solo.io/v1", "Upstream"),
        ("networking.k8s.io/v1", "NetworkPolicy"),
    ] {
        let value = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}});
        let decoded = decode(value, file(), Author::Operator);
        assert!(matches!(decoded, Decoded::Ignored), "{version} {kind}: {decoded:?}");
    }
}

#[test]
fn heads_that_are_wrong_are_reported_with_their_field() {
    let named = json!({"name": "web", "namespace": "shop"});
    for (value, key, field, part) in [
        (json!("x"), None, "", "text stands where an object is expected"),
        (json!({"kind": "Ingress"}), None, "/apiVersion", "missing"),
        (json!({"apiVersion": "v1"}), None, "/kind", "missing"),
        (
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingres", "metadata": named}),
            None,
            "/kind",
            "write \"Ingress\"",
        ),
        (
            json!({"apiVersion": "kubeng.io/v1alpha1", "kind": "Backend", "metadata": named}),
            None,
            "/kind",
            "write \"Upstream\"",
        ),
        (
            json!({"apiVersion": "extensions/v1beta1", "kind": "Ingress", "metadata": named}),
            Some("Ingress/shop/web"),
            "/apiVersion",
            "write it as networking.k8s.io/v1",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Service"}),
            None,
            "/metadata/name",
            "no metadata.name",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "A_b"}}),
            None,
            "/metadata/name",
            "not a name",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": 5}}),
            None,
            "/metadata/namespace",
            "not a namespace",
        ),
    ] {
        let (found, problem) = undecodable(value);
        assert_eq!(found.as_deref(), key, "{problem}");
        assert_eq!(problem.field, field, "{problem}");
        assert!(problem.to_string().contains(part), "{problem}");
        assert_eq!(problem.code == UNSUPPORTED_VERSION, key.is_some(), "{problem}");
    }
}

#[test]
fn metadata_is_kept_as_far_as_it_is_used() {
    let mut value = ingress(json!({}));
    value["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    value["metadata"]["uid"] = json!("u-1");
    value["status"] =
        json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb"}]}});
    let object = object(value);
    assert_eq!(object.created, 1_767_225_600);
    assert_eq!(object.uid.as_deref(), Some("u-1"));
    assert_eq!(*object.status_addresses, ["192.0.2.1", "lb"]);
    assert!(object.problems.is_empty(), "{:?}", object.problems);
}

#[test]
fn a_missing_namespace_is_default() {
    assert_eq!(object(service(json!({}))).key.to_string(), "Service/default/web");
}

#[test]
fn unknown_fields_are_problems_with_pointer_and_suggestion() {
    let object = object(ingress(json!({
        "rules": [{"hots": "a.example", "http": {"paths": [{
            "path": "/", "pathType": "Prefix",
            "backend": {"service": {"name": "web", "prot": {"number": 80}}},
        }]}}],
        "zzz": 1,
    })));
    let told: Vec<(&str, &str)> = object
        .problems
        .iter()
        .map(|problem| (problem.field.as_str(), problem.message.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("/spec/rules/0/hots", "there is no field \"hots\" here; did you mean \"host\"?"),
            (
                "/spec/rules/0/http/paths/0/backend/service/prot",
                "there is no field \"prot\" here; did you mean \"port\"?"
            ),
            ("/spec/zzz", "there is no field \"zzz\" here"),
        ]
    );
    assert!(object.problems.iter().all(|problem| problem.code == UNKNOWN_FIELD));
}

#[test]
fn wrong_types_are_reported_with_their_pointer() {
    for (spec, field) in [
        (json!({"rules": {"host": "a"}}), "/spec/rules"),
        (json!({"rules": [{"host": 5}]}), "/spec/rules/0/host"),
        (json!({"tls": [{"hosts": "a"}]}), "/spec/tls/0/hosts"),
    ] {
        let (key, problem) = undecodable(ingress(spec));
        assert_eq!(key.as_deref(), Some("Ingress/shop/web"));
        assert_eq!((problem.field.as_str(), problem.code), (field, BAD_VALUE), "{problem}");
    }
}

#[track_caller]
fn check_backend(backend: Value, expected: Result<IngressBackend, &str>) {
    let object = object(ingress(json!({"defaultBackend": backend})));
    let Body::Ingress(Ingress { default_backend: Some(found), .. }) = object.body else {
        panic!("{object:?}");
    };
    match (*found, expected) {
        (IngressBackend::Unusable { why }, Err(part)) => assert!(why.contains(part), "{why}"),
        (found, expected) => assert_eq!(Ok(found), expected),
    }
}

#[test]
fn ingress_backends_are_a_service_or_a_resource() {
    let service = |port| IngressBackend::Service { name: "w".into(), port };
    let with = |port| json!({"service": {"name": "w", "port": port}});
    check_backend(with(json!({"number": 80})), Ok(service(PortName::Number(80))));
    check_backend(with(json!({"name": "http"})), Ok(service(PortName::Name("http".into()))));
    check_backend(with(json!({"name": "h", "number": 0})), Ok(service(PortName::Name("h".into()))));
    check_backend(with(json!({"name": "h", "number": 80})), Err("both"));
    check_backend(with(json!({})), Err("neither"));
    check_backend(with(json!({"number": 70000})), Err("70000 is not a port"));
    check_backend(with(json!({"number": -1})), Err("-1 is not a port"));
    check_backend(json!({}), Err("neither service nor resource"));
    let resource = json!({"apiGroup": "kubeng.io", "kind": "Upstream", "name": "erp"});
    check_backend(
        json!({"resource": resource}),
        Ok(IngressBackend::Resource {
            group: "kubeng.io".into(),
            kind: "Upstream".into(),
            name: "erp".into(),
        }),
    );
    check_backend(
        json!({"resource": resource, "service": {"name": "w", "port": {"number": 1}}}),
        Err("both"),
    );
}

#[test]
fn services_keep_tcp_ports_and_addresses() {
    let mut value = service(json!({
        "type": "LoadBalancer", "externalName": "not.used", "externalIPs": ["192.0.2.9"],
        "ports": [
            {"port": 80}, {"port": 53, "protocol": "UDP"},
            {"name": "b", "port": 81, "targetPort": "web", "appProtocol": "kubernetes.io/h2c"},
            {"name": "c", "port": 82, "targetPort": 8082}, {"name": "d", "port": 70000},
        ],
    }));
    value["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    let object = object(value);
    let Body::Service(service) = &object.body else { panic!("{object:?}") };
    assert_eq!(service.external_name, None);
    assert_eq!(service.addresses, ["192.0.2.1", "192.0.2.9"]);
    let ports: Vec<(u16, String)> =
        service.ports.iter().map(|port| (port.port, port.target.to_string())).collect();
    assert_eq!(ports, [(80, "80".into()), (81, "web".into()), (82, "8082".into())]);
    assert_eq!(object.problems.len(), 1);
    assert_eq!(object.problems[0].field, "/spec/ports/4/port");
}

#[test]
fn external_names_count_for_their_type_only() {
    let spec = json!({"type": "ExternalName", "externalName": "x.example"});
    let Body::Service(service) = object(service(spec)).body else { panic!() };
    assert_eq!(service.external_name.as_deref(), Some("x.example"));
}

fn slice(address_type: &str, endpoints: Value, ports: Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": address_type, "endpoints": endpoints, "ports": ports,
    })
}

#[test]
fn endpoint_conditions_have_the_defaults_of_the_kep() {
    for (conditions, expected) in [
        (json!({}), (true, true, false)),
        (json!({"ready": false}), (false, false, false)),
        (json!({"ready": false, "serving": true, "terminating": true}), (false, true, true)),
        (json!({"ready": null, "serving": null}), (true, true, false)),
    ] {
        let endpoints = json!([{"addresses": ["10.0.0.1"], "conditions": conditions}]);
        let Body::EndpointSlice(slice) = object(slice("IPv4", endpoints, json!([]))).body else {
            panic!()
        };
        let endpoint = &slice.endpoints[0];
        assert_eq!(
            (endpoint.is_ready, endpoint.is_serving, endpoint.is_terminating),
            expected,
            "{conditions}"
        );
        assert_eq!(slice.service.as_deref(), Some("web"));
    }
}

#[test]
fn slices_keep_tcp_ports_and_addresses_that_are_addresses() {
    let ports = json!([
        {"name": "a", "port": 80}, {"name": "b", "port": 81, "protocol": "UDP"},
        {"name": "c"}, {"name": "", "port": 82},
    ]);
    let endpoints = json!([{"addresses": ["::1", "010.0.0.1"]}]);
    let found = object(slice("IPv6", endpoints, ports.clone()));
    let Body::EndpointSlice(read) = &found.body else { panic!() };
    let numbers: Vec<_> = read.ports.iter().map(|port| (port.name.as_deref(), port.port)).collect();
    assert_eq!(numbers, [(Some("a"), 80), (None, 82)]);
    assert_eq!(read.endpoints[0].addresses.len(), 1);
    assert_eq!(found.problems[0].field, "/endpoints/0/addresses/1");

    let endpoints = json!([{"addresses": ["x.example"]}]);
    let found = object(slice("FQDN", endpoints, ports));
    let Body::EndpointSlice(read) = &found.body else { panic!() };
    assert!(read.endpoints[0].addresses.is_empty() && found.problems.is_empty());
    let Body::EndpointSlice(read) = object(slice("IPv4", json!(null), json!(null))).body else {
        panic!()
    };
    assert!(read.endpoints.is_empty() && read.ports.is_empty());
}

#[test]
fn only_tls_secrets_are_read_and_only_their_two_entries() {
    let secret = |kind: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "t"}, "type": kind,
            "data": {"tls.crt": "Y2hhaW4=", "tls.key": "b2xk", "other": "eA=="},
            "stringData": {"tls.key": "canary-key"},
        })
    };
    assert!(matches!(decode(secret("Opaque"), file(), Author::Operator), Decoded::Ignored));
    let object = object(secret("kubernetes.io/tls"));
    assert!(!format!("{object:?}").contains("canary"), "keys are not shown");
    let Body::Secret(tls) = object.body else { panic!() };
    assert_eq!(tls.chain.as_deref(), Some(&b"chain"[..]));
    assert_eq!(tls.key.map(|key| key.expose().to_vec()), Some(b"canary-key".to_vec()));
    let mut broken = secret("kubernetes.io/tls");
    broken["data"]["tls.crt"] = json!("not base64!");
    let (key, problem) = undecodable(broken);
    assert_eq!(
        (key.as_deref(), problem.field.as_str()),
        (Some("Secret/default/t"), "/data/tls.crt")
    );
}

#[test]
fn upstreams_get_their_defaults() {
    let found = object(upstream(json!({"endpoints": [{"address": "10.0.0.1", "port": 80}]})));
    let Body::Upstream(upstream) = found.body else { panic!() };
    assert_eq!((upstream.protocol.as_str(), &upstream.balance.policy), ("http", &None));
    assert_eq!(upstream.endpoints[0].weight, 1);
    assert_eq!(upstream.endpoints[0].state, "active");
}

#[test]
fn an_upstream_is_strict() {
    let endpoint = |field: &str, value: Value| {
        let mut endpoint = json!({"address": "10.0.0.1", "port": 80});
        endpoint[field] = value;
        upstream(json!({"endpoints": [endpoint]}))
    };
    for (value, field, part) in [
        (upstream(json!({"protocl": "https"})), "/spec/protocl", "did you mean \"protocol\""),
        (endpoint("wieght", json!(1)), "/spec/endpoints/0/wieght", "did you mean \"weight\""),
        (endpoint("port", json!(0)), "/spec/endpoints/0/port", "write 1 to 65535"),
        (endpoint("weight", json!(1001)), "/spec/endpoints/0/weight", "write 0 to 1000"),
        (endpoint("port", json!("80")), "/spec/endpoints/0/port", "invalid type"),
        (upstream(json!({"retries": 3})), "/spec/retries", "no field \"retries\""),
        (
            upstream(json!({"health": {"intervall": "5s"}})),
            "/spec/health/intervall",
            "did you mean \"interval\"",
        ),
        (endpoint("priority", json!(8)), "/spec/endpoints/0/priority", "write 0 to 7"),
        (
            upstream(json!({"limits": {"conections": 1}})),
            "/spec/limits/conections",
            "did you mean \"connections\"",
        ),
        (
            upstream(json!({"tls": {"roots": {"namespace": "fin", "key": "x", "name": "ca"}}})),
            "/spec/tls/roots/key",
            "no field \"key\"",
        ),
        (upstream(json!({"tls": {"roots": 7}})), "/spec/tls/roots", "ConfigMap"),
        (
            upstream(json!({"routes": [{"name": "a", "hostname": ["a.example"]}]})),
            "/spec/routes/0/hostname",
            "did you mean \"hostnames\"",
        ),
        (
            upstream(json!({"routes": [{"name": "a", "timeouts": {"requests": "5s"}}]})),
            "/spec/routes/0/timeouts/requests",
            "did you mean \"request\"",
        ),
        (
            upstream(json!({"tls": {"insecureSkipVerify": true}})),
            "/spec/tls/insecureSkipVerify",
            "no field \"insecureSkipVerify\"",
        ),
        (
            upstream(json!({"balance": {"sticky": {"cookie": "a", "secure": false}}})),
            "/spec/balance/sticky/secure",
            "no field \"secure\"",
        ),
    ] {
        let (key, problem) = undecodable(value);
        assert_eq!(key.as_deref(), Some("Upstream/fin/erp"));
        assert_eq!(problem.field, field, "{problem}");
        assert!(problem.to_string().contains(part), "{problem}");
    }
}

#[test]
fn what_an_api_server_adds_to_metadata_is_no_problem() {
    let mut value = upstream(json!({"endpoints": []}));
    value["metadata"]["newInSomeVersion"] = json!(1);
    value["status"] = json!({"whatever": true});
    let decoded = decode(value.clone(), cluster(), Author::Tenant);
    assert!(matches!(decoded, Decoded::Object(object) if object.problems.is_empty()));
    value["spec"]["unknown"] = json!(1);
    let decoded = decode(value, cluster(), Author::Tenant);
    assert!(matches!(decoded, Decoded::Undecodable(Some(_), _)), "{decoded:?}");
}

#[test]
fn classes_are_default_when_their_annotation_says_true() {
    for (text, expected) in [("true", true), ("false", false), ("True", false)] {
        let value = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": {"name": "kubeng", "namespace": "ignored", "annotations": {
                "ingressclass.kubernetes.io/is-default-class": text,
            }},
            "spec": {"controller": "kubeng.io/ingress-controller"},
        });
        let found = object(value);
        assert_eq!(found.key.to_string(), "IngressClass/kubeng");
        let Body::IngressClass(class) = found.body else { panic!() };
        assert_eq!(class.is_default, expected);
    }
}
