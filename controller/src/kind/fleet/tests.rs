use kubeng_config::provenance::Provenance;
use serde_json::{Value, json};

use super::*;
use crate::decode::{Decoded, decode};
use crate::kind::Body;
use crate::object::Author;

fn read(name: &str, spec: &Value) -> Decoded {
    let value = json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "Fleet", "metadata": {"name": name}, "spec": spec,
    });
    decode(value, Provenance::Product, Author::Operator)
}

#[track_caller]
fn fleet(spec: &Value) -> Fleet {
    let read = read("prod", spec);
    let Decoded::Object(object) = read else { panic!("{read:?}") };
    let Body::Fleet(fleet) = object.body else { panic!("{:?}", object.body) };
    *fleet
}

#[track_caller]
fn check(spec: &Value, field: &str, word: &str) {
    let Decoded::Undecodable(_, problem) = read("prod", spec) else { panic!("taken: {spec}") };
    assert_eq!(problem.field, field, "{problem}");
    assert!(problem.to_string().contains(word), "{problem}");
}

#[test]
fn what_a_fleet_leaves_out_has_its_default() {
    let fleet = fleet(&json!({}));
    assert_eq!(fleet.display_name, "prod");
    assert_eq!(fleet.class, FleetClass::Shared);
    assert_eq!(fleet.environment, Environment::Production);
    assert_eq!(fleet.care, FleetCare::default());
    assert_eq!(fleet.defaults, Policy::default());
    assert!(fleet.listeners.is_empty() && fleet.namespaces.is_empty());
}

#[test]
fn what_a_fleet_says_is_read() {
    let fleet = fleet(&json!({
        "class": "dedicated", "tenant": "fin", "namespaces": ["fin"], "environment": "test",
        "listeners": [
            {"name": "web", "port": 443, "protocol": "HTTPS", "address": "192.0.2.1",
             "hostname": "*.example.com", "proxyProtocol": "require", "connectionsMax": 100,
             "tls": {"minVersion": "1.3"},
             "clientCertificates": {
                 "mode": "require", "authoritiesFrom": {"namespace": "fin", "name": "clients"},
             },
             "certificateRefs": [{"namespace": "fin", "name": "web"}]},
            {"name": "raw", "port": 5432, "protocol": "TCP",
             "forwardTo": {"namespace": "fin", "name": "db", "port": 5432}},
        ],
        "defaults": {"timeouts": {"request": "30s"}, "retry": {"attempts": 3}},
        "drift": {"onDrift": "heal", "heartbeatEvery": "2s", "probeEvery": "0s",
                  "builds": ["ab".repeat(32)]},
        "rollout": {"applyTimeout": "1m"},
    }));
    assert_eq!(fleet.class, FleetClass::Dedicated { tenant: "fin".into() });
    let [web, raw] = &fleet.listeners[..] else { panic!("{:?}", fleet.listeners) };
    assert_eq!(web.listener.address.to_string(), "192.0.2.1:443");
    assert_eq!(web.listener.host.to_string(), "**.example.com");
    assert_eq!(web.listener.proxy_protocol.as_ref().unwrap().from.len(), 2, "from everybody");
    assert_eq!(web.certificate.as_ref().unwrap().to_string(), "Secret/fin/web");
    let clients = web.clients.as_ref().unwrap();
    assert_eq!(clients.authorities.to_string(), "ConfigMap/fin/clients");
    assert_eq!(clients.mode, kubeng_config::certificate::ClientCertificateMode::Require);
    assert_eq!(raw.clients, None);
    assert_eq!(raw.forward.as_ref().unwrap().to_string(), "Service/fin/db:5432");
    assert_eq!(fleet.defaults.timeouts.request, Some(std::time::Duration::from_secs(30)));
    assert_eq!(fleet.defaults.retry.retries_max, 3);
    assert_eq!(fleet.care.heartbeat_every.as_secs(), 2);
    assert_eq!(fleet.care.apply_timeout.as_secs(), 60);
    assert_eq!(fleet.care.probe_every, None);
    assert_eq!(fleet.care.builds.len(), 1);
}

#[test]
fn what_a_listener_asks_of_clients_is_understood_or_nothing_is_taken() {
    let with = |protocol: &str, clients: Value| {
        json!({"listeners": [{
            "name": "web", "port": 443, "protocol": protocol, "clientCertificates": clients,
        }]})
    };
    let from = json!({"kind": "Secret", "namespace": "fin", "name": "ca"});
    let read = fleet(&with("HTTPS", json!({"mode": "request", "authoritiesFrom": from})));
    let clients = read.listeners[0].clients.as_ref().unwrap();
    assert_eq!(clients.authorities.to_string(), "Secret/fin/ca");
    let place = "/spec/listeners/0/clientCertificates";
    let bad = |protocol, clients, field: &str, word| {
        check(&with(protocol, clients), &format!("{place}{field}"), word);
    };
    let good = json!({"mode": "require", "authoritiesFrom": from});
    bad("HTTP", good, "", "HTTPS only");
    bad("HTTPS", json!({"mode": "on", "authoritiesFrom": from}), "/mode", "require or request");
    bad("HTTPS", json!({"mode": "require"}), "", "authoritiesFrom");
    let from = |kind: &str, name: &str| {
        let from = json!({"kind": kind, "namespace": "fin", "name": name});
        json!({"mode": "require", "authoritiesFrom": from})
    };
    bad("HTTPS", from("Service", "ca"), "/authoritiesFrom/kind", "ConfigMap or Secret");
    bad("HTTPS", from("Secret", ""), "/authoritiesFrom", "namespace and name");
    let typo = json!({"mode": "require", "authoritiesfrom": {"namespace": "fin", "name": "ca"}});
    bad("HTTPS", typo, "", "authoritiesFrom");
}

#[test]
fn what_a_fleet_gets_wrong_is_told_and_nothing_of_it_is_taken() {
    let listener = |more: Value| {
        let mut listener = json!({"name": "web", "port": 80, "protocol": "HTTP"});
        for (name, value) in more.as_object().unwrap() {
            listener[name] = value.clone();
        }
        json!({"listeners": [listener]})
    };
    check(&json!({"listener": []}), "/spec/listener", "did you mean \"listeners\"");
    check(&json!({"drift": {"ondrift": "heal"}}), "/spec/drift/ondrift", "\"onDrift\"");
    check(&json!({"class": "alone"}), "/spec/class", "dedicated");
    check(&json!({"class": "dedicated"}), "/spec/tenant", "tenant");
    check(&json!({"tenant": "fin"}), "/spec/tenant", "shared");
    check(
        &json!({"class": "dedicated", "tenant": "fin"}),
        "/spec/namespaces",
        "names no namespace",
    );
    check(&json!({"namespaces": ["a", "a"]}), "/spec/namespaces/1", "twice");
    check(&json!({"serves": {"ingressClasses": ["a b"]}}), "/spec/serves/ingressClasses/0", "name");
    check(&json!({"environment": "prod"}), "/spec/environment", "production");
    check(&json!({"displayName": ""}), "/spec/displayName", "1 to 80");
    let place = "/spec/listeners/0";
    check(&listener(json!({"port": 0})), &format!("{place}/port"), "65535");
    check(&listener(json!({"protocol": "QUIC"})), &format!("{place}/protocol"), "HTTPS");
    check(&listener(json!({"address": "web"})), &format!("{place}/address"), "IP");
    check(&listener(json!({"hostname": "a b"})), &format!("{place}/hostname"), "DNS");
    check(&listener(json!({"tls": {}})), place, "HTTPS only");
    let over_tls = |tls: Value| listener(json!({"protocol": "HTTPS", "tls": tls}));
    let version = over_tls(json!({"minVersion": "1.1"}));
    check(&version, &format!("{place}/tls/minVersion"), "\"1.2\" or \"1.3\"");
    let suite = over_tls(json!({"cipherSuites": ["TLS_AES_128_GCM_SHA256", "RC4"]}));
    check(&suite, &format!("{place}/tls/cipherSuites/1"), "TLS_CHACHA20_POLY1305_SHA256");
    let older = json!(["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]);
    let none = over_tls(json!({"minVersion": "1.3", "cipherSuites": older}));
    check(&none, place, "no cipher suite is left");
    check(&listener(json!({"connectionsMax": 0})), &format!("{place}/connectionsMax"), "at least");
    let refs = json!({"certificateRefs": [{"namespace": "a", "name": "b"}]});
    check(&listener(refs), &format!("{place}/certificateRefs"), "HTTPS only");
    check(
        &listener(json!({"proxyProtocol": "optional"})),
        &format!("{place}/proxyProtocol"),
        "off",
    );
    let from = json!({"proxyProtocolFrom": ["10.0.0.0/8"]});
    check(&listener(from), &format!("{place}/proxyProtocolFrom"), "no effect");
    check(&listener(json!({"protocol": "TLS"})), &format!("{place}/forwardTo"), "nowhere");
    let web = |name: &str, protocol: &str| json!({"name": name, "port": 80, "protocol": protocol});
    let both = |a, b| json!({"listeners": [a, b]});
    check(&both(web("a", "HTTP"), web("a", "HTTP")), "/spec/listeners/1/name", "twice");
    check(&both(web("a", "HTTP"), web("b", "HTTP")), "/spec/listeners/1/hostname", "of a");
    check(&both(web("a", "HTTP"), web("b", "HTTPS")), "/spec/listeners/1/port", "share");
    check(&json!({"drift": {"heartbeatEvery": "1h"}}), "/spec/drift/heartbeatEvery", "60s");
    check(&json!({"drift": {"builds": ["x"]}}), "/spec/drift/builds/0", "SHA-256");
    check(&json!({"rollout": {"applyTimeout": "0s"}}), "/spec/rollout/applyTimeout", "range");
    check(&json!({"defaults": {"auth": {}}}), "/spec/defaults/auth", "cannot be a default");
    let rate = json!({"defaults": {"limits": {"rate": {"per": "1s"}}}});
    check(&rate, "/spec/defaults/limits/rate", "no requests");
    let hash = json!({"defaults": {"balance": {"policy": "hash"}}});
    check(&hash, "/spec/defaults/balance/hashOn", "what is hashed");
    let unknown = json!({"defaults": {"limits": {"requestBodies": "1Mi"}}});
    check(&unknown, "/spec/defaults/limits/requestBodies", "\"requestBody\"");
    check(&json!({"defaults": {"timeout": {}}}), "/spec/defaults/timeout", "\"timeouts\"");
    check(
        &json!({"defaults": {"timeouts": {"request": "x"}}}),
        "/spec/defaults/timeouts/request",
        "",
    );
}

#[test]
fn the_name_of_a_fleet_is_one_label() {
    let Decoded::Undecodable(_, problem) = read("a.b", &json!({})) else { panic!("taken") };
    assert_eq!((problem.field.as_str(), problem.code), ("/metadata/name", BAD_VALUE));
}
