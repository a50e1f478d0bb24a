mod absent;
mod emptied;
mod restored;

use std::collections::BTreeMap;

use kubeng_config::name::ObjectKind;
use kubeng_config::problem::{Problem, SOURCE_UNREACHABLE};
use kubeng_config::provenance::Provenance;
use kubeng_harness::api_server::{ApiServer, Fault, Verb};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::object::{Author, Event, List, Object};

fn short() -> Timing {
    Timing {
        watch: Duration::from_secs(30),
        silence: Duration::from_millis(600),
        pause_min: Duration::from_millis(20),
        pause_max: Duration::from_millis(100),
        absent: Duration::from_millis(100),
        second_list: Duration::from_millis(200),
        page: 2,
    }
}

fn class(name: &str, controller: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
        "metadata": {"name": name, "uid": "u", "managedFields": [{"manager": "kubectl"}]},
        "spec": {"controller": controller},
    })
}

fn service(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace}, "spec": {"ports": [{"port": 80}]},
    })
}

fn secret(name: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind,
        "metadata": {"name": name, "namespace": "shop"}, "data": {"tls.crt": "eA=="},
    })
}

/// A source against a fake, and what it has told.
struct Live {
    server: ApiServer,
    source: Kubernetes,
    referenced: watch::Sender<BTreeSet<ObjectKey>>,
    objects: BTreeMap<String, Arc<Object>>,
    undecodable: BTreeMap<String, Problem>,
    problems: Vec<Problem>,
    synced: Vec<ObjectKind>,
    replaced: Vec<(ObjectKind, usize)>,
    read_to: u64,
    _folder: TempDir,
}

impl Live {
    fn new(server: ApiServer, namespaces: &[&str], is_referenced: bool, timing: Timing) -> Self {
        let folder = TempDir::new().unwrap();
        let (referenced, receiver) = watch::channel(BTreeSet::new());
        let settings = KubernetesSettings {
            kubeconfig: Some(server.kubeconfig(folder.path())),
            namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
            secrets: if is_referenced { Secrets::Referenced } else { Secrets::AllTls },
            referenced: receiver,
        };
        let source = Kubernetes::watch_with(settings, timing);
        if !is_referenced {
            referenced.send_replace(BTreeSet::new());
        }
        Self {
            server,
            source,
            referenced,
            objects: BTreeMap::new(),
            undecodable: BTreeMap::new(),
            problems: vec![],
            synced: vec![],
            replaced: vec![],
            read_to: 0,
            _folder: folder,
        }
    }

    fn plain(server: ApiServer) -> Self {
        Self::new(server, &[], false, short())
    }

    fn set(&mut self, object: Arc<Object>) {
        self.undecodable.remove(&object.key.to_string());
        self.objects.insert(object.key.to_string(), object);
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Upsert(object) => self.set(object),
            Event::Remove(key) => {
                self.objects.remove(&key.to_string());
                self.undecodable.remove(&key.to_string());
            }
            Event::Replace(List { extent, objects, undecodable }) => {
                self.replaced.push((extent.kind, objects.len()));
                let is_covered = |key: &str| extent.covers(&key.parse().unwrap());
                self.undecodable.retain(|key, _| !is_covered(key));
                let of_list = undecodable.into_iter().map(|(key, why)| (key.to_string(), why));
                self.undecodable.extend(of_list);
                let undecodable = &self.undecodable;
                self.objects.retain(|key, _| !is_covered(key) || undecodable.contains_key(key));
                objects.into_iter().for_each(|object| self.set(object));
            }
            Event::Undecodable(key, problem) => {
                self.undecodable.insert(key.to_string(), problem);
            }
            Event::Synced(kind) => self.synced.push(kind),
            Event::Problems(problems) => self.problems = problems,
            Event::Together(_) => panic!("each comes by itself: {event:?}"),
            Event::ReadTo(at) => {
                assert!(at > self.read_to, "{at} is no way on from {}", self.read_to);
                self.read_to = at;
            }
        }
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !is_so(self) {
            match tokio::time::timeout_at(deadline, self.source.next()).await {
                Ok(received) => self.hear(received.event),
                Err(_) => panic!(
                    "not {what}: {:?}, {:?}, {:?}",
                    self.objects.keys(),
                    self.synced,
                    self.problems
                ),
            }
        }
    }

    async fn until_synced(&mut self) {
        self.until("synced", |live| live.synced.len() == ObjectKind::ALL.len()).await;
    }

    async fn until_has(&mut self, key: &str) {
        self.until(key, |live| live.objects.contains_key(key)).await;
    }

    async fn until_lacks(&mut self, key: &str) {
        self.until(key, |live| !live.objects.contains_key(key)).await;
    }

    fn lists(&self, resource: &str) -> usize {
        let is_list = |asked: &&kubeng_harness::api_server::Asked| {
            // A page of one asks only how far the server is.
            let is_page = asked.query.get("limit").is_some_and(|limit| limit != "1");
            asked.verb == Verb::List && asked.path.ends_with(resource) && is_page
        };
        self.server.asked().iter().filter(is_list).count()
    }
}

#[tokio::test]
async fn lists_are_told_whole_and_changes_follow() {
    let server = ApiServer::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        server.put(class(name, "k"));
    }
    let mut live = Live::plain(server);
    live.until_synced().await;
    assert!(live.replaced.contains(&(ObjectKind::IngressClass, 5)), "three pages, one list");
    let object = &live.objects["IngressClass/a"];
    assert_eq!((object.author, object.uid.as_deref()), (Author::Tenant, Some("u")));
    assert_eq!(object.provenance, Provenance::Cluster { version: "1".into() });
    live.server.put(class("f", "k"));
    live.until_has("IngressClass/f").await;
    let Provenance::Cluster { version } = &live.objects["IngressClass/f"].provenance else {
        panic!("it is from a cluster")
    };
    assert!(live.read_to >= version.parse().unwrap(), "the Position is told before the object");
    live.server.delete("ingressclasses", "", "f");
    live.until_lacks("IngressClass/f").await;
    assert_eq!(live.lists("ingressclasses"), 3);
    assert!(live.problems.is_empty(), "{:?}", live.problems);
}

#[tokio::test]
async fn a_list_that_expires_between_pages_is_made_again() {
    let server = ApiServer::start().await;
    for name in ["a", "b", "c"] {
        server.put(class(name, "k"));
    }
    server.fail("ingressclasses", Verb::ListNext, 1, Fault::Status(410, "expired", 0));
    let mut live = Live::plain(server);
    live.until_synced().await;
    let told: Vec<_> =
        live.replaced.iter().filter(|(kind, _)| *kind == ObjectKind::IngressClass).collect();
    assert_eq!(told, [&(ObjectKind::IngressClass, 3)], "no half list is told");
}

#[tokio::test]
async fn a_watch_that_has_expired_is_listed_again_and_finds_what_went() {
    let server = ApiServer::start().await;
    server.put(class("a", "k"));
    server.put(class("b", "k"));
    let mut live = Live::plain(server);
    live.until_synced().await;
    live.server.lose("ingressclasses", "", "b");
    let status = json!({"kind": "Status", "code": 410, "message": "too old"});
    live.server.end_watches("ingressclasses", json!({"type": "ERROR", "object": status}));
    live.until_lacks("IngressClass/b").await;
    assert!(live.objects.contains_key("IngressClass/a"));
    assert!(live.problems.is_empty(), "{:?}", live.problems);
}

#[tokio::test]
async fn bookmarks_keep_a_watch_from_expiring() {
    let server = ApiServer::start().await;
    server.put(class("a", "k"));
    let mut live = Live::plain(server);
    live.until_synced().await;
    live.server.bookmark("ingressclasses");
    live.server.put(service("shop", "web"));
    live.until_has("Service/shop/web").await;
    // The bookmark is behind no version that is gone, so nothing is listed again.
    live.server.end_watches(
        "ingressclasses",
        json!({"type": "BOOKMARK", "object": {
            "kind": "IngressClass", "apiVersion": "networking.k8s.io/v1",
            "metadata": {"resourceVersion": "900"},
        }}),
    );
    let asked = |live: &Live| {
        live.server.asked().iter().any(|asked| {
            asked.path.ends_with("ingressclasses")
                && asked.query.get("resourceVersion").is_some_and(|version| version == "900")
        })
    };
    for _ in 0..200 {
        if asked(&live) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(asked(&live), "the watch goes on from the bookmark");
    live.until("read to the bookmark", |live| live.read_to >= 900).await;
    assert_eq!(live.lists("ingressclasses"), 1);
}

#[tokio::test]
async fn a_stalled_watch_is_noticed() {
    let server = ApiServer::start().await;
    server.fail("ingressclasses", Verb::Watch, 1, Fault::Stall);
    let mut live = Live::plain(server);
    live.until_synced().await;
    live.server.put(class("a", "k"));
    let before = std::time::Instant::now();
    live.until_has("IngressClass/a").await;
    assert!(before.elapsed() < short().silence * 3);
}

#[tokio::test]
async fn a_server_that_is_silent_is_reported_and_asked_again() {
    let server = ApiServer::start().await;
    server.put(class("a", "k"));
    server.fail("ingressclasses", Verb::List, 1, Fault::Silence);
    let mut live = Live::plain(server);
    live.until("reported", |live| !live.problems.is_empty()).await;
    live.until_synced().await;
    live.until("healed", |live| live.problems.is_empty()).await;
    live.until_has("IngressClass/a").await;
}

#[tokio::test]
async fn a_server_that_is_down_is_one_problem_and_loses_nothing() {
    let mut server = ApiServer::start().await;
    server.put(class("a", "k"));
    server.stop().await;
    let mut live = Live::plain(server);
    live.until("reported", |live| live.problems.len() == 1).await;
    assert_eq!(live.problems[0].code, SOURCE_UNREACHABLE);
    assert!(live.problems[0].message.contains("refused"), "{}", live.problems[0]);
    // Nothing is referenced, so nothing of what would be is waited for.
    assert!(live.synced.iter().all(|kind| kind.is_referenced()), "{:?}", live.synced);
    live.server.resume().await;
    live.until_synced().await;
    live.until("healed", |live| live.problems.is_empty()).await;
    let lists = live.lists("ingressclasses");

    live.server.stop().await;
    live.until("reported", |live| live.problems.len() == 1).await;
    assert!(live.objects.contains_key("IngressClass/a"));
    live.server.put(class("b", "k"));
    live.server.resume().await;
    live.until_has("IngressClass/b").await;
    live.until("healed", |live| live.problems.is_empty()).await;
    assert_eq!(live.lists("ingressclasses"), lists, "the watch goes on where it was");
}

#[tokio::test]
async fn a_missing_right_is_named_and_keeps_the_gate_shut() {
    let server = ApiServer::start().await;
    server.fail("ingresses", Verb::List, 3, Fault::Status(403, "forbidden", 0));
    let mut live = Live::new(server, &["shop"], false, short());
    live.until("reported", |live| !live.problems.is_empty()).await;
    let text = live.problems[0].to_string();
    assert!(text.contains("list") && text.contains("in namespace shop"), "{text}");
    assert!(text.contains("\"ingresses.networking.k8s.io\""), "{text}");
    assert!(!live.synced.contains(&ObjectKind::Ingress));
    live.until_synced().await;
    live.until("healed", |live| live.problems.is_empty()).await;
}

#[tokio::test]
async fn refused_credentials_are_read_again() {
    let server = ApiServer::start().await;
    server.fail("*", Verb::List, ObjectKind::ALL.len(), Fault::Status(401, "unauthorized", 0));
    let mut live = Live::plain(server);
    live.until("reported", |live| !live.problems.is_empty()).await;
    assert!(live.problems[0].message.contains("401"), "{}", live.problems[0]);
    live.until_synced().await;
}

#[tokio::test]
async fn other_faults_heal_by_themselves() {
    for fault in [Fault::Cut, Fault::Body("not json"), Fault::Status(500, "oh", 0)] {
        let server = ApiServer::start().await;
        server.put(class("a", "k"));
        server.fail("ingressclasses", Verb::List, 2, fault.clone());
        server.fail("ingressclasses", Verb::Watch, 2, fault);
        let mut live = Live::plain(server);
        live.until_synced().await;
        live.server.put(class("b", "k"));
        live.until_has("IngressClass/b").await;
        live.until("healed", |live| live.problems.is_empty()).await;
    }
}

#[tokio::test]
async fn a_server_that_asks_for_patience_gets_it() {
    let server = ApiServer::start().await;
    server.fail("ingressclasses", Verb::List, 1, Fault::Status(429, "slow down", 1));
    let mut live = Live::plain(server);
    let before = std::time::Instant::now();
    live.until_synced().await;
    assert!(before.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_kind_without_definition_is_empty_and_looked_for_again() {
    let server = ApiServer::start().await;
    server.fail("upstreams", Verb::List, 2, Fault::Status(404, "not found", 0));
    server.put(json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "Upstream",
        "metadata": {"name": "erp", "namespace": "fin"},
        "spec": {"endpoints": [{"address": "10.0.0.1", "port": 80}]},
    }));
    let mut live = Live::plain(server);
    live.until_synced().await;
    assert!(live.problems.is_empty(), "{:?}", live.problems);
    live.until_has("Upstream/fin/erp").await;
}

#[tokio::test]
async fn an_object_that_cannot_be_decoded_costs_no_other() {
    let server = ApiServer::start().await;
    let bad = || {
        let mut bad = class("bad", "k");
        bad["spec"]["controller"] = json!(5);
        bad
    };
    server.put(bad());
    server.put(class("good", "k"));
    let mut live = Live::plain(server);
    live.until_synced().await;
    assert!(live.objects.contains_key("IngressClass/good"));
    assert_eq!(live.undecodable["IngressClass/bad"].field, "/spec/controller");
    live.server.put(class("bad", "k"));
    live.until_has("IngressClass/bad").await;
    live.server.put(bad());
    live.until("reported", |live| !live.undecodable.is_empty()).await;
    assert!(live.objects.contains_key("IngressClass/bad"), "what was known stays");
    // It goes while nobody watches.
    live.server.lose("ingressclasses", "", "bad");
    let status = json!({"kind": "Status", "code": 410});
    live.server.end_watches("ingressclasses", json!({"type": "ERROR", "object": status}));
    live.until_lacks("IngressClass/bad").await;
    assert!(live.undecodable.is_empty());
}

#[tokio::test]
async fn namespaces_are_watched_each_by_itself_and_told_together() {
    let server = ApiServer::start().await;
    for namespace in ["one", "two", "three"] {
        server.put(service(namespace, "web"));
    }
    let mut live = Live::new(server, &["one", "two"], false, short());
    live.until_synced().await;
    let keys: Vec<&String> = live.objects.keys().collect();
    assert_eq!(keys, ["Service/one/web", "Service/two/web"]);
    let of_services = live.replaced.iter().filter(|(kind, _)| *kind == ObjectKind::Service);
    assert!(of_services.eq([&(ObjectKind::Service, 1); 2]), "{:?}", live.replaced);
}

#[tokio::test]
async fn only_tls_secrets_are_asked_for() {
    let server = ApiServer::start().await;
    server.put(secret("a", "kubernetes.io/tls"));
    server.put(secret("b", "Opaque"));
    let mut live = Live::plain(server);
    live.until_synced().await;
    let keys: Vec<&String> = live.objects.keys().collect();
    assert_eq!(keys, ["Secret/shop/a"]);
}

#[tokio::test]
async fn only_referenced_secrets_are_asked_for() {
    let key = |name: &str| ObjectKey::new(ObjectKind::Secret, "shop", name);
    let server = ApiServer::start().await;
    server.put(secret("a", "kubernetes.io/tls"));
    server.put(secret("b", "kubernetes.io/tls"));
    let mut live = Live::new(server, &[], true, short());
    live.until("all others", |live| live.synced.len() == ObjectKind::ALL.len() - 2).await;
    assert!(!live.synced.contains(&ObjectKind::Secret), "nobody has said which are referenced");
    live.referenced.send_replace([key("a"), key("absent")].into());
    live.until_synced().await;
    let asked = live.server.asked();
    let of_secrets: Vec<_> = asked.iter().filter(|asked| asked.path.ends_with("secrets")).collect();
    assert!(of_secrets.iter().all(|asked| {
        asked.path == "/api/v1/namespaces/shop/secrets"
            && asked.query["fieldSelector"].starts_with("metadata.name=")
    }));
    assert!(live.objects.contains_key("Secret/shop/a"));
    live.server.put(secret("absent", "kubernetes.io/tls"));
    live.until_has("Secret/shop/absent").await;
    live.referenced.send_replace([key("b")].into());
    live.until_has("Secret/shop/b").await;
    live.until_lacks("Secret/shop/a").await;
    live.until_lacks("Secret/shop/absent").await;
}

#[tokio::test]
async fn only_referenced_config_maps_are_asked_for() {
    let map = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "shop"}, "data": {"ca.crt": "x"},
        })
    };
    let key = |name: &str| ObjectKey::new(ObjectKind::ConfigMap, "shop", name);
    let server = ApiServer::start().await;
    server.put(map("ca"));
    server.put(map("other"));
    let mut live = Live::plain(server);
    live.until_synced().await;
    live.referenced.send_replace([key("ca")].into());
    live.until_has("ConfigMap/shop/ca").await;
    assert!(!live.objects.contains_key("ConfigMap/shop/other"));
    live.referenced.send_replace(BTreeSet::new());
    live.until_lacks("ConfigMap/shop/ca").await;
}

#[tokio::test]
async fn a_secret_that_may_not_be_seen_keeps_no_other_waiting() {
    let server = ApiServer::start().await;
    server.fail("secrets", Verb::List, 1000, Fault::Status(403, "forbidden", 0));
    let mut live = Live::new(server, &[], true, short());
    live.referenced.send_replace([ObjectKey::new(ObjectKind::Secret, "shop", "a")].into());
    live.until_synced().await;
    live.until("reported", |live| !live.problems.is_empty()).await;
    assert!(live.problems[0].to_string().contains("for a in namespace shop"));
    live.until_has("Secret/shop/a").await;
    assert!(live.objects["Secret/shop/a"].is_denied(), "it is not told as one that does not exist");
}

#[tokio::test]
async fn a_list_that_lost_many_is_made_a_second_time() {
    let server = ApiServer::start().await;
    for number in 0..20 {
        server.put(class(&format!("c{number}"), "k"));
    }
    let mut live = Live::plain(server);
    live.until_synced().await;
    for number in 0..15 {
        live.server.lose("ingressclasses", "", &format!("c{number}"));
    }
    let status = json!({"kind": "Status", "code": 410});
    live.server.end_watches("ingressclasses", json!({"type": "ERROR", "object": status}));
    let shortened = |live: &Live| {
        live.replaced.iter().filter(|told| **told == (ObjectKind::IngressClass, 5)).count()
    };
    live.until("listed twice", |live| shortened(live) == 2).await;
}

#[tokio::test]
async fn a_missing_kubeconfig_is_reported_and_looked_for_again() {
    let server = ApiServer::start().await;
    let folder = TempDir::new().unwrap();
    let (referenced, receiver) = watch::channel(BTreeSet::new());
    let settings = KubernetesSettings {
        kubeconfig: Some(folder.path().join("kubeconfig")),
        namespaces: vec![],
        secrets: Secrets::AllTls,
        referenced: receiver,
    };
    let mut live = Live::plain(server);
    referenced.send_replace(BTreeSet::new());
    live.source = Kubernetes::watch_with(settings, short());
    live.until("reported", |live| live.problems.len() == 1).await;
    assert!(live.problems[0].message.contains("kubeconfig"), "{}", live.problems[0]);
    live.server.kubeconfig(folder.path());
    live.until_synced().await;
}
