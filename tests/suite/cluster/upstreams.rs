//! Upstreams as an API server takes them: what it refuses itself, routes, and a ConfigMap.

use serde_json::{Value, json};

use super::inside::inside;
use super::objects::NAMESPACE;
use super::rig::{answered, backend, eventually};

fn upstream(name: &str, spec: &Value) -> String {
    let upstream = json!({
        "apiVersion": "kubeng.io/v1alpha1",
        "kind": "Upstream",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": spec,
    });
    upstream.to_string()
}

#[test]
fn the_definition_refuses_what_cannot_be_meant() {
    inside(async |rig| {
        let whole = json!({
            "displayName": "All of it",
            "protocol": "https",
            "endpoints": [
                { "address": "10.50.0.4", "port": 443, "zone": "a", "state": "drain", "priority": 7 },
            ],
            "resolve": { "every": "5s", "family": "ipv4", "onFailure": "drop" },
            "tls": {
                "serverName": "erp.example", "roots": { "namespace": NAMESPACE, "name": "ca" },
                "clientCertificate": { "name": "us" }, "minVersion": "1.3",
            },
            "balance": {
                "policy": "hash", "hashOn": "cookie:id", "preferOwnZone": "50%",
                "sticky": { "cookie": "route", "maxAge": "1h" },
            },
            "slowStart": "30s",
            "health": { "path": "/ping", "interval": "5s", "timeout": "1s", "expect": ["200-299"] },
            "limits": { "connections": 10, "pending": 5, "requests": 100 },
            "retryBudget": { "percent": "10%", "minimum": 1 },
            "ejection": { "failures": 3, "base": "10s", "max": "1m", "percentMax": "30%" },
            "panicThreshold": "0%",
            "proxyProtocol": "v2",
            "routes": [{
                "name": "main", "hostnames": ["*.erp.example"],
                "matches": [{ "path": { "value": "/" }, "headers": [{ "name": "a", "value": "b" }] }],
                "filters": [
                    { "type": "URLRewrite", "urlRewrite":
                        { "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/" } } },
                    { "type": "CORS", "cors": { "allowOrigins": ["https://a.example"] } },
                ],
                "timeouts": { "request": "10s" }, "retry": { "codes": [503] },
            }],
        });
        let apply = async |spec: &Value| {
            rig.cluster.kubectl(&["apply", "-f", "-"], &upstream("whole", spec)).await
        };
        apply(&whole).await?;
        for (pointer, value) in [
            ("/endpoints/0/priority", json!(8)),
            ("/endpoints/0/state", json!("gone")),
            ("/resolve/every", json!("30")),
            ("/tls/minVersion", json!("1.1")),
            ("/balance/hashOn", json!("body")),
            ("/balance/policy", json!("least-requests")),
            ("/health/interval", json!(5)),
            ("/limits/connections", json!(0)),
            ("/ejection/percentMax", json!("200%")),
            ("/routes/0/name", json!("Main")),
            ("/routes/0/hostnames", json!([])),
            ("/routes/0/filters/0/type", json!("CORS")),
            ("/routes/0/filters/0/urlRewrite/path/type", json!("ReplaceFullPath")),
            ("/routes/0/timeouts/request", json!("10")),
        ] {
            let mut spec = whole.clone();
            *spec.pointer_mut(pointer).unwrap() = value;
            assert!(apply(&spec).await.is_err(), "{pointer} was taken");
        }
        let mut typo = whole.clone();
        typo["slowstart"] = json!("5s");
        let said = apply(&typo).await.unwrap_err().to_string();
        assert!(said.contains("slowstart"), "{said}");
        Ok(())
    });
}

#[test]
fn routes_are_served_and_a_config_map_is_watched_once_it_is_named() {
    inside(async |rig| {
        let kubeng = rig.kubeng().await?;
        let outside = backend("outside", "10.50.0.4").await?;
        let endpoint = json!({ "address": "10.50.0.4", "port": outside.address.port() });
        let put = async |name: &str, spec: &Value| {
            rig.cluster.kubectl(&["apply", "-f", "-"], &upstream(name, spec)).await
        };
        let route = |host: &str| json!([{ "name": "all", "hostnames": [host] }]);
        put("plain", &json!({ "endpoints": [endpoint], "routes": route("plain.example") })).await?;
        answered(&kubeng, "plain.example", 200, "outside").await?;

        let secure = json!({
            "protocol": "https", "endpoints": [endpoint], "routes": route("secure.example"),
            "tls": { "serverName": "erp.example", "roots": { "namespace": NAMESPACE, "name": "ca" } },
        });
        put("secure", &secure).await?;
        let problems = async || {
            let answer = kubeng.admin("/api/v1/problems").await?;
            Ok(String::from_utf8(answer.body.to_vec())?)
        };
        eventually(problems, |text: &String| text.contains("KNG-1120")).await?;
        answered(&kubeng, "secure.example", 503, "").await?;
        let authority = rcgen::generate_simple_self_signed(["ca.example".to_owned()])?;
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "ca", "namespace": NAMESPACE },
            "data": { "ca.crt": authority.cert.pem() },
        });
        rig.cluster.kubectl(&["apply", "-f", "-"], &map.to_string()).await?;
        eventually(problems, |text: &String| !text.contains("KNG-1120")).await?;
        // It is asked, and speaks no TLS.
        answered(&kubeng, "secure.example", 502, "").await?;
        rig.cluster.kubectl(&["delete", "configmap", "ca", "-n", NAMESPACE], "").await?;
        answered(&kubeng, "secure.example", 503, "").await?;
        answered(&kubeng, "plain.example", 200, "outside").await
    });
}
