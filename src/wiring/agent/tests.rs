//! The agent against a controller that is only a test.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use kubeng_config::address::AddressRule;
use kubeng_config::backend::{Backend, BackendProtocol, EndpointSource};
use kubeng_config::canonical::Digest;
use kubeng_config::certificate::{Certificate, Der};
use kubeng_config::delta::AnyPart;
use kubeng_config::heartbeat::FileState;
use kubeng_config::listener::{Listener, Protocol};
use kubeng_config::matching::{Match, PathMatch};
use kubeng_config::part::Part;
use kubeng_config::policy::Policy;
use kubeng_config::position::Position;
use kubeng_config::route::{Action, Attachment, Rank, Route, Target, TargetAction};
use kubeng_config::snapshot::Snapshot;
use kubeng_config::statement::{Epoch, MODEL_VERSION, SignedStatement, Statement};
use kubeng_controller::distribution::signing::{SigningKey, VerifyingKeys};
use kubeng_controller::distribution::{ProbeRequest, Question};
use kubeng_proxy::persist::Keeper;
use kubeng_proxy::{Background, Proxy, ProxySettings, Walker};
use tokio_util::sync::CancellationToken;

use super::*;

/// Longest wait for what takes milliseconds on an idle machine.
const SOON: Duration = Duration::from_secs(30);

/// A fleet's controller, and one replica.
struct Rig {
    key: SigningKey,
    agent: Agent,
    keeper: Option<Keeper>,
    walker: Option<Walker>,
    who: Who,
    nonce: u64,
    /// Dropped at the end.
    _proxy: Proxy,
}

fn fleet() -> FleetName {
    "prod".parse().unwrap()
}

fn route_id() -> kubeng_config::name::RouteId {
    "Ingress/shop/web#default".parse().unwrap()
}

/// One Route at `/x`, which differs from others by its number.
fn snapshot(number: i64) -> Snapshot {
    let backend: kubeng_config::name::BackendId = "Service/shop/web:80".parse().unwrap();
    let spec = Backend {
        protocol: BackendProtocol::Http1,
        tls: None,
        balance: Default::default(),
        affinity: None,
        resilience: None,
        endpoints: EndpointSource::Discovered,
        resolve: None,
        addresses: AddressRule::Operator,
        proxy_protocol: None,
    };
    let route = Route {
        rank: Rank { created: number, rule: 0 },
        attached: vec![Attachment {
            listener: "http".parse().unwrap(),
            hosts: vec!["*".parse().unwrap()],
        }],
        matches: vec![Match::of_path(PathMatch::Prefix("/x".parse().unwrap()))],
        filters: vec![],
        policy: "p".parse().unwrap(),
        action: Action::Forward(vec![Target {
            to: TargetAction::Backend(backend.clone()),
            weight: 1,
        }]),
    };
    let listener = Listener::new(([127, 0, 0, 1], 0).into(), Protocol::Http);
    let parts = [
        AnyPart::Listener("http".parse().unwrap(), Part::new(listener)),
        AnyPart::Policy("p".parse().unwrap(), Part::new(Policy::default())),
        AnyPart::Backend(backend, Part::new(spec)),
        AnyPart::Route(route_id(), Part::new(route)),
    ];
    Snapshot::default().edited(parts, []).unwrap()
}

impl Rig {
    /// A replica with this data folder.
    fn start(data: &Path, key: SigningKey) -> Self {
        let settings = ProxySettings { workers: 1, ..ProxySettings::default() };
        let (proxy, mut writer) = Proxy::start(settings).unwrap();
        let keys = VerifyingKeys::from(key.verifying_key());
        let background = Background::start().unwrap();
        let disk = Disk::open(data, None).unwrap();
        let found = disk.start(&mut writer, &fleet(), Some(&keys));
        let (keeper, keeping) = disk.keeper(proxy.facts(), background.clone(), &found);
        let follower = Follower::new(fleet(), Some(keys), found.serves.clone());
        let follower = follower.having_heard(found.epoch);
        let (told, walked) = watch::channel(None);
        let pulse = watch::channel(Pulse::default()).1;
        let walker = Walker::new(proxy.facts(), background, pulse, told);
        let walking = Walking::new(Arc::default(), walked);
        let follower = (fleet(), follower);
        let mut agent = Agent::new(writer, proxy.facts(), follower, walking, Some(keeping));
        agent.found(found);
        let build = kubeng_config::heartbeat::Build {
            version: "1".into(),
            sha256: Digest::default(),
            model_version: MODEL_VERSION,
        };
        let who = Who {
            replica: "r1".parse().unwrap(),
            fleet: fleet(),
            build,
            admin: None,
            labels: Default::default(),
        };
        let (keeper, walker) = (Some(keeper), Some(walker));
        Self { key, agent, keeper, walker, who, nonce: 0, _proxy: proxy }
    }

    fn signed(&self, epoch: u32, at: u64, target: Digest) -> SignedStatement {
        let mut position = Position::default();
        position.advance("folder", at);
        self.key.sign(Statement {
            fleet: fleet(),
            epoch: Epoch(epoch),
            position,
            target,
            model_version: MODEL_VERSION,
        })
    }

    /// Offers what leads from what is served to `newer`.
    async fn offer(&mut self, epoch: u32, at: u64, newer: &Snapshot) -> FromReplica {
        let statement = self.signed(epoch, at, newer.digest());
        self.offer_as(statement, &self.agent.writer.snapshot(), newer).await
    }

    async fn offer_as(
        &mut self,
        statement: SignedStatement,
        base: &Snapshot,
        newer: &Snapshot,
    ) -> FromReplica {
        self.nonce += 1;
        let (nonce, delta) = (self.nonce, base.delta_to(newer));
        let offer = Offer { nonce, delta, statement, received: None };
        self.agent.take(ToReplica::Offer(Box::new(offer))).await.unwrap()
    }

    #[track_caller]
    fn acked(&self, answer: &FromReplica, expected: &Snapshot) {
        let FromReplica::Ack { nonce, digest, .. } = answer else { panic!("{answer:?}") };
        assert_eq!((*nonce, *digest), (self.nonce, expected.digest()));
    }

    #[track_caller]
    fn nacked(&self, answer: &FromReplica, expected: NackReason) {
        let FromReplica::Nack { nonce, reason, problems } = answer else { panic!("{answer:?}") };
        assert_eq!((*nonce, *reason), (self.nonce, expected));
        assert!(!problems.is_empty(), "it says why in words");
    }

    /// Runs the task that keeps while `until` holds, looking at what it tells.
    async fn keep_until(&mut self, tasks: &mut JoinSet<()>, until: impl Fn(&FileState) -> bool) {
        if let Some(keeper) = self.keeper.take() {
            tasks.spawn(keeper.run(CancellationToken::new()));
        }
        let waited = tokio::time::timeout(SOON, async {
            loop {
                if self.agent.kept().is_some_and(|kept| until(&kept.file)) {
                    return;
                }
                saved::file_changed(&mut self.agent.keeping).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{:?}", self.agent.kept()));
        self.agent.look_at_file();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_are_served_or_refused_with_their_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path(), SigningKey::generate().unwrap());
    assert!(rig.agent.hello(&rig.who).serves.is_none());
    let (first, second) = (snapshot(1), snapshot(2));
    let answer = rig.offer(3, 10, &first).await;
    rig.acked(&answer, &first);
    assert_eq!(rig.agent.origin().0, Origin::Controller);

    let answer = rig.offer(2, 11, &second).await;
    rig.nacked(&answer, NackReason::Epoch);
    let answer = rig.offer(3, 9, &second).await;
    rig.nacked(&answer, NackReason::Behind);
    let statement = rig.signed(3, 11, first.digest());
    let answer = rig.offer_as(statement, &second, &first).await;
    rig.nacked(&answer, NackReason::Base);
    let unsigned = SignedStatement { signature: None, ..rig.signed(3, 11, second.digest()) };
    let answer = rig.offer_as(unsigned, &first, &second).await;
    rig.nacked(&answer, NackReason::Unbelieved);

    // A certificate whose key does not come with it cannot be presented.
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let certificate = Certificate {
        chain: vec![Der(Arc::from(made.cert.der().as_ref()))],
        key: "key".parse().unwrap(),
        names: vec![],
        not_after: 0,
        ocsp: None,
    };
    let part = AnyPart::Certificate("c".parse().unwrap(), Part::new(certificate));
    let bad = first.edited([part], []).unwrap();
    let answer = rig.offer(3, 11, &bad).await;
    rig.nacked(&answer, NackReason::Rejected);
    assert_eq!(rig.agent.writer.snapshot().digest(), first.digest(), "it serves what it had");

    let answer = rig.offer(3, 12, &second).await;
    rig.acked(&answer, &second);
    assert!(rig.agent.problems().is_empty());
    let said = rig.agent.hello(&rig.who).serves.unwrap();
    assert_eq!(said.statement.target, second.digest());
    assert!(rig.agent.take(ToReplica::Replicas(NonZeroU32::new(3).unwrap())).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_starts_from_disk_alone_and_hears_no_deposed_leader() {
    let folder = tempfile::tempdir().unwrap();
    let key = SigningKey::generate().unwrap();
    let pkcs8 = key.to_pkcs8().clone();
    let mut tasks = JoinSet::new();
    let mut rig = Rig::start(folder.path(), key);
    let answer = rig.offer(3, 10, &snapshot(1)).await;
    rig.acked(&answer, &snapshot(1));
    rig.keep_until(&mut tasks, |file| *file == FileState::Intact).await;
    // A newer term was heard of, and nothing came of it.
    let statement = rig.signed(7, 1, snapshot(2).digest());
    let answer = rig.offer_as(statement, &snapshot(3), &snapshot(2)).await;
    rig.nacked(&answer, NackReason::Base);
    tasks.shutdown().await;
    drop(rig);

    let mut rig = Rig::start(folder.path(), SigningKey::from_pkcs8(pkcs8.expose()).unwrap());
    assert_eq!(rig.agent.writer.snapshot().digest(), snapshot(1).digest());
    assert_eq!(rig.agent.origin().0, Origin::Disk);
    assert!(rig.agent.is_ready());
    let answer = rig.offer(6, 99, &snapshot(2)).await;
    rig.nacked(&answer, NackReason::Epoch);
    assert_eq!(rig.agent.origin().0, Origin::Controller, "one has been heard");
    drop(rig);

    // What another key stands for is not served.
    let rig = Rig::start(folder.path(), SigningKey::generate().unwrap());
    assert!(!rig.agent.is_ready());
    assert!(rig.agent.problems()[0].message.contains("not taken"), "{:?}", rig.agent.problems());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_cannot_be_opened_counts_until_all_were_open_once() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let with_port = |snapshot: &Snapshot| {
        let listener = Listener::new(taken.local_addr().unwrap(), Protocol::Http);
        let extra = AnyPart::Listener("extra".parse().unwrap(), Part::new(listener));
        snapshot.edited([extra], []).unwrap()
    };
    let codes = |rig: &Rig| -> Vec<_> {
        rig.agent.problems().into_iter().map(|problem| problem.code).collect()
    };
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path(), SigningKey::generate().unwrap());
    rig.offer(1, 1, &with_port(&snapshot(1))).await;
    assert!(!rig.agent.is_ready(), "clients of that port would find nobody");
    assert_eq!(codes(&rig), [kubeng_config::problem::PORT_NOT_BOUND]);
    rig.offer(1, 2, &snapshot(1)).await;
    assert!(rig.agent.is_ready());
    rig.offer(1, 3, &with_port(&snapshot(2))).await;
    assert!(rig.agent.is_ready(), "those that serve are left to serve");
    assert_eq!(codes(&rig), [kubeng_config::problem::PORT_NOT_BOUND]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_somebody_edits_is_told_and_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let key = SigningKey::generate().unwrap();
    let pkcs8 = key.to_pkcs8().clone();
    let mut tasks = JoinSet::new();
    let mut rig = Rig::start(folder.path(), key);
    let answer = rig.offer(1, 1, &snapshot(1)).await;
    rig.acked(&answer, &snapshot(1));
    rig.keep_until(&mut tasks, |file| *file == FileState::Intact).await;
    let kept = folder.path().join("last-known-good");
    let file = std::fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().is_some()).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 40;
    bytes[last] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    rig.keep_until(&mut tasks, |file| matches!(file, FileState::Altered(_))).await;
    assert_eq!(rig.agent.writer.snapshot().digest(), snapshot(1).digest(), "it serves on");

    // A heal writes it again.
    assert!(rig.agent.take(ToReplica::Ask { id: 1, question: Question::Heal }).await.is_none());
    let FromReplica::Reply { id: 1, reply: Ok(Reply::Healed(digest)) } = rig.agent.replied().await
    else {
        panic!("it says what it runs")
    };
    assert_eq!(digest, snapshot(1).digest());
    rig.keep_until(&mut tasks, |file| *file == FileState::Intact).await;
    tasks.shutdown().await;
    drop(rig);
    let rig = Rig::start(folder.path(), SigningKey::from_pkcs8(pkcs8.expose()).unwrap());
    assert!(rig.agent.is_ready(), "what was written again is loaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_nothing_is_told_and_serving_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    // Where the folder should be is a file: nobody, not even root, can write there.
    std::fs::write(folder.path().join("last-known-good"), "").unwrap();
    let mut tasks = JoinSet::new();
    let mut rig = Rig::start(folder.path(), SigningKey::generate().unwrap());
    let answer = rig.offer(1, 1, &snapshot(1)).await;
    rig.acked(&answer, &snapshot(1));
    rig.keep_until(&mut tasks, |file| matches!(file, FileState::Unwritable(_))).await;
    let answer = rig.offer(1, 2, &snapshot(2)).await;
    rig.acked(&answer, &snapshot(2));
    std::fs::remove_file(folder.path().join("last-known-good")).unwrap();
    rig.keep_until(&mut tasks, |file| *file == FileState::Intact).await;
    let kept = rig.agent.kept().unwrap();
    assert_eq!(kept.kept, snapshot(2).digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_from_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path(), SigningKey::generate().unwrap());
    rig.offer(1, 1, &snapshot(1)).await;
    let probe = |target: &str| ProbeRequest {
        listener: "http".parse().unwrap(),
        method: "GET".into(),
        host: Some("a.example".into()),
        target: target.into(),
        headers: vec![("x-test".into(), "1".into())],
    };
    let question = Question::Probe(vec![probe("/x/y?z"), probe("/"), probe("/%2e%2e/x")]);
    let reply = rig.agent.take(ToReplica::Ask { id: 5, question }).await;
    let Some(FromReplica::Reply { id: 5, reply: Ok(Reply::Probe(routes)) }) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(routes[..2], [Some(route_id()), None]);
    let change = Change {
        route: route_id(),
        by: "ann".into(),
        reason: "it burns".into(),
        lasts: Duration::from_secs(3600),
    };
    let told = rig.agent.refuse(&change).unwrap();
    assert!(told.reason.contains("it burns") && told.by == "ann", "{told:?}");
    rig.agent.take(ToReplica::Ask { id: 6, question: Question::Parts }).await;
    let FromReplica::Reply { id: 6, reply: Ok(Reply::Parts { parts, endpoints }) } =
        rig.agent.replied().await
    else {
        panic!("all Parts")
    };
    let digest = |parts: &[AnyPart]| {
        Snapshot::digest_of(parts.iter().map(|part| (part.key(), part.digest())))
    };
    assert_ne!(digest(&parts), snapshot(1).digest(), "the emergency shows");
    assert_eq!((parts.len(), endpoints.len()), (4, 1));
    assert_eq!(rig.agent.end_emergency(), Ended::Ended);
    assert_eq!(rig.agent.end_emergency(), Ended::Nothing);
    assert_eq!(digest(&rig.agent.facts().parts().0), snapshot(1).digest());
    let holdings = rig.agent.take(ToReplica::TellHoldings).await;
    let Some(FromReplica::Holdings(held, parts)) = holdings else { panic!("{holdings:?}") };
    assert_eq!((held, parts.len()), (snapshot(1).digest(), 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_tells_what_was_found_in_the_running_table() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path(), SigningKey::generate().unwrap());
    let beat = |rig: &Rig| {
        let facts = rig.agent.facts();
        let resources = kubeng_proxy::resources(&facts);
        rig.agent.heartbeat(&rig.who, facts.endpoints_digest(), resources)
    };
    assert!(beat(&rig).is_none(), "nobody has looked yet");
    rig.offer(1, 1, &snapshot(1)).await;
    let mut tasks = JoinSet::new();
    let (walker, wanted) = (rig.walker.take().unwrap(), rig.agent.walking.wanted.clone());
    tasks.spawn(async move { walker.run(&wanted, CancellationToken::new()).await });
    let until = async |rig: &mut Rig, digest: Digest, is_wanted: bool| {
        let waited = tokio::time::timeout(SOON, async {
            while beat(rig).is_none_or(|b| (b.running.digest == digest) != is_wanted) {
                rig.agent.walking.walked().await;
            }
        });
        waited.await.unwrap();
    };
    until(&mut rig, snapshot(1).digest(), true).await;
    let told = beat(&rig).unwrap();
    assert_eq!(told.acknowledged, snapshot(1).digest());
    assert!(told.resources.rss_kib > 0 && told.resources.open_files > 0);
    let lasts = Duration::from_secs(3600);
    let (by, reason) = ("ann".to_owned(), "x".to_owned());
    rig.agent.refuse(&Change { route: route_id(), by, reason, lasts }).unwrap();
    until(&mut rig, snapshot(1).digest(), false).await;
    let told = beat(&rig).unwrap();
    assert_eq!(told.acknowledged, snapshot(1).digest());
    assert!(told.emergency.is_some());
    rig.agent.take(ToReplica::Ask { id: 1, question: Question::Heal }).await;
    let told = tokio::time::timeout(SOON, async {
        loop {
            match beat(&rig) {
                Some(told) => break told,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    });
    let told = told.await.unwrap();
    assert_eq!(told.running.digest, snapshot(1).digest(), "what was found before is told no more");
    assert!(told.emergency.is_none());
    tasks.shutdown().await;
}
