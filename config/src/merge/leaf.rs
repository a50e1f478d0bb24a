//! A Patch as a list of pointers with what is done there, and back to a document.

use serde_json::{Map, Value};

use super::{ATOMIC, KEYED, Pointer};

/// What a Patch does at one pointer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Leaf {
    /// Sets this.
    Set(Value),
    /// Takes back what lower layers have set.
    Reset,
    /// Wants an object there, whatever is in it.
    Present,
}

/// Everything that `patch` does, by pointer.
pub(super) fn leaves(patch: &Value) -> Vec<(Pointer, Leaf)> {
    let mut found = Vec::new();
    if let Value::Object(map) = patch {
        collect(map, "", &mut found);
    }
    found
}

fn collect(map: &Map<String, Value>, above: &str, found: &mut Vec<(Pointer, Leaf)>) {
    for (name, value) in map {
        let pointer = below(above, &name_at(above, name));
        match value {
            Value::Null => found.push((pointer, Leaf::Reset)),
            Value::Object(_) if ATOMIC.contains(&pointer.as_str()) => {
                found.push((pointer, Leaf::Set(value.clone())));
            }
            Value::Object(inner) => {
                found.push((pointer.clone(), Leaf::Present));
                collect(inner, &pointer, found);
            }
            Value::Array(elements) if KEYED.contains(&pointer.as_str()) => {
                elements.iter().for_each(|element| collect_element(element, &pointer, found));
            }
            Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                found.push((pointer, Leaf::Set(value.clone())));
            }
        }
    }
}

/// Names of headers are the same in any case.
fn name_at(above: &str, name: &str) -> String {
    match above {
        "/headers/request/set"
        | "/headers/request/add"
        | "/headers/response/set"
        | "/headers/response/add" => name.to_ascii_lowercase(),
        _ => name.to_owned(),
    }
}

/// One element of a list whose elements are references: `kind`, `name` and `port` are its key.
fn collect_element(element: &Value, above: &str, found: &mut Vec<(Pointer, Leaf)>) {
    let Value::Object(members) = element else { return };
    let pointer = below(above, &key_of(members));
    if members.get(REMOVE) == Some(&Value::Bool(true)) {
        found.push((pointer, Leaf::Reset));
        return;
    }
    found.push((pointer.clone(), Leaf::Present));
    let of_element = members.iter().filter(|(name, _)| !KEY.contains(&name.as_str()));
    let rest: Map<String, Value> = of_element.map(|(n, v)| (n.clone(), v.clone())).collect();
    collect(&rest, &pointer, found);
}

/// `Service/web:80`, `Upstream/erp`.
fn key_of(members: &Map<String, Value>) -> String {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let kind = text("kind").unwrap_or("Service");
    let name = text("name").unwrap_or_default();
    match members.get("port") {
        None | Some(Value::Null) => format!("{kind}/{name}"),
        Some(port) => format!("{kind}/{name}:{port}"),
    }
}

/// Makes lists again of what was keyed, in the order of keys.
pub(super) fn with_lists(mut root: Value) -> Value {
    for pointer in KEYED {
        let Some(Value::Object(elements)) = root.pointer_mut(pointer).map(Value::take) else {
            continue;
        };
        let list = elements.into_iter().map(|(key, members)| element(&key, members)).collect();
        if let Some(place) = root.pointer_mut(pointer) {
            *place = Value::Array(list);
        }
    }
    root
}

fn element(key: &str, members: Value) -> Value {
    let Value::Object(mut members) = members else { return members };
    let (kind, rest) = key.split_once('/').unwrap_or(("Service", key));
    let (name, port) = match rest.split_once(':') {
        Some((name, port)) => (name, port.parse::<u64>().ok()),
        None => (rest, None),
    };
    members.insert("kind".to_owned(), kind.into());
    members.insert("name".to_owned(), name.into());
    if let Some(port) = port {
        members.insert("port".to_owned(), port.into());
    }
    Value::Object(members)
}

/// `above` with one more step.
fn below(above: &str, step: &str) -> Pointer {
    format!("{above}/{}", step.replace('~', "~0").replace('/', "~1"))
}

/// The steps of a pointer, without escapes.
pub(super) fn steps(pointer: &str) -> impl Iterator<Item = String> + '_ {
    pointer.split('/').skip(1).map(unescaped)
}

/// The pointer above, and the last step without escapes.
pub(super) fn split(pointer: &str) -> (&str, String) {
    let (above, last) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    (above, unescaped(last))
}

fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

/// What tells elements of keyed lists apart.
const KEY: [&str; 4] = ["kind", "name", "port", REMOVE];

/// The member that removes an element which lower layers have put in.
const REMOVE: &str = "$remove";
