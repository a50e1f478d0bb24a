//! `headers`: edits of headers, by name.

use std::collections::HashMap;

use serde::Deserialize;

use crate::bounded::AtMost;
use crate::editable::EditableName;
use crate::filter::headers::{Field, FieldValue, HeaderEdits};

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
                    Some(Field { name: name.clone(), value: value.clone()? })
                })
                .collect()
        };
        let removed = self.remove.iter().flat_map(|names| names.iter());
        HeaderEdits {
            remove: removed.cloned().collect(),
            set: fields(&self.set),
            add: fields(&self.add),
        }
    }
}

/// Values by name, in the order of names; `null` takes back what lower layers have set.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(try_from = "HashMap<EditableName, Option<FieldValue>>")]
pub struct Fields(Vec<(EditableName, Option<FieldValue>)>);

impl TryFrom<HashMap<EditableName, Option<FieldValue>>> for Fields {
    type Error = String;

    fn try_from(fields: HashMap<EditableName, Option<FieldValue>>) -> Result<Self, String> {
        if fields.len() > FIELDS_MAX {
            return Err(format!("{} headers are more than {FIELDS_MAX}", fields.len()));
        }
        let mut fields: Vec<_> = fields.into_iter().collect();
        fields.sort_by(|(a, _), (b, _)| a.name().as_str().cmp(b.name().as_str()));
        Ok(Self(fields))
    }
}

const FIELDS_MAX: usize = 64;
