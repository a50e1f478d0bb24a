//! An object as the API server sends it, without what is not used.

use std::fmt;
use std::sync::Arc;

use kubeng_config::name::ObjectKey;
use kubeng_config::problem::Problem;
use kubeng_config::provenance::Provenance;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::scope::Scope;
use crate::decode::{Decoded, decode};
use crate::object::{Author, Object};

/// An object that has not been decoded. Any JSON is one.
#[derive(Clone)]
pub(crate) struct Raw(Value);

/// Shows nothing: it may be a Secret.
impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Raw(..)")
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        if let Some(status) = value.get_mut("status").and_then(Value::as_object_mut) {
            // Addresses are used; conditions are not, and change often.
            status.retain(|field, _| field == "loadBalancer");
        }
        Ok(Self(value))
    }
}

/// One page of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    #[serde(default)]
    pub(crate) metadata: PageMetadata,
    #[serde(default)]
    pub(crate) items: Option<Vec<Raw>>,
}

/// Where a list goes on, and of which version it is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PageMetadata {
    #[serde(default)]
    pub(crate) resource_version: String,
    #[serde(default, rename = "continue")]
    pub(crate) next: Option<String>,
}

/// What an object turned out to be.
#[derive(Debug)]
pub(crate) enum Found {
    /// An Object.
    Object(Arc<Object>),
    /// It exists and cannot be decoded.
    Undecodable(ObjectKey, Problem),
    /// It exists and is not one of those that are read.
    Ignored(ObjectKey),
}

impl Found {
    pub(crate) fn key(&self) -> &ObjectKey {
        match self {
            Self::Object(object) => &object.key,
            Self::Undecodable(key, _) | Self::Ignored(key) => key,
        }
    }
}

impl Raw {
    /// Its `resourceVersion`; empty if it has none.
    pub(crate) fn version(&self) -> &str {
        self.text("/metadata/resourceVersion")
    }

    /// Which object it is.
    pub(crate) fn key(&self, scope: &Scope) -> ObjectKey {
        let namespace = self.text("/metadata/namespace");
        ObjectKey::new(scope.kind, namespace, self.text("/metadata/name"))
    }

    /// Decodes it.
    pub(crate) fn decode(mut self, scope: &Scope) -> Found {
        let key = self.key(scope);
        let provenance = Provenance::Cluster { version: self.version().into() };
        if let Some(fields) = self.0.as_object_mut() {
            let (version, kind) = scope.type_of_items();
            fields.entry("apiVersion").or_insert_with(|| version.into());
            fields.entry("kind").or_insert_with(|| kind.into());
        }
        match decode(self.0, provenance, Author::Tenant) {
            Decoded::Object(object) => Found::Object(Arc::new(*object)),
            Decoded::Ignored => Found::Ignored(key),
            Decoded::Undecodable(_, problem) | Decoded::Closed(_, problem) => {
                Found::Undecodable(key, problem)
            }
        }
    }

    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}
