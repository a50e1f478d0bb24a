//! `spec.targetRef` and `spec.rule`: what a RouteOverride is for.

use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::problem::{OVERRIDE_NOT_PERMITTED, Problem};
use serde::Deserialize;
use serde_json::Value;

use super::{Reader, RuleRef, Target, unusable};
use crate::decode::notes::Notes;
use crate::decode::suggest::nearest;

/// `spec.targetRef` as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TargetOnWire {
    group: Option<String>,
    kind: String,
    name: String,
    namespace: Option<String>,
}

/// What it is for; none where that is not its own namespace, which is noted.
///
/// # Errors
/// When it names nothing that could have Routes.
pub(super) fn read(
    written: &TargetOnWire,
    key: &ObjectKey,
    notes: &mut Notes,
) -> Result<Option<Target>, Box<Problem>> {
    let TargetOnWire { group, kind, name, namespace } = written;
    let Some((_, expected)) = KINDS.iter().find(|(known, _)| known == kind) else {
        let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
        let meant = nearest(kind, &names).map(|name| format!("; did you mean {name}?"));
        let message = format!("{kind:?} has no routes{}", meant.unwrap_or_default());
        let remedy = "write Ingress, Upstream or Namespace";
        return Err(unusable(notes, "/spec/targetRef/kind", message, remedy));
    };
    if let Some(group) = group.as_deref().filter(|group| group != expected) {
        let message = format!("{kind} is not of group {group:?}");
        let remedy = format!("write {expected:?}, or leave it out");
        return Err(unusable(notes, "/spec/targetRef/group", message, &remedy));
    }
    let (field, other) = match (kind.as_str(), namespace.as_deref()) {
        ("Namespace", None) if **name != *key.namespace => ("/spec/targetRef/name", Some(name)),
        (_, Some(namespace)) if *namespace != *key.namespace => {
            ("/spec/targetRef/namespace", written.namespace.as_ref())
        }
        ("Namespace", Some(_)) if **name != *key.namespace => ("/spec/targetRef/name", Some(name)),
        _ => ("", None),
    };
    if let Some(other) = other {
        let message =
            format!("an override of namespace {:?} may not be for {other:?}", key.namespace);
        notes.note(field, OVERRIDE_NOT_PERMITTED, message, "write it in that namespace");
        return Ok(None);
    }
    Ok(Some(match kind.as_str() {
        "Ingress" => Target::Object(key.beside(ObjectKind::Ingress, name)),
        "Upstream" => Target::Object(key.beside(ObjectKind::Upstream, name)),
        _ => Target::Namespace(key.namespace.as_ref().into()),
    }))
}

/// The one Rule that it is for; one that cannot be read is noted.
pub(super) fn rule(
    written: Option<&Value>,
    target: Option<&Target>,
    reader: &mut Reader<'_>,
) -> Option<RuleRef> {
    let written = written.filter(|value| !value.is_null())?;
    let kind = match target {
        Some(Target::Object(key)) => Some(key.kind),
        Some(Target::Namespace(_)) => None,
        None => return None,
    };
    let text = |name: &str| written.get(name).and_then(Value::as_str);
    let mut members: Vec<&str> =
        written.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    members.sort_unstable();
    match (kind, members.as_slice(), text("name"), text("host"), text("path")) {
        (Some(ObjectKind::Upstream), ["name"], Some(name), None, None) => {
            Some(RuleRef::Name(name.into()))
        }
        (Some(ObjectKind::Ingress), ["host", "path"] | ["path"], None, host, Some(path)) => {
            // As hosts are compared, so that two spellings are one Rule.
            let host = host.unwrap_or_default().to_ascii_lowercase();
            Some(RuleRef::Place { host: host.into(), path: path.into() })
        }
        (kind, ..) => {
            let remedy = match kind {
                Some(ObjectKind::Upstream) => "write rule: {name: ...}",
                Some(_) => "write rule: {host: shop.example.com, path: /cart}",
                None => "remove it: a namespace has no rules",
            };
            reader.wrong("/spec/rule", format!("{written} names no rule of the target"), remedy);
            None
        }
    }
}

/// Kinds that have Routes, with their groups.
const KINDS: [(&str, &str); 3] =
    [("Ingress", "networking.k8s.io"), ("Upstream", "kubeng.io"), ("Namespace", "")];
