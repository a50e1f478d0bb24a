//! `kubeng.io/v1alpha1` RouteOverride: what is changed on top of Routes that other Objects give.
//!
//! A RouteOverride that has a name is always taken, however broken the rest is: what only tunes is left
//! out, and what protects closes the Routes that it is for, or all that it may be for where nobody can
//! tell. So nothing opens because something was mistyped, and what is served follows from what is
//! written, not from what a process remembers of earlier versions.

mod members;
mod target;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubeng_config::layer::Layer;
use kubeng_config::name::ObjectKey;
use kubeng_config::problem::{BAD_VALUE, Code};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::decode::notes::Notes;
use crate::decode::typed::typed;
use target::Aim;

/// What a RouteOverride says, as far as it can be understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouteOverride {
    /// What it is for; none where it may not be for that, or nobody can tell.
    pub target: Option<Target>,
    /// All that it may be for, where nobody can tell and it protects; else empty.
    pub may_be_for: Vec<Target>,
    /// The one Rule of the target that it is for; none: all.
    pub rule: Option<RuleRef>,
    /// Its layer.
    pub layer: Layer,
    /// Whether it is taken out of force.
    pub standing: Standing,
    /// Why, for those who ask.
    pub reason: Option<Arc<str>>,
    /// When it ends by itself, in seconds since 1970.
    pub expires: Option<i64>,
    /// The members of `spec.patch` that can be understood.
    pub patch: Arc<Value>,
    /// Why the Routes that it is for are closed: something that protects cannot be understood.
    pub closes: Option<Code>,
}

/// What a RouteOverride is for: always something of its own namespace.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Target {
    /// All Routes of this namespace.
    Namespace(Arc<str>),
    /// All Routes of this Object, or one of its Rules.
    Object(ObjectKey),
}

/// Names a Rule, by what stays the same when others are added or moved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RuleRef {
    /// By its name.
    Name(Arc<str>),
    /// By host and path, as an Ingress writes them.
    Place {
        /// The host; empty for a rule without one.
        host: Arc<str>,
        /// The path.
        path: Arc<str>,
    },
}

impl std::fmt::Display for RuleRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name:?}"),
            Self::Place { host, path } => write!(f, "{host}{path}"),
        }
    }
}

/// Whether a RouteOverride counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It does.
    InForce,
    /// It is kept, and does not.
    Suspended,
}

/// A RouteOverride as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OverrideOnWire {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    metadata: ObjectMeta,
    spec: Option<SpecOnWire>,
    #[serde(rename = "status", default)]
    _status: Option<Value>,
}

/// Each member is judged by itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecOnWire {
    target_ref: Option<Value>,
    rule: Option<Value>,
    layer: Option<Value>,
    #[serde(default)]
    patch: Value,
    reason: Option<Value>,
    expires_at: Option<Value>,
    suspended: Option<Value>,
}

impl RouteOverride {
    /// Understands as much of it as possible. What was noted before makes it broken, too.
    pub(crate) fn decode(value: Value, notes: &mut Notes) -> (ObjectMeta, Self) {
        let was_right = notes.is_empty();
        let (metadata, spec) = (value.get("metadata").cloned(), value.get("spec").cloned());
        match typed::<OverrideOnWire>(value, notes) {
            Ok(OverrideOnWire { metadata, spec: Some(spec), .. }) => {
                // A field that is not known may have made it narrower.
                let is_known = notes.unknown_fields().all(|field| field.starts_with("/metadata"));
                (metadata, Self::of(spec, was_right && is_known, notes))
            }
            Ok(OverrideOnWire { metadata, spec: None, .. }) => {
                let message = "it is missing, so nobody can tell what is protected".to_owned();
                notes.bad_value("/spec", message, "write spec with targetRef and patch");
                (metadata, Self::unread(notes))
            }
            Err(problem) => {
                notes.add(*problem);
                let part = metadata.and_then(|part| serde_json::from_value(part).ok());
                let spec = spec.and_then(|spec| serde_json::from_value(spec).ok());
                let read = match spec {
                    Some(spec) => Self::of(spec, false, notes),
                    None => Self::unread(notes),
                };
                (part.unwrap_or_default(), read)
            }
        }
    }

    /// One of which no part can be read: it may protect anything that it may be for.
    fn unread(notes: &Notes) -> Self {
        Self {
            target: None,
            may_be_for: target::all_of(notes.key()),
            rule: None,
            layer: Layer::Tenant,
            standing: Standing::InForce,
            reason: None,
            expires: None,
            patch: Arc::new(Value::Object(Map::new())),
            closes: Some(BAD_VALUE),
        }
    }

    fn of(spec: SpecOnWire, mut is_whole: bool, notes: &mut Notes) -> Self {
        let (target, may_be_for) = match target::read(spec.target_ref.as_ref(), notes) {
            Aim::At(target) => (Some(target), Vec::new()),
            Aim::Elsewhere => (None, Vec::new()),
            Aim::Among(may_be_for) => (None, may_be_for),
        };
        is_whole &= notes.unknown_fields().all(|field| field.starts_with("/metadata"));
        is_whole &= may_be_for.is_empty();
        let mut reader = Reader { notes, is_whole: &mut is_whole };
        let rule = target::rule(spec.rule.as_ref(), target.as_ref(), &mut reader);
        let layer = layer(spec.layer.as_ref(), &mut reader);
        let reason = reason(spec.reason.as_ref(), &mut reader);
        let expires = expires(spec.expires_at.as_ref(), &mut reader);
        let standing = standing(spec.suspended.as_ref(), &mut reader);
        if layer == Layer::Emergency {
            reader.demand("/spec/reason", reason.is_some(), "say why in a few words");
            let remedy = "write when it ends, such as 2026-12-01T00:00:00Z";
            reader.demand("/spec/expiresAt", expires.is_some(), remedy);
        }
        let members::Read { patch, closes } = members::read(&spec.patch, is_whole, notes);
        // What only tunes must not even be asked for by all that it may be for.
        let may_be_for = if closes.is_some() { may_be_for } else { Vec::new() };
        let patch = Arc::new(Value::Object(patch));
        Self { target, may_be_for, rule, layer, standing, reason, expires, patch, closes }
    }

    /// All that must look at it: what it is for, or what it may be for.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Target> {
        self.target.iter().chain(&self.may_be_for)
    }

    /// Whether it does anything.
    #[must_use]
    pub fn is_in_force(&self) -> bool {
        self.standing == Standing::InForce
    }

    /// Its patch as an object.
    #[must_use]
    pub fn members(&self) -> Option<&Map<String, Value>> {
        self.patch.as_object()
    }
}

/// Notes what is wrong outside of the patch, and that something is.
struct Reader<'a> {
    notes: &'a mut Notes,
    is_whole: &'a mut bool,
}

impl Reader<'_> {
    fn wrong(&mut self, field: &str, message: String, remedy: &str) {
        self.notes.bad_value(field, message, remedy);
        *self.is_whole = false;
    }

    fn demand(&mut self, field: &str, is_there: bool, remedy: &str) {
        if !is_there {
            let message = "an override of layer emergency needs it".to_owned();
            self.wrong(field, message, remedy);
        }
    }
}

fn layer(written: Option<&Value>, reader: &mut Reader<'_>) -> Layer {
    match written.map(Value::as_str) {
        None | Some(Some("tenant")) => Layer::Tenant,
        Some(Some("emergency")) => Layer::Emergency,
        Some(_) => {
            let message = format!("{} is not a layer", shown(written));
            reader.wrong("/spec/layer", message, "write tenant or emergency");
            Layer::Tenant
        }
    }
}

fn reason(written: Option<&Value>, reader: &mut Reader<'_>) -> Option<Arc<str>> {
    let is_fine = |text: &&str| !text.is_empty() && text.len() <= REASON_BYTES_MAX;
    let text = written?.as_str().filter(is_fine);
    if text.is_none() {
        let message = "the reason is empty, too long, or no text".to_owned();
        reader.wrong("/spec/reason", message, "write at most 500 bytes of text");
    }
    text.map(Arc::from)
}

fn expires(written: Option<&Value>, reader: &mut Reader<'_>) -> Option<i64> {
    let written = written?;
    let moment = written.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    if moment.is_none() {
        let message = format!("{written} is not a time");
        let remedy = "write it in RFC 3339, such as 2026-12-01T00:00:00Z";
        reader.wrong("/spec/expiresAt", message, remedy);
    }
    moment.map(jiff::Timestamp::as_second)
}

fn standing(written: Option<&Value>, reader: &mut Reader<'_>) -> Standing {
    match written {
        None | Some(Value::Bool(false)) => Standing::InForce,
        Some(Value::Bool(true)) => Standing::Suspended,
        Some(other) => {
            let message = format!("{other} is neither true nor false");
            reader.wrong("/spec/suspended", message, "write true or false");
            Standing::InForce
        }
    }
}

fn shown(written: Option<&Value>) -> String {
    written.map(ToString::to_string).unwrap_or_default()
}

const REASON_BYTES_MAX: usize = 500;

#[cfg(test)]
mod tests;
