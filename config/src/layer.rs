//! Layers and scopes: whose word counts where several Objects say something about one Route.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a value comes from. The later layer wins.
///
/// Below both are the defaults of the product, and what the Rule itself says.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// Overrides in everyday use.
    Tenant,
    /// Overrides with a reason and an end.
    Emergency,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tenant => "tenant",
            Self::Emergency => "emergency",
        })
    }
}

/// How much an Override is for. Within a layer the narrower scope wins.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// All Routes of a namespace.
    Namespace,
    /// All Routes of one Object.
    Object,
    /// One Rule of an Object.
    Rule,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespace => "namespace",
            Self::Object => "object",
            Self::Rule => "rule",
        })
    }
}
