//! An API server that suddenly has nothing.

use kubeng_harness::api_server::ApiServer;
use kubeng_harness::fleet::Member;
use kubeng_harness::load::Load;
use serde_json::{Value, json};

use super::rig::{SOON, Site, in_state, served, until};

/// The host of an Ingress that only the API server has.
fn host(number: usize) -> String {
    format!("app-{number}.example")
}

fn ingress(number: usize) -> Value {
    let service = json!({"name": "web", "port": {"number": 80}});
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": format!("app-{number}"), "namespace": "shop", "uid": format!("u{number}")},
        "spec": {"ingressClassName": "kubeng", "rules": [{"host": host(number), "http": {"paths": [
            {"path": "/", "pathType": "Prefix", "backend": {"service": service}},
        ]}}]},
    })
}

fn fleet() -> Value {
    json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "Fleet",
        "metadata": {"name": "prod", "uid": "f"},
        "spec": {
            "serves": {"ingressClasses": ["kubeng"]},
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        },
    })
}

/// Has whoever watches `resource` list it again.
fn expire(server: &ApiServer, resource: &str) {
    let status = json!({"kind": "Status", "code": 410, "message": "too old"});
    server.end_watches(resource, json!({"type": "ERROR", "object": status}));
}

/// Waits until the Problems of the controller have these words, or have them no more.
async fn problems(controller: &Member, words: &str, wanted: bool) {
    let ask = async || {
        let told = controller.json("/api/v1/problems").await.map_err(|error| error.to_string())?;
        let text = told.to_string();
        if text.contains(words) == wanted { Ok(()) } else { Err(text) }
    };
    until(&format!("{words:?} is among the problems: {wanted}"), ask).await;
}

const INGRESSES: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_returns_empty_lists_costs_no_request() {
    let site = Site::new().await;
    std::fs::remove_file(site.rig.manifests().join("fleet-prod.yaml")).unwrap();
    let server = ApiServer::start().await;
    server.put(fleet());
    (0..INGRESSES).for_each(|number| server.put(ingress(number)));
    let scratch = tempfile::tempdir().unwrap();
    let kubeconfig = server.kubeconfig(scratch.path());
    let more = ["--kubernetes", "--kubeconfig", kubeconfig.to_str().unwrap()];
    let mut controller = site.rig.controller("c1", &more).unwrap();
    controller.until_ready(SOON).await.unwrap();
    let r1 = site.replica("r1", &[controller.address]).await;
    let r2 = site.replica("r2", &[controller.address]).await;
    served([&r1, &r2], &host(0)).await;
    let before = in_state(&[&controller], &["r1", "r2"], "InSync").await["running"].clone();
    let load = Load::start(&[r1.address, r2.address], &host(0));

    // All Ingresses at once, as after an upgrade that went wrong.
    for number in 0..INGRESSES {
        server.lose("ingresses", "shop", &format!("app-{number}"));
    }
    expire(&server, "ingresses");
    problems(&controller, "a list lacks 12 of 12 objects of kind Ingress", true).await;
    let view = in_state(&[&controller], &["r1", "r2"], "InSync").await;
    assert_eq!(view["running"], before, "nothing was taken away");
    (0..INGRESSES).for_each(|number| server.put(ingress(number)));
    problems(&controller, "a list lacks", false).await;

    // The Fleet itself, which is only one.
    server.lose("fleets", "", "prod");
    expire(&server, "fleets");
    problems(&controller, "a list lacks 1 of 1 objects of kind Fleet", true).await;
    let view = in_state(&[&controller], &["r1", "r2"], "InSync").await;
    assert_eq!(view["running"], before, "nothing was taken away");
    server.put(fleet());
    problems(&controller, "a list lacks", false).await;

    // Really deleted: replicas go on with what they have, and are told when it is back.
    server.delete("fleets", "", "prod");
    let is_gone = async || {
        let answer = controller.admin("/api/v1/fleets/prod").await.map_err(|e| e.to_string())?;
        if answer.status == 404 { Ok(()) } else { Err(format!("it answers {}", answer.status)) }
    };
    until("the fleet is gone", is_gone).await;
    served([&r1, &r2], &host(1)).await;
    server.put(fleet());
    server.put(ingress(INGRESSES));
    served([&r1, &r2], &host(INGRESSES)).await;
    in_state(&[&controller], &["r1", "r2"], "InSync").await;
    load.stop_without_a_loss().await.unwrap();
}
