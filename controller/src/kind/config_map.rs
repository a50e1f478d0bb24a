//! `v1` ConfigMap.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as foreign;

/// The one entry of a ConfigMap that is used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigMap {
    /// `ca.crt`: certificates of authorities in PEM.
    pub authorities: Option<Arc<str>>,
}

impl ConfigMap {
    /// Takes the one entry over.
    pub(crate) fn decode(object: foreign::ConfigMap) -> Self {
        let entry = object.data.and_then(|mut data| data.remove("ca.crt"));
        Self { authorities: entry.map(Arc::from) }
    }
}
