//! `headers`: edits of headers, by name.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::bounded::AtMost;
use crate::filter::headers::{Field, FieldValue, HeaderEdits};
use crate::matching::FieldName;

/// Edits of headers.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Headers {
    /// Of what is forwarded.
    pub request: Option<Edits>,
    /// Of the answer.
    pub response: Option<Edits>,
}

/// Edits of one message; removals come first, then `set`, then `add`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Edits {
    /// Fields that replace all of their name.
    pub set: Option<Fields>,
    /// Fields that come in addition.
    pub add: Option<Fields>,
    /// Fields that are taken away.
    pub remove: Option<AtMost<EditableName, FIELDS_MAX>>,
}

impl Edits {
    /// The Filter.
    #[must_use]
    pub fn filter(&self) -> HeaderEdits {
        let fields = |fields: &Option<Fields>| -> Vec<Field> {
            let written = fields.iter().flat_map(|fields| &fields.0);
            written
                .filter_map(|(name, value)| {
                    Some(Field { name: name.0.clone(), value: value.clone()? })
                })
                .collect()
        };
        let removed = self.remove.iter().flat_map(|names| names.iter());
        HeaderEdits {
            remove: removed.map(|name| name.0.clone()).collect(),
            set: fields(&self.set),
            add: fields(&self.add),
        }
    }
}

/// Values by name; `null` takes back what lower layers have set.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(try_from = "BTreeMap<EditableName, Option<FieldValue>>")]
pub struct Fields(BTreeMap<EditableName, Option<FieldValue>>);

impl TryFrom<BTreeMap<EditableName, Option<FieldValue>>> for Fields {
    type Error = String;

    fn try_from(fields: BTreeMap<EditableName, Option<FieldValue>>) -> Result<Self, String> {
        if fields.len() > FIELDS_MAX {
            return Err(format!("{} headers are more than {FIELDS_MAX}", fields.len()));
        }
        Ok(Self(fields))
    }
}

/// The name of a header that may be edited: none that frames the message or belongs to a connection.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub struct EditableName(pub FieldName);

impl TryFrom<String> for EditableName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let name: FieldName =
            text.parse().map_err(|_| format!("{text:?} is not the name of a header"))?;
        if FRAMING.contains(&name.0.as_str()) {
            return Err(format!("{name} belongs to Kubeng: it says where a message ends or goes"));
        }
        Ok(Self(name))
    }
}

/// Fields that frame a message, belong to one connection, or say where it goes (`rewrite.host`).
const FRAMING: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const FIELDS_MAX: usize = 64;
