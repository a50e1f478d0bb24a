//! `spec.targetRef` and `spec.rule`: what a RouteOverride is for.

use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::problem::OVERRIDE_NOT_PERMITTED;
use serde::Deserialize;
use serde_json::Value;

use super::{Reader, RuleRef, Target};
use crate::decode::notes::Notes;
use crate::decode::suggest::nearest;
use crate::decode::typed;

/// `spec.targetRef` as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TargetOnWire {
    group: Option<String>,
    kind: String,
    name: String,
    namespace: Option<String>,
}

/// What `spec.targetRef` says. What is wrong with it is noted.
pub(super) enum Aim {
    /// The override is for this.
    At(Target),
    /// It is for something of another namespace, which it may not be.
    Elsewhere,
    /// Nobody can tell for which of these it is; it is for nothing else.
    Among(Vec<Target>),
}

/// What it is for.
pub(super) fn read(written: Option<&Value>, notes: &mut Notes) -> Aim {
    let key = notes.key().clone();
    let Some(written) = written else {
        let message = "it is missing, so nobody can tell what the override is for".to_owned();
        notes.bad_value(FIELD, message, REMEDY);
        return Aim::Among(all_of(&key));
    };
    // A field that is not known is noted, for it may have made the rest narrower.
    let _noted = typed::part::<TargetOnWire>(written.clone(), FIELD, REMEDY, notes);
    let Ok(target) = serde_json::from_value::<TargetOnWire>(written.clone()) else {
        let name = written.get("name").and_then(Value::as_str).unwrap_or_default();
        return Aim::Among(named(name, &key));
    };
    judge(&target, &key, notes)
}

fn judge(written: &TargetOnWire, key: &ObjectKey, notes: &mut Notes) -> Aim {
    let TargetOnWire { group, kind, name, namespace } = written;
    if name.is_empty() {
        notes.bad_value("/spec/targetRef/name", "the name is empty".to_owned(), REMEDY);
        return Aim::Among(all_of(key));
    }
    let kind = KINDS.iter().find(|(known, _)| known == kind);
    let is_foreign = |namespace: &String| **namespace != *key.namespace;
    let field = match (kind, namespace) {
        (_, Some(namespace)) if is_foreign(namespace) => {
            Some(("/spec/targetRef/namespace", namespace))
        }
        (Some(("Namespace", _)), _) if is_foreign(name) => Some(("/spec/targetRef/name", name)),
        _ => None,
    };
    if let Some((field, other)) = field {
        let message =
            format!("an override of namespace {:?} may not be for {other:?}", key.namespace);
        notes.note(field, OVERRIDE_NOT_PERMITTED, message, "write it in that namespace");
        return Aim::Elsewhere;
    }
    let Some((kind, expected)) = kind else {
        let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
        let meant = nearest(&written.kind, &names).map(|name| format!("; did you mean {name}?"));
        let message = format!("{:?} has no routes{}", written.kind, meant.unwrap_or_default());
        notes.bad_value(
            "/spec/targetRef/kind",
            message,
            "write Ingress, Upstream or Namespace; until then what has this name is closed, \
             if the override protects it",
        );
        return Aim::Among(named(name, key));
    };
    let target = match *kind {
        "Ingress" => Target::Object(key.beside(ObjectKind::Ingress, name)),
        "Upstream" => Target::Object(key.beside(ObjectKind::Upstream, name)),
        _ => Target::Namespace(key.namespace.as_ref().into()),
    };
    if let Some(group) = group.as_deref().filter(|group| group != expected) {
        let message = format!("{kind} is not of group {group:?}");
        let remedy = format!("write {expected:?}, or leave it out");
        notes.bad_value("/spec/targetRef/group", message, &remedy);
        return Aim::Among(vec![target]);
    }
    Aim::At(target)
}

/// Everything of the namespace of `key` that `name` may mean: all of it where there is no name.
fn named(name: &str, key: &ObjectKey) -> Vec<Target> {
    if name.is_empty() || *name == *key.namespace {
        return all_of(key);
    }
    let kinds = [ObjectKind::Ingress, ObjectKind::Upstream];
    kinds.map(|kind| Target::Object(key.beside(kind, name))).into()
}

/// All that an override of the namespace of `key` may be for.
pub(super) fn all_of(key: &ObjectKey) -> Vec<Target> {
    vec![Target::Namespace(key.namespace.as_ref().into())]
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

const FIELD: &str = "/spec/targetRef";
const REMEDY: &str = "write kind and name of an Ingress or an Upstream, or of its own Namespace; \
                      until then what it may be for is closed, if it protects";

/// Kinds that have Routes, with their groups.
const KINDS: [(&str, &str); 3] =
    [("Ingress", "networking.k8s.io"), ("Upstream", "kubeng.io"), ("Namespace", "")];
