//! References to other Objects of the same namespace.

use serde::Deserialize;

use crate::name::{NameError, ObjectKind};

/// A Secret of the same namespace.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    pub name: ObjectName,
}

/// A ConfigMap of the same namespace.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapRef {
    /// Its name.
    pub name: ObjectName,
}

/// A Service with a port, or an Upstream, of the same namespace.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BackendRef {
    /// `Service` unless it says `Upstream`.
    #[serde(default)]
    pub kind: BackendKind,
    /// Its name.
    pub name: ObjectName,
    /// The port of a Service.
    pub port: Option<crate::bounded::Between<1, 65_535>>,
}

/// What requests can be sent to.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub enum BackendKind {
    /// One port of a Service.
    #[default]
    Service,
    /// An Upstream.
    Upstream,
}

impl BackendKind {
    /// The kind of Object.
    #[must_use]
    pub fn object(self) -> ObjectKind {
        match self {
            Self::Service => ObjectKind::Service,
            Self::Upstream => ObjectKind::Upstream,
        }
    }
}

/// The name of an Object: letters, digits, `-` and `.`, at most 253 (RFC 1123).
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub struct ObjectName(String);

impl ObjectName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ObjectName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        let is_outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_name = text.len() <= 253
            && text.starts_with(is_outer)
            && text.ends_with(is_outer)
            && text.chars().all(is_inner);
        let form = "a name of a-z, 0-9, - and .";
        if is_name { Ok(Self(text)) } else { Err(NameError::Form { text, form }) }
    }
}
