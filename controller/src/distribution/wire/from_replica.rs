//! What a replica tells, as frames and back.

use std::collections::BTreeMap;

use kubeng_config::canonical::{self, Digest};
use kubeng_config::delta::{AnyPart, PartKey};
use kubeng_config::heartbeat::Build;
use kubeng_config::label;

use super::super::{FromReplica, Hello, NackReason, Reply};
use super::proto::{self, from_replica::Said, reply_frame};
use super::{
    WHOLE_BYTES_MAX, WireError, content, digest, digest_bytes, fill, in_full, name, part, problem,
};

/// What is sent for one message, frame by frame.
pub(crate) type Frames = Box<dyn Iterator<Item = proto::FromReplica> + Send>;

/// Writes `message`, each frame when it is asked for.
pub(crate) fn write(message: FromReplica) -> Frames {
    let said = match message {
        FromReplica::Hello(hello) => Said::Hello(write_hello(&hello)),
        FromReplica::Holdings(digest, parts) => return holdings(digest, parts),
        FromReplica::Ack { nonce, digest, problems } => Said::Ack(proto::Ack {
            nonce,
            digest: digest_bytes(&digest),
            problems: problem::write(&problems),
        }),
        FromReplica::Nack { nonce, reason, problems } => Said::Nack(proto::Nack {
            nonce,
            reason: write_reason(reason).into(),
            problems: problem::write(&problems),
        }),
        FromReplica::Heartbeat(heartbeat) => {
            Said::Heartbeat(canonical::to_bytes(heartbeat.as_ref()).into())
        }
        FromReplica::Unread(_) => return Box::new(std::iter::empty()),
        FromReplica::Reply { id, reply: Ok(Reply::Parts { parts, endpoints }) } => {
            return reply_parts(id, parts, endpoints);
        }
        FromReplica::Reply { id, reply } => {
            let reply = Some(match reply {
                Err(why) => reply_frame::Reply::Refused(why),
                Ok(Reply::Healed(digest)) => reply_frame::Reply::Healed(digest_bytes(&digest)),
                Ok(Reply::Probe(routes)) => {
                    let answer = |route: Option<kubeng_config::name::RouteId>| proto::ProbeAnswer {
                        route: route.map(|id| id.to_string()),
                    };
                    let answers = routes.into_iter().map(answer).collect();
                    reply_frame::Reply::Probe(proto::ProbeReply { answers })
                }
                Ok(Reply::Parts { parts, endpoints }) => return reply_parts(id, parts, endpoints),
            });
            Said::Reply(proto::ReplyFrame { id, reply, last: true })
        }
    };
    Box::new(std::iter::once(said_of(said)))
}

fn said_of(said: Said) -> proto::FromReplica {
    proto::FromReplica { said: Some(said) }
}

fn write_hello(hello: &Hello) -> proto::Hello {
    let Hello { replica, fleet, build, admin, labels, certified: _, serves } = hello;
    proto::Hello {
        replica: replica.to_string(),
        fleet: fleet.to_string(),
        build: canonical::to_bytes(build).into(),
        admin: admin.map(|address| address.to_string()),
        labels: labels.clone().into_iter().collect(),
        serves: serves.as_ref().map(|statement| canonical::to_bytes(statement).into()),
    }
}

fn write_reason(reason: NackReason) -> proto::NackReason {
    match reason {
        NackReason::Rejected => proto::NackReason::Rejected,
        NackReason::Base => proto::NackReason::Base,
        NackReason::Epoch => proto::NackReason::Epoch,
        NackReason::Behind => proto::NackReason::Behind,
        NackReason::Unbelieved => proto::NackReason::Unbelieved,
    }
}

fn holdings(of: Digest, parts: Vec<(PartKey, Digest)>) -> Frames {
    let (mut parts, mut whole) = (parts.into_iter(), false);
    Box::new(std::iter::from_fn(move || {
        if whole {
            return None;
        }
        let mut frame = proto::HoldingsFrame { digest: digest_bytes(&of), ..Default::default() };
        fill(&mut frame.parts, &mut parts, &mut 0, |(key, digest)| {
            let (kind, name) = part::write_key(&key);
            proto::Held { kind: kind.into(), name, digest: digest_bytes(&digest) }
        });
        frame.last = parts.len() == 0;
        whole = frame.last;
        Some(said_of(Said::Holdings(frame)))
    }))
}

type Endpoints =
    (kubeng_config::name::BackendId, std::sync::Arc<kubeng_config::endpoint::EndpointSet>);

fn reply_parts(id: u64, parts: Vec<AnyPart>, endpoints: Vec<Endpoints>) -> Frames {
    let (mut parts, mut endpoints) = (parts.into_iter(), endpoints.into_iter());
    let mut whole = false;
    Box::new(std::iter::from_fn(move || {
        if whole {
            return None;
        }
        let (mut frame, mut bytes) = (proto::PartsFrame::default(), 0);
        fill(&mut frame.parts, &mut parts, &mut bytes, part::part);
        fill(&mut frame.endpoints, &mut endpoints, &mut bytes, part::endpoints);
        whole = parts.len() + endpoints.len() == 0;
        let reply = Some(reply_frame::Reply::Parts(frame));
        Some(said_of(Said::Reply(proto::ReplyFrame { id, reply, last: whole })))
    }))
}

/// Reads frames at the controller, and puts together what came in several.
#[derive(Default)]
pub(crate) struct Reader {
    begun: Option<Begun>,
    bytes: usize,
}

/// What is not whole yet.
enum Begun {
    Holdings(Digest, Vec<(PartKey, Digest)>),
    Parts {
        id: u64,
        parts: Vec<AnyPart>,
        endpoints: Vec<Endpoints>,
        /// Why some of it cannot be read.
        fault: Option<String>,
    },
}

impl Reader {
    /// Reads one frame; `None` for a piece of a message.
    ///
    /// # Errors
    /// When it cannot be read. The connection ends with the reason, which the replica shows.
    pub(crate) fn read(
        &mut self,
        frame: proto::FromReplica,
    ) -> Result<Option<FromReplica>, WireError> {
        self.bytes = self.bytes.saturating_add(prost::Message::encoded_len(&frame));
        if self.bytes > WHOLE_BYTES_MAX {
            let (what, bytes_max) = ("a message of a replica", WHOLE_BYTES_MAX);
            return Err(WireError::TooLarge { what, bytes_max });
        }
        let said = frame.said.ok_or_else(|| WireError::Unknown {
            what: "what a replica says",
            found: "a message".into(),
        })?;
        let message = match (self.begun.take(), said) {
            (begun, Said::Holdings(frame)) => self.read_holdings(begun, frame)?,
            (begun, Said::Reply(frame)) => self.read_reply(begun, frame)?,
            (None, Said::Hello(hello)) => Some(FromReplica::Hello(Box::new(read_hello(&hello)?))),
            (None, Said::Ack(ack)) => Some(FromReplica::Ack {
                nonce: ack.nonce,
                digest: digest("the digest of an ack", &ack.digest)?,
                problems: problem::read(ack.problems),
            }),
            (None, Said::Nack(nack)) => Some(FromReplica::Nack {
                nonce: nack.nonce,
                reason: read_reason(nack.reason)?,
                problems: problem::read(nack.problems),
            }),
            (None, Said::Heartbeat(bytes)) => Some(read_heartbeat(&bytes)?),
            (Some(_), _) => return Err(WireError::Order("another message than has begun")),
        };
        if message.is_some() {
            self.bytes = 0;
        }
        Ok(message)
    }

    fn read_holdings(
        &mut self,
        begun: Option<Begun>,
        frame: proto::HoldingsFrame,
    ) -> Result<Option<FromReplica>, WireError> {
        let of = digest("the digest of holdings", &frame.digest)?;
        let mut parts = match begun {
            None => Vec::new(),
            Some(Begun::Holdings(same, parts)) if same == of => parts,
            Some(_) => return Err(WireError::Order("holdings")),
        };
        for held in &frame.parts {
            let key = part::read_key(held.kind, &held.name)?;
            parts.push((key, digest("the digest of a part", &held.digest)?));
        }
        if frame.last {
            return Ok(Some(FromReplica::Holdings(of, parts)));
        }
        self.begun = Some(Begun::Holdings(of, parts));
        Ok(None)
    }

    fn read_reply(
        &mut self,
        begun: Option<Begun>,
        frame: proto::ReplyFrame,
    ) -> Result<Option<FromReplica>, WireError> {
        let (id, last) = (frame.id, frame.last);
        let frame = match (begun, frame.reply) {
            (begun, Some(reply_frame::Reply::Parts(frame))) => (begun, frame),
            (Some(_), _) => return Err(WireError::Order("a reply")),
            (None, None) => {
                let reply = Err("a reply of a kind that this version does not know".into());
                return Ok(Some(FromReplica::Reply { id, reply }));
            }
            (None, Some(reply_frame::Reply::Refused(why))) => {
                return Ok(Some(FromReplica::Reply { id, reply: Err(why) }));
            }
            (None, Some(reply_frame::Reply::Healed(bytes))) => {
                let reply = Ok(Reply::Healed(digest("the digest of a reply", &bytes)?));
                return Ok(Some(FromReplica::Reply { id, reply }));
            }
            (None, Some(reply_frame::Reply::Probe(probe))) => {
                let reply = read_probe(probe).map_err(|error| in_full(&error));
                return Ok(Some(FromReplica::Reply { id, reply }));
            }
        };
        let (mut parts, mut endpoints, mut fault) = match frame.0 {
            None => (Vec::new(), Vec::new(), None),
            Some(Begun::Parts { id: same, parts, endpoints, fault }) if same == id => {
                (parts, endpoints, fault)
            }
            Some(_) => return Err(WireError::Order("a reply")),
        };
        for written in &frame.1.parts {
            match part::read_part(written) {
                Ok(part) => parts.push(part),
                Err(why) => fault = fault.or_else(|| Some(why.to_string())),
            }
        }
        for written in &frame.1.endpoints {
            match part::read_endpoints(written) {
                Ok(set) => endpoints.push(set),
                Err(why) => fault = fault.or_else(|| Some(why.to_string())),
            }
        }
        if !last {
            self.begun = Some(Begun::Parts { id, parts, endpoints, fault });
            return Ok(None);
        }
        let reply = fault.map_or(Ok(Reply::Parts { parts, endpoints }), Err);
        Ok(Some(FromReplica::Reply { id, reply }))
    }
}

fn read_hello(hello: &proto::Hello) -> Result<Hello, WireError> {
    let admin = hello.admin.as_ref().map(|text| {
        let unknown = |_| WireError::Unknown { what: "the admin address", found: text.clone() };
        text.parse().map_err(unknown)
    });
    // One in words of another version is as good as none: then the replica is asked what it holds.
    let serves = hello.serves.as_ref().and_then(|bytes| content("the statement", bytes).ok());
    Ok(Hello {
        replica: name("a replica", &hello.replica)?,
        fleet: name("a fleet", &hello.fleet)?,
        build: read_build(&hello.build)?,
        admin: admin.transpose()?,
        labels: read_labels(&hello.labels)?,
        certified: BTreeMap::new(),
        serves,
    })
}

fn read_labels(
    written: &std::collections::HashMap<String, String>,
) -> Result<BTreeMap<String, String>, WireError> {
    if written.len() > label::LABELS_MAX {
        let (what, found) = ("the number of labels", written.len().to_string());
        return Err(WireError::Unknown { what, found });
    }
    let read = |(name, value): (&String, &String)| {
        let (what, found) = ("a label", || format!("{name:.80}={value:.80}"));
        let is_label = label::is_name(name) && label::is_value(value);
        let found = (!is_label).then(found);
        found.map_or_else(
            || Ok((name.clone(), value.clone())),
            |found| Err(WireError::Unknown { what, found }),
        )
    };
    written.iter().map(read).collect()
}

/// A replica of another version is there, and serves, although it says so in other words. What does not
/// say which program it is comes from no replica.
fn read_heartbeat(bytes: &[u8]) -> Result<FromReplica, WireError> {
    match content("a heartbeat", bytes) {
        Ok(heartbeat) => Ok(FromReplica::Heartbeat(Box::new(heartbeat))),
        Err(error) if serde_json::from_slice::<OfAnyVersion>(bytes).is_ok() => {
            Ok(FromReplica::Unread(in_full(&error).chars().take(UNREAD_CHARS_MAX).collect()))
        }
        Err(error) => Err(error),
    }
}

/// A heartbeat, of which nothing is read but that it is one.
#[derive(serde::Deserialize)]
struct OfAnyVersion {
    #[serde(rename = "build")]
    _build: KnownBuild,
}

/// What every version says of its program; a later one may say more.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct KnownBuild {
    version: String,
    sha256: Digest,
    model_version: u32,
}

/// Who comes with a newer program is let in and shown as what it is, so what a newer one says of
/// itself beside these is passed over here.
fn read_build(bytes: &[u8]) -> Result<Build, WireError> {
    match (content("the build of a hello", bytes), serde_json::from_slice(bytes)) {
        (Ok(build), _) => Ok(build),
        (Err(_), Ok(KnownBuild { version, sha256, model_version })) => {
            Ok(Build { version, sha256, model_version })
        }
        (Err(error), Err(_)) => Err(error),
    }
}

fn read_reason(reason: i32) -> Result<NackReason, WireError> {
    let unknown = || WireError::Unknown { what: "the reason of a nack", found: reason.to_string() };
    match proto::NackReason::try_from(reason).map_err(|_| unknown())? {
        proto::NackReason::Rejected => Ok(NackReason::Rejected),
        proto::NackReason::Base => Ok(NackReason::Base),
        proto::NackReason::Epoch => Ok(NackReason::Epoch),
        proto::NackReason::Behind => Ok(NackReason::Behind),
        proto::NackReason::Unbelieved => Ok(NackReason::Unbelieved),
        proto::NackReason::Unspecified => Err(unknown()),
    }
}

fn read_probe(probe: proto::ProbeReply) -> Result<Reply, WireError> {
    let read = |answer: proto::ProbeAnswer| {
        answer.route.map(|text| name("a route of a reply", &text)).transpose()
    };
    probe.answers.into_iter().map(read).collect::<Result<_, _>>().map(Reply::Probe)
}

/// How much is told of why something cannot be read.
const UNREAD_CHARS_MAX: usize = 300;
