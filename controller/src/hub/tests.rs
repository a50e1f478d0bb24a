mod turned_away;
mod versions;

use std::collections::BTreeMap;
use std::time::Duration;

use kubeng_config::canonical::Digest;
use kubeng_config::delta::AnyPart;
use kubeng_config::drift::ReplicaState;
use kubeng_config::fleet::{FleetCare, FleetFacts, OnDrift};
use kubeng_config::heartbeat::{Build, Emergency, Heartbeat, Origin, Resources, Running};
use kubeng_config::listener::{Listener, Protocol};
use kubeng_config::matching::{HostMatch, Match, PathMatch};
use kubeng_config::name::RouteId;
use kubeng_config::part::Part;
use kubeng_config::policy::Policy;
use kubeng_config::position::Position;
use kubeng_config::problem::{self, Problem, Subject};
use kubeng_config::route::{Action, Attachment, Rank, Route};
use kubeng_config::snapshot::Snapshot;
use kubeng_config::statement::Epoch;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::*;
use crate::distribution::feed::FleetFeeds;
use crate::distribution::publisher::Published;
use crate::distribution::{FromReplica, NackReason, Offer, Question, Reply, ToReplica};
use crate::replicas::record::{DriftRecord, Resolution};
use crate::replicas::{ActError, AskError, Inputs, Replicas};

/// Longest wait for what takes milliseconds on an idle machine.
const SOON: Duration = Duration::from_secs(60);

fn build(file: &str) -> Build {
    Build { version: "1.0.0".into(), sha256: Digest::of([file.as_bytes()]), model_version: 1 }
}

fn route_id() -> RouteId {
    "Ingress/shop/web#a.example/".parse().unwrap()
}

/// Listener, Policy and one Route; `max` sets them apart.
fn parts(max: u32) -> Vec<AnyPart> {
    let mut listener = Listener::new(([127, 0, 0, 1], 80).into(), Protocol::Http);
    listener.connections_max = Some(max);
    let route = Route {
        rank: Rank { created: 0, rule: 0 },
        attached: vec![Attachment {
            listener: "http".parse().unwrap(),
            hosts: vec![HostMatch::Exact("a.example".parse().unwrap())],
        }],
        matches: vec![Match::of_path(PathMatch::Prefix("/".parse().unwrap()))],
        filters: Vec::new(),
        policy: "default".parse().unwrap(),
        action: Action::Answer,
    };
    vec![
        AnyPart::Listener("http".parse().unwrap(), Part::new(listener)),
        AnyPart::Policy("default".parse().unwrap(), Part::new(Policy::default())),
        AnyPart::Route(route_id(), Part::new(route)),
    ]
}

fn snapshot(max: u32) -> Snapshot {
    Snapshot::default().edited(parts(max), []).unwrap()
}

/// A controller with one fleet, and no transport.
struct Rig {
    hub: Arc<ReplicaHub>,
    replicas: Replicas,
    published: watch::Sender<Arc<Published>>,
    feeds: watch::Sender<Arc<FleetFeeds>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Rig {
    fn start(care: FleetCare, data: Option<&std::path::Path>) -> Self {
        let first = Published { snapshot: snapshot(1), ..Published::default() };
        let (published, newest) = watch::channel(Arc::new(first));
        let facts = FleetFacts {
            display_name: "Production".into(),
            care,
            ..FleetFacts::new("prod".parse().unwrap())
        };
        let feed = FleetFeed {
            facts: Arc::new(facts),
            newest,
            endpoints: Arc::default(),
            history: Arc::default(),
        };
        Self::of(published, BTreeMap::from([("prod".parse().unwrap(), feed)]), data)
    }

    fn of(
        published: watch::Sender<Arc<Published>>,
        all: FleetFeeds,
        data: Option<&std::path::Path>,
    ) -> Self {
        let (feeds, told) = watch::channel(Arc::new(all));
        let stop = CancellationToken::new();
        let (hub, replicas, run) = Replicas::start(Inputs {
            feeds: told,
            publisher: publisher(),
            believes: Arc::new(|signed| signed.signature.is_some()),
            own: build("ours"),
            data: data.map(Into::into),
            stop: stop.clone(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(run);
        Self { hub, replicas, published, feeds, stop, tasks }
    }

    async fn join(&self, name: &str) -> Fake {
        Fake { line: self.line(name).await.unwrap(), runs: Snapshot::default() }
    }

    async fn line(&self, name: &str) -> Result<Line, TurnedAway> {
        let identified =
            Identified { fleet: "prod".parse().unwrap(), replica: name.parse().unwrap() };
        self.hub.join(identified, hello("prod", name)).await
    }

    async fn until(&self, name: &str, state: ReplicaState) -> String {
        self.wait(|rig| {
            rig.replicas.get(&id(name)).filter(|view| view.state == state).map(|view| view.text)
        })
        .await
    }

    /// Waits until `look` finds something.
    #[track_caller]
    fn wait<T>(&self, look: impl Fn(&Self) -> Option<T>) -> impl Future<Output = T> {
        let caller = std::panic::Location::caller();
        async move {
            let began = std::time::Instant::now();
            loop {
                if let Some(found) = look(self) {
                    return found;
                }
                assert!(began.elapsed() < SOON, "{caller}: {:?}", self.replicas.list(None));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

fn publisher() -> MakePublisher {
    let (_, epoch) = watch::channel(Epoch(1));
    Arc::new(move |hello, feed, count| Publisher::new(feed, hello, epoch.clone(), None, count))
}

fn id(name: &str) -> ReplicaId {
    ReplicaId { fleet: "prod".parse().unwrap(), name: name.parse().unwrap() }
}

fn hello(fleet: &str, name: &str) -> Hello {
    Hello {
        replica: name.parse().unwrap(),
        fleet: fleet.parse().unwrap(),
        build: build("ours"),
        admin: None,
        labels: Default::default(),
        certified: Default::default(),
        serves: None,
    }
}

/// A replica without a proxy.
struct Fake {
    line: Line,
    runs: Snapshot,
}

impl Fake {
    async fn next(&mut self) -> ToReplica {
        tokio::time::timeout(SOON, self.line.to.recv()).await.unwrap().expect("the line is open")
    }

    async fn offer(&mut self) -> Box<Offer> {
        loop {
            match self.next().await {
                ToReplica::Offer(offer) => return offer,
                ToReplica::Replicas(_) | ToReplica::Pulse(_) | ToReplica::Endpoints { .. } => {}
                other @ (ToReplica::TellHoldings | ToReplica::Ask { .. }) => panic!("{other:?}"),
            }
        }
    }

    async fn question(&mut self) -> (u64, Question) {
        loop {
            match self.next().await {
                ToReplica::Ask { id, question } => return (id, question),
                ToReplica::Replicas(_) | ToReplica::Pulse(_) | ToReplica::Endpoints { .. } => {}
                other @ (ToReplica::TellHoldings | ToReplica::Offer(_)) => panic!("{other:?}"),
            }
        }
    }

    async fn tell(&self, message: FromReplica) {
        self.line.from.send(message).await.unwrap();
    }

    async fn ack(&mut self, offer: &Offer) {
        self.runs = self.runs.with(&offer.delta).unwrap();
        let (nonce, digest) = (offer.nonce, self.runs.digest());
        self.tell(FromReplica::Ack { nonce, digest, problems: Vec::new() }).await;
    }

    /// Tells of itself; `change` makes it tell something else.
    async fn beat(&self, change: impl FnOnce(&mut Heartbeat)) {
        let digest = self.runs.digest();
        let mut heartbeat = Heartbeat {
            epoch: Epoch(1),
            position: Position::default(),
            acknowledged: digest,
            rejected: None,
            running: Running { digest, age_seconds: 0 },
            endpoints: Digest::default(),
            origin: Origin::Controller,
            last_known_good: None,
            emergency: None,
            build: build("ours"),
            resources: Resources::default(),
            problems: Vec::new(),
        };
        change(&mut heartbeat);
        self.tell(FromReplica::Heartbeat(Box::new(heartbeat))).await;
    }

    async fn reply(&self, id: u64, reply: Reply) {
        self.tell(FromReplica::Reply { id, reply: Ok(reply) }).await;
    }
}

/// Nothing is probed, and a line may be silent for long.
fn calm() -> FleetCare {
    FleetCare {
        probe_every: None,
        heartbeat_every: SOON,
        apply_timeout: SOON,
        ..FleetCare::default()
    }
}

fn dump(max: u32) -> Reply {
    Reply::Parts { parts: parts(max), endpoints: Vec::new() }
}

#[tokio::test]
async fn a_replica_is_applying_then_in_sync_and_a_rejection_says_why() {
    let rig = Rig::start(calm(), None);
    let mut replica = rig.join("r1").await;
    let offer = replica.offer().await;
    rig.until("r1", ReplicaState::Applying).await;
    replica.ack(&offer).await;
    rig.until("r1", ReplicaState::InSync).await;

    rig.published.send_modify(|newest| Arc::make_mut(newest).snapshot = snapshot(2));
    let offer = replica.offer().await;
    let problem = Problem {
        subject: Subject::Other("listener http".into()),
        field: "/connectionsMax".into(),
        code: problem::REJECTED,
        message: "not today".into(),
        remedy: String::new(),
        provenance: None,
    };
    let (nonce, reason) = (offer.nonce, NackReason::Rejected);
    replica.tell(FromReplica::Nack { nonce, reason, problems: vec![problem] }).await;
    let text = rig.until("r1", ReplicaState::Rejected).await;
    assert!(text.contains("at listener http /connectionsMax: not today; serves "), "{text}");
    rig.wait(|rig| {
        rig.replicas.problems().iter().any(|is| is.code == problem::REJECTED).then_some(())
    })
    .await;
    // What is wanted again is what it serves: there is nothing left to mend.
    rig.published.send_modify(|newest| Arc::make_mut(newest).snapshot = snapshot(1));
    rig.until("r1", ReplicaState::InSync).await;
    rig.end().await;
}

#[tokio::test]
async fn who_does_not_answer_or_report_is_stale_and_then_unreachable() {
    let care = FleetCare { apply_timeout: Duration::from_millis(50), ..calm() };
    let rig = Rig::start(care, None);
    let mut replica = rig.join("r1").await;
    let _unanswered = replica.offer().await;
    rig.until("r1", ReplicaState::Stale).await;
    rig.end().await;

    let care = FleetCare { heartbeat_every: Duration::from_millis(20), ..calm() };
    let rig = Rig::start(care, None);
    let _silent = rig.join("r1").await;
    let text = rig.until("r1", ReplicaState::Unreachable).await;
    assert!(text.starts_with("Not reporting since 2"), "{text}");
    rig.end().await;
}

#[tokio::test]
async fn the_newest_line_of_a_name_ends_the_older_one_and_all_are_counted() {
    let rig = Rig::start(calm(), None);
    let mut older = rig.join("r1").await;
    let mut newer = rig.join("r1").await;
    let ended = async { while older.line.to.recv().await.is_some() {} };
    tokio::time::timeout(SOON, ended).await.unwrap();
    let mut other = rig.join("r2").await;
    for replica in [&mut newer, &mut other] {
        loop {
            if matches!(replica.next().await, ToReplica::Replicas(count) if count.get() == 2) {
                break;
            }
        }
    }
    drop(other);
    loop {
        if matches!(newer.next().await, ToReplica::Replicas(count) if count.get() == 1) {
            break;
        }
    }
    assert!(rig.replicas.get(&id("r1")).unwrap().connected);
    rig.wait(|rig| rig.replicas.get(&id("r2")).filter(|view| !view.connected)).await;
    assert!(!rig.replicas.forget(&id("r1")), "it is there");
    assert!(rig.replicas.forget(&id("r2")));
    assert!(rig.replicas.get(&id("r2")).is_none());
    rig.end().await;
}

#[tokio::test]
async fn questions_end_with_their_reply_their_time_or_their_line() {
    let rig = Rig::start(calm(), None);
    let ask = |within| rig.replicas.ask_owned("r1", within);
    assert!(matches!(ask(SOON).await, Err(AskError::Unknown(_))));
    let mut replica = rig.join("r1").await;
    let offer = replica.offer().await;
    replica.ack(&offer).await;
    let (reply, ()) = tokio::join!(ask(SOON), async {
        let (id, _) = replica.question().await;
        replica.reply(id, dump(1)).await;
    });
    assert!(matches!(reply, Ok(Reply::Parts { .. })), "{reply:?}");
    let (refused, ()) = tokio::join!(ask(SOON), async {
        let (id, _) = replica.question().await;
        replica.tell(FromReplica::Reply { id, reply: Err("too busy".into()) }).await;
    });
    assert!(matches!(&refused, Err(AskError::Refused { why, .. }) if why == "too busy"));
    let late = ask(Duration::from_millis(20)).await;
    assert!(matches!(late, Err(AskError::Silent { .. })), "{late:?}");
    let (cut, ()) = tokio::join!(ask(SOON), async {
        drop(replica);
    });
    assert!(matches!(cut, Err(AskError::Silent { .. } | AskError::Away(_))), "{cut:?}");
    rig.end().await;
}

impl Replicas {
    async fn ask_owned(&self, name: &str, within: Duration) -> Result<Reply, AskError> {
        self.ask(&id(name), Question::Parts, within).await
    }
}

/// A replica that has acknowledged the first Snapshot.
async fn served(rig: &Rig) -> Fake {
    let mut replica = rig.join("r1").await;
    let offer = replica.offer().await;
    replica.ack(&offer).await;
    rig.until("r1", ReplicaState::InSync).await;
    replica
}

async fn open_record(rig: &Rig) -> DriftRecord {
    rig.wait(|rig| rig.replicas.drift().into_iter().find(DriftRecord::is_open)).await
}

#[tokio::test]
async fn drift_is_kept_as_evidence_told_and_healed_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(calm(), Some(folder.path()));
    let mut replica = served(&rig).await;
    replica.beat(|beat| beat.running.digest = snapshot(9).digest()).await;
    let (number, question) = replica.question().await;
    assert_eq!(question, Question::Parts);
    replica.reply(number, dump(9)).await;

    let record = open_record(&rig).await;
    assert_eq!(record.state, ReplicaState::Drifted);
    let difference = record.difference.clone().unwrap();
    assert_eq!(difference.differences.len(), 1);
    assert_eq!(difference.differences[0].pointer, "/connectionsMax");
    let text = rig.replicas.get(&id("r1")).unwrap().text;
    assert!(text.ends_with("which differs in 1 place"), "{text}");
    for name in ["record", "running", "heartbeat", "difference", "statement"] {
        let path = folder.path().join("drift").join(&record.id).join(format!("{name}.json"));
        assert!(path.exists(), "{}", path.display());
    }
    rig.wait(|rig| {
        rig.replicas.problems().iter().any(|is| is.code == problem::REPLICA_DRIFTED).then_some(())
    })
    .await;
    let metrics = rig.replicas.metrics();
    assert!(metrics.contains(r#"kubeng_replicas{fleet="prod",state="Drifted"} 1"#), "{metrics}");

    let stale = rig.replicas.heal(&record.id, Some("\"old\""), "me").await;
    assert!(matches!(stale, Err(ActError::Record(_))), "{stale:?}");
    let etag = record.etag();
    let (healed, ()) = tokio::join!(rig.replicas.heal(&record.id, Some(&etag), "me"), async {
        let (number, question) = replica.question().await;
        assert_eq!(question, Question::Heal);
        replica.reply(number, Reply::Healed(snapshot(1).digest())).await;
    });
    assert_eq!(healed.unwrap().resolution.unwrap().resolution, Resolution::Healed);
    rig.until("r1", ReplicaState::InSync).await;
    rig.end().await;
}

#[tokio::test]
async fn a_fleet_that_wants_it_is_healed_three_times_and_then_only_told() {
    let rig = Rig::start(FleetCare { on_drift: OnDrift::Heal, ..calm() }, None);
    let mut replica = served(&rig).await;
    for _ in 0..3 {
        replica.beat(|beat| beat.running.digest = snapshot(9).digest()).await;
        let mut is_healed = false;
        while !is_healed {
            let (number, question) = replica.question().await;
            is_healed = question == Question::Heal;
            let healed = Reply::Healed(snapshot(1).digest());
            replica.reply(number, if is_healed { healed } else { dump(9) }).await;
        }
        rig.until("r1", ReplicaState::InSync).await;
    }
    replica.beat(|beat| beat.running.digest = snapshot(9).digest()).await;
    let (number, question) = replica.question().await;
    assert_eq!(question, Question::Parts);
    replica.reply(number, dump(9)).await;
    let record = open_record(&rig).await;
    assert_eq!(record.state, ReplicaState::Drifted);
    let asked = tokio::time::timeout(Duration::from_millis(2500), replica.question()).await;
    assert!(asked.is_err(), "{asked:?}");
    rig.end().await;
}

#[tokio::test]
async fn what_was_dismissed_is_not_told_until_its_evidence_changes() {
    let rig = Rig::start(calm(), None);
    let mut replica = served(&rig).await;
    let emergency = |reason: &str| {
        let reason = reason.to_owned();
        move |beat: &mut Heartbeat| {
            beat.emergency = Some(Emergency { by: "eve".into(), reason, until: 2_000_000_000 });
        }
    };
    replica.beat(emergency("fire")).await;
    let (number, _) = replica.question().await;
    replica.reply(number, dump(1)).await;
    let record = open_record(&rig).await;
    assert_eq!(record.state, ReplicaState::Tampered);
    let is_told =
        |rig: &Rig| rig.replicas.problems().iter().any(|is| is.code == problem::REPLICA_TAMPERED);
    rig.wait(|rig| is_told(rig).then_some(())).await;
    rig.replicas.dismiss(&record.id, Some(&record.etag()), "me", "agreed").unwrap();
    rig.wait(|rig| (!is_told(rig)).then_some(())).await;
    assert_eq!(rig.replicas.get(&id("r1")).unwrap().state, ReplicaState::Tampered);

    replica.beat(emergency("flood")).await;
    let (number, _) = replica.question().await;
    replica.reply(number, dump(1)).await;
    assert_ne!(open_record(&rig).await.id, record.id);
    replica.beat(|_| {}).await;
    rig.wait(|rig| rig.replicas.drift().iter().all(|record| !record.is_open()).then_some(())).await;
    rig.end().await;
}

#[tokio::test]
async fn who_refuses_parts_that_it_cannot_read_is_skewed() {
    let rig = Rig::start(calm(), None);
    let replica = served(&rig).await;
    let problem = kubeng_config::heartbeat::ReportedProblem {
        code: problem::REPLICA_SKEWED.to_string(),
        object: "route a".into(),
        field: String::new(),
        message: "it needs version 2 of the model".into(),
        remedy: "bring it to a newer version".into(),
    };
    replica.beat(|beat| beat.problems = vec![problem]).await;
    let text = rig.until("r1", ReplicaState::Skewed).await;
    assert_eq!(text, "Version skew: 1 parts refused on replica 1.0.0");
    rig.end().await;
}

#[tokio::test]
async fn a_probe_finds_who_answers_otherwise() {
    let rig = Rig::start(FleetCare { probe_every: Some(Duration::from_millis(1)), ..calm() }, None);
    let mut replica = served(&rig).await;
    let answer = |question: &Question, route: Option<RouteId>| match question {
        Question::Probe(requests) => {
            assert_eq!(requests.len(), 1);
            assert_eq!(requests[0].host.as_deref(), Some("a.example"));
            Reply::Probe(vec![route])
        }
        Question::Parts => dump(1),
        Question::Heal => panic!("nobody heals here"),
    };
    let wrong: RouteId = "Ingress/shop/other#a.example/".parse().unwrap();
    while rig.replicas.drift().is_empty() {
        let (number, question) = replica.question().await;
        let reply = answer(&question, Some(wrong.clone()));
        replica.reply(number, reply).await;
    }
    let record = rig.replicas.drift().remove(0);
    assert_eq!(record.state, ReplicaState::Divergent);
    assert!(record.text.contains(&wrong.to_string()), "{}", record.text);
    while rig.replicas.get(&id("r1")).unwrap().state != ReplicaState::InSync {
        let (number, question) = replica.question().await;
        let reply = answer(&question, Some(route_id()));
        replica.reply(number, reply).await;
    }
    rig.end().await;
}

#[tokio::test]
async fn who_was_known_is_still_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(calm(), Some(folder.path()));
    let replica = served(&rig).await;
    drop(replica);
    rig.end().await;
    let rig = Rig::start(
        FleetCare { heartbeat_every: Duration::from_millis(1), ..calm() },
        Some(folder.path()),
    );
    rig.until("r1", ReplicaState::Unreachable).await;
    rig.end().await;
}
