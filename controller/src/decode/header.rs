//! Which Object a document is: `apiVersion`, `kind`, `metadata.name`, `metadata.namespace`.

use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::problem::{BAD_VALUE, Code, Problem, Subject, UNSUPPORTED_VERSION};
use kubeng_config::provenance::Provenance;
use serde_json::Value;

use super::suggest::nearest;

/// What the head of a document says.
pub(crate) enum Header {
    /// It is this Object.
    Object(ObjectKey),
    /// It is of a kind that is not read.
    NotRead,
    /// It cannot be told, or not be used.
    Wrong(Option<ObjectKey>, Problem),
}

/// One kind that is read.
struct Served {
    kind: ObjectKind,
    group: &'static str,
    version: &'static str,
    /// Groups in which older versions of the kind lived.
    groups_before: &'static [&'static str],
}

impl Served {
    fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether somebody who writes `group` means this kind.
    ///
    /// Only Kubernetes itself has groups without a dot; every other group may have a kind of the
    /// same name that is somebody else's.
    fn is_meant_by(&self, group: &str) -> bool {
        self.group == group
            || self.groups_before.contains(&group)
            || !group.contains('.')
            || strsim::levenshtein(self.group, group) <= SLIP_MAX
    }
}

impl Header {
    /// Reads the head of `value`.
    pub(crate) fn read(value: &Value, provenance: &Provenance) -> Self {
        let wrong = |key: Option<ObjectKey>, field: &str, code, message: String, remedy: &str| {
            let subject = match &key {
                Some(key) => Subject::Object(key.clone()),
                None => Subject::Other(describe(value)),
            };
            Self::Wrong(key, problem(subject, field, code, message, remedy, provenance))
        };
        let Value::Object(document) = value else {
            let message = format!("{} stands where an object is expected", type_of(value));
            return wrong(
                None,
                "",
                BAD_VALUE,
                message,
                "write apiVersion, kind, metadata and spec",
            );
        };
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        let Some(api_version) = text("apiVersion").filter(|text| !text.is_empty()) else {
            let meant = SERVED.iter().find(|served| Some(served.kind.as_str()) == text("kind"));
            let key = meant.and_then(|served| key(served.kind, document.get("metadata")).ok());
            return wrong(key, "/apiVersion", BAD_VALUE, "apiVersion is missing".into(), NAME_IT);
        };
        let Some(kind) = text("kind").filter(|text| !text.is_empty()) else {
            return wrong(None, "/kind", BAD_VALUE, "kind is missing".into(), NAME_IT);
        };
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let is_meant = |served: &&Served| served.kind.as_str() == kind && served.is_meant_by(group);
        let Some(served) = SERVED.iter().find(is_meant) else {
            return match similar_kind(group, kind) {
                Some(similar) => {
                    let message = format!("{api_version} has no kind {kind:?}");
                    wrong(None, "/kind", BAD_VALUE, message, &format!("write {similar:?}"))
                }
                None => Self::NotRead,
            };
        };
        let key = match key(served.kind, document.get("metadata")) {
            Ok(key) => key,
            Err((field, message, remedy)) => {
                return wrong(None, field, BAD_VALUE, message, remedy);
            }
        };
        if served.group != group || served.version != version {
            let message = format!("{kind} is not read in version {api_version}");
            let remedy = format!("write it as {}", served.api_version());
            return wrong(Some(key), "/apiVersion", UNSUPPORTED_VERSION, message, &remedy);
        }
        Self::Object(key)
    }
}

fn problem(
    subject: Subject,
    field: &str,
    code: Code,
    message: String,
    remedy: &str,
    provenance: &Provenance,
) -> Problem {
    Problem {
        subject,
        field: field.to_owned(),
        code,
        message,
        remedy: remedy.to_owned(),
        provenance: Some(provenance.clone()),
    }
}

/// The kind that was meant by one that does not exist.
///
/// In our own group every unknown kind is a mistake; in others only one that
/// differs from a kind of ours by a slip.
fn similar_kind(group: &str, kind: &str) -> Option<String> {
    let names: Vec<&str> = SERVED
        .iter()
        .filter(|served| served.group == group)
        .map(|served| served.kind.as_str())
        .collect();
    let found = nearest(kind, &names).filter(|name| strsim::levenshtein(name, kind) <= SLIP_MAX);
    match found {
        Some(name) => Some(name.to_owned()),
        None if group == "kubeng.io" => names.first().map(|name| (*name).to_owned()),
        None => None,
    }
}

type Wrong = (&'static str, String, &'static str);

fn key(kind: ObjectKind, metadata: Option<&Value>) -> Result<ObjectKey, Wrong> {
    let text = |name: &str| metadata.and_then(|metadata| metadata.get(name));
    let name = match text("name") {
        Some(Value::String(name)) if is_name(name) => name,
        Some(Value::String(name)) if !name.is_empty() => {
            let message = format!("{name:?} is not a name");
            return Err(("/metadata/name", message, "use a-z, 0-9, - and . only"));
        }
        Some(Value::Number(_) | Value::Bool(_)) => {
            let message = "the name is not text".to_owned();
            return Err(("/metadata/name", message, "put it into quotes"));
        }
        _ => {
            let message = format!("{kind} has no metadata.name");
            return Err(("/metadata/name", message, "give it a name"));
        }
    };
    let namespace = match text("namespace") {
        None | Some(Value::Null) => "default",
        Some(Value::String(namespace)) if namespace.is_empty() => "default",
        Some(Value::String(namespace)) if is_name(namespace) && !namespace.contains('.') => {
            namespace
        }
        Some(other) => {
            let message = format!("{other} is not a namespace");
            return Err(("/metadata/namespace", message, "use a-z, 0-9 and - only"));
        }
    };
    Ok(ObjectKey::new(kind, namespace, name))
}

/// A DNS subdomain name, as API servers demand it.
fn is_name(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let is_outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 253
        && text.starts_with(is_outer)
        && text.ends_with(is_outer)
        && text.chars().all(is_inner)
}

/// Names a document that did not become an Object, as well as it can be named.
fn describe(value: &Value) -> String {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let parts = [text("/kind"), text("/metadata/namespace"), text("/metadata/name")];
    let named: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    if named.is_empty() { "document".to_owned() } else { named.join("/") }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a sequence",
        Value::Object(_) => "an object",
    }
}

/// How many letters a slip of the pen has at most.
const SLIP_MAX: usize = 2;

const NAME_IT: &str = "write it, for instance apiVersion: networking.k8s.io/v1 and kind: Ingress";

const SERVED: &[Served] = &[
    Served {
        kind: ObjectKind::Ingress,
        group: "networking.k8s.io",
        version: "v1",
        groups_before: &["extensions"],
    },
    Served {
        kind: ObjectKind::IngressClass,
        group: "networking.k8s.io",
        version: "v1",
        groups_before: &[],
    },
    Served { kind: ObjectKind::Service, group: "", version: "v1", groups_before: &[] },
    Served {
        kind: ObjectKind::EndpointSlice,
        group: "discovery.k8s.io",
        version: "v1",
        groups_before: &[],
    },
    Served { kind: ObjectKind::Secret, group: "", version: "v1", groups_before: &[] },
    Served {
        kind: ObjectKind::Upstream,
        group: "kubeng.io",
        version: "v1alpha1",
        groups_before: &[],
    },
    Served { kind: ObjectKind::ConfigMap, group: "", version: "v1", groups_before: &[] },
    Served {
        kind: ObjectKind::RouteOverride,
        group: "kubeng.io",
        version: "v1alpha1",
        groups_before: &[],
    },
    Served { kind: ObjectKind::Fleet, group: "kubeng.io", version: "v1alpha1", groups_before: &[] },
];
