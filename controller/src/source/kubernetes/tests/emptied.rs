//! An API server that lists nothing where there was something, as small installations have it: one
//! Ingress, one IngressClass, one EndpointSlice.

use std::time::Instant;

use kubeng_config::problem::REMOVAL_HELD;

use super::*;
use crate::intake::Intake;
use crate::object::Change;

fn ingress() -> Value {
    let service = json!({"name": "web", "port": {"number": 80}});
    let path = json!({"path": "/", "pathType": "Prefix", "backend": {"service": service}});
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "only", "namespace": "shop"},
        "spec": {"ingressClassName": "kubeng", "rules": [{"host": "a.example", "http": {"paths": [path]}}]},
    })
}

fn slice() -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "only", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}],
    })
}

/// A kind with its only object: resource, namespace and object.
fn kinds() -> [(ObjectKind, &'static str, &'static str, Value); 3] {
    [
        (ObjectKind::Ingress, "ingresses", "shop", ingress()),
        (ObjectKind::IngressClass, "ingressclasses", "", class("only", "k")),
        (ObjectKind::EndpointSlice, "endpointslices", "shop", slice()),
    ]
}

/// A source with the intake behind it, and a clock that is set by hand.
struct Guarded {
    live: Live,
    intake: Intake,
    now: Instant,
}

impl Guarded {
    async fn new(server: ApiServer) -> Self {
        Self::at_pace(server, short()).await
    }

    async fn at_pace(server: ApiServer, timing: Timing) -> Self {
        let live = Live::new(server, &[], false, timing);
        let intake = Intake::new([(live.source.name.clone(), ObjectKind::ALL.into())]);
        let mut guarded = Self { live, intake, now: Instant::now() };
        guarded.until("all told", |intake| intake.is_open()).await;
        guarded
    }

    /// Takes what the source tells until it is so; gives what that has changed.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Intake) -> bool) -> Vec<Change> {
        let mut changes = Vec::new();
        while !is_so(&self.intake) {
            changes.extend(self.next(what).await.1);
        }
        changes
    }

    async fn next(&mut self, what: &str) -> (Event, Vec<Change>) {
        let next = tokio::time::timeout(Duration::from_secs(20), self.live.source.next()).await;
        let event = next.unwrap_or_else(|_| panic!("not {what}")).event;
        (event.clone(), self.intake.take(0, event, self.now))
    }

    /// Takes events up to the next empty list of `kind`; gives what that list has changed.
    async fn until_empty_list(&mut self, kind: ObjectKind) -> Vec<Change> {
        loop {
            let (event, changes) = self.next("listed again").await;
            if let Event::Replace(list) = &event
                && list.extent.kind == kind
                && list.objects.is_empty()
            {
                return changes;
            }
        }
    }

    fn expire(&self, resource: &str) {
        let status = json!({"kind": "Status", "code": 410, "message": "too old"});
        self.live.server.end_watches(resource, json!({"type": "ERROR", "object": status}));
    }

    fn is_held(&self) -> bool {
        self.intake.problems().iter().any(|problem| problem.code == REMOVAL_HELD)
    }
}

#[tokio::test]
async fn an_empty_list_of_the_only_object_is_held_until_the_server_says_it_again() {
    for (kind, resource, namespace, object) in kinds() {
        let server = ApiServer::start().await;
        server.put(object);
        let mut guarded = Guarded::new(server).await;
        guarded.live.server.lose(resource, namespace, "only");
        guarded.expire(resource);
        assert!(guarded.until_empty_list(kind).await.is_empty(), "{kind} goes at once");
        assert!(guarded.is_held(), "{kind}");
        assert!(guarded.intake.objects().any(|object| object.key.kind == kind), "{kind} is lost");
        // The source makes a second list by itself; a minute has passed then.
        guarded.now += Duration::from_secs(61);
        let changes = guarded.until_empty_list(kind).await;
        assert!(matches!(&changes[..], [Change::Remove(_)]), "{kind}: {changes:?}");
        assert!(!guarded.is_held(), "{kind}");
    }
}

#[tokio::test]
async fn an_empty_list_that_was_a_mistake_changes_nothing() {
    for (kind, resource, _, object) in kinds() {
        let server = ApiServer::start().await;
        server.put(object);
        let mut guarded = Guarded::new(server).await;
        let empty = r#"{"metadata": {"resourceVersion": "1"}, "items": []}"#;
        guarded.live.server.fail(resource, Verb::List, 1, Fault::Body(empty));
        guarded.expire(resource);
        assert!(guarded.until_empty_list(kind).await.is_empty(), "{kind}");
        assert!(guarded.is_held(), "{kind}");
        guarded.now += Duration::from_secs(61);
        let changes = guarded.until("right again", |intake| intake.problems().is_empty()).await;
        assert!(changes.is_empty(), "{kind}: {changes:?}");
        assert!(guarded.intake.objects().any(|object| object.key.kind == kind), "{kind} is lost");
    }
}

#[tokio::test]
async fn the_only_object_that_is_deleted_before_the_eyes_of_the_watch_goes_at_once() {
    for (kind, resource, namespace, object) in kinds() {
        let server = ApiServer::start().await;
        server.put(object);
        let mut guarded = Guarded::new(server).await;
        guarded.live.server.delete(resource, namespace, "only");
        guarded.until("gone", |intake| intake.objects().next().is_none()).await;
        assert!(!guarded.is_held(), "{kind}");
    }
}

#[tokio::test]
async fn a_second_list_that_comes_too_early_does_not_take_the_place_of_the_later_one() {
    let server = ApiServer::start().await;
    server.put(class("only", "k"));
    let timing = Timing { second_list: Duration::from_secs(3), ..short() };
    let mut guarded = Guarded::at_pace(server, timing).await;
    guarded.live.server.lose("ingressclasses", "", "only");
    guarded.expire("ingressclasses");
    assert!(guarded.until_empty_list(ObjectKind::IngressClass).await.is_empty());
    guarded.expire("ingressclasses");
    assert!(guarded.until_empty_list(ObjectKind::IngressClass).await.is_empty());
    guarded.now += Duration::from_secs(61);
    assert_eq!(guarded.until_empty_list(ObjectKind::IngressClass).await.len(), 1);
}

#[tokio::test]
async fn a_referenced_secret_that_a_list_lacks_is_held_and_goes_when_nobody_names_it() {
    let key = ObjectKey::new(ObjectKind::Secret, "shop", "a");
    let server = ApiServer::start().await;
    server.put(secret("a", "kubernetes.io/tls"));
    let live = Live::new(server, &[], true, short());
    let intake = Intake::new([(live.source.name.clone(), ObjectKind::ALL.into())]);
    let mut guarded = Guarded { live, intake, now: Instant::now() };
    guarded.live.referenced.send_replace([key].into());
    guarded.until("all told", |intake| intake.is_open()).await;
    guarded.live.server.lose("secrets", "shop", "a");
    guarded.expire("secrets");
    assert!(guarded.until_empty_list(ObjectKind::Secret).await.is_empty());
    assert!(guarded.is_held());
    guarded.live.referenced.send_replace(BTreeSet::new());
    guarded.until("gone", |intake| intake.objects().next().is_none()).await;
    assert!(!guarded.is_held());
}
