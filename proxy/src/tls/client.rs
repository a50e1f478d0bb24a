//! Client certificates: whom they must come from, and what Backends are told of them.

use std::fmt::Write as _;
use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use kubeng_config::canonical::Digest;
use kubeng_config::certificate::{ClientCertificateMode, ClientCertificates};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use x509_parser::asn1_rs::ToDer;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};
use x509_parser::x509::AttributeTypeAndValue;

use super::provider;
use crate::request::Fields;

/// What is asked of clients under some names.
#[derive(Debug)]
pub(crate) struct ClientPolicy {
    /// Equal where the same is asked.
    pub(crate) digest: Digest,
    /// What the verifier was made of.
    pub(crate) asked: ClientCertificates,
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
}

/// Why clients cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum ClientPolicyError {
    /// An authority is no certificate.
    #[error("authority {number} cannot be read")]
    Root {
        /// Which one, from 0.
        number: usize,
        /// What the library says.
        source: rustls::Error,
    },
    /// Nobody could be verified.
    #[error("nobody could be verified")]
    Verifier(#[source] VerifierBuilderError),
}

impl ClientPolicy {
    /// # Errors
    /// When an authority cannot be read.
    pub(super) fn new(
        digest: Digest,
        asked: &ClientCertificates,
    ) -> Result<Self, ClientPolicyError> {
        let ClientCertificates { mode, roots } = asked;
        let mut store = RootCertStore::empty();
        for (number, der) in roots.iter().enumerate() {
            let added = store.add(CertificateDer::from(der.0.to_vec()));
            added.map_err(|source| ClientPolicyError::Root { number, source })?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider());
        let builder = match mode {
            ClientCertificateMode::Require => builder,
            ClientCertificateMode::Request => builder.allow_unauthenticated(),
        };
        let verifier = builder.build().map_err(ClientPolicyError::Verifier)?;
        Ok(Self { digest, asked: asked.clone(), verifier })
    }
}

/// What is told of a client certificate that was verified, ready for headers.
#[derive(Debug)]
pub(crate) struct ClientCertificate {
    subject: HeaderValue,
    issuer: HeaderValue,
    serial: HeaderValue,
    fingerprint: HeaderValue,
}

impl ClientCertificate {
    /// Reads a certificate in DER. None when it cannot be told without leaving something out.
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let value = |text: String| {
            (text.len() <= NAME_BYTES_MAX).then(|| HeaderValue::try_from(text).ok()).flatten()
        };
        let mut serial = String::new();
        let bytes = parsed.raw_serial();
        // A leading 0 only says that the number is not negative.
        for byte in bytes.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(bytes) {
            let _ = write!(serial, "{byte:02x}");
        }
        Some(Self {
            subject: value(name(parsed.subject())?)?,
            issuer: value(name(parsed.issuer())?)?,
            serial: value(serial)?,
            fingerprint: value(Digest::of([der]).to_string())?,
        })
    }

    /// Tells a Backend. What the client itself said under these names is gone already.
    pub(crate) fn tell(&self, to: &mut impl Fields) {
        let Self { subject, issuer, serial, fingerprint } = self;
        to.set(&SUBJECT, subject.clone());
        to.set(&ISSUER, issuer.clone());
        to.set(&SERIAL, serial.clone());
        to.set(&FINGERPRINT, fingerprint.clone());
    }
}

/// A distinguished name as text (RFC 4514): the last part first, everything that could be taken for
/// another part escaped, and every byte that is not visible ASCII as `\XX`.
fn name(name: &X509Name<'_>) -> Option<String> {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for (at, part) in parts.into_iter().rev().enumerate() {
        if at > 0 {
            text.push(',');
        }
        for (at, attribute) in part.iter().enumerate() {
            if at > 0 {
                text.push('+');
            }
            self::attribute(&mut text, attribute)?;
        }
    }
    Some(text)
}

fn attribute(out: &mut String, attribute: &AttributeTypeAndValue<'_>) -> Option<()> {
    let kind = attribute.attr_type();
    let short = oid2abbrev(kind, oid_registry()).ok();
    match (short, attribute.as_str()) {
        (Some(short), Ok(value)) => {
            out.push_str(short);
            out.push('=');
            escape(out, value);
        }
        (short, _) => {
            match short {
                Some(short) => out.push_str(short),
                None => out.push_str(&kind.to_id_string()),
            }
            out.push_str("=#");
            for byte in attribute.attr_value().to_der_vec().ok()? {
                let _ = write!(out, "{byte:02x}");
            }
        }
    }
    Some(())
}

fn escape(out: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        let is_edge = (at == 0 && matches!(byte, b' ' | b'#')) || (at == last && byte == b' ');
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'=' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' '..=b'~' if !is_edge => out.push(char::from(byte)),
            byte => {
                let _ = write!(out, "\\{byte:02X}");
            }
        }
    }
}

/// What all headers about client certificates begin with; whatever a client says there is removed.
pub(crate) const CLAIMS: &str = "x-client-cert-";
const SUBJECT: HeaderName = HeaderName::from_static("x-client-cert-subject");
const ISSUER: HeaderName = HeaderName::from_static("x-client-cert-issuer");
const SERIAL: HeaderName = HeaderName::from_static("x-client-cert-serial");
const FINGERPRINT: HeaderName = HeaderName::from_static("x-client-cert-fingerprint");
/// The longest name that is told.
const NAME_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SerialNumber};

    use super::*;

    #[track_caller]
    fn check(parts: &[(DnType, &str)], expected: &str) {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.serial_number = Some(SerialNumber::from(vec![0xf0, 0x01]));
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let told = ClientCertificate::read(made.der()).unwrap();
        assert_eq!(told.subject, expected);
        assert_eq!(told.issuer, expected);
        assert_eq!(told.serial, "f001");
        assert_eq!(told.fingerprint.len(), 64);
    }

    #[test]
    fn a_name_cannot_pretend_to_be_another() {
        use DnType::{CommonName, OrganizationName};
        check(&[], "");
        check(&[(OrganizationName, "Fin"), (CommonName, "bob")], "CN=bob,O=Fin");
        check(&[(CommonName, "bob,O=Admin")], "CN=bob\\,O\\=Admin");
        check(&[(CommonName, " #a\\\"<>;+ ")], "CN=\\20#a\\\\\\\"\\<\\>\\;\\+\\20");
        check(&[(CommonName, "#x")], "CN=\\23x");
        check(&[(CommonName, "Bj\u{f6}rn\r\nX: y\0")], "CN=Bj\\C3\\B6rn\\0D\\0AX: y\\00");
        check(&[(DnType::CustomDnType(vec![1, 2, 3, 4]), "x")], "1.2.3.4=#0c0178");
    }

    #[test]
    fn what_is_no_certificate_or_too_long_is_not_told() {
        assert!(ClientCertificate::read(b"no").is_none());
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "x".repeat(5000).as_str());
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert!(ClientCertificate::read(made.der()).is_none());
    }
}
