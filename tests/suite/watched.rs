//! `kubeng run` with an API server in memory: what a real one does not do when it is asked to.

use std::time::{Duration, Instant};

use kubeng_harness::api_server::ApiServer;
use kubeng_harness::process::{Kubeng, Launch};
use serde_json::{Value, json};

use crate::support::SOON;

/// The process, the server, and the folder of the kubeconfig.
struct Watched {
    kubeng: Kubeng,
    server: ApiServer,
    _scratch: tempfile::TempDir,
}

impl Watched {
    async fn start(server: ApiServer, more: &[&str]) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let kubeconfig = server.kubeconfig(scratch.path());
        let make = || {
            let launch = Launch::new(env!("CARGO_BIN_EXE_kubeng")).bare().arg("--kubernetes");
            let launch = launch.arg("--kubeconfig").arg(&kubeconfig);
            more.iter().fold(launch, |launch, argument| launch.arg(argument))
        };
        let kubeng = Launch::start_until_ready(make, SOON).await.unwrap();
        Self { kubeng, server, _scratch: scratch }
    }

    async fn ask(&self, path: &str) -> String {
        let answer = self.kubeng.admin(path).await.unwrap();
        String::from_utf8_lossy(&answer.body).into_owned()
    }

    /// Waits until what stands at `path` has these words, or has them no more.
    async fn until(&self, path: &str, words: &str, wanted: bool) -> String {
        let began = Instant::now();
        loop {
            let text = self.ask(path).await;
            if text.contains(words) == wanted {
                return text;
            }
            assert!(began.elapsed() < SOON, "{words:?} {wanted}: {path} still has {text}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn problem(&self, words: &str, wanted: bool) -> String {
        self.until("/api/v1/problems", words, wanted).await
    }

    /// Has whoever watches `resource` list it again.
    fn expire(&self, resource: &str) {
        let status = json!({"kind": "Status", "code": 410, "message": "too old"});
        self.server.end_watches(resource, json!({"type": "ERROR", "object": status}));
    }
}

fn ingress() -> Value {
    let service = json!({"name": "web", "port": {"number": 80}});
    let path = json!({"path": "/", "pathType": "Prefix", "backend": {"service": service}});
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "only", "namespace": "shop", "uid": "u"},
        "spec": {"ingressClassName": "kubeng", "rules": [{"host": "a.example", "http": {"paths": [path]}}]},
    })
}

fn front(status: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "front", "namespace": "edge", "uid": "s"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
        "status": status,
    })
}

#[tokio::test]
async fn an_empty_list_of_the_only_ingress_takes_no_route_away_and_its_deletion_does_at_once() {
    let server = ApiServer::start().await;
    server.put(ingress());
    let watched = Watched::start(server, &[]).await;
    let routes = "/api/v1/routes";
    watched.until(routes, "a.example", true).await;
    watched.server.lose("ingresses", "shop", "only");
    watched.expire("ingresses");
    let told = watched.problem("KNG-1702", true).await;
    assert!(told.contains("a list lacks 1 of 1 objects of kind Ingress"), "{told}");
    assert!(watched.ask(routes).await.contains("a.example"), "it is served until it is confirmed");
    watched.server.put(ingress());
    watched.problem("KNG-1702", false).await;
    watched.server.delete("ingresses", "shop", "only");
    watched.until(routes, "a.example", false).await;
    assert!(!watched.ask("/api/v1/problems").await.contains("KNG-1702"));
}

#[tokio::test]
async fn a_service_to_publish_that_has_no_address_is_told_until_it_has_one() {
    let server = ApiServer::start().await;
    let watched = Watched::start(server, &["--publish-service", "edge/front"]).await;
    let told = watched.problem("KNG-1115", true).await;
    for word in ["Service/edge/front", "--publish-service edge/front", "does not exist"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let page = watched.ask("/problems/KNG-1115").await;
    assert!(page.contains("publish"), "{page}");
    watched.server.put(front(&json!({"loadBalancer": {}})));
    watched.problem("it has no address", true).await;
    watched.server.put(front(&json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}})));
    watched.problem("KNG-1115", false).await;
    watched.server.delete("services", "edge", "front");
    watched.problem("does not exist", true).await;
}
