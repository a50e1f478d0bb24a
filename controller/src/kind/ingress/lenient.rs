//! What can be read of an Ingress in which something has a wrong type.
//!
//! API servers let none through; files do. What can be read keeps its place and is refused where it
//! is not whole, so that no wider Rule takes its requests. Where it cannot be told which requests
//! were meant, all that may have been is refused.

use k8s_openapi::api::networking::v1 as foreign;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubeng_config::problem::Problem;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Blocked, BlockedPaths, IngressTls};
use super::{CLASS_ANNOTATION, Doubt, FAMILIES, Ingress, IngressBackend, IngressPath, IngressRule};
use crate::decode::notes::Notes;
use crate::decode::suggest::nearest;
use crate::decode::typed::part;

/// Reads as much as possible of `value`, in which `found` is wrong. All that is wrong is noted.
///
/// # Errors
/// With `found` where not even one host can be told, so that nothing could be refused.
pub(crate) fn read(
    value: &Value,
    mut found: Box<Problem>,
    notes: &mut Notes,
) -> Result<(ObjectMeta, Ingress), Box<Problem>> {
    let empty = Map::new();
    let spec = match value.get("spec") {
        None | Some(Value::Null) => Some(&empty),
        Some(spec) => spec.as_object(),
    };
    let Some(spec) = spec else {
        found.message.push_str(NO_HOST);
        return Err(found);
    };
    let mut reader = Reader { notes, is_any: false, is_class_unread: false, blocked: Vec::new() };
    let before = reader.notes.len();
    let (metadata, class_annotation) = reader.metadata(value.get("metadata"));
    let class = reader.class(spec.get("ingressClassName"), class_annotation);
    reader.only(spec, &["ingressClassName", "defaultBackend", "tls", "rules"], "/spec");
    let default_backend = given(spec.get("defaultBackend"))
        .map(|written| Box::new(reader.backend(written, "/spec/defaultBackend")));
    let tls = reader.tls(spec.get("tls"));
    let written = spec.get("rules");
    let rules = reader.rules(written);
    // Without any of its rules it would take every host, and nobody can tell that this was meant.
    let is_without = |written: &Value| written.as_array().is_some_and(Vec::is_empty);
    let are_rules_lost = rules.is_empty() && !given(written).is_none_or(is_without);
    let default_backend = default_backend.filter(|_| !are_rules_lost);
    let is_found = reader.notes.len() > before;
    let annotations = metadata.annotations.clone().unwrap_or_default();
    let whole = Ingress {
        class,
        class_annotation: annotations.get(CLASS_ANNOTATION).map(|name| name.as_str().into()),
        default_backend,
        tls,
        rules,
        annotations: super::kept(annotations),
        doubt: None,
    };
    let Reader { is_any, is_class_unread, blocked, notes } = reader;
    let ingress = closed(whole, is_any, is_class_unread, blocked);
    let is_anything = !ingress.rules.is_empty()
        || ingress.doubt.as_ref().is_some_and(|it| !it.blocked.is_empty());
    if !is_anything && ingress.default_backend.is_none() {
        found.message.push_str(NO_HOST);
        return Err(found);
    }
    if !is_found {
        notes.add(*found);
    }
    Ok((metadata, ingress))
}

/// `ingress` with everything refused that it may have meant. `is_any`: it may be under any of its
/// hosts that it meant more.
fn closed(
    mut ingress: Ingress,
    is_any: bool,
    is_class_unread: bool,
    mut blocked: Vec<Blocked>,
) -> Ingress {
    if is_any {
        let hosts = ingress.rules.iter().map(|rule| rule.host.clone());
        let of_tls = ingress.tls.iter().flat_map(|tls| tls.hosts.iter().cloned().map(Some));
        blocked.extend(hosts.chain(of_tls).map(Blocked::rest_of));
    }
    for rule in &mut ingress.rules {
        let is_doubtful = is_any || blocked.iter().any(|blocked| blocked.host == rule.host);
        for path in rule.paths.iter_mut().filter(|_| is_doubtful) {
            path.backend = IngressBackend::Unread;
        }
    }
    if is_any || !blocked.is_empty() {
        // Under a doubtful host it would take what a path was meant for.
        let backend = ingress.default_backend.take();
        ingress.default_backend = backend.map(|_| Box::new(IngressBackend::Unread));
    }
    if is_class_unread {
        // It may be another's, so it makes no claim.
        blocked.extend(give_up(&mut ingress));
    }
    if is_class_unread || !blocked.is_empty() {
        ingress.doubt = Some(Box::new(Doubt { is_class_unread, is_stand_in: false, blocked }));
    }
    ingress
}

/// Takes out all that `ingress` lays claim to, and gives what that means, to be refused behind all
/// other Rules.
pub(super) fn give_up(ingress: &mut Ingress) -> Vec<Blocked> {
    let mut blocked = Vec::new();
    let rules = std::mem::take(&mut ingress.rules);
    if ingress.default_backend.take().is_some() {
        let hosts = rules.iter().map(|rule| rule.host.clone());
        blocked.extend(hosts.chain(rules.is_empty().then_some(None)).map(Blocked::rest_of));
    }
    for IngressRule { host, paths } in rules {
        if paths.is_empty() {
            blocked.push(Blocked::rest_of(host.clone()));
        }
        blocked.extend(paths.into_iter().map(|path| {
            let written = path.path.unwrap_or_else(|| "/".to_owned());
            let paths = match path.path_type.as_str() {
                "Exact" => BlockedPaths::Only(written),
                // As the widest of the known types, so that nothing wider opens.
                _ => BlockedPaths::Below(written),
            };
            Blocked { host: host.clone(), paths }
        }));
    }
    blocked
}

struct Reader<'a> {
    notes: &'a mut Notes,
    /// Whether more may have been meant under any host of the Ingress.
    is_any: bool,
    is_class_unread: bool,
    /// Hosts under which more may have been meant.
    blocked: Vec<Blocked>,
}

impl Reader<'_> {
    /// Metadata as far as it is used, and whether the annotation that names a class can be read.
    fn metadata(&mut self, written: Option<&Value>) -> (ObjectMeta, Legible) {
        let Some(written) = written else { return (ObjectMeta::default(), Legible::Yes) };
        if let Ok(metadata) = self.whole::<ObjectMeta>(written, "/metadata", RIGHT_TYPE) {
            return (metadata, Legible::Yes);
        }
        let mut legible = Legible::Yes;
        let mut metadata = ObjectMeta {
            creation_timestamp: member(written, "creationTimestamp"),
            uid: member(written, "uid"),
            ..ObjectMeta::default()
        };
        match written.get("annotations") {
            None | Some(Value::Null) => {}
            Some(Value::Object(annotations)) => {
                let mut kept = std::collections::BTreeMap::new();
                for (name, value) in annotations {
                    match value.as_str() {
                        Some(text) => drop(kept.insert(name.clone(), text.to_owned())),
                        None if name == CLASS_ANNOTATION => legible = Legible::No,
                        // It may have been meant to protect all of it.
                        None => {
                            self.is_any |= FAMILIES.iter().any(|family| name.starts_with(family));
                        }
                    }
                }
                metadata.annotations = Some(kept);
            }
            Some(_) => {
                self.is_any = true;
                legible = Legible::No;
            }
        }
        (metadata, legible)
    }

    fn class(&mut self, written: Option<&Value>, annotation: Legible) -> Option<Box<str>> {
        match given(written) {
            Some(Value::String(name)) => return Some(name.as_str().into()),
            Some(other) => {
                self.bad("/spec/ingressClassName", other, "text", "write the name of a class");
                self.is_class_unread = true;
            }
            None => self.is_class_unread = annotation == Legible::No,
        }
        None
    }

    fn tls(&mut self, written: Option<&Value>) -> Vec<IngressTls> {
        let mut tls = Vec::new();
        for (at, entry) in
            self.sequence(written, "/spec/tls", RIGHT_TYPE).into_iter().flatten().enumerate()
        {
            let field = format!("/spec/tls/{at}");
            let read = self.whole::<foreign::IngressTLS>(entry, &field, RIGHT_TYPE);
            tls.push(read.map(IngressTls::decode).unwrap_or_else(|_noted| {
                let hosts = entry.get("hosts").and_then(Value::as_array).into_iter().flatten();
                let hosts = hosts.filter_map(|host| host.as_str().map(str::to_owned)).collect();
                IngressTls { hosts, secret: member(entry, "secretName") }
            }));
        }
        tls
    }

    fn rules(&mut self, written: Option<&Value>) -> Vec<IngressRule> {
        let Ok(written) = self.sequence(written, "/spec/rules", REFUSED_ALL) else {
            self.is_any = true;
            return Vec::new();
        };
        let rules = written.iter().enumerate();
        rules.filter_map(|(at, rule)| self.rule(rule, &format!("/spec/rules/{at}"))).collect()
    }

    /// None where nothing is left that could be refused in its place.
    fn rule(&mut self, written: &Value, field: &str) -> Option<IngressRule> {
        let Value::Object(rule) = written else {
            self.is_any = true;
            self.bad(field, written, "an object", REFUSED_ALL);
            return None;
        };
        self.only(rule, &["host", "http"], field);
        let host = match given(rule.get("host")) {
            None => None,
            Some(Value::String(host)) => Some(host.clone()).filter(|host| !host.is_empty()),
            Some(other) => {
                self.is_any = true;
                self.bad(&format!("{field}/host"), other, "text", REFUSED_ALL);
                return None;
            }
        };
        let Some(http) = given(rule.get("http")) else {
            return Some(IngressRule { host, paths: Vec::new() });
        };
        let Value::Object(http_members) = http else {
            self.bad(&format!("{field}/http"), http, "an object", REFUSED_HOST);
            self.blocked.push(Blocked::rest_of(host));
            return None;
        };
        let field = format!("{field}/http");
        self.only(http_members, &["paths"], &field);
        let field = format!("{field}/paths");
        let Ok(written) = self.sequence(http.get("paths"), &field, REFUSED_HOST) else {
            self.blocked.push(Blocked::rest_of(host));
            return None;
        };
        let mut paths = Vec::new();
        for (at, path) in written.iter().enumerate() {
            match self.path(path, &format!("{field}/{at}")) {
                Some(path) => paths.push(path),
                None => self.blocked.push(Blocked::rest_of(host.clone())),
            }
        }
        // A rule without any path means all of them.
        (!paths.is_empty() || written.is_empty()).then_some(IngressRule { host, paths })
    }

    /// None where it cannot be told which path was meant.
    fn path(&mut self, written: &Value, field: &str) -> Option<IngressPath> {
        if let Ok(path) = self.whole::<foreign::HTTPIngressPath>(written, field, REFUSED) {
            return Some(IngressPath::decode(path));
        }
        let path = match given(written.as_object()?.get("path")) {
            None => None,
            Some(Value::String(path)) => Some(path.clone()).filter(|path| !path.is_empty()),
            Some(scalar @ (Value::Number(_) | Value::Bool(_))) => Some(scalar.to_string()),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) => return None,
        };
        // As the widest of the known types, so that nothing wider opens.
        let path_type = member(written, "pathType").unwrap_or_else(|| "Prefix".to_owned());
        Some(IngressPath { path, path_type, backend: IngressBackend::Unread })
    }

    fn backend(&mut self, written: &Value, field: &str) -> IngressBackend {
        let read = self.whole::<foreign::IngressBackend>(written, field, REFUSED);
        read.map_or(IngressBackend::Unread, IngressBackend::decode)
    }

    /// `written` as a `T`, or what is wrong in it is noted.
    fn whole<T: DeserializeOwned>(
        &mut self,
        written: &Value,
        field: &str,
        remedy: &str,
    ) -> Result<T, Noted> {
        // Of fields that are not known it is enough that they are noted.
        let _noted = part::<T>(written.clone(), field, remedy, self.notes);
        T::deserialize(written).map_err(|_| Noted)
    }

    /// The members of a sequence, or it is noted that it is none.
    fn sequence<'v>(
        &mut self,
        written: Option<&'v Value>,
        field: &str,
        remedy: &str,
    ) -> Result<&'v [Value], Noted> {
        match given(written) {
            None => Ok(&[]),
            Some(Value::Array(members)) => Ok(members),
            Some(other) => {
                self.bad(field, other, "a sequence", remedy);
                Err(Noted)
            }
        }
    }

    /// Notes the members of `written` that are not `known`.
    fn only(&mut self, written: &Map<String, Value>, known: &[&str], field: &str) {
        for name in written.keys().filter(|name| !known.contains(&name.as_str())) {
            self.notes.unknown_field(&format!("{field}/{name}"), nearest(name, known));
        }
    }

    fn bad(&mut self, field: &str, written: &Value, expected: &str, remedy: &str) {
        let shown: String = written.to_string().chars().take(SHOWN_MAX).collect();
        self.notes.bad_value(field, format!("{shown} is not {expected}"), remedy);
    }
}

/// What is wrong is noted.
struct Noted;

#[derive(Clone, Copy, Eq, PartialEq)]
enum Legible {
    Yes,
    No,
}

/// What is written; null is nothing.
fn given(written: Option<&Value>) -> Option<&Value> {
    written.filter(|value| !value.is_null())
}

fn member<T: DeserializeOwned>(written: &Value, name: &str) -> Option<T> {
    given(written.get(name)).and_then(|value| T::deserialize(value).ok())
}

const NO_HOST: &str = "; nobody can tell which hosts are meant, so nothing is refused in its place";
const RIGHT_TYPE: &str = "write a value of the type that the field has";
const REFUSED: &str =
    "write a value of the type that the field has; until then its requests are refused";
const REFUSED_HOST: &str = "write it in its form; until then all that the Ingress has under the \
                            host is refused";
const REFUSED_ALL: &str =
    "write it in its form; until then all that the Ingress may have meant is refused";

/// Longer values are cut, in characters.
const SHOWN_MAX: usize = 80;
