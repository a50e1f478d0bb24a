//! `v1` ConfigMap.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as foreign;

use super::secret::{Access, KEY_SET};

/// The entries of a ConfigMap that are used.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConfigMap {
    /// `ca.crt`: certificates of authorities in PEM.
    pub authorities: Option<Arc<str>>,
    /// `jwks.json`: a set of public keys (RFC 7517).
    pub key_set: Option<Arc<str>>,
    /// Whether it may be read.
    pub access: Access,
}

impl ConfigMap {
    /// Takes the entries over.
    pub(crate) fn decode(object: foreign::ConfigMap) -> Self {
        let mut data = object.data.unwrap_or_default();
        let mut take = |name: &str| data.remove(name).map(Arc::from);
        Self { authorities: take("ca.crt"), key_set: take(KEY_SET), access: Access::Granted }
    }
}
