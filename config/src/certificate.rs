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
    /// An OCSP response in DER that is stapled (RFC 6066 section 8). Whoever puts it in renews it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocsp: Option<Der>,
}

/// What is asked of clients in the TLS handshake, and whom their certificates must come from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientCertificates {
    /// What becomes of clients without one.
    pub mode: ClientCertificateMode,
    /// The authorities in DER; at least one.
    pub roots: Vec<Der>,
}

/// What becomes of clients without a certificate. One that does not verify ends the handshake always.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ClientCertificateMode {
    /// The handshake ends.
    Require,
    /// They are served; the Backend is told of certificates only.
    Request,
}

impl ClientCertificates {
    /// Why it cannot be honoured; `None` when it can.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        self.roots.is_empty().then_some("client certificates are asked for, but from no authority")
    }
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
    /// What is asked of clients under this name; absent: what the Listener says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<ClientCertificates>,
}

impl ServerName {
    /// One that asks clients for nothing of its own.
    #[must_use]
    pub fn of(certificate: CertificateId) -> Self {
        Self { certificate, client_certificates: None }
    }

    /// Why it cannot be honoured under `host`; `None` when it can.
    #[must_use]
    pub fn fault(&self, host: &HostMatch) -> Option<&'static str> {
        let policy = self.client_certificates.as_ref()?;
        match host {
            HostMatch::Exact(_) | HostMatch::OneLabelBelow(_) => policy.fault(),
            // Names get their certificate by one label only, so deeper ones would slip past it.
            HostMatch::Any | HostMatch::AnyLabelsBelow(_) => {
                Some("client certificates are asked for under one name, or one label below it")
            }
        }
    }
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
