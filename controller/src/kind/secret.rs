//! `v1` Secret of type `kubernetes.io/tls`.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as foreign;
use kubeng_config::certificate::Secret;
use serde_json::Value;
use zeroize::Zeroize;

/// The two entries of a TLS Secret that are used, as PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsSecret {
    /// `tls.crt`.
    pub chain: Option<Arc<[u8]>>,
    /// `tls.key`.
    pub key: Option<Secret>,
}

impl TlsSecret {
    /// Takes the two entries over; all others are wiped.
    pub(crate) fn decode(object: foreign::Secret) -> Self {
        let mut data = object.data.unwrap_or_default();
        let mut text = object.string_data.unwrap_or_default();
        // As in an API server, `stringData` wins.
        let mut take = |name: &str| {
            let encoded = data.remove(name).map(|bytes| bytes.0);
            text.remove(name).map(String::into_bytes).or(encoded)
        };
        let secret =
            Self { chain: take("tls.crt").map(Arc::from), key: take("tls.key").map(Secret::new) };
        data.into_values().for_each(|mut bytes| bytes.0.zeroize());
        text.into_values().for_each(|mut text| text.zeroize());
        secret
    }
}

/// Whether a Secret is of the type that is read; all others are not even decoded.
pub(crate) fn is_tls(value: &Value) -> bool {
    value.get("type").and_then(Value::as_str) == Some("kubernetes.io/tls")
}
