//! Canonical bytes and digests: one form, made once, for hashing, sending and comparing.

mod sorting;

use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use crate::name::NameError;

/// A SHA-256 hash, written as 64 hexadecimal digits.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The hash of `parts`, one after the other.
    #[must_use]
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 digits: enough for people to tell digests apart.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

/// A hash that was computed elsewhere, or came from there.
impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl FromStr for Digest {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| NameError::Form { text: text.into(), form: "64 hexadecimal digits" })?;
        Ok(Self(bytes))
    }
}

crate::name::serde_as_text! { Digest }

/// The canonical JSON of `value` (RFC 8785).
///
/// # Panics
/// Never for types of this crate: they have text keys and no floating point numbers.
#[must_use]
pub fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    sorting::to_bytes(value)
        .map_or_else(|| serde_json_canonicalizer::to_vec(value), Ok)
        .expect("types of the model have text keys and no floats")
}

/// Reads canonical JSON strictly: the bytes must be what [`to_bytes`] writes for the result.
///
/// # Errors
/// Says what is wrong: a field that is not known, a value out of range, or
/// bytes that are valid but not canonical.
pub fn from_bytes<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, ReadError> {
    let value: T = serde_json::from_slice(bytes).map_err(ReadError::Shape)?;
    if to_bytes(&value) == bytes { Ok(value) } else { Err(ReadError::NotCanonical) }
}

/// Why bytes are not the canonical form of a value. Not retried: the sender must be mended.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not such a value at all.
    #[error("not of the expected shape")]
    Shape(#[source] serde_json::Error),
    /// Such a value, but written differently.
    #[error("not in canonical form")]
    NotCanonical,
}
