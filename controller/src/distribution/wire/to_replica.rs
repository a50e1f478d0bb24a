//! What a replica is told, as frames and back.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use kubeng_config::canonical;
use kubeng_config::compact::Compact;
use kubeng_config::delta::Delta;
use kubeng_config::fleet::Pulse;
use kubeng_config::problem::{self, Problem, Subject};
use kubeng_config::statement::SignedStatement;

use super::super::{FromReplica, NackReason, Offer, ProbeRequest, Question, ToReplica};
use super::part;
use super::proto::{self, ask, to_replica::Said};
use super::{
    PROBLEMS_MAX, WHOLE_BYTES_MAX, WireError, age, content, digest, digest_bytes, fill, in_full,
    moment,
};

/// What is sent for one message, frame by frame.
pub(crate) type Frames = Box<dyn Iterator<Item = proto::ToReplica> + Send>;

/// Writes `message` at `now`, each frame when it is asked for.
pub(crate) fn write(message: ToReplica, now: Instant) -> Frames {
    let said = match message {
        ToReplica::Offer(offer) => return Box::new(OfferFrames::new(*offer, now)),
        ToReplica::Endpoints { sets, received } => {
            let mut sets = sets.into_iter();
            let age_microseconds = age(received, now);
            return Box::new(std::iter::from_fn(move || {
                let mut frame = proto::Endpoints { sets: Vec::new(), age_microseconds };
                fill(&mut frame.sets, &mut sets, &mut 0, part::endpoints);
                // Each frame is a message of its own, for the newest of each Backend counts.
                (!frame.sets.is_empty()).then_some(said_of(Said::Endpoints(frame)))
            }));
        }
        ToReplica::TellHoldings => Said::TellHoldings(proto::TellHoldings {}),
        ToReplica::Replicas(count) => Said::Replicas(count.get()),
        ToReplica::Pulse(pulse) => Said::Pulse(write_pulse(pulse)),
        ToReplica::Ask { id, question } => {
            Said::Ask(proto::Ask { id, question: Some(write_question(&question)) })
        }
    };
    Box::new(std::iter::once(said_of(said)))
}

fn said_of(said: Said) -> proto::ToReplica {
    proto::ToReplica { said: Some(said) }
}

fn write_pulse(pulse: Pulse) -> proto::Pulse {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let Pulse { heartbeat_every, table_check_every } = pulse;
    proto::Pulse {
        heartbeat_milliseconds: millis(heartbeat_every),
        table_check_milliseconds: millis(table_check_every),
    }
}

/// None where a time is out of its range: a replica must not be made to do nothing else.
fn read_pulse(pulse: proto::Pulse) -> Option<Pulse> {
    let heartbeat_every = Duration::from_millis(pulse.heartbeat_milliseconds);
    let table_check_every = Duration::from_millis(pulse.table_check_milliseconds);
    let is_in_range = Pulse::HEARTBEAT.contains(&heartbeat_every)
        && Pulse::TABLE_CHECK.contains(&table_check_every);
    is_in_range.then_some(Pulse { heartbeat_every, table_check_every })
}

fn write_question(question: &Question) -> ask::Question {
    match question {
        Question::Parts => ask::Question::Parts(proto::AskParts {}),
        Question::Heal => ask::Question::Heal(proto::AskHeal {}),
        Question::Probe(requests) => {
            let requests =
                requests.iter().map(|request| canonical::to_bytes(request).into()).collect();
            ask::Question::Probe(proto::AskProbe { requests })
        }
    }
}

struct OfferFrames {
    nonce: u64,
    head: Option<proto::OfferHead>,
    upserts: std::vec::IntoIter<kubeng_config::delta::AnyPart>,
    removed: std::vec::IntoIter<kubeng_config::delta::PartKey>,
    endpoints: std::vec::IntoIter<Endpoints>,
    secrets: std::vec::IntoIter<Key>,
    whole: bool,
}

type Endpoints =
    (kubeng_config::name::BackendId, std::sync::Arc<kubeng_config::endpoint::EndpointSet>);
type Key = (kubeng_config::name::SecretId, kubeng_config::certificate::Secret);

impl OfferFrames {
    fn new(offer: Offer, now: Instant) -> Self {
        let Offer { nonce, delta, statement, received } = offer;
        let Delta { base, target, upserts, removed, endpoints, secrets } = delta;
        let head = proto::OfferHead {
            base: digest_bytes(&base),
            target: digest_bytes(&target),
            statement: canonical::to_bytes(&statement).into(),
            age_microseconds: age(received, now),
        };
        Self {
            nonce,
            head: Some(head),
            upserts: upserts.into_iter(),
            removed: removed.into_iter(),
            endpoints: endpoints.into_iter(),
            secrets: secrets.into_iter(),
            whole: false,
        }
    }
}

impl Iterator for OfferFrames {
    type Item = proto::ToReplica;

    fn next(&mut self) -> Option<proto::ToReplica> {
        if self.whole {
            return None;
        }
        let mut frame =
            proto::OfferFrame { nonce: self.nonce, head: self.head.take(), ..Default::default() };
        let mut bytes = 0;
        fill(&mut frame.upserts, &mut self.upserts, &mut bytes, part::part);
        fill(&mut frame.removed, &mut self.removed, &mut bytes, part::key);
        fill(&mut frame.endpoints, &mut self.endpoints, &mut bytes, part::endpoints);
        fill(&mut frame.secrets, &mut self.secrets, &mut bytes, part::secret);
        let left =
            self.upserts.len() + self.removed.len() + self.endpoints.len() + self.secrets.len();
        frame.last = left == 0;
        self.whole = frame.last;
        Some(said_of(Said::Offer(frame)))
    }
}

/// What was heard with one frame.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A message.
    Message(ToReplica),
    /// A piece of one.
    Piece,
    /// Something that this program cannot read, and what it answers.
    Unreadable {
        /// In words.
        why: String,
        /// Where the message wants an answer.
        answer: Option<FromReplica>,
    },
}

/// Reads frames at the replica, and puts Offers together.
#[derive(Default)]
pub(crate) struct Reader {
    begun: Option<Begun>,
}

impl Reader {
    /// Reads one frame that came at `now`.
    ///
    /// # Errors
    /// When frames do not follow each other: nothing more can be read from this connection. What is
    /// only unreadable is [`Heard::Unreadable`].
    pub(crate) fn read(
        &mut self,
        frame: proto::ToReplica,
        now: Instant,
    ) -> Result<Heard, WireError> {
        let Some(said) = frame.said else {
            let why = "a message that this version does not know".to_owned();
            return Ok(Heard::Unreadable { why, answer: None });
        };
        if self.begun.is_some() && !matches!(said, Said::Offer(_)) {
            return Err(WireError::Order("another message than the offer that has begun"));
        }
        Ok(match said {
            Said::Offer(frame) => return self.read_offer(frame, now),
            Said::Endpoints(frame) => read_endpoints(&frame, now),
            Said::TellHoldings(proto::TellHoldings {}) => Heard::Message(ToReplica::TellHoldings),
            Said::Replicas(count) => match NonZeroU32::new(count) {
                Some(count) => Heard::Message(ToReplica::Replicas(count)),
                None => unreadable("a fleet of 0 replicas".into()),
            },
            Said::Pulse(pulse) => match read_pulse(pulse) {
                Some(pulse) => Heard::Message(ToReplica::Pulse(pulse)),
                None => unreadable(format!("{pulse:?}, which is out of range")),
            },
            Said::Ask(proto::Ask { id, question }) => match read_question(question) {
                Ok(question) => Heard::Message(ToReplica::Ask { id, question }),
                Err(error) => {
                    let why = in_full(&error);
                    let answer = Some(FromReplica::Reply { id, reply: Err(why.clone()) });
                    Heard::Unreadable { why, answer }
                }
            },
        })
    }

    fn read_offer(&mut self, frame: proto::OfferFrame, now: Instant) -> Result<Heard, WireError> {
        let (nonce, last) = (frame.nonce, frame.last);
        let mut begun = match (self.begun.take(), &frame.head) {
            (None, Some(head)) => Begun::new(nonce, head, now)?,
            (Some(begun), None) if begun.nonce == nonce => begun,
            (None, None) | (Some(_), _) => return Err(WireError::Order("an offer")),
        };
        begun.take(frame);
        if last {
            return Ok(begun.end());
        }
        self.begun = Some(begun);
        Ok(Heard::Piece)
    }
}

fn unreadable(why: String) -> Heard {
    Heard::Unreadable { why, answer: None }
}

fn read_endpoints(frame: &proto::Endpoints, now: Instant) -> Heard {
    // One set that cannot be read spoils its message only: the others of it come again with their
    // next change, and until then replicas find dead ones by themselves.
    match frame.sets.iter().map(part::read_endpoints).collect() {
        Ok(sets) => {
            let received = moment(frame.age_microseconds, now);
            Heard::Message(ToReplica::Endpoints { sets, received })
        }
        Err(fault) => unreadable(fault.to_string()),
    }
}

fn read_question(question: Option<ask::Question>) -> Result<Question, WireError> {
    Ok(match question {
        Some(ask::Question::Parts(proto::AskParts {})) => Question::Parts,
        Some(ask::Question::Heal(proto::AskHeal {})) => Question::Heal,
        Some(ask::Question::Probe(probe)) => Question::Probe(
            probe
                .requests
                .iter()
                .map(|bytes| content::<ProbeRequest>("a request that is asked about", bytes))
                .collect::<Result<_, _>>()?,
        ),
        None => {
            let found = "of a kind".to_owned();
            return Err(WireError::Unknown { what: "the question", found });
        }
    })
}

/// An Offer of which frames have come.
struct Begun {
    nonce: u64,
    delta: Delta,
    compact: Compact,
    /// None when it cannot be read; then `problems` says why.
    statement: Option<SignedStatement>,
    received: Option<Instant>,
    bytes: usize,
    reason: NackReason,
    /// Why it is not taken; nothing more of it is kept when there is one.
    problems: Vec<Problem>,
}

impl Begun {
    fn new(nonce: u64, head: &proto::OfferHead, now: Instant) -> Result<Self, WireError> {
        let delta = Delta {
            base: digest("the base of an offer", &head.base)?,
            target: digest("the target of an offer", &head.target)?,
            ..Delta::default()
        };
        let (mut reason, mut problems) = (NackReason::Rejected, Vec::new());
        let statement = content("the statement of an offer", &head.statement)
            .map_err(|error| {
                // Whoever signed it, it was not this that could be verified.
                reason = NackReason::Unbelieved;
                problems.push(rejected("statement", in_full(&error)));
            })
            .ok();
        let received = moment(head.age_microseconds, now);
        let compact = Compact::default();
        Ok(Self { nonce, delta, compact, statement, received, bytes: 0, reason, problems })
    }

    fn take(&mut self, frame: proto::OfferFrame) {
        self.bytes = self.bytes.saturating_add(prost::Message::encoded_len(&frame));
        if self.bytes > WHOLE_BYTES_MAX && self.problems.len() < PROBLEMS_MAX {
            let limit = WHOLE_BYTES_MAX / (1024 * 1024);
            let why = format!("has more than {limit} MiB, which no replica takes");
            self.problems.push(rejected("offer", why));
            self.delta = Delta::default();
            // The rest is heard and forgotten, and this is said once.
            self.bytes = 0;
        }
        let proto::OfferFrame { nonce: _, head: _, upserts, removed, endpoints, secrets, last: _ } =
            frame;
        // All faults are told, not only the first.
        let problems = &mut self.problems;
        let mut tell = |problem: Problem| {
            if problems.len() < PROBLEMS_MAX {
                problems.push(problem);
            }
        };
        for written in &upserts {
            match part::read_part(written) {
                Ok(part) => self.delta.upserts.push(self.compact.part(part)),
                Err(fault) => tell(fault.into()),
            }
        }
        for written in &removed {
            match part::read_key(written.kind, &written.name) {
                Ok(key) => self.delta.removed.push(key),
                Err(error) => tell(rejected(&written.name, in_full(&error))),
            }
        }
        for written in &endpoints {
            match part::read_endpoints(written) {
                Ok(set) => self.delta.endpoints.push(set),
                Err(fault) => tell(fault.into()),
            }
        }
        for written in &secrets {
            match part::read_secret(written) {
                Ok(secret) => self.delta.secrets.push(secret),
                Err(fault) => tell(fault.into()),
            }
        }
        if !self.problems.is_empty() {
            let Delta { base, target, .. } = self.delta;
            self.delta = Delta { base, target, ..Delta::default() };
        }
    }

    fn end(self) -> Heard {
        let Self { nonce, mut delta, compact: _, statement, received, bytes: _, reason, problems } =
            self;
        delta.upserts.shrink_to_fit();
        match statement {
            Some(statement) if problems.is_empty() => {
                let offer = Offer { nonce, delta, statement, received };
                Heard::Message(ToReplica::Offer(Box::new(offer)))
            }
            Some(_) | None => {
                let why = problems.first().map_or_else(String::new, ToString::to_string);
                let answer = Some(FromReplica::Nack { nonce, reason, problems });
                Heard::Unreadable { why, answer }
            }
        }
    }
}

fn rejected(what: &str, message: String) -> Problem {
    Problem {
        subject: Subject::Other(what.to_owned()),
        field: String::new(),
        code: problem::REJECTED,
        message,
        remedy: "replica and controller are of different versions: upgrade the older one".into(),
        provenance: None,
    }
}
