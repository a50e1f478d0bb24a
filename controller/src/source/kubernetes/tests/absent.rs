//! An API server that does not know a kind any more of which it had objects.

use std::time::Instant;

use kubeng_config::problem::REMOVAL_HELD;

use super::*;
use crate::intake::Intake;
use crate::object::Change;

const NOT_FOUND: Fault = Fault::Status(404, "the server could not find the requested resource", 0);

fn protection() -> Value {
    json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "RouteOverride",
        "metadata": {"name": "shut", "namespace": "shop"},
        "spec": {
            "targetRef": {"group": "networking.k8s.io", "kind": "Ingress", "name": "web"},
            "patch": {"access": {"allow": ["192.0.2.0/24"]}},
        },
    })
}

/// A source with the intake behind it, and a clock that is set by hand.
struct Guarded {
    live: Live,
    intake: Intake,
    now: Instant,
}

impl Guarded {
    /// With a RouteOverride that has been told.
    async fn with_protection(timing: Timing) -> Self {
        let server = ApiServer::start().await;
        server.put(protection());
        let live = Live::new(server, &[], false, timing);
        let intake = Intake::new([(live.source.name.clone(), ObjectKind::ALL.into())]);
        let mut guarded = Self { live, intake, now: Instant::now() };
        guarded.until("all told", |intake| intake.is_open()).await;
        assert!(guarded.has_protection(), "it is told");
        guarded
    }

    /// The same, and the server does not know the kind for so many lists.
    async fn without_definition(times: usize, timing: Timing) -> Self {
        let guarded = Self::with_protection(timing).await;
        guarded.live.server.fail("routeoverrides", Verb::List, times, NOT_FOUND);
        guarded.expire();
        guarded
    }

    /// Takes what the source tells until it is so; gives what that has changed.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Intake) -> bool) -> Vec<Change> {
        let mut changes = Vec::new();
        while !is_so(&self.intake) {
            let next = tokio::time::timeout(Duration::from_secs(20), self.live.source.next());
            let Ok(received) = next.await else {
                panic!("not {what}: {:?}", self.intake.problems());
            };
            changes.extend(self.intake.take(0, received.event, self.now));
        }
        changes
    }

    fn expire(&self) {
        let status = json!({"kind": "Status", "code": 410, "message": "too old"});
        let expired = json!({"type": "ERROR", "object": status});
        self.live.server.end_watches("routeoverrides", expired);
    }

    fn has_protection(&self) -> bool {
        self.intake.objects().any(|object| object.key.kind == ObjectKind::RouteOverride)
    }
}

fn tells(intake: &Intake, code: kubeng_config::problem::Code) -> bool {
    intake.problems().iter().any(|problem| problem.code == code)
}

#[tokio::test]
async fn a_kind_that_is_not_known_for_a_moment_loses_nothing_and_is_asked_for_soon() {
    // Only the pauses after failures are short.
    let (absent, second_list) = (Duration::from_secs(300), Duration::from_secs(300));
    let timing = Timing { absent, second_list, ..short() };
    let mut guarded = Guarded::without_definition(3, timing).await;
    let told = guarded.until("told", |intake| tells(intake, SOURCE_UNREACHABLE)).await;
    assert!(told.is_empty(), "{told:?}");
    let problems = guarded.intake.problems();
    let text = problems.iter().map(ToString::to_string).collect::<String>();
    assert!(text.contains("routeoverrides.kubeng.io") && text.contains("404"), "{text}");
    let changes = guarded.until("mended", |intake| intake.problems().is_empty()).await;
    assert!(changes.is_empty(), "{changes:?}");
    assert!(guarded.has_protection());
}

#[tokio::test]
async fn a_kind_whose_definition_was_removed_goes_when_the_guard_believes_it() {
    let mut guarded = Guarded::without_definition(100_000, short()).await;
    guarded
        .until("held", |intake| tells(intake, SOURCE_UNREACHABLE) && tells(intake, REMOVAL_HELD))
        .await;
    assert!(guarded.has_protection(), "it is served until it is believed");
    guarded.now += Duration::from_secs(61);
    let changes = guarded.until("mended", |intake| intake.problems().is_empty()).await;
    assert!(matches!(&changes[..], [Change::Remove(_)]), "{changes:?}");
    assert!(!guarded.has_protection());
}

#[tokio::test]
async fn a_kind_whose_last_object_was_deleted_may_go_without_a_word() {
    let mut guarded = Guarded::with_protection(short()).await;
    guarded.live.server.delete("routeoverrides", "shop", "shut");
    guarded.until("gone", |intake| intake.objects().next().is_none()).await;
    guarded.live.server.fail("routeoverrides", Verb::List, 1, NOT_FOUND);
    guarded.expire();
    let lists = guarded.live.lists("routeoverrides");
    let began = Instant::now();
    while guarded.live.lists("routeoverrides") < lists + 2 {
        assert!(began.elapsed() < Duration::from_secs(20), "it is not looked for again");
        let next = tokio::time::timeout(Duration::from_millis(20), guarded.live.source.next());
        if let Ok(received) = next.await {
            guarded.intake.take(0, received.event, guarded.now);
        }
        assert!(guarded.intake.problems().is_empty(), "{:?}", guarded.intake.problems());
    }
}
