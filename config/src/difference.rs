//! The difference between two Snapshots as people read it: Part by Part, field by field.

pub mod endpoints;

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::part::{Change, Part};
use crate::snapshot::Snapshot;

/// One Part that differs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartDifference {
    /// `route Ingress/shop/web#...`, `backend Service/shop/web:80`, ...
    pub part: String,
    /// How it differs.
    #[serde(flatten)]
    pub how: Difference,
}

/// How a Part differs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum Difference {
    /// It is in the second Snapshot only.
    Added,
    /// It is in the first Snapshot only.
    Removed,
    /// It is in both, with other contents.
    Changed {
        /// Every field that differs.
        fields: Vec<FieldDifference>,
    },
}

/// One field that differs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldDifference {
    /// The field, as a JSON Pointer (RFC 6901).
    pub field: String,
    /// The value in the first Snapshot; null if it is not there.
    pub before: Value,
    /// The value in the second Snapshot; null if it is not there.
    pub after: Value,
}

/// Everything in which `after` differs from `before`, by kind and name.
#[must_use]
pub fn differences(before: &Snapshot, after: &Snapshot) -> Vec<PartDifference> {
    let mut all = Vec::new();
    macro_rules! collect {
        ($($map:ident $kind:literal),*) => {$(
            let mut of_kind: Vec<PartDifference> = before
                .$map()
                .diff(after.$map())
                .map(|change| match change {
                    Change::Added(key, _) => part($kind, key, Difference::Added),
                    Change::Removed(key, _) => part($kind, key, Difference::Removed),
                    Change::Changed(key, old, new) => part($kind, key, changed(old, new)),
                })
                .collect();
            of_kind.sort_by(|a, b| a.part.cmp(&b.part));
            all.extend(of_kind);
        )*};
    }
    collect!(
        listeners "listener",
        policies "policy",
        backends "backend",
        certificates "certificate",
        server_names "server name",
        routes "route"
    );
    all
}

fn part(kind: &str, key: &impl fmt::Display, how: Difference) -> PartDifference {
    PartDifference { part: format!("{kind} {key}"), how }
}

fn changed<V: Serialize>(old: &Part<V>, new: &Part<V>) -> Difference {
    let value = |part: &Part<V>| serde_json::to_value(part.value()).unwrap_or(Value::Null);
    Difference::Changed { fields: fields(&value(old), &value(new)) }
}

/// Every field in which `new` differs from `old`.
pub(crate) fn fields(old: &Value, new: &Value) -> Vec<FieldDifference> {
    let mut fields = Vec::new();
    compare("", old, new, &mut fields);
    fields
}

fn compare(at: &str, old: &Value, new: &Value, fields: &mut Vec<FieldDifference>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(old), Value::Object(new)) => {
            let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                let null = &Value::Null;
                compare(&at, old.get(name).unwrap_or(null), new.get(name).unwrap_or(null), fields);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (number, (old, new)) in old.iter().zip(new).enumerate() {
                compare(&format!("{at}/{number}"), old, new, fields);
            }
        }
        _ => fields.push(FieldDifference {
            field: at.into(),
            before: old.clone(),
            after: new.clone(),
        }),
    }
}

/// One line a Part, and one a field below it.
impl fmt::Display for PartDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            Difference::Added => writeln!(f, "+ {}", self.part),
            Difference::Removed => writeln!(f, "- {}", self.part),
            Difference::Changed { fields } => {
                writeln!(f, "~ {}", self.part)?;
                for field in fields {
                    writeln!(f, "    {}: {} -> {}", field.field, field.before, field.after)?;
                }
                Ok(())
            }
        }
    }
}
