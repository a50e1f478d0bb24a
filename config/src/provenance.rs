//! Provenance: which source an Object came from, and where in it.

use std::fmt;
use std::sync::Arc;

/// Where an Object was read.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Provenance {
    /// A file of a manifest folder.
    File {
        /// The path, as the folder was named.
        path: Arc<str>,
        /// The line on which the document begins, from 1.
        line: u32,
    },
    /// A Kubernetes API server.
    Cluster {
        /// The `resourceVersion` that was read.
        version: Arc<str>,
    },
    /// Kubeng itself: product defaults and settings.
    Product,
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Cluster { version } => write!(f, "cluster, version {version}"),
            Self::Product => f.write_str("kubeng"),
        }
    }
}
