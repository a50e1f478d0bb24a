//! Traffic follows what is written to the API server.

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::inside::inside;
use super::objects::{ingress, ingress_to_upstream, secret, service, slice, with_tls};
use super::rig::{answered, backend, eventually, presented};

#[test]
fn traffic_follows_ingress_service_slice_and_secret() {
    inside(async |rig| {
        let kubeng = rig.kubeng().await?;
        let _one = backend("one", "10.50.0.2").await?;
        let _two = backend("two", "10.50.0.3").await?;
        let host = "shop.example";
        answered(&kubeng, host, 404, "").await?;

        // Bit by bit: a missing Service, one without Endpoints, and then all of it.
        rig.put(&ingress("web", host, "web")).await?;
        answered(&kubeng, host, 503, "").await?;
        rig.put(&service("web")).await?;
        answered(&kubeng, host, 503, "").await?;
        rig.put(&slice("web", &["10.50.0.2"])).await?;
        answered(&kubeng, host, 200, "one").await?;
        rig.put(&slice("web", &["10.50.0.3"])).await?;
        answered(&kubeng, host, 200, "two").await?;
        rig.put(&ingress("web", "moved.example", "web")).await?;
        answered(&kubeng, "moved.example", 200, "two").await?;
        answered(&kubeng, host, 404, "").await?;
        rig.put(&ingress("web", host, "web")).await?;
        answered(&kubeng, host, 200, "two").await?;

        let (first, certificate) = secret("web-tls", host);
        rig.put(&with_tls(ingress("web", host, "web"), host, "web-tls")).await?;
        rig.put(&first).await?;
        presented(&kubeng, host, &certificate).await?;
        let (second, certificate) = secret("web-tls", host);
        rig.put(&second).await?;
        presented(&kubeng, host, &certificate).await?;

        rig.delete(&slice("web", &["10.50.0.3"])).await?;
        answered(&kubeng, host, 503, "").await?;
        rig.put(&slice("web", &["10.50.0.2"])).await?;
        answered(&kubeng, host, 200, "one").await?;
        rig.delete(&service("web")).await?;
        answered(&kubeng, host, 503, "").await?;
        rig.delete(&ingress("web", host, "web")).await?;
        answered(&kubeng, host, 404, "").await
    });
}

#[test]
fn traffic_follows_kubectl() {
    inside(async |rig| {
        let kubeng = rig.kubeng().await?;
        let _one = backend("one", "10.50.0.2").await?;
        let manifest = |host: &str| {
            let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
                service("web"), slice("web", &["10.50.0.2"]), ingress("web", host, "web"),
            ] });
            objects.to_string()
        };
        rig.cluster.kubectl(&["apply", "-f", "-"], &manifest("a.example")).await?;
        answered(&kubeng, "a.example", 200, "one").await?;
        rig.cluster.kubectl(&["apply", "-f", "-"], &manifest("b.example")).await?;
        answered(&kubeng, "b.example", 200, "one").await?;
        answered(&kubeng, "a.example", 404, "").await?;
        rig.cluster.kubectl(&["delete", "-f", "-"], &manifest("b.example")).await?;
        answered(&kubeng, "b.example", 404, "").await
    });
}

#[test]
fn an_upstream_is_served_and_what_tenants_may_not_name_is_not() {
    inside(async |rig| {
        let kubeng = rig.kubeng().await?;
        let outside = backend("outside", "10.50.0.4").await?;
        let private = [backend("local", "127.0.0.1").await?, backend("cloud", METADATA).await?];
        let upstream = |name: &str, address: &str| {
            let endpoint = json!({ "address": address, "port": outside.address.port() });
            let upstream = json!({
                "apiVersion": "kubeng.io/v1alpha1",
                "kind": "Upstream",
                "metadata": { "name": name, "namespace": "shop" },
                "spec": { "protocol": "http", "endpoints": [endpoint] },
            });
            upstream.to_string()
        };
        rig.put(&ingress_to_upstream("erp", "erp.example", "erp")).await?;
        rig.cluster.kubectl(&["apply", "-f", "-"], &upstream("erp", "10.50.0.4")).await?;
        answered(&kubeng, "erp.example", 200, "outside").await?;

        rig.put(&ingress_to_upstream("bad", "bad.example", "bad")).await?;
        rig.cluster.kubectl(&["apply", "-f", "-"], &upstream("bad", "127.0.0.1")).await?;
        rig.put(&ingress("cloud", "cloud.example", "cloud")).await?;
        rig.put(&service("cloud")).await?;
        rig.put(&slice("cloud", &[METADATA])).await?;
        let problems = async || {
            let answer = kubeng.admin("/api/v1/problems").await?;
            Ok(String::from_utf8(answer.body.to_vec())?)
        };
        let both = |text: &String| {
            text.contains("KNG-1501")
                && text.contains("Upstream/shop/bad")
                && text.contains("EndpointSlice/shop/cloud")
        };
        eventually(problems, both).await?;
        answered(&kubeng, "bad.example", 503, "").await?;
        answered(&kubeng, "cloud.example", 503, "").await?;
        for backend in private {
            assert_eq!(backend.connections(), 0, "{} was reached", backend.name);
        }
        answered(&kubeng, "erp.example", 200, "outside").await
    });
}

/// The address of a cloud metadata service, which an API server takes for a usual one.
const METADATA: &str = "fd00:ec2::254";

#[test]
fn a_rolling_upgrade_loses_no_request() {
    inside(async |rig| {
        let kubeng = rig.kubeng().await?;
        let addresses = ["10.50.0.2", "10.50.0.3", "10.50.0.4"];
        let mut backends = Vec::new();
        for address in addresses {
            backends.push(backend(address, address).await?);
        }
        rig.put(&service("web")).await?;
        rig.put(&slice("web", &addresses[..1])).await?;
        rig.put(&ingress("web", "web.example", "web")).await?;
        answered(&kubeng, "web.example", 200, addresses[0]).await?;

        let load = super::faults::Load::start(&kubeng, "web.example");
        for round in 0..10 {
            let next = addresses[(round + 1) % addresses.len()];
            let current = addresses[round % addresses.len()];
            // The next one is there before the last one says that it ends.
            let both = json!({ "endpoints": [
                { "addresses": [next], "conditions": { "ready": true } },
                { "addresses": [current],
                  "conditions": { "ready": false, "serving": true, "terminating": true } },
            ] });
            let patch = PatchParams::default();
            rig.api::<EndpointSlice>().patch("web", &patch, &Patch::Merge(both)).await?;
            answered(&kubeng, "web.example", 200, next).await?;
        }
        load.stop_without_a_loss().await
    });
}
