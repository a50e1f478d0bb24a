//! TLS towards clients: the certificate by server name, from the Table of the moment.

pub(crate) mod client;
pub(crate) mod config;
mod terms;
mod tickets;

use std::net::SocketAddr;
use std::sync::Arc;

use kubeng_config::certificate::{Certificate, Secret};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::shared::Shared;

/// The cryptography that is used everywhere. Given explicitly: with two in one
/// binary the library cannot guess.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Why a certificate cannot be presented.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The private key did not come with it. The sender must add it.
    #[error("its private key is not there")]
    NoKey,
    /// The private key is in no form that we read.
    #[error("its private key cannot be read")]
    KeyForm,
    /// The key and the certificate do not fit, or the key is of no kind that we use.
    #[error("its private key cannot be used")]
    Key(#[source] rustls::Error),
}

/// Parses a certificate and its key, and checks that they belong together.
pub(crate) fn certified_key(
    certificate: &Certificate,
    secret: Option<&Secret>,
) -> Result<Arc<CertifiedKey>, CertificateError> {
    let secret = secret.ok_or(CertificateError::NoKey)?;
    let chain = certificate.chain.iter().map(|der| CertificateDer::from(der.0.to_vec())).collect();
    let key =
        PrivateKeyDer::try_from(secret.expose().to_vec()).map_err(|_| CertificateError::KeyForm)?;
    let mut key = CertifiedKey::from_der(chain, key, &provider()).map_err(CertificateError::Key)?;
    key.ocsp = certificate.ocsp.as_ref().map(|der| der.0.to_vec());
    Ok(Arc::new(key))
}

/// A certificate of our own, for names that have none: made at start, signed by itself.
pub(crate) fn fallback_certificate() -> Result<Arc<CertifiedKey>, FallbackError> {
    let made = rcgen::generate_simple_self_signed(["kubeng.invalid".to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|_| rustls::Error::General("a key of our own cannot be read".into()))?;
    Ok(Arc::new(CertifiedKey::from_der(vec![made.cert.der().clone()], key, &provider())?))
}

/// Why there is no certificate of our own. Fatal at start.
#[derive(Debug, thiserror::Error)]
pub enum FallbackError {
    /// It could not be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// It could not be used.
    #[error("cannot use a certificate of our own")]
    Use(#[from] rustls::Error),
}

/// Finds the certificate in the Table of the moment.
///
/// Holds the Table weakly: a connection that lives on must not keep a replica alive.
#[derive(Clone)]
struct BySocket {
    shared: std::sync::Weak<Shared>,
    socket: SocketAddr,
}

impl BySocket {
    fn new(shared: &std::sync::Weak<Shared>, socket: SocketAddr) -> Self {
        Self { shared: shared.clone(), socket }
    }
}

impl std::fmt::Debug for BySocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BySocket({})", self.socket)
    }
}

impl ResolvesServerCert for BySocket {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shared = self.shared.upgrade()?;
        // The library gives names in lower case.
        let name = hello.server_name().map(|name| name.trim_end_matches('.'));
        let table = shared.table.load();
        let found = table.certificate(self.socket, name);
        Some(found.unwrap_or(&shared.fallback_certificate).clone())
    }
}
