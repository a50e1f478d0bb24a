//! A number for each request, to find it again in logs.

use serde::{Deserialize, Serialize};

use crate::editable::EditableName;

/// Gives each request an id, which the Backend, the client and the access log get.
///
/// What a trusted proxy sends is kept, if it is at most 128 letters, digits and `-_.:/+=@`;
/// else a UUID of version 7 (RFC 9562) is made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RequestIds {
    /// The header. Default: `x-request-id`.
    #[serde(default = "default_header")]
    pub header: EditableName,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self { header: default_header() }
    }
}

fn default_header() -> EditableName {
    EditableName::request_id()
}
