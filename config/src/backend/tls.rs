//! TLS to a Backend. There is no way to switch verification off by leaving something out.

use serde::{Deserialize, Serialize};

use crate::bounded::{AtMost, TextAtMost};
use crate::certificate::Der;
use crate::listener::TlsVersion;
use crate::name::{CertificateId, Hostname};

/// How a Backend is reached over TLS.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BackendTls {
    /// The name that is sent as SNI, and that the certificate must cover unless `subjects` says
    /// otherwise.
    pub server_name: Hostname,
    /// Whom the certificate must come from.
    pub roots: Roots,
    /// The certificate must be for one of these, and need not be for `server_name`; at most 16.
    /// Empty: it must cover `server_name`.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub subjects: AtMost<Subject, 16>,
    /// What is presented where the Backend asks who connects; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<CertificateId>,
    /// The oldest version that is spoken.
    #[serde(default, skip_serializing_if = "is_oldest")]
    pub version_min: TlsVersion,
}

impl BackendTls {
    /// One whose certificate must cover `server_name` and come from `roots`, with nothing else said.
    #[must_use]
    pub fn new(server_name: Hostname, roots: Roots) -> Self {
        let (subjects, version_min) = (AtMost::default(), TlsVersion::default());
        Self { server_name, roots, subjects, client_certificate: None, version_min }
    }

    /// Whether more is asked than that the certificate covers one name and comes from somebody.
    #[must_use]
    pub fn is_special(&self) -> bool {
        let Self { server_name: _, roots: _, subjects, client_certificate, version_min } = self;
        !subjects.is_empty() || client_certificate.is_some() || !is_oldest(version_min)
    }
}

/// What a certificate may be for: one of its alternative names (RFC 5280 section 4.2.1.6).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Subject {
    /// A DNS name, which a wildcard of the certificate may cover.
    Hostname(Hostname),
    /// A URI, byte by byte, such as `spiffe://example.org/billing`.
    Uri(TextAtMost<2048>),
}

/// Whom the certificate of a Backend must come from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Roots {
    /// The authorities that the machine trusts.
    System,
    /// One of these authorities, and nobody else. At least one, at most
    /// [`AUTHORITIES_MAX`]; without any, and with one that cannot be read, nothing is ever sent.
    Bundle(Vec<Der>),
}

fn is_oldest(version: &TlsVersion) -> bool {
    *version == TlsVersion::default()
}

fn is_empty(subjects: &AtMost<Subject, 16>) -> bool {
    subjects.is_empty()
}

/// Authorities in one bundle.
pub const AUTHORITIES_MAX: usize = 64;
