//! The certificate that a controller shows to replicas, exchanged while it serves.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Facts;
use super::{IdentityError, certificates, private_key};
use crate::distribution::authority::{Authority, IssueError};

/// The certificate of a controller.
pub struct ServerIdentity {
    origin: Origin,
    current: RwLock<Current>,
}

struct Current {
    shown: Arc<CertifiedKey>,
    facts: Facts,
}

enum Origin {
    /// Issued by the own authority for these names, again and again.
    Issued { authority: Arc<Authority>, names: Vec<String> },
    /// Cared for by something else.
    Files { certificate: PathBuf, key: PathBuf },
}

/// Why a controller has no certificate to show. Fatal at start; later the old one goes on.
#[derive(Debug, thiserror::Error)]
pub enum ServerIdentityError {
    /// None is issued for these names.
    #[error("no certificate can be issued for {}", names.join(", "))]
    Issue {
        /// The names.
        names: Vec<String>,
        /// Why.
        source: IssueError,
    },
    /// The files cannot be used.
    #[error(transparent)]
    Files(#[from] IdentityError),
    /// Key and certificate do not go together, or are of a kind that is not known.
    #[error("key and certificate of the controller cannot be used")]
    Key(#[source] rustls::Error),
    /// What was issued or read is no certificate.
    #[error("the certificate of the controller cannot be read: {0}")]
    Certificate(String),
}

impl ServerIdentity {
    /// Has a certificate issued for the DNS names and IP addresses that replicas reach the
    /// controller under.
    ///
    /// # Errors
    /// When a name is none, or the authority issues nothing.
    pub fn issued(
        authority: &Arc<Authority>,
        names: Vec<String>,
    ) -> Result<Self, ServerIdentityError> {
        Self::new(Origin::Issued { authority: Arc::clone(authority), names })
    }

    /// Takes a certificate chain and its key from files in PEM.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, ServerIdentityError> {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        Self::new(Origin::Files { certificate, key })
    }

    fn new(origin: Origin) -> Result<Self, ServerIdentityError> {
        let current = RwLock::new(make(&origin, SystemTime::now())?);
        Ok(Self { origin, current })
    }

    /// Looks whether another certificate is due at `now`, and takes it. Reads files.
    ///
    /// # Errors
    /// When there is none; the old one goes on being shown.
    pub fn refresh(&self, now: SystemTime) -> Result<(), ServerIdentityError> {
        let due = match &self.origin {
            Origin::Issued { .. } => now >= self.lock().facts.renew_at(),
            Origin::Files { .. } => true,
        };
        if due {
            let made = make(&self.origin, now)?;
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = made;
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make(origin: &Origin, now: SystemTime) -> Result<Current, ServerIdentityError> {
    let (chain, key) = match origin {
        Origin::Issued { authority, names } => {
            let (own, key) = authority
                .issue_server(names, now)
                .map_err(|source| ServerIdentityError::Issue { names: names.clone(), source })?;
            // Who joins knows the authority by its hash, and must see it for that.
            (vec![own, authority.certificate().clone()], PrivateKeyDer::from(key))
        }
        Origin::Files { certificate, key } => {
            let read = |path: &Path| {
                std::fs::read(path)
                    .map(zeroize::Zeroizing::new)
                    .map_err(|source| IdentityError::File { path: path.to_owned(), source })
            };
            let form = |path: &Path, why| IdentityError::Form { path: path.to_owned(), why };
            let chain = certificates(&read(certificate)?).map_err(|why| form(certificate, why))?;
            (chain, private_key(&read(key)?).map_err(|why| form(key, why))?)
        }
    };
    let own = chain.first().ok_or_else(|| ServerIdentityError::Certificate("none".into()))?;
    let facts = Facts::read(own).map_err(ServerIdentityError::Certificate)?;
    let provider = rustls::crypto::ring::default_provider();
    let shown = CertifiedKey::from_der(chain, key, &provider).map_err(ServerIdentityError::Key)?;
    Ok(Current { shown: Arc::new(shown), facts })
}

impl std::fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServerIdentity(until {:?})", self.lock().facts.ends)
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.lock().shown))
    }
}
