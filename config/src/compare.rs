//! Comparing what replicas run: first by digest, then Part by Part and field by field.
//!
//! Parts hold no secrets, so neither does what is written here. Where the value of a field comes
//! from is not told: a running Part does not say who wrote it.

pub mod lines;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::canonical::Digest;
use crate::delta::AnyPart;
use crate::difference;
use crate::endpoint::EndpointSet;
use crate::name::BackendId;

/// The replicas that run one configuration.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// What they run; none where they have not said.
    pub digest: Option<Digest>,
    /// Their names, in order.
    pub replicas: Vec<String>,
}

/// Groups replicas by what they run, the largest group first.
#[must_use]
pub fn groups(running: impl IntoIterator<Item = (String, Option<Digest>)>) -> Vec<Group> {
    let mut by_digest: BTreeMap<Option<Digest>, Vec<String>> = BTreeMap::new();
    for (name, digest) in running {
        by_digest.entry(digest).or_default().push(name);
    }
    let mut groups: Vec<Group> = by_digest
        .into_iter()
        .map(|(digest, mut replicas)| {
            replicas.sort();
            Group { digest, replicas }
        })
        .collect();
    groups.sort_by_key(|group| (std::cmp::Reverse(group.replicas.len()), group.digest));
    groups
}

/// `10 run 1a2b..., 2 run 3c4d...`.
#[must_use]
pub fn summary(groups: &[Group]) -> String {
    let one = |group: &Group| {
        let verb = if group.replicas.len() == 1 { "runs" } else { "run" };
        let what = group.digest.map_or_else(|| "what is not known".to_owned(), |is| is.short());
        format!("{} {verb} {what}", group.replicas.len())
    };
    if groups.is_empty() {
        return "no replicas".to_owned();
    }
    groups.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// One side of a comparison.
#[derive(Clone, Debug)]
pub struct Side {
    /// What it is: `replica:prod/r1`, `intended:prod`, the name of a file.
    pub name: String,
    /// All Parts.
    pub parts: Vec<AnyPart>,
    /// The Endpoints of each Backend that discovers its own; none where they are not known.
    pub endpoints: Option<BTreeMap<BackendId, Arc<EndpointSet>>>,
}

/// In what two sides differ.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// The name of the first side.
    pub left: String,
    /// The name of the second side.
    pub right: String,
    /// Whether all Parts are equal. Endpoints do not count: they follow by themselves.
    pub equal: bool,
    /// Every field that differs between Parts that both have.
    pub differences: Vec<Field>,
    /// Keys of Parts that only the first side has.
    pub only_left: Vec<String>,
    /// Keys of Parts that only the second side has.
    pub only_right: Vec<String>,
    /// How Endpoints differ; none where a side does not know any.
    pub endpoints: Option<EndpointComparison>,
}

impl Comparison {
    /// In how many places the sides differ.
    #[must_use]
    pub fn places(&self) -> usize {
        self.differences.len() + self.only_left.len() + self.only_right.len()
    }
}

/// One field that differs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Field {
    /// The key of the Part: `route Ingress/shop/web#a.example/`.
    pub key: String,
    /// The field in it, as a JSON Pointer (RFC 6901).
    pub pointer: String,
    /// The value on the first side; null if it is not there.
    pub left: Value,
    /// The value on the second side; null if it is not there.
    pub right: Value,
}

/// How the Endpoints of two sides differ.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointComparison {
    /// Whether all Backends have the same.
    pub equal: bool,
    /// How many Backends have others.
    pub differences: usize,
}

/// Compares two sides, in order of their keys.
#[must_use]
pub fn compare(left: &Side, right: &Side) -> Comparison {
    let (of_left, of_right) = (by_key(&left.parts), by_key(&right.parts));
    let mut differences = Vec::new();
    let mut only_left = Vec::new();
    for (key, part) in &of_left {
        match of_right.get(key) {
            None => only_left.push(key.clone()),
            Some(other) if other.digest() == part.digest() => {}
            Some(other) => {
                let fields = difference::fields(&value(part), &value(other));
                differences.extend(fields.into_iter().map(|field| Field {
                    key: key.clone(),
                    pointer: field.field,
                    left: field.before,
                    right: field.after,
                }));
            }
        }
    }
    let only_right: Vec<String> =
        of_right.keys().filter(|key| !of_left.contains_key(*key)).cloned().collect();
    Comparison {
        left: left.name.clone(),
        right: right.name.clone(),
        equal: differences.is_empty() && only_left.is_empty() && only_right.is_empty(),
        differences,
        only_left,
        only_right,
        endpoints: endpoints(left, right),
    }
}

/// The text of both sides, line by line: of the Parts that differ only.
///
/// Lines of the first side alone begin with `-`, of the second with `+`, of both with a space.
#[must_use]
pub fn text(left: &Side, right: &Side) -> String {
    let (of_left, of_right) = (by_key(&left.parts), by_key(&right.parts));
    let keys: std::collections::BTreeSet<&String> = of_left.keys().chain(of_right.keys()).collect();
    let mut out = format!("--- {}\n+++ {}\n", left.name, right.name);
    for key in keys {
        let (ours, theirs) = (of_left.get(key), of_right.get(key));
        if ours.map(|part| part.digest()) == theirs.map(|part| part.digest()) {
            continue;
        }
        let written = |part: Option<&&AnyPart>| part.map_or_else(String::new, |part| yaml(part));
        out.push_str(&format!("@@ {key} @@\n"));
        out.push_str(&lines::difference(&written(ours), &written(theirs)));
    }
    out
}

/// The contents of a Part as JSON.
#[must_use]
pub fn value(part: &AnyPart) -> Value {
    fn json<V: Serialize>(value: &V) -> Value {
        serde_json::to_value(value).unwrap_or(Value::Null)
    }
    match part {
        AnyPart::Listener(_, part) => json(part.value()),
        AnyPart::Policy(_, part) => json(part.value()),
        AnyPart::Backend(_, part) => json(part.value()),
        AnyPart::Certificate(_, part) => json(part.value()),
        AnyPart::ServerName(_, part) => json(part.value()),
        AnyPart::Route(_, part) => json(part.value()),
    }
}

fn yaml(part: &AnyPart) -> String {
    // Values of the model have a form in YAML; without one the name of the Part still stands there.
    serde_saphyr::to_string(&value(part)).unwrap_or_default()
}

fn by_key(parts: &[AnyPart]) -> BTreeMap<String, &AnyPart> {
    parts.iter().map(|part| (part.key().to_string(), part)).collect()
}

fn endpoints(left: &Side, right: &Side) -> Option<EndpointComparison> {
    let (left, right) = (left.endpoints.as_ref()?, right.endpoints.as_ref()?);
    let keys: std::collections::BTreeSet<&BackendId> = left.keys().chain(right.keys()).collect();
    let differences = keys.into_iter().filter(|key| left.get(key) != right.get(key)).count();
    Some(EndpointComparison { equal: differences == 0, differences })
}

#[cfg(test)]
mod tests;
