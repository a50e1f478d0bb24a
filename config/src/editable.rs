//! Names of header fields that a Filter may edit.

use std::fmt;
use std::str::FromStr;

use http::HeaderName;
use http::header::{self, InvalidHeaderName};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::name::serde_as_text;

/// The name of a header field that may be set, added, copied and removed.
///
/// None that frames a message, belongs to one connection or names the server, nor one that some
/// program reads as such because it takes `_` or `.` for `-`: with those a Route could end a request
/// or an answer where the proxy does not, and speak for others on the same connection.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct EditableName(HeaderName);

impl EditableName {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &HeaderName {
        &self.0
    }

    /// `x-request-id`.
    pub(crate) fn request_id() -> Self {
        Self(HeaderName::from_static("x-request-id"))
    }
}

/// Why a field cannot be edited.
#[derive(Debug, thiserror::Error)]
pub enum EditableNameError {
    /// It has no such name.
    #[error(transparent)]
    Name(#[from] InvalidHeaderName),
    /// The proxy decides about it.
    #[error(
        "{0:?} frames messages, belongs to a connection or names the server, so no filter may edit it"
    )]
    Framing(HeaderName),
}

impl FromStr for EditableName {
    type Err = EditableNameError;

    fn from_str(text: &str) -> Result<Self, EditableNameError> {
        let name: HeaderName = text.parse()?;
        let read = name.as_str().replace(['_', '.'], "-");
        if OF_THE_PROXY.iter().any(|own| own.as_str() == read) {
            return Err(EditableNameError::Framing(name));
        }
        Ok(Self(name))
    }
}

impl fmt::Display for EditableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

serde_as_text! { EditableName }

const OF_THE_PROXY: [HeaderName; 10] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frames_is_not_edited_however_it_is_spelled() {
        let is_fine = |text: &str| text.parse::<EditableName>().is_ok();
        for text in ["Content-Length", "transfer_encoding", "transfer.encoding", "HOST", "TE"] {
            assert!(!is_fine(text), "{text}");
        }
        for text in ["x-content-length", "content-type", "x_te", "via", "date", "server"] {
            assert!(is_fine(text), "{text}");
        }
        assert!(!is_fine("a b"));
    }
}
