//! Parts, their keys, and Endpoints.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use kubeng_config::canonical::{self, ReadError};
use kubeng_config::certificate::Secret;
use kubeng_config::delta::{AnyPart, PartKey};
use kubeng_config::endpoint::{Endpoint, EndpointSet};
use kubeng_config::name::{BackendId, NameError, SecretId};
use kubeng_config::part::Part;
use kubeng_config::problem::{self, Problem, Subject};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::proto::{self, PartKind};
use super::{WireError, in_full, name};

pub(super) fn write_key(key: &PartKey) -> (PartKind, String) {
    match key {
        PartKey::Listener(id) => (PartKind::Listener, id.to_string()),
        PartKey::Policy(id) => (PartKind::Policy, id.to_string()),
        PartKey::Backend(id) => (PartKind::Backend, id.to_string()),
        PartKey::Certificate(id) => (PartKind::Certificate, id.to_string()),
        PartKey::ServerName(id) => (PartKind::ServerName, id.to_string()),
        PartKey::Route(id) => (PartKind::Route, id.to_string()),
    }
}

pub(super) fn key(key: PartKey) -> proto::Key {
    let (kind, name) = write_key(&key);
    proto::Key { kind: kind.into(), name }
}

pub(super) fn read_key(kind: i32, text: &str) -> Result<PartKey, WireError> {
    Ok(match known(kind)? {
        PartKind::Listener => PartKey::Listener(name("a listener", text)?),
        PartKind::Policy => PartKey::Policy(name("a policy", text)?),
        PartKind::Backend => PartKey::Backend(name("a backend", text)?),
        PartKind::Certificate => PartKey::Certificate(name("a certificate", text)?),
        PartKind::ServerName => PartKey::ServerName(name("a server name", text)?),
        PartKind::Route => PartKey::Route(name("a route", text)?),
        PartKind::Unspecified => return Err(unknown(kind)),
    })
}

fn known(kind: i32) -> Result<PartKind, WireError> {
    PartKind::try_from(kind).map_err(|_| unknown(kind))
}

fn unknown(kind: i32) -> WireError {
    WireError::Unknown { what: "the kind of a part", found: kind.to_string() }
}

pub(super) fn part(part: AnyPart) -> proto::Part {
    let (kind, name) = write_key(&part.key());
    let content = match &part {
        AnyPart::Listener(_, part) => part.bytes(),
        AnyPart::Policy(_, part) => part.bytes(),
        AnyPart::Backend(_, part) => part.bytes(),
        AnyPart::Certificate(_, part) => part.bytes(),
        AnyPart::ServerName(_, part) => part.bytes(),
        AnyPart::Route(_, part) => part.bytes(),
    };
    proto::Part { kind: kind.into(), name, content: content.into() }
}

/// Why a Part is not taken: which one, and where in it.
#[derive(Debug)]
pub(super) struct PartFault {
    subject: Subject,
    field: String,
    message: String,
}

impl PartFault {
    /// Something about the Part as a whole.
    fn of(kind: i32, name: &str, error: &WireError) -> Self {
        let kind = PartKind::try_from(kind).map_or("part", |kind| kind.as_str_name());
        let subject = Subject::Other(format!("{kind} {name}"));
        Self { subject, field: String::new(), message: in_full(error) }
    }
}

impl From<PartFault> for Problem {
    fn from(fault: PartFault) -> Self {
        Self {
            subject: fault.subject,
            field: fault.field,
            code: problem::REJECTED,
            message: fault.message,
            remedy: "replica and controller are of different versions: upgrade the older one"
                .into(),
            provenance: None,
        }
    }
}

impl Display for PartFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.subject, self.field, self.message)
    }
}

pub(super) fn read_part(part: &proto::Part) -> Result<AnyPart, PartFault> {
    let (text, bytes) = (part.name.as_str(), &part.content[..]);
    let key = read_key(part.kind, text).map_err(|error| PartFault::of(part.kind, text, &error))?;
    Ok(match key.clone() {
        PartKey::Listener(id) => AnyPart::Listener(id, read_value(&key, bytes)?),
        PartKey::Policy(id) => AnyPart::Policy(id, read_value(&key, bytes)?),
        PartKey::Backend(id) => AnyPart::Backend(id, read_value(&key, bytes)?),
        PartKey::Certificate(id) => AnyPart::Certificate(id, read_value(&key, bytes)?),
        PartKey::ServerName(id) => AnyPart::ServerName(id, read_value(&key, bytes)?),
        PartKey::Route(id) => AnyPart::Route(id, read_value(&key, bytes)?),
    })
}

fn read_value<V: Serialize + DeserializeOwned>(
    key: &PartKey,
    bytes: &[u8],
) -> Result<Part<V>, PartFault> {
    Part::read(bytes).map_err(|error| PartFault {
        subject: Subject::Other(key.to_string()),
        field: field_of::<V>(bytes, &error),
        message: in_full(&error),
    })
}

/// The field that cannot be read, as a JSON Pointer; it is looked for once more, with its path noted.
fn field_of<V: DeserializeOwned>(bytes: &[u8], error: &ReadError) -> String {
    use serde_path_to_error::Segment;
    match error {
        ReadError::NotCanonical => return String::new(),
        ReadError::Shape(_) => {}
    }
    let mut document = serde_json::Deserializer::from_slice(bytes);
    let Err(error) = serde_path_to_error::deserialize::<_, V>(&mut document) else {
        return String::new();
    };
    let mut pointer = String::new();
    for segment in error.path() {
        pointer.push('/');
        match segment {
            Segment::Seq { index } => pointer.push_str(&index.to_string()),
            Segment::Map { key } => pointer.push_str(&key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { variant } => pointer.push_str(variant),
            Segment::Unknown => pointer.push('?'),
        }
    }
    pointer
}

pub(super) fn endpoints((id, set): (BackendId, Arc<EndpointSet>)) -> proto::BackendEndpoints {
    proto::BackendEndpoints {
        backend: id.to_string(),
        endpoints: canonical::to_bytes(&set.as_slice()).into(),
    }
}

/// The Endpoints of one Backend; they are in order, and each address is there once.
pub(super) fn read_endpoints(
    written: &proto::BackendEndpoints,
) -> Result<(BackendId, Arc<EndpointSet>), PartFault> {
    let fault = |message| PartFault {
        subject: Subject::Other(format!("endpoints of {}", written.backend)),
        field: String::new(),
        message,
    };
    let id = read_text(&written.backend).map_err(|error| fault(in_full(&error)))?;
    let endpoints: Vec<Endpoint> =
        canonical::from_bytes(&written.endpoints).map_err(|error| fault(in_full(&error)))?;
    let set = EndpointSet::new(endpoints.clone());
    if set.as_slice() != endpoints {
        return Err(fault("not in order, or with one address twice".into()));
    }
    Ok((id, Arc::new(set)))
}

pub(super) fn secret((id, secret): (SecretId, Secret)) -> proto::Secret {
    proto::Secret { id: id.to_string(), key: bytes::Bytes::copy_from_slice(secret.expose()) }
}

pub(super) fn read_secret(written: &proto::Secret) -> Result<(SecretId, Secret), PartFault> {
    let id = read_text(&written.id).map_err(|error| PartFault {
        subject: Subject::Other("a private key".into()),
        field: String::new(),
        message: in_full(&error),
    })?;
    Ok((id, Secret::new(written.key.to_vec())))
}

fn read_text<N: FromStr<Err = NameError>>(text: &str) -> Result<N, NameError> {
    text.parse()
}
