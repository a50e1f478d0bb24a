//! Statements: what a controller says that a fleet shall serve, in a form that can be signed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::canonical::{self, Digest};
use crate::name::{FleetName, NameError, serde_as_text};
use crate::position::Position;

/// The version of the model that this program reads and writes. It is raised when a Part gets a field
/// or a value that older programs would refuse.
pub const MODEL_VERSION: u32 = 1;

/// A term of leadership among controllers. A replica refuses what comes from an earlier one than
/// it has heard of, so that a leader who was deposed cannot push it back.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u32);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a fleet shall serve, said by a controller.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Statement {
    /// The fleet.
    pub fleet: FleetName,
    /// The term of leadership in which it was said.
    pub epoch: Epoch,
    /// How far the sources had been read.
    pub position: Position,
    /// The digest of the Snapshot.
    pub target: Digest,
    /// The version of the model that its Parts are written in.
    pub model_version: u32,
}

impl Statement {
    /// The bytes that are signed: the canonical form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::to_bytes(self)
    }
}

/// A Statement, and who stands for it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SignedStatement {
    /// What is said.
    pub statement: Statement,
    /// Over [`Statement::to_bytes`]; absent inside one process, where nobody could come between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// An Ed25519 signature (RFC 8032), written as 128 hexadecimal digits.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Signature(pub [u8; 64]);

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}...)", hex::encode(&self.0[..4]))
    }
}

impl FromStr for Signature {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut bytes = [0; 64];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| NameError::Form { text: text.into(), form: "128 hexadecimal digits" })?;
        Ok(Self(bytes))
    }
}

serde_as_text! { Signature }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_has_one_form() {
        let mut position = Position::default();
        position.advance("kubernetes", 7);
        let statement = Statement {
            fleet: "prod".parse().unwrap(),
            epoch: Epoch(3),
            position,
            target: Digest::default(),
            model_version: MODEL_VERSION,
        };
        let bytes = statement.to_bytes();
        assert_eq!(canonical::from_bytes::<Statement>(&bytes).unwrap(), statement);
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with(r#"{"epoch":3,"fleet":"prod","modelVersion":1,"#), "{text}");
        let signature = Signature([7; 64]);
        assert_eq!(signature.to_string().parse(), Ok(signature));
    }
}
