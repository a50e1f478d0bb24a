//! Both sides over real sockets on loopback.

mod certificates;
mod labels;
mod versions;

use std::path::PathBuf;
use std::sync::Mutex;

use kubeng_config::canonical::Digest;
use kubeng_config::delta::{AnyPart, Delta};
use kubeng_config::heartbeat::Build;
use kubeng_config::name::FleetName;
use kubeng_config::statement::{Epoch, MODEL_VERSION, SignedStatement, Statement};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::super::authority::token::JoinToken;
use super::super::connection::ControllerUrl;
use super::super::identity::{Certified, Identity};
use super::super::join::{JoinError, join};
use super::super::line::{LINE_MESSAGES_MAX, Line, TurnedAway};
use super::super::subscriber::{LinkState, Subscriber};
use super::super::{FromReplica, Hello, NackReason, Offer, ToReplica};
use super::*;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it comes to pass")
}

/// The ends of the controller of one replica.
struct Taken {
    identified: Identified,
    hello: Hello,
    to: mpsc::Sender<ToReplica>,
    from: mpsc::Receiver<FromReplica>,
}

/// A hub that hands every replica to the test.
struct Desk {
    taken: mpsc::Sender<Taken>,
    refuse: Mutex<Option<TurnedAway>>,
}

impl Hub for Desk {
    async fn join(&self, identified: Identified, hello: Hello) -> Result<Line, TurnedAway> {
        if let Some(why) = self.refuse.lock().unwrap().clone() {
            return Err(why);
        }
        let (to, to_replica) = mpsc::channel(LINE_MESSAGES_MAX);
        let (from_replica, from) = mpsc::channel(LINE_MESSAGES_MAX);
        let taken = Taken { identified, hello, to, from };
        self.taken.send(taken).await.map_err(|_| TurnedAway::NotReady)?;
        Ok(Line { to: to_replica, from: from_replica })
    }
}

/// A controller on a free port of loopback.
struct Controller {
    url: ControllerUrl,
    authority: Arc<Authority>,
    desk: Arc<Desk>,
    taken: mpsc::Receiver<Taken>,
    stop: CancellationToken,
    served: JoinSet<()>,
}

impl Controller {
    async fn start(folder: &std::path::Path) -> Self {
        let authority = Arc::new(Authority::open(folder).unwrap());
        Self::of(authority).await
    }

    async fn of(authority: Arc<Authority>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
        let identity = ServerIdentity::issued(&authority, vec!["127.0.0.1".into()]).unwrap();
        let (sender, taken) = mpsc::channel(8);
        let desk = Arc::new(Desk { taken: sender, refuse: Mutex::new(None) });
        let stop = CancellationToken::new();
        let mut served = JoinSet::new();
        let serving = serve(
            listener,
            Arc::new(identity),
            Arc::clone(&authority),
            Arc::clone(&desk),
            stop.clone(),
        );
        served.spawn(async move { serving.await.unwrap() });
        Self { url, authority, desk, taken, stop, served }
    }

    async fn taken(&mut self) -> Taken {
        soon(self.taken.recv()).await.unwrap()
    }

    async fn end(mut self) {
        self.stop.cancel();
        soon(self.served.join_next()).await.unwrap().unwrap();
    }

    fn token(&self, fleet: &str) -> JoinToken {
        let fleet = fleet.parse().unwrap();
        let life = Duration::from_secs(600);
        let text = self.authority.create_token(&fleet, life, 1, SystemTime::now()).unwrap();
        text.parse().unwrap()
    }

    /// An identity that was certified at `at`, without a token.
    fn certify(&self, data: &std::path::Path, name: &Identified, at: SystemTime) -> Identity {
        certify(&self.authority, data, name, at)
    }
}

fn certify(
    authority: &Authority,
    data: &std::path::Path,
    name: &Identified,
    at: SystemTime,
) -> Identity {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::default();
    let request = params.serialize_request(&key).unwrap();
    let certificate = authority.issue_replica(name, &BTreeMap::new(), request.der(), at).unwrap();
    let certified = Certified {
        key_pem: Zeroizing::new(key.serialize_pem()),
        certificate,
        authorities: vec![authority.certificate().clone()],
        signing_keys: vec![authority.signing_public_key()],
    };
    Identity::store(data, certified).unwrap()
}

fn name(fleet: &str, replica: &str) -> Identified {
    Identified { fleet: fleet.parse().unwrap(), replica: replica.parse().unwrap() }
}

fn hello(of: &Identified) -> Hello {
    Hello {
        replica: of.replica.clone(),
        fleet: of.fleet.clone(),
        build: Build { version: "0.1".into(), sha256: Digest::default(), model_version: 1 },
        admin: None,
        labels: Default::default(),
        certified: Default::default(),
        serves: None,
    }
}

/// A replica that follows until it is dropped.
struct Replica {
    to: mpsc::Receiver<ToReplica>,
    from: mpsc::Sender<FromReplica>,
    state: watch::Receiver<LinkState>,
    stop: CancellationToken,
    running: JoinSet<()>,
}

impl Replica {
    fn start(controllers: Vec<ControllerUrl>, identity: Identity) -> Self {
        let hello = hello(&identity.identified());
        Self::saying(controllers, identity, hello)
    }

    fn saying(controllers: Vec<ControllerUrl>, identity: Identity, hello: Hello) -> Self {
        let (sender, to) = mpsc::channel(LINE_MESSAGES_MAX);
        let (from, receiver) = mpsc::channel(LINE_MESSAGES_MAX);
        let (told, state) = watch::channel(LinkState::default());
        let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
        let subscriber = Subscriber { controllers, identity };
        let token = stop.clone();
        running.spawn(async move {
            let hello = move || hello.clone();
            subscriber.run(hello, sender, receiver, told, token).await;
        });
        Self { to, from, state, stop, running }
    }

    async fn hears(&mut self) -> ToReplica {
        soon(self.to.recv()).await.unwrap()
    }

    async fn offered(&mut self) -> Box<Offer> {
        let heard = self.hears().await;
        let ToReplica::Offer(offer) = heard else { panic!("{heard:?}") };
        offer
    }

    async fn says(&self, message: FromReplica) {
        soon(self.from.send(message)).await.unwrap();
    }

    /// Waits until the state says this; gives all of it.
    async fn state(&mut self, words: &str) -> String {
        let found = self.state.wait_for(|state| state.to_string().contains(words));
        if let Ok(state) = timeout(PATIENCE, found).await {
            return state.unwrap().to_string();
        }
        panic!("not {words:?} but {}", self.state.borrow().clone())
    }

    async fn end(mut self) {
        self.stop.cancel();
        soon(self.running.join_next()).await.unwrap().unwrap();
    }
}

fn offer(nonce: u64, parts: usize) -> ToReplica {
    let upserts: Vec<AnyPart> = (0..parts)
        .map(|nth| {
            let name = kubeng_config::certificate::ServerName::of("c".parse().unwrap());
            let id = format!("https/a-{nth}.example").parse().unwrap();
            AnyPart::ServerName(id, kubeng_config::part::Part::new(name))
        })
        .collect();
    let delta = Delta { upserts, ..Delta::default() };
    let statement = Statement {
        fleet: "prod".parse().unwrap(),
        epoch: Epoch(1),
        position: Default::default(),
        target: Digest::default(),
        model_version: MODEL_VERSION,
    };
    let statement = SignedStatement { statement, signature: None };
    ToReplica::Offer(Box::new(Offer { nonce, delta, statement, received: None }))
}

fn ack(nonce: u64) -> FromReplica {
    FromReplica::Ack { nonce, digest: Digest::default(), problems: Vec::new() }
}

async fn acknowledged(taken: &mut Taken) -> u64 {
    let heard = soon(taken.from.recv()).await;
    let Some(FromReplica::Ack { nonce, .. }) = heard else { panic!("{heard:?}") };
    nonce
}

struct Folders {
    _all: tempfile::TempDir,
    authority: PathBuf,
    data: PathBuf,
}

fn folders() -> Folders {
    let all = tempfile::tempdir().unwrap();
    let (authority, data) = (all.path().join("authority"), all.path().join("data"));
    std::fs::create_dir(&data).unwrap();
    Folders { _all: all, authority, data }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_joins_follows_and_answers() {
    let folders = folders();
    let mut controller = Controller::start(&folders.authority).await;
    let (token, who) = (controller.token("prod"), name("prod", "r-1"));
    let urls = vec![controller.url.clone()];
    join(&urls, &token, &who, &folders.data).await.unwrap();
    // What was stored is enough to start again.
    let identity = Identity::open(&folders.data).unwrap().unwrap();
    assert_eq!(identity.identified(), who);
    assert_eq!(identity.signing_keys(), controller.authority.signing_public_key());

    let mut replica = Replica::start(urls, identity);
    let mut taken = controller.taken().await;
    assert_eq!((&taken.identified, &taken.hello), (&who, &hello(&who)));
    replica.state("follows https://127.0.0.1:").await;

    // One of many frames, then one of one.
    for (nonce, parts) in [(1, 5_000), (2, 1)] {
        taken.to.send(offer(nonce, parts)).await.unwrap();
        let offer = replica.offered().await;
        assert_eq!(offer.delta.upserts.len(), parts);
        replica.says(ack(offer.nonce)).await;
        assert_eq!(acknowledged(&mut taken).await, nonce, "the number is that of the controller");
    }
    // Many messages from the replica as well.
    let key = "listener".parse().unwrap();
    let parts = vec![(kubeng_config::delta::PartKey::Listener(key), Digest::default()); 20_000];
    taken.to.send(ToReplica::TellHoldings).await.unwrap();
    assert!(matches!(replica.hears().await, ToReplica::TellHoldings));
    replica.says(FromReplica::Holdings(Digest::default(), parts)).await;
    let heard = soon(taken.from.recv()).await;
    let Some(FromReplica::Holdings(_, parts)) = heard else { panic!("{heard:?}") };
    assert_eq!(parts.len(), 20_000);
    replica.end().await;
    assert!(soon(taken.from.recv()).await.is_none(), "the line ends with the replica");
    controller.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_moves_to_another_controller_and_its_old_answers_stay_behind() {
    let folders = folders();
    let mut first = Controller::start(&folders.authority).await;
    let mut second = Controller::start(&folders.authority).await;
    let who = name("prod", "r-1");
    let identity = first.certify(&folders.data, &who, SystemTime::now());
    let mut replica = Replica::start(vec![first.url.clone(), second.url.clone()], identity);

    // It begins with any of the two.
    let (mut taken, one, mut other) = tokio::select! {
        taken = first.taken() => (taken, first, second),
        taken = second.taken() => (taken, second, first),
    };
    taken.to.send(offer(7, 1)).await.unwrap();
    let old = replica.offered().await;
    replica.state("follows").await;
    let cut = std::time::Instant::now();
    one.end().await;
    let mut next = other.taken().await;
    // 5 s are promised, on a machine that is not as busy as one that tests.
    assert!(cut.elapsed() < Duration::from_secs(20), "{:?}", cut.elapsed());
    assert!(soon(taken.from.recv()).await.is_none());

    next.to.send(offer(7, 1)).await.unwrap();
    let new = replica.offered().await;
    assert_ne!(old.nonce, new.nonce, "the same number of the controller is another one here");
    replica
        .says(FromReplica::Nack {
            nonce: old.nonce,
            reason: NackReason::Rejected,
            problems: Vec::new(),
        })
        .await;
    replica.says(ack(new.nonce)).await;
    assert_eq!(acknowledged(&mut next).await, 7, "the answer to the old offer was not sent");
    replica.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_turns_it_away_is_left_for_another() {
    let folders = folders();
    let first = Controller::start(&folders.authority).await;
    let mut second = Controller::start(&folders.authority).await;
    *first.desk.refuse.lock().unwrap() = Some(TurnedAway::NotReady);
    let who = name("prod", "r-1");
    let identity = first.certify(&folders.data, &who, SystemTime::now());
    let mut replica = Replica::start(vec![first.url.clone(), second.url.clone()], identity);
    let _taken = second.taken().await;
    replica.state(&format!("follows {}", second.url)).await;

    *second.desk.refuse.lock().unwrap() = Some(TurnedAway::UnknownFleet("prod".parse().unwrap()));
    drop(_taken);
    let said = replica.state("there is no fleet prod").await;
    assert!(said.starts_with("is not connected to any controller"), "{said}");
    replica.end().await;
    first.end().await;
    second.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_replica_cannot_read_is_refused_by_it_and_the_connection_goes_on() {
    let folders = folders();
    let mut controller = Controller::start(&folders.authority).await;
    let who = name("prod", "r-1");
    let identity = controller.certify(&folders.data, &who, SystemTime::now());
    let mut replica = Replica::start(vec![controller.url.clone()], identity);
    let mut taken = controller.taken().await;
    // The key of a Service without a namespace can be written, but not read.
    let ToReplica::Offer(mut bad) = offer(3, 1) else { panic!("an offer") };
    let service = kubeng_config::name::ObjectKind::Service;
    let object = kubeng_config::name::ObjectKey::new(service, "", "web");
    let backend = kubeng_config::name::BackendId { object, port: None };
    bad.delta.endpoints = vec![(backend, Arc::default())];
    taken.to.send(ToReplica::Offer(bad)).await.unwrap();
    let heard = soon(taken.from.recv()).await;
    let Some(FromReplica::Nack { nonce: 3, reason: NackReason::Rejected, problems }) = heard else {
        panic!("{heard:?}")
    };
    assert!(problems[0].to_string().contains("Service/web"), "{problems:?}");
    replica.state("said what this version cannot read").await;
    taken.to.send(offer(4, 1)).await.unwrap();
    let offer = replica.offered().await;
    replica.says(ack(offer.nonce)).await;
    assert_eq!(acknowledged(&mut taken).await, 4);
    replica.end().await;
    controller.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_read_is_bounded_and_cut_off() {
    let folders = folders();
    let mut controller = Controller::start(&folders.authority).await;
    let who = name("prod", "r-1");
    let identity = controller.certify(&folders.data, &who, SystemTime::now());
    let mut replica = Replica::start(vec![controller.url.clone()], identity);
    let taken = controller.taken().await;
    // Nobody takes from `replica.to`, so every buffer on the way fills up, and then nothing moves.
    // What is sent cannot be compressed.
    let mut sent = 0;
    let end = timeout(PROGRESS_PATIENCE, async {
        while taken.to.send(incompressible(sent)).await.is_ok() {
            sent += 1;
            assert!(sent < 1_000, "it is bounded");
        }
    });
    end.await.expect("the line ends");
    assert!(sent > 0);
    replica.to.close();
    replica.end().await;
    controller.end().await;
}

/// More than the time without progress after which it is cut off.
const PROGRESS_PATIENCE: Duration = Duration::from_secs(120);

/// A message of about 200 KiB that no compression makes smaller.
fn incompressible(seed: u64) -> ToReplica {
    let mut random = fastrand::Rng::with_seed(seed);
    let endpoints = (0..3_000)
        .map(|_| {
            let address: [u8; 16] = std::array::from_fn(|_| random.u8(..));
            kubeng_config::endpoint::Endpoint::new((address, random.u16(..)).into())
        })
        .collect();
    let set = Arc::new(kubeng_config::endpoint::EndpointSet::new(endpoints));
    let sets = vec![("Service/shop/web:80".parse().unwrap(), set)];
    ToReplica::Endpoints { sets, received: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_harms_nobody_else() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let folders = folders();
    let mut controller = Controller::start(&folders.authority).await;
    let address = controller.url.to_string().replace("https://", "");
    let mut noise = vec![0; 4_096];
    fastrand::Rng::with_seed(7).fill(&mut noise);
    for bytes in [&noise[..], b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        // It may be closed before all of it is written.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = soon(stream.read_to_end(&mut answer)).await;
    }
    // Behind a good certificate, too.
    let identity = controller.certify(&folders.data, &name("prod", "r-1"), SystemTime::now());
    let tracker = TaskTracker::new();
    let tls = tls::client(&identity.credentials()).unwrap();
    let connection =
        super::super::connection::Connection::open(&controller.url, tls, &tracker).await.unwrap();
    let frame = super::super::wire::proto::FromReplica {
        said: Some(super::super::wire::proto::from_replica::Said::Heartbeat(noise.clone().into())),
    };
    let outgoing = futures::stream::iter([frame]);
    let followed = soon(connection.delivery().follow(tonic::Request::new(outgoing))).await;
    let status = followed.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("a heartbeat cannot be read"), "{status:?}");
    drop(connection);

    let mut replica = Replica::start(vec![controller.url.clone()], identity);
    let _taken = controller.taken().await;
    replica.state("follows").await;
    replica.end().await;
    controller.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_let_in_whom_they_are_for_and_say_why_not() {
    let folders = folders();
    let controller = Controller::start(&folders.authority).await;
    let second = Controller::start(&folders.authority).await;
    let urls = vec![controller.url.clone()];
    let token = controller.token("prod");
    let who = name("prod", "r-1");
    let refused = |joined: Result<Identity, JoinError>, words: &str| {
        let error = joined.err().expect("nobody joins").to_string();
        assert!(error.contains(words), "{error}");
        assert!(error.contains("kubeng token create"), "{error}");
    };
    refused(
        join(&urls, &token, &name("test", "r-1"), &folders.data).await,
        "the join token is for fleet prod, not for test",
    );
    join(&urls, &token, &who, &folders.data).await.unwrap();
    // At another controller as well.
    let again = join(std::slice::from_ref(&second.url), &token, &who, &folders.data).await;
    refused(again, "used 1 of 1 times");

    let fleet: FleetName = "prod".parse().unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(7200);
    let ended = controller.authority.create_token(&fleet, Duration::from_secs(60), 1, long_ago);
    let joined = join(&urls, &ended.unwrap().parse().unwrap(), &who, &folders.data).await;
    refused(joined, "the join token ended 71");

    controller.end().await;
    second.end().await;
}

/// Passes bytes on both ways until told to stop; then it holds both connections open, silently.
async fn relay(listener: TcpListener, to: String, silent: CancellationToken) {
    let (mut here, _) = listener.accept().await.unwrap();
    let mut there = TcpStream::connect(to).await.unwrap();
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut here, &mut there) => {}
        () = silent.cancelled() => std::future::pending().await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_falls_silent_is_left() {
    let folders = folders();
    let mut first = Controller::start(&folders.authority).await;
    let mut second = Controller::start(&folders.authority).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    let silent = CancellationToken::new();
    let mut relays = JoinSet::new();
    let target = first.url.to_string().replace("https://", "");
    relays.spawn(relay(listener, target, silent.clone()));

    *second.desk.refuse.lock().unwrap() = Some(TurnedAway::NotReady);
    let identity = first.certify(&folders.data, &name("prod", "r-1"), SystemTime::now());
    let mut replica = Replica::start(vec![through, second.url.clone()], identity);
    let _taken = first.taken().await;
    replica.state("follows").await;
    *second.desk.refuse.lock().unwrap() = None;
    let cut = std::time::Instant::now();
    silent.cancel();
    second.taken().await;
    assert!(cut.elapsed() < Duration::from_secs(30), "{:?}", cut.elapsed());
    replica.end().await;
    relays.shutdown().await;
    first.end().await;
    second.end().await;
}

/// Gives others the processor while a fact is waited for.
async fn sleep_a_little() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}
