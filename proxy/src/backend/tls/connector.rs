//! The TLS side of connections to one Backend: built once, used by every worker and for questions.

use std::sync::{Arc, LazyLock};

use kubeng_config::backend::tls::{BackendTls, Subject};
use kubeng_config::listener::TlsVersion;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    Resumption, WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::tls::provider;

/// Opens TLS to the Endpoints of one Backend. Its sessions are resumed on connections of its own only,
/// so nobody resumes what others have verified otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Connector {
    /// # Errors
    /// Why nothing could be verified.
    pub(super) fn new(
        tls: &BackendTls,
        roots: Arc<RootCertStore>,
        presented: Option<Arc<CertifiedKey>>,
        protocols: &[&[u8]],
    ) -> Result<Self, String> {
        let name = ServerName::try_from(tls.server_name.as_str().to_owned())
            .map_err(|error| error.to_string())?;
        let builder = ClientConfig::builder_with_provider(PROVIDER.clone());
        let builder = match tls.version_min {
            TlsVersion::V1_2 => builder.with_protocol_versions(&[&TLS13, &TLS12]),
            TlsVersion::V1_3 => builder.with_protocol_versions(&[&TLS13]),
        };
        let builder = builder.map_err(|error| error.to_string())?;
        let builder = if tls.subjects.is_empty() {
            builder.with_root_certificates(roots)
        } else {
            let verifier = AnySubject::new(&tls.subjects, roots)?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        };
        let mut config = match presented {
            Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(Self { config: Arc::new(config), name })
    }

    /// Shakes hands over `io`. Whoever asks sets the time.
    ///
    /// # Errors
    /// What the library says: the certificate is not the right one, or the other side speaks no TLS.
    pub(crate) async fn connect<IO>(&self, io: IO) -> std::io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        TlsConnector::from(self.config.clone()).connect(self.name.clone(), io).await
    }
}

/// Believes a certificate that comes from the right authority and is for one of some subjects,
/// whatever name the connection was opened for.
#[derive(Debug)]
struct AnySubject {
    names: Vec<ServerName<'static>>,
    uris: Vec<String>,
    roots: Arc<RootCertStore>,
    /// Verifies signatures of the handshake, which know no subject.
    signatures: Arc<WebPkiServerVerifier>,
}

impl AnySubject {
    fn new(subjects: &[Subject], roots: Arc<RootCertStore>) -> Result<Self, String> {
        let builder = WebPkiServerVerifier::builder_with_provider(roots.clone(), PROVIDER.clone());
        let signatures = builder.build().map_err(|error| error.to_string())?;
        let (mut names, mut uris) = (Vec::new(), Vec::new());
        for subject in subjects {
            match subject {
                Subject::Hostname(name) => {
                    let name = ServerName::try_from(name.as_str().to_owned());
                    names.push(name.map_err(|error| error.to_string())?);
                }
                Subject::Uri(uri) => uris.push(uri.as_str().to_owned()),
            }
        }
        Ok(Self { names, uris, roots, signatures })
    }

    fn is_for_one(&self, parsed: &ParsedCertificate<'_>, der: &CertificateDer<'_>) -> bool {
        self.names.iter().any(|name| verify_server_name(parsed, name).is_ok())
            || (!self.uris.is_empty() && self.has_uri(der))
    }

    fn has_uri(&self, der: &CertificateDer<'_>) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
        let Ok(Some(alternative)) = certificate.subject_alternative_name() else { return false };
        alternative.value.general_names.iter().any(|name| {
            matches!(name, GeneralName::URI(uri) if self.uris.iter().any(|wanted| wanted == uri))
        })
    }
}

impl ServerCertVerifier for AnySubject {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = PROVIDER.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        if self.is_for_one(&parsed, end_entity) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::NotValidForName))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}

/// The authorities of the machine; without any nothing is verified, so nothing is believed.
pub(super) static SYSTEM: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut store = RootCertStore::empty();
    let loaded = rustls_native_certs::load_native_certs();
    let (_, ignored) = store.add_parsable_certificates(loaded.certs);
    if store.is_empty() || ignored > 0 {
        tracing::warn!(known = store.len(), ignored, "authorities of the machine");
    }
    Arc::new(store)
});

/// One for all Backends: there may be thousands.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(provider);
/// Names whose sessions a Backend keeps; it has one.
const SESSIONS: usize = 8;
