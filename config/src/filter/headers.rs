//! Edits of header fields, of a request or of an answer.

use http::HeaderValue;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

use crate::editable::EditableName;
use crate::name::serde_as_text;

/// The value of a header field: visible ASCII and spaces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FieldValue(pub HeaderValue);

impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

/// Why a text cannot be the value of a header field.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} has a character that may not stand in a header value")]
pub struct FieldValueError {
    text: String,
}

impl FromStr for FieldValue {
    type Err = FieldValueError;

    fn from_str(text: &str) -> Result<Self, FieldValueError> {
        let error = || FieldValueError { text: text.into() };
        if text.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
            return Err(error());
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| error())
    }
}

serde_as_text! { FieldValue }

/// One field with its value.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// The name.
    pub name: EditableName,
    /// The value.
    pub value: FieldValue,
}

/// Edits of header fields; removals come first, then `set`, then `add`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderEdits {
    /// Fields that are taken away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<EditableName>,
    /// Fields that replace all of their name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<Field>,
    /// Fields that come in addition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Field>,
}
