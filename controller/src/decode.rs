//! Makes Objects of documents: one way for every source.

pub(crate) mod field;
pub(crate) mod header;
pub(crate) mod notes;
pub(crate) mod suggest;
#[cfg(test)]
mod tests;
pub(crate) mod typed;

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::problem::Problem;
use kubeng_config::provenance::Provenance;
use serde_json::Value;

use crate::kind::Body;
use crate::kind::config_map::ConfigMap;
use crate::kind::endpoint_slice::EndpointSlice;
use crate::kind::fleet::{Fleet, FleetOnWire};
use crate::kind::ingress::{self, Ingress, lenient};
use crate::kind::ingress_class::IngressClass;
use crate::kind::route_override::RouteOverride;
use crate::kind::secret::{self, TlsSecret};
use crate::kind::service::Service;
use crate::kind::upstream::{self, Upstream, UpstreamOnWire};
use crate::object::{Author, Object};

use header::Header;
use notes::Notes;
use typed::{typed, typed_of};

/// What became of a document.
#[derive(Debug)]
pub enum Decoded {
    /// An Object.
    Object(Box<Object>),
    /// A document of a kind that is not read, such as a Deployment.
    Ignored,
    /// It names a kind that is read, or none at all, and cannot be used.
    /// What was known of the Object, if it can be named, should stay.
    Undecodable(Option<ObjectKey>, Problem),
    /// The same of an Ingress, or of an Upstream with routes. Where nothing was known of it, this
    /// stands for it, and refuses what it would have served.
    Closed(Box<Object>, Problem),
}

/// Decodes one document. A `List` is not one: the caller takes it apart.
///
/// Unknown fields are Problems of the Object when a person wrote it into a
/// file; an API server drops them before we could see them. An Upstream with
/// an unknown field in its `spec` is not taken at all. A RouteOverride that has
/// a name always is: what it protects must not open because of a mistake in it.
/// Of an Ingress in which something has a wrong type, all that can be read is
/// taken, so that what it needs is refused in its place.
#[must_use]
pub fn decode(value: Value, provenance: Provenance, author: Author) -> Decoded {
    let (key, wrong) = match Header::read(&value, &provenance) {
        Header::Object(key) => (key, None),
        Header::NotRead => return Decoded::Ignored,
        Header::Wrong(Some(key), problem) if key.kind == ObjectKind::RouteOverride => {
            (key, Some(problem))
        }
        Header::Wrong(Some(key), problem) => {
            return closed(Some(&value), key, provenance, author, problem);
        }
        Header::Wrong(None, problem) => return Decoded::Undecodable(None, problem),
    };
    if key.kind == ObjectKind::Secret && !secret::is_read(&value) {
        return Decoded::Ignored;
    }
    let mut notes = Notes::new(key.clone(), provenance.clone());
    wrong.into_iter().for_each(|problem| notes.add(problem));
    // An Upstream with a mistake is rare, and small: it is only looked at again then.
    let spare = (key.kind == ObjectKind::Upstream && value.pointer("/spec/routes").is_some())
        .then(|| value.clone());
    match contents(key.kind, value, &mut notes) {
        Ok(contents) => Decoded::Object(Box::new(Object {
            created: created(&contents.metadata),
            uid: contents.metadata.uid.map(Arc::from),
            key,
            provenance,
            author,
            body: contents.body,
            status_addresses: contents.status_addresses.into(),
            problems: notes.into_problems().into(),
        })),
        Err(problem) => closed(spare.as_ref(), key, provenance, author, *problem),
    }
}

/// What becomes of a document that cannot be taken, because of `problem`; `value` is what is written.
fn closed(
    value: Option<&Value>,
    key: ObjectKey,
    provenance: Provenance,
    author: Author,
    problem: Problem,
) -> Decoded {
    let body = value.and_then(|value| match key.kind {
        ObjectKind::Ingress => {
            let mut unheard = Notes::new(key.clone(), provenance.clone());
            ingress::stand_in::of(value, &problem, &mut unheard).map(Body::Ingress)
        }
        ObjectKind::Upstream => {
            upstream::stand_in::of(value).map(|body| Body::Upstream(Box::new(body)))
        }
        ObjectKind::IngressClass
        | ObjectKind::Service
        | ObjectKind::EndpointSlice
        | ObjectKind::Secret
        | ObjectKind::ConfigMap
        | ObjectKind::RouteOverride
        | ObjectKind::Fleet => None,
    });
    let Some(body) = body else { return Decoded::Undecodable(Some(key), problem) };
    let object = Object {
        key,
        created: 0,
        uid: None,
        provenance,
        author,
        body,
        status_addresses: Box::default(),
        problems: Box::default(),
    };
    Decoded::Closed(Box::new(object), problem)
}

/// What a typed document holds.
struct Contents {
    metadata: ObjectMeta,
    body: Body,
    status_addresses: Vec<String>,
}

impl Contents {
    fn new(metadata: ObjectMeta, body: Body) -> Self {
        Self { metadata, body, status_addresses: Vec::new() }
    }
}

fn contents(kind: ObjectKind, value: Value, notes: &mut Notes) -> Result<Contents, Box<Problem>> {
    Ok(match kind {
        ObjectKind::Ingress => {
            let foreign: networking::Ingress = match typed_of(&value, notes) {
                Ok(foreign) => foreign,
                Err(found) => {
                    let (metadata, body) = lenient::read(&value, found, notes)?;
                    return Ok(Contents::new(metadata, Body::Ingress(body)));
                }
            };
            Contents {
                metadata: foreign.metadata.clone(),
                status_addresses: Ingress::status_addresses(&foreign),
                body: Body::Ingress(Ingress::decode(foreign)),
            }
        }
        ObjectKind::IngressClass => {
            let foreign: networking::IngressClass = typed(value, notes)?;
            let body = Body::IngressClass(IngressClass::decode(&foreign));
            Contents::new(foreign.metadata, body)
        }
        ObjectKind::Service => {
            let mut foreign: core::Service = typed(value, notes)?;
            let metadata = std::mem::take(&mut foreign.metadata);
            Contents::new(metadata, Body::Service(Service::decode(foreign, notes)))
        }
        ObjectKind::EndpointSlice => {
            let mut foreign: discovery::EndpointSlice = typed(value, notes)?;
            let metadata = foreign.metadata.clone();
            foreign.metadata.annotations = None;
            Contents::new(metadata, Body::EndpointSlice(EndpointSlice::decode(foreign, notes)))
        }
        ObjectKind::Secret => {
            let mut foreign: core::Secret = typed(value, notes)?;
            let metadata = std::mem::take(&mut foreign.metadata);
            Contents::new(metadata, Body::Secret(TlsSecret::decode(foreign, notes)))
        }
        ObjectKind::ConfigMap => {
            let mut foreign: core::ConfigMap = typed(value, notes)?;
            let metadata = std::mem::take(&mut foreign.metadata);
            Contents::new(metadata, Body::ConfigMap(ConfigMap::decode(foreign)))
        }
        ObjectKind::Upstream => {
            let foreign: UpstreamOnWire = typed(value, notes)?;
            notes.refuse_unknown_fields("/spec")?;
            let (metadata, body) = Upstream::decode(foreign, notes)?;
            Contents::new(metadata, Body::Upstream(Box::new(body)))
        }
        ObjectKind::RouteOverride => {
            let (metadata, body) = RouteOverride::decode(value, notes);
            Contents::new(metadata, Body::RouteOverride(body))
        }
        ObjectKind::Fleet => {
            let foreign: FleetOnWire = typed(value, notes)?;
            notes.refuse_unknown_fields("/spec")?;
            let (metadata, body) = Fleet::decode(foreign, notes)?;
            Contents::new(metadata, Body::Fleet(Box::new(body)))
        }
    })
}

fn created(metadata: &ObjectMeta) -> i64 {
    metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second())
}
