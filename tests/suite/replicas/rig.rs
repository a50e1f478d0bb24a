//! A controller with an admin listener in this process, and replicas that are tasks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use kubeng_admin::{Admin, LocalReplica};
use kubeng_config::canonical::Digest;
use kubeng_config::delta::AnyPart;
use kubeng_config::drift::ReplicaState;
use kubeng_config::export::digest_of;
use kubeng_config::fleet::{FleetCare, FleetFacts};
use kubeng_config::heartbeat::{Build, Heartbeat, Origin, Resources, Running};
use kubeng_config::listener::{Listener, Protocol};
use kubeng_config::matching::{HostMatch, Match, PathMatch};
use kubeng_config::name::{BackendId, RouteId};
use kubeng_config::observed::{EndpointHealth, KeyQuery, RecordQuery};
use kubeng_config::part::Part;
use kubeng_config::policy::Policy;
use kubeng_config::position::Position;
use kubeng_config::route::{Action, Attachment, Rank, Route};
use kubeng_config::snapshot::Snapshot;
use kubeng_config::statement::Epoch;
use kubeng_controller::control::{Control, ControlState};
use kubeng_controller::distribution::feed::FleetFeed;
use kubeng_controller::distribution::line::{Hub as _, Identified, Line};
use kubeng_controller::distribution::publisher::{Published, Publisher};
use kubeng_controller::distribution::{FromReplica, Hello, Question, Reply, ToReplica};
use kubeng_controller::hub::ReplicaHub;
use kubeng_controller::replicas::entry::ReplicaId;
use kubeng_controller::replicas::record::DriftRecord;
use kubeng_controller::replicas::{Inputs, Replicas};
use kubeng_controller::settings::TranslateSettings;
use kubeng_controller::world::World;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::SOON;

/// How often these replicas tell of themselves.
const BEAT: Duration = Duration::from_millis(50);

/// The controller, and what its replicas run.
pub(super) struct Rig {
    pub(super) admin: SocketAddr,
    replicas: Replicas,
    hub: Arc<ReplicaHub>,
    fakes: Mutex<BTreeMap<String, Fake>>,
    stop: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
    _published: watch::Sender<Arc<Published>>,
    _state: watch::Sender<Arc<ControlState>>,
}

#[derive(Clone)]
struct Fake {
    runs: Arc<Mutex<Vec<AnyPart>>>,
    leave: CancellationToken,
}

fn build() -> Build {
    Build { version: "1.0.0".into(), sha256: Digest::default(), model_version: 1 }
}

/// One Route with a Policy whose requests may take this long.
fn parts(request: Option<Duration>) -> Vec<AnyPart> {
    let listener = Listener::new(([127, 0, 0, 1], 80).into(), Protocol::Http);
    let mut policy = Policy::default();
    policy.timeouts.request = request;
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
        AnyPart::Policy("default".parse().unwrap(), Part::new(policy)),
        AnyPart::Route("Ingress/shop/web#a.example/".parse().unwrap(), Part::new(route)),
    ]
}

impl Rig {
    pub(super) async fn start() -> Self {
        let snapshot = Snapshot::default().edited(parts(None), []).unwrap();
        let first = Published { snapshot, ..Published::default() };
        let (published, newest) = watch::channel(Arc::new(first));
        let facts = FleetFacts {
            display_name: "Production".into(),
            // Tasks of a busy machine may be late; none of these tests is about that.
            care: FleetCare {
                probe_every: None,
                heartbeat_every: SOON,
                apply_timeout: SOON,
                ..FleetCare::default()
            },
            ..FleetFacts::new("prod".parse().unwrap())
        };
        let (endpoints, history) = Default::default();
        let feed = FleetFeed { facts: Arc::new(facts), newest, endpoints, history };
        let all = BTreeMap::from([("prod".parse().unwrap(), feed)]);
        let (_, feeds) = watch::channel(Arc::new(all));
        let (_, epoch) = watch::channel(Epoch(1));
        let stop = CancellationToken::new();
        let (hub, replicas, run) = Replicas::start(Inputs {
            feeds,
            publisher: Arc::new(move |hello, feed, count| {
                Publisher::new(feed, hello, epoch.clone(), None, count)
            }),
            believes: Arc::new(|_| true),
            own: build(),
            data: None,
            stop: stop.clone(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(run);
        let (state, control) = control();
        let admin = Admin::bind(([127, 0, 0, 1], 0).into(), control, Arc::new(Nobody)).await;
        let admin = admin.unwrap().with_replicas(replicas.clone());
        let address = admin.address().unwrap();
        let stop_admin = stop.clone();
        tasks.spawn(async move { admin.serve(stop_admin).await.unwrap() });
        Self {
            admin: address,
            replicas,
            hub,
            fakes: Mutex::default(),
            stop,
            tasks: Mutex::new(tasks),
            _published: published,
            _state: state,
        }
    }

    /// Has a replica join, and waits until it serves what it should.
    pub(super) async fn join(&self, name: &str) {
        let identified =
            Identified { fleet: "prod".parse().unwrap(), replica: name.parse().unwrap() };
        let hello = Hello {
            replica: name.parse().unwrap(),
            fleet: "prod".parse().unwrap(),
            build: build(),
            admin: None,
            labels: Default::default(),
            certified: Default::default(),
            serves: None,
        };
        let line = self.hub.join(identified, hello).await.unwrap();
        let fake = Fake { runs: Arc::default(), leave: self.stop.child_token() };
        self.fakes.lock().unwrap().insert(name.into(), fake.clone());
        self.tasks.lock().unwrap().spawn(fake.run(line));
        self.until(name, ReplicaState::InSync).await;
    }

    /// Ends the line to a replica.
    pub(super) async fn leave(&self, name: &str) {
        let fake = self.fakes.lock().unwrap().remove(name).unwrap();
        fake.leave.cancel();
        self.wait(|rig| rig.replicas.get(&id(name)).filter(|view| !view.connected)).await;
    }

    /// Changes what a replica runs behind its back.
    pub(super) async fn drift(&self, name: &str) {
        let fake = self.fakes.lock().unwrap().get(name).cloned().unwrap();
        *fake.runs.lock().unwrap() = parts(Some(Duration::from_secs(90)));
        self.until(name, ReplicaState::Drifted).await;
    }

    /// The same in another way.
    pub(super) async fn drift_anew(&self, name: &str) {
        let fake = self.fakes.lock().unwrap().get(name).cloned().unwrap();
        *fake.runs.lock().unwrap() = parts(Some(Duration::from_secs(91)));
        self.until(name, ReplicaState::Drifted).await;
    }

    pub(super) fn state(&self, name: &str) -> Option<ReplicaState> {
        self.replicas.get(&id(name)).map(|view| view.state)
    }

    pub(super) async fn until(&self, name: &str, state: ReplicaState) {
        self.wait(|rig| (rig.state(name) == Some(state)).then_some(())).await;
    }

    pub(super) async fn open_record(&self) -> DriftRecord {
        self.wait(|rig| rig.replicas.drift().into_iter().find(DriftRecord::is_open)).await
    }

    #[track_caller]
    fn wait<T>(&self, look: impl Fn(&Self) -> Option<T>) -> impl Future<Output = T> {
        let caller = std::panic::Location::caller();
        async move {
            let began = std::time::Instant::now();
            loop {
                if let Some(found) = look(self) {
                    return found;
                }
                assert!(began.elapsed() < SOON * 3, "{caller}: {:?}", self.replicas.list(None));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Runs a command against this controller, and gives what it said.
    pub(super) async fn kubeng(&self, arguments: &[&str], code: i32) -> String {
        let admin = format!("http://{}", self.admin);
        let arguments = [arguments, &["--admin", &admin]].concat();
        self.kubeng_at(&arguments, code).await
    }

    /// Runs a command as it stands.
    pub(super) async fn kubeng_at(&self, arguments: &[&str], code: i32) -> String {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kubeng"));
        let output = command.args(arguments).env_clear().output().await.unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
        if code == 2 { err.into_owned() } else { out.into_owned() }
    }

    pub(super) async fn end(self) {
        self.stop.cancel();
        let mut tasks = self.tasks.into_inner().unwrap();
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    }
}

fn id(name: &str) -> ReplicaId {
    ReplicaId { fleet: "prod".parse().unwrap(), name: name.parse().unwrap() }
}

impl Fake {
    async fn run(self, mut line: Line) {
        let mut acknowledged = Snapshot::default();
        let mut beat = tokio::time::interval(BEAT);
        loop {
            let message = tokio::select! {
                () = self.leave.cancelled() => return,
                _ = beat.tick() => Some(FromReplica::Heartbeat(self.heartbeat(&acknowledged))),
                told = line.to.recv() => match told {
                    None => return,
                    Some(told) => self.answer(told, &mut acknowledged),
                },
            };
            if let Some(message) = message
                && line.from.send(message).await.is_err()
            {
                return;
            }
        }
    }

    fn answer(&self, told: ToReplica, acknowledged: &mut Snapshot) -> Option<FromReplica> {
        match told {
            ToReplica::Offer(offer) => {
                *acknowledged = acknowledged.with(&offer.delta).unwrap();
                self.rebuild(acknowledged);
                let (nonce, digest) = (offer.nonce, acknowledged.digest());
                Some(FromReplica::Ack { nonce, digest, problems: Vec::new() })
            }
            ToReplica::Ask { id, question } => {
                let reply = match question {
                    Question::Parts => {
                        let parts = self.runs.lock().unwrap().clone();
                        Ok(Reply::Parts { parts, endpoints: Vec::new() })
                    }
                    Question::Heal => {
                        self.rebuild(acknowledged);
                        Ok(Reply::Healed(acknowledged.digest()))
                    }
                    Question::Probe(_) => Err("not here".to_owned()),
                };
                Some(FromReplica::Reply { id, reply })
            }
            ToReplica::TellHoldings => Some(FromReplica::Holdings(acknowledged.digest(), vec![])),
            ToReplica::Endpoints { .. } | ToReplica::Replicas(_) | ToReplica::Pulse(_) => None,
        }
    }

    fn rebuild(&self, acknowledged: &Snapshot) {
        *self.runs.lock().unwrap() = Snapshot::default().delta_to(acknowledged).upserts;
    }

    fn heartbeat(&self, acknowledged: &Snapshot) -> Box<Heartbeat> {
        let digest = digest_of(&self.runs.lock().unwrap());
        Box::new(Heartbeat {
            epoch: Epoch(1),
            position: Position::default(),
            acknowledged: acknowledged.digest(),
            rejected: None,
            running: Running { digest, age_seconds: 0 },
            endpoints: Digest::default(),
            origin: Origin::Controller,
            last_known_good: None,
            emergency: None,
            build: build(),
            resources: Resources::default(),
            problems: Vec::new(),
        })
    }
}

fn control() -> (watch::Sender<Arc<ControlState>>, Control) {
    let fleet: kubeng_config::name::FleetName = "prod".parse().unwrap();
    let world = World::new(TranslateSettings::new(fleet, Vec::new()));
    let (told, state) = watch::channel(Arc::new(ControlState::new(world)));
    (told, Control::new(state))
}

/// There is no replica in this process.
struct Nobody;

impl LocalReplica for Nobody {
    fn metrics(&self) -> String {
        String::new()
    }

    fn connections(&self) -> usize {
        0
    }

    fn is_leaving(&self) -> bool {
        false
    }

    fn requests(&self, _: &RecordQuery) -> Vec<Value> {
        Vec::new()
    }

    fn request_keys(&self, _: &KeyQuery) -> Value {
        Value::Null
    }

    fn last_hit(&self, _: &RouteId) -> Option<SystemTime> {
        None
    }

    fn health(&self) -> BTreeMap<BackendId, Vec<EndpointHealth>> {
        BTreeMap::new()
    }
}
