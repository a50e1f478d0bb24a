use std::sync::Arc;
use std::time::{Duration, Instant};

use kubeng_config::address::AddressRule;
use kubeng_config::backend::{Backend, BackendProtocol, EndpointSource};
use kubeng_config::canonical::Digest;
use kubeng_config::certificate::{Certificate, Secret, ServerName};
use kubeng_config::delta::{AnyPart, Delta, PartKey};
use kubeng_config::endpoint::{Endpoint, EndpointSet};
use kubeng_config::fleet::Pulse;
use kubeng_config::heartbeat::Build;
use kubeng_config::name::BackendId;
use kubeng_config::part::Part;
use kubeng_config::position::Position;
use kubeng_config::problem::{self, Problem, Subject};
use kubeng_config::provenance::Provenance;
use kubeng_config::statement::{Epoch, MODEL_VERSION, Signature, SignedStatement, Statement};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

use super::super::{
    FromReplica, Hello, NackReason, Offer, ProbeRequest, Question, Reply, ToReplica,
};
use super::to_replica::Heard;
use super::{from_replica, proto, to_replica};

fn digest() -> impl Strategy<Value = Digest> {
    any::<u32>().prop_map(|seed| Digest::of([seed.to_be_bytes().as_slice()]))
}

fn backend_id() -> impl Strategy<Value = BackendId> {
    "[a-z]{1,8}".prop_map(|name| format!("Service/shop/{name}:80").parse().unwrap())
}

pub(crate) fn backend(rule: AddressRule) -> Part<Backend> {
    Part::new(Backend {
        protocol: BackendProtocol::Http1,
        tls: None,
        balance: Default::default(),
        affinity: None,
        resilience: None,
        endpoints: EndpointSource::Discovered,
        resolve: None,
        addresses: rule,
        proxy_protocol: None,
    })
}

fn part() -> impl Strategy<Value = AnyPart> {
    let name = "[a-z]{1,8}";
    prop_oneof![
        backend_id().prop_map(|id| AnyPart::Backend(id, backend(AddressRule::Tenant))),
        (name, vec(any::<u8>(), 0..2000)).prop_map(|(name, der)| {
            let certificate = Certificate {
                chain: vec![hex::encode(der).parse().unwrap()],
                key: "k".parse().unwrap(),
                names: vec![name.clone()],
                not_after: 7,
                ocsp: None,
            };
            AnyPart::Certificate(name.parse().unwrap(), Part::new(certificate))
        }),
        name.prop_map(|name| {
            let id = format!("https/{name}.example").parse().unwrap();
            AnyPart::ServerName(id, Part::new(ServerName::of("c".parse().unwrap())))
        }),
    ]
}

fn key() -> impl Strategy<Value = PartKey> {
    prop_oneof![
        part().prop_map(|part| part.key()),
        "\\PC{1,20}".prop_map(|rule| {
            PartKey::Route(format!("Ingress/shop/web#{rule}").parse().unwrap())
        }),
        "[a-z]{1,9}".prop_map(|name| PartKey::Listener(name.parse().unwrap())),
        "[a-z]{1,9}".prop_map(|name| PartKey::Policy(name.parse().unwrap())),
    ]
}

fn set() -> impl Strategy<Value = (BackendId, Arc<EndpointSet>)> {
    let endpoint = (any::<u16>(), any::<u16>()).prop_map(|(port, weight)| Endpoint {
        weight,
        zone: (weight % 2 == 0).then(|| "a".into()),
        ..Endpoint::new(([10, 0, 0, 1], port).into())
    });
    (backend_id(), vec(endpoint, 0..9))
        .prop_map(|(id, endpoints)| (id, Arc::new(EndpointSet::new(endpoints))))
}

fn statement() -> impl Strategy<Value = SignedStatement> {
    (digest(), any::<u64>(), any::<bool>()).prop_map(|(target, at, signed)| {
        let mut position = Position::default();
        position.advance("kubernetes", at);
        let fleet = "prod".parse().unwrap();
        let statement =
            Statement { fleet, epoch: Epoch(3), position, target, model_version: MODEL_VERSION };
        SignedStatement { statement, signature: signed.then_some(Signature([9; 64])) }
    })
}

/// Ages are whole microseconds, as they travel.
fn received(now: Instant) -> impl Strategy<Value = Option<Instant>> {
    proptest::option::of(
        (0..1_000_000_u64)
            .prop_map(move |age| now.checked_sub(Duration::from_micros(age)).unwrap_or(now)),
    )
}

fn offer(now: Instant) -> impl Strategy<Value = Offer> {
    let secret = ("[a-f0-9]{8}", vec(any::<u8>(), 0..99))
        .prop_map(|(id, bytes)| (id.parse().unwrap(), Secret::new(bytes)));
    let delta =
        (digest(), vec(part(), 0..300), vec(key(), 0..9), vec(set(), 0..9), vec(secret, 0..4));
    let delta =
        (digest(), delta).prop_map(|(base, (target, upserts, removed, endpoints, secrets))| {
            Delta { base, target, upserts, removed, endpoints, secrets }
        });
    (any::<u64>(), delta, statement(), received(now))
        .prop_map(|(nonce, delta, statement, received)| Offer { nonce, delta, statement, received })
}

fn to_a_replica(now: Instant) -> impl Strategy<Value = ToReplica> {
    let request = ("[A-Z]{1,5}", proptest::option::of("[a-z]{1,9}"), "/[a-z]{0,9}").prop_map(
        |(method, host, target)| ProbeRequest {
            listener: "https".parse().unwrap(),
            method,
            host,
            target,
            headers: vec![("x-a".into(), "b".into())],
        },
    );
    let question = prop_oneof![
        Just(Question::Parts),
        Just(Question::Heal),
        vec(request, 0..9).prop_map(Question::Probe)
    ];
    prop_oneof![
        offer(now).prop_map(|offer| ToReplica::Offer(Box::new(offer))),
        (vec(set(), 1..9), received(now))
            .prop_map(|(sets, received)| ToReplica::Endpoints { sets, received }),
        Just(()).prop_map(|()| ToReplica::TellHoldings),
        (1..99_u32).prop_map(|count| ToReplica::Replicas(count.try_into().unwrap())),
        (1_000..=60_000_u64, 10_000..=3_600_000_u64).prop_map(|(beat, check)| {
            ToReplica::Pulse(Pulse {
                heartbeat_every: Duration::from_millis(beat),
                table_check_every: Duration::from_millis(check),
            })
        }),
        (any::<u64>(), question).prop_map(|(id, question)| ToReplica::Ask { id, question }),
    ]
}

fn problem() -> impl Strategy<Value = Problem> {
    ("\\PC{0,9}", 0..4).prop_map(|(text, kind)| Problem {
        subject: match kind {
            0 => Subject::Object("Ingress/shop/web".parse().unwrap()),
            _ => Subject::Other(text.clone()),
        },
        field: "/spec".into(),
        code: problem::PORT_NOT_BOUND,
        message: text,
        remedy: "mend it".into(),
        provenance: match kind {
            0 => None,
            1 => Some(Provenance::File { path: "a.yaml".into(), line: 7 }),
            2 => Some(Provenance::Cluster { version: "9".into() }),
            _ => Some(Provenance::Product),
        },
    })
}

fn hello() -> impl Strategy<Value = Hello> {
    (proptest::option::of(statement()), digest(), any::<Option<u16>>()).prop_map(
        |(serves, sha256, port)| Hello {
            replica: "r-1".parse().unwrap(),
            fleet: "prod".parse().unwrap(),
            build: Build { version: "0.1".into(), sha256, model_version: 1 },
            admin: port.map(|port| ([127, 0, 0, 1], port).into()),
            labels: port.iter().map(|port| ("site".into(), format!("bj-{port}"))).collect(),
            certified: Default::default(),
            serves,
        },
    )
}

fn from_a_replica() -> impl Strategy<Value = FromReplica> {
    let reason = prop_oneof![
        Just(NackReason::Rejected),
        Just(NackReason::Base),
        Just(NackReason::Epoch),
        Just(NackReason::Behind),
        Just(NackReason::Unbelieved)
    ];
    let route = proptest::option::of(Just("Ingress/shop/web#a/".parse().unwrap()));
    let reply = prop_oneof![
        "\\PC{0,9}".prop_map(Err),
        digest().prop_map(|digest| Ok(Reply::Healed(digest))),
        vec(route, 0..9).prop_map(|routes| Ok(Reply::Probe(routes))),
        (vec(part(), 0..300), vec(set(), 0..9))
            .prop_map(|(parts, endpoints)| Ok(Reply::Parts { parts, endpoints })),
    ];
    prop_oneof![
        hello().prop_map(|hello| FromReplica::Hello(Box::new(hello))),
        (digest(), vec((key(), digest()), 0..5000))
            .prop_map(|(digest, parts)| FromReplica::Holdings(digest, parts)),
        (any::<u64>(), digest(), vec(problem(), 0..4))
            .prop_map(|(nonce, digest, problems)| FromReplica::Ack { nonce, digest, problems }),
        (any::<u64>(), reason, vec(problem(), 0..4))
            .prop_map(|(nonce, reason, problems)| FromReplica::Nack { nonce, reason, problems }),
        (any::<u64>(), reply).prop_map(|(id, reply)| FromReplica::Reply { id, reply }),
    ]
}

fn secrets(message: &ToReplica) -> Vec<Vec<u8>> {
    match message {
        ToReplica::Offer(offer) => {
            offer.delta.secrets.iter().map(|(_, secret)| secret.expose().to_vec()).collect()
        }
        ToReplica::Endpoints { .. }
        | ToReplica::TellHoldings
        | ToReplica::Replicas(_)
        | ToReplica::Pulse(_)
        | ToReplica::Ask { .. } => Vec::new(),
    }
}

/// Reads frames, each through its bytes.
fn read_to(reader: &mut to_replica::Reader, frames: Vec<proto::ToReplica>, now: Instant) -> Heard {
    let count = frames.len();
    for (nth, frame) in frames.into_iter().enumerate() {
        let frame = proto::ToReplica::decode(&frame.encode_to_vec()[..]).unwrap();
        match reader.read(frame, now).unwrap() {
            Heard::Piece => assert!(nth + 1 < count, "the last frame ends the message"),
            heard @ (Heard::Message(_) | Heard::Unreadable { .. }) => {
                assert_eq!(nth + 1, count, "the message ends with the last frame");
                return heard;
            }
        }
    }
    panic!("nothing was heard")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_a_replica_is_told_survives_the_way(
        (now, message) in Just(Instant::now()).prop_flat_map(|now| (Just(now), to_a_replica(now)))
    ) {
        let (shown, keys) = (format!("{message:?}"), secrets(&message));
        let frames = to_replica::write(message, now).collect();
        let heard = read_to(&mut to_replica::Reader::default(), frames, now);
        let Heard::Message(message) = heard else { panic!("{heard:?}") };
        prop_assert_eq!(format!("{message:?}"), shown);
        prop_assert_eq!(secrets(&message), keys);
    }

    #[test]
    fn what_a_replica_tells_survives_the_way(message in from_a_replica()) {
        let shown = format!("{message:?}");
        let mut reader = from_replica::Reader::default();
        let mut read = None;
        for frame in from_replica::write(message) {
            let frame = proto::FromReplica::decode(&frame.encode_to_vec()[..]).unwrap();
            prop_assert!(read.is_none(), "the message ends with the last frame");
            read = reader.read(frame).unwrap();
        }
        prop_assert_eq!(format!("{:?}", read.unwrap()), shown);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn bytes_of_anybody_are_refused_and_nothing_else_happens(
        bytes in vec(any::<u8>(), 0..200), flip in any::<(u16, u8)>()
    ) {
        let now = Instant::now();
        if let Ok(frame) = proto::ToReplica::decode(&bytes[..]) {
            let _ = to_replica::Reader::default().read(frame, now);
        }
        if let Ok(frame) = proto::FromReplica::decode(&bytes[..]) {
            let _ = from_replica::Reader::default().read(frame);
        }
        // Nearly right is a harder case than noise.
        let mut written = one_offer(now).remove(0).encode_to_vec();
        let at = usize::from(flip.0) % written.len();
        written[at] ^= flip.1;
        if let Ok(frame) = proto::ToReplica::decode(&written[..]) {
            let _ = to_replica::Reader::default().read(frame, now);
        }
    }
}

fn signed() -> SignedStatement {
    let statement = Statement {
        fleet: "prod".parse().unwrap(),
        epoch: Epoch(1),
        position: Position::default(),
        target: Digest::default(),
        model_version: MODEL_VERSION,
    };
    SignedStatement { statement, signature: None }
}

fn one_offer(now: Instant) -> Vec<proto::ToReplica> {
    let id: BackendId = "Service/shop/web:80".parse().unwrap();
    let upserts = vec![
        AnyPart::Backend(id.clone(), backend(AddressRule::Tenant)),
        AnyPart::ServerName(
            "https/a.example".parse().unwrap(),
            Part::new(ServerName::of("c".parse().unwrap())),
        ),
    ];
    let endpoints = vec![(id, Arc::new(EndpointSet::default()))];
    let delta = Delta { upserts, endpoints, ..Delta::default() };
    let offer = Offer { nonce: 7, delta, statement: signed(), received: None };
    to_replica::write(ToReplica::Offer(Box::new(offer)), now).collect()
}

/// Alters the one frame of an Offer, and gives what the replica answers.
#[track_caller]
fn altered(alter: impl FnOnce(&mut proto::OfferFrame)) -> (NackReason, Vec<Problem>) {
    let now = Instant::now();
    let mut frames = one_offer(now);
    assert_eq!(frames.len(), 1);
    let Some(proto::to_replica::Said::Offer(frame)) = &mut frames[0].said else {
        panic!("an offer was written")
    };
    alter(frame);
    let heard = read_to(&mut to_replica::Reader::default(), frames, now);
    let Heard::Unreadable { answer: Some(answer), .. } = heard else { panic!("{heard:?}") };
    let FromReplica::Nack { nonce: 7, reason, problems } = answer else { panic!("{answer:?}") };
    (reason, problems)
}

#[test]
fn a_part_that_cannot_be_read_is_refused_by_its_name_and_field() {
    let (reason, problems) = altered(|frame| {
        let text = String::from_utf8(frame.upserts[0].content.to_vec()).unwrap();
        frame.upserts[0].content = text.replace(r#""http1""#, r#""http9""#).into();
    });
    assert_eq!(reason, NackReason::Rejected);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].subject.to_string(), "backend Service/shop/web:80");
    assert_eq!(problems[0].field, "/protocol");
    assert!(problems[0].message.contains("http9"), "{problems:?}");

    let (_, problems) = altered(|frame| {
        frame.upserts[0].content = b"{\"x\":1}".as_slice().into();
        frame.upserts[1].kind = 99;
        frame.endpoints[0].endpoints = b"[ ]".as_slice().into();
    });
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 3, "all faults are told: {shown:?}");
    assert!(shown[1].contains("https/a.example") && shown[1].contains("99"), "{shown:?}");
    assert!(shown[2].contains("canonical"), "{shown:?}");
}

#[test]
fn a_statement_that_cannot_be_read_is_not_believed() {
    let (reason, problems) = altered(|frame| {
        frame.head.as_mut().unwrap().statement = b"{}".as_slice().into();
    });
    assert_eq!(reason, NackReason::Unbelieved);
    assert_eq!(problems[0].subject.to_string(), "statement");
}

#[test]
fn frames_that_do_not_follow_each_other_end_the_connection() {
    let now = Instant::now();
    let first = |last| {
        let mut frame = one_offer(now).remove(0);
        if let Some(proto::to_replica::Said::Offer(frame)) = &mut frame.said {
            frame.last = last;
        }
        frame
    };
    let other = proto::ToReplica { said: Some(proto::to_replica::Said::Replicas(3)) };
    let headless = proto::ToReplica {
        said: Some(proto::to_replica::Said::Offer(proto::OfferFrame {
            nonce: 8,
            ..Default::default()
        })),
    };
    for frames in [
        vec![headless.clone()],
        vec![first(false), headless],
        vec![first(false), first(true)],
        vec![first(false), other],
    ] {
        let mut reader = to_replica::Reader::default();
        let mut results: Vec<_> =
            frames.into_iter().map(|frame| reader.read(frame, now).is_err()).collect();
        assert_eq!(results.pop(), Some(true));
        assert!(!results.contains(&true), "{results:?}");
    }
}

#[test]
fn a_large_offer_travels_in_frames_of_bounded_size() {
    let now = Instant::now();
    let upserts: Vec<AnyPart> = (0..5000)
        .map(|nth| {
            let id = format!("Service/shop/web-{nth}:80").parse().unwrap();
            AnyPart::Backend(id, backend(AddressRule::Tenant))
        })
        .collect();
    let delta = Delta { upserts, ..Delta::default() };
    let offer = Offer { nonce: 1, delta, statement: signed(), received: None };
    let frames: Vec<_> = to_replica::write(ToReplica::Offer(Box::new(offer)), now).collect();
    assert!(frames.len() > 1, "{}", frames.len());
    for frame in &frames {
        assert!(frame.encoded_len() < super::FRAME_BYTES + 16 * 1024, "{}", frame.encoded_len());
    }
    let heard = read_to(&mut to_replica::Reader::default(), frames, now);
    let Heard::Message(ToReplica::Offer(offer)) = heard else { panic!("{heard:?}") };
    assert_eq!(offer.delta.upserts.len(), 5000);
}

#[test]
fn a_problem_of_a_later_version_is_told_as_well_as_it_can_be() {
    let written = proto::Problem {
        subject: Some(proto::problem::Subject::Object("Gateway/a/b".into())),
        code: "KNG-9999".into(),
        message: "odd".into(),
        ..Default::default()
    };
    let ack = proto::Ack { nonce: 1, digest: vec![0; 32].into(), problems: vec![written] };
    let frame = proto::FromReplica { said: Some(proto::from_replica::Said::Ack(ack)) };
    let read = from_replica::Reader::default().read(frame).unwrap();
    let Some(FromReplica::Ack { problems, .. }) = read else { panic!("{read:?}") };
    assert_eq!(problems[0].subject, Subject::Other("Gateway/a/b".into()));
    assert_eq!(problems[0].message, "KNG-9999: odd");
}

#[test]
fn a_replica_of_a_later_version_is_let_in_and_heard_as_far_as_it_can_be_read() {
    let read = |said| {
        let frame = proto::FromReplica { said: Some(said) };
        from_replica::Reader::default().read(frame)
    };
    let said = |text: &str| proto::from_replica::Said::Heartbeat(text.to_owned().into());
    let sha256 = Digest::default();
    let build =
        format!(r#"{{"modelVersion":2,"mood":"good","sha256":"{sha256}","version":"9.0.0"}}"#);
    let heard = read(said(&format!(r#"{{"build":{build},"mood":"good"}}"#))).unwrap();
    let Some(FromReplica::Unread(why)) = heard else { panic!("{heard:?}") };
    assert!(why.contains("a heartbeat cannot be read"), "{why}");
    for noise in ["noise", "{}", r#"{"build":{}}"#] {
        assert!(read(said(noise)).is_err(), "it comes from no replica: {noise}");
    }
    let hello = |build: &str| {
        proto::from_replica::Said::Hello(proto::Hello {
            replica: "r1".into(),
            fleet: "prod".into(),
            build: build.to_owned().into(),
            serves: Some(r#"{"statement":"in other words"}"#.to_owned().into()),
            ..Default::default()
        })
    };
    let heard = read(hello(&build)).unwrap();
    let Some(FromReplica::Hello(hello_read)) = heard else { panic!("{heard:?}") };
    let expected = Build { version: "9.0.0".into(), sha256, model_version: 2 };
    assert_eq!((&hello_read.build, &hello_read.serves), (&expected, &None));
    assert!(read(hello("{}")).is_err(), "who it is must be said");
}

#[test]
fn a_pulse_out_of_range_is_not_followed() {
    for (heartbeat, check) in [(999, 60_000), (60_001, 60_000), (5_000, 9_999), (5_000, u64::MAX)] {
        let pulse =
            proto::Pulse { heartbeat_milliseconds: heartbeat, table_check_milliseconds: check };
        let frame = proto::ToReplica { said: Some(proto::to_replica::Said::Pulse(pulse)) };
        let heard = to_replica::Reader::default().read(frame, Instant::now()).unwrap();
        assert!(matches!(heard, Heard::Unreadable { answer: None, .. }), "{heard:?}");
    }
}
