//! `v1` Secret: only the entries that are used.

pub mod staple;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as foreign;
use kubeng_config::certificate::Secret;
use kubeng_config::name::ObjectKey;
use kubeng_config::problem::STAPLE_UNUSABLE;
use serde_json::Value;
use zeroize::Zeroize;

use crate::decode::notes::Notes;
use staple::Staple;

/// The entries of a Secret that are used.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsSecret {
    /// `tls.crt`, as PEM.
    pub chain: Option<Arc<[u8]>>,
    /// `tls.key`, as PEM.
    pub key: Option<Secret>,
    /// `tls.ocsp-staple`, if it can be stapled to the first certificate.
    pub staple: Option<Staple>,
    /// `ca.crt`: certificates of authorities in PEM.
    pub authorities: Option<Arc<[u8]>>,
    /// What else is used, by name: see [`CREDENTIALS`].
    pub credentials: BTreeMap<&'static str, Secret>,
    /// Whether it may be read.
    pub access: Access,
}

/// Whether a Secret or ConfigMap may be read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Access {
    /// It was.
    #[default]
    Granted,
    /// An API server refuses it, so nobody knows whether it exists.
    Denied,
}

/// Why what is [denied](Access::Denied) cannot be used, and whom to ask.
pub(crate) fn denied(key: &ObjectKey) -> (String, &'static str) {
    let message = format!(
        "Kubeng may not read {} {:?} in this namespace, so nobody knows whether it exists",
        key.kind, key.name
    );
    (message, "ask who runs Kubeng to grant list and watch on it (see deploy/rbac.yaml)")
}

impl TlsSecret {
    /// Takes the entries over; all others are wiped.
    pub(crate) fn decode(object: foreign::Secret, notes: &mut Notes) -> Self {
        let mut data = object.data.unwrap_or_default();
        let mut text = object.string_data.unwrap_or_default();
        // As in an API server, `stringData` wins.
        let mut take = |name: &str| {
            let encoded = data.remove(name).map(|bytes| bytes.0);
            text.remove(name).map(String::into_bytes).or(encoded)
        };
        let chain: Option<Arc<[u8]>> = take("tls.crt").map(Arc::from);
        let key = take("tls.key").map(Secret::new);
        let authorities = take(AUTHORITIES).map(Arc::from);
        let staple = take("tls.ocsp-staple").and_then(|response| {
            let read = Staple::read(&response, chain.as_deref());
            read.map_err(|why| unusable(notes, &why)).ok()
        });
        let credentials =
            CREDENTIALS.iter().filter_map(|name| Some((*name, Secret::new(take(name)?))));
        let credentials = credentials.collect();
        let secret = Self { chain, key, staple, authorities, credentials, access: Access::Granted };
        data.into_values().for_each(|mut bytes| bytes.0.zeroize());
        text.into_values().for_each(|mut text| text.zeroize());
        secret
    }
}

/// Tells why a response is left out. The certificate is served all the same.
fn unusable(notes: &mut Notes, why: &str) {
    let message = format!("the OCSP response cannot be stapled: {why}");
    let remedy = "store the newest response for the first certificate of tls.crt in DER";
    notes.note("/data/tls.ocsp-staple", STAPLE_UNUSABLE, message, remedy);
}

/// Whether a Secret holds anything that is read; all others are not even decoded.
pub(crate) fn is_read(value: &Value) -> bool {
    let holds = |part: &str, name: &str| value.get(part).is_some_and(|of| of.get(name).is_some());
    value.get("type").and_then(Value::as_str) == Some("kubernetes.io/tls")
        || CREDENTIALS
            .iter()
            .chain([&AUTHORITIES])
            .any(|name| holds("data", name) || holds("stringData", name))
}

/// Certificates of authorities, as other controllers name that entry.
const AUTHORITIES: &str = "ca.crt";
/// The lines of `htpasswd`, as other controllers name that entry.
pub const USERS: &str = "auth";
/// The key of signatures by a shared secret.
pub const SIGNING_KEY: &str = "key";
/// A set of public keys (RFC 7517).
pub const KEY_SET: &str = "jwks.json";
/// Entries that are read beside certificates.
pub const CREDENTIALS: [&str; 3] = [USERS, SIGNING_KEY, KEY_SET];
