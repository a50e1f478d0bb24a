//! Certificates, the names that get them, and the secret bytes beside them.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::matching::HostMatch;
use crate::name::{CertificateId, ListenerId, NameError, SecretId, serde_as_text};

/// A certificate chain that can be presented. Its private key is not in it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Certificate {
    /// The chain in DER, the certificate of the server first.
    pub chain: Vec<Der>,
    /// Which private key belongs to it.
    pub key: SecretId,
    /// The DNS names that it covers, as written in it.
    pub names: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub not_after: i64,
}

/// One certificate in DER; as text in hexadecimal.
#[derive(Clone, Eq, PartialEq)]
pub struct Der(pub Arc<[u8]>);

impl std::fmt::Debug for Der {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Der({} bytes)", self.0.len())
    }
}

impl std::fmt::Display for Der {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl std::str::FromStr for Der {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        hex::decode(text)
            .map(|bytes| Self(bytes.into()))
            .map_err(|_| NameError::Form { text: text.into(), form: "hexadecimal digits" })
    }
}

/// Identifies a Server name: the Listener, and the TLS names that it stands for.
///
/// Written `https/*.example.com`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServerNameId {
    /// The Listener that presents the certificate.
    pub listener: ListenerId,
    /// The names: exact, or one label below.
    pub host: HostMatch,
}

impl std::fmt::Display for ServerNameId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.listener, self.host)
    }
}

impl std::str::FromStr for ServerNameId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let form = || NameError::Form { text: text.into(), form: "listener/host" };
        let (listener, host) = text.rsplit_once('/').ok_or_else(form)?;
        Ok(Self { listener: listener.parse()?, host: host.parse()? })
    }
}

serde_as_text! { Der ServerNameId }

/// The Certificate that a TLS server name gets.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServerName {
    /// The Certificate.
    pub certificate: CertificateId,
}

/// Secret bytes: a private key in PKCS#8, PKCS#1 or SEC1 DER.
///
/// Wiped when freed. It has no `Debug` that shows it and cannot be serialised,
/// so it cannot reach a part, digest, diff, export, journal or log.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }

    /// The bytes, for the one place that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }
}

impl Eq for Secret {}
