//! Who a replica is: its key and certificate, the authority of its controllers, and the keys that
//! Statements are signed with.
//!
//! [`Identity::open`] reads what [`join`](super::join::join) stored in the data folder;
//! [`Identity::from_files`] takes files that something else cares for. Either is exchanged while the
//! process runs: new connections use what is there when they are made.

pub(crate) mod certificate;
pub mod server;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use base64::Engine as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::line::Identified;
use certificate::Facts;

/// The file of the data folder that holds everything: they change together or not at all.
const FILE: &str = "identity.pem";

/// In front of a public key for Statements, outside of the PEM blocks of [`FILE`].
const SIGNING_KEY: &str = "signing-key ";

/// Who a replica is. A clone is the same one.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    current: RwLock<Arc<Credentials>>,
    origin: Origin,
}

enum Origin {
    /// Stored in this file, and renewed by the replica itself.
    Joined(PathBuf),
    /// Cared for by something else.
    Files(Files),
}

/// Files that something else cares for.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate chain of the replica in PEM, its own first.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
    /// The authorities of controllers in PEM.
    pub authorities: PathBuf,
    /// The public keys that Statements may be signed with: 64 hexadecimal digits each.
    pub signing_keys: PathBuf,
}

/// What connections are made with.
pub(crate) struct Credentials {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    signing_keys: Vec<String>,
    identified: Identified,
    pub(crate) facts: Facts,
}

/// Why a replica does not know who it is. The text says what to mend.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {why}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Identity {
    /// Reads what was stored in a data folder when the replica joined; `None` when it has not.
    ///
    /// # Errors
    /// When it is there and cannot be used.
    pub fn open(data: &Path) -> Result<Option<Self>, IdentityError> {
        let path = data.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::File { path, source }),
        };
        let form = |why| IdentityError::Form { path: path.clone(), why };
        let (certificates, key) = certificates(&bytes)
            .and_then(|found| Ok((found, private_key(&bytes)?)))
            .map_err(form)?;
        let text = String::from_utf8_lossy(&bytes);
        let signing_keys = text.lines().filter_map(|line| line.strip_prefix(SIGNING_KEY));
        let signing_keys = signing_keys.map(str::to_owned).collect();
        let mut chain = certificates;
        let authorities = chain.split_off(1.min(chain.len()));
        let credentials = Credentials::new(chain, key, authorities, signing_keys).map_err(form)?;
        Ok(Some(Self::new(credentials, Origin::Joined(path))))
    }

    /// Takes files that something else cares for; [`reread`](Self::reread) looks at them again.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn from_files(files: Files) -> Result<Self, IdentityError> {
        let credentials = read_files(&files)?;
        Ok(Self::new(credentials, Origin::Files(files)))
    }

    fn new(credentials: Credentials, origin: Origin) -> Self {
        let current = RwLock::new(Arc::new(credentials));
        Self(Arc::new(Inner { current, origin }))
    }

    /// Stores what a controller has certified in a data folder, and is it.
    pub(crate) fn store(data: &Path, certified: Certified) -> Result<Self, IdentityError> {
        let path = data.join(FILE);
        let text = certified.to_text();
        let credentials = certified
            .into_credentials()
            .map_err(|why| IdentityError::Form { path: path.clone(), why })?;
        write_whole(&path, text.as_bytes())?;
        Ok(Self::new(credentials, Origin::Joined(path)))
    }

    /// Takes a renewed certificate in the place of the old one.
    pub(crate) fn renew(&self, certified: Certified) -> Result<(), IdentityError> {
        let Origin::Joined(path) = &self.0.origin else { return Ok(()) };
        let form = |why| IdentityError::Form { path: path.clone(), why };
        let text = certified.to_text();
        let credentials = certified.into_credentials().map_err(form)?;
        if credentials.identified != self.identified() {
            return Err(form("the renewed certificate is for another replica".into()));
        }
        write_whole(path, text.as_bytes())?;
        self.put(credentials);
        Ok(())
    }

    /// Looks at the files again, where they are cared for by something else. What cannot be read
    /// leaves everything as it was.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn reread(&self) -> Result<(), IdentityError> {
        if let Origin::Files(files) = &self.0.origin {
            self.put(read_files(files)?);
        }
        Ok(())
    }

    fn put(&self, credentials: Credentials) {
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(credentials);
    }

    pub(crate) fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Fleet and replica, as the certificate names them.
    #[must_use]
    pub fn identified(&self) -> Identified {
        self.credentials().identified.clone()
    }

    /// The public keys that Statements may be signed with, as hexadecimal digits with commas between.
    #[must_use]
    pub fn signing_keys(&self) -> String {
        self.credentials().signing_keys.join(",")
    }

    /// When the certificate ends.
    #[must_use]
    pub fn ends(&self) -> SystemTime {
        self.credentials().facts.ends
    }

    /// When the replica is to renew it; none where something else does.
    #[must_use]
    pub fn renew_at(&self) -> Option<SystemTime> {
        match self.0.origin {
            Origin::Joined(_) => Some(self.credentials().facts.renew_at()),
            Origin::Files(_) => None,
        }
    }
}

impl Credentials {
    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        authorities: Vec<CertificateDer<'static>>,
        signing_keys: Vec<String>,
    ) -> Result<Self, String> {
        let own = chain.first().ok_or("there is no certificate of the replica")?;
        if authorities.is_empty() {
            return Err("there is no certificate of an authority".into());
        }
        for key in &signing_keys {
            if key.len() != 64 || !key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(format!("{key:?} is not a public key of 64 hexadecimal digits"));
            }
        }
        if signing_keys.is_empty() {
            return Err("there is no public key that statements are signed with".into());
        }
        let facts = Facts::read(own)?;
        let identified = facts.replica.clone().ok_or(
            "the certificate names no replica: it needs one subject alternative name of the form \
             URI:kubeng://fleet/FLEET/replica/NAME",
        )?;
        Ok(Self { chain, key, authorities, signing_keys, identified, facts })
    }
}

/// What a controller has certified, and the key that it was made for.
pub(crate) struct Certified {
    pub(crate) key_pem: Zeroizing<String>,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    pub(crate) signing_keys: Vec<String>,
}

impl Certified {
    fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for key in &self.signing_keys {
            text.push_str(&format!("{SIGNING_KEY}{key}\n"));
        }
        text.push_str(&self.key_pem);
        for certificate in std::iter::once(&self.certificate).chain(&self.authorities) {
            text.push_str(&pem(certificate));
        }
        text
    }

    fn into_credentials(self) -> Result<Credentials, String> {
        let key = private_key(self.key_pem.as_bytes())?;
        Credentials::new(vec![self.certificate], key, self.authorities, self.signing_keys)
    }
}

fn read_files(files: &Files) -> Result<Credentials, IdentityError> {
    let read = |path: &Path| match fs::read(path) {
        Ok(bytes) => Ok(Zeroizing::new(bytes)),
        Err(source) => Err(IdentityError::File { path: path.to_owned(), source }),
    };
    let form = |path: &Path| {
        let path = path.to_owned();
        move |why| IdentityError::Form { path, why }
    };
    let chain = certificates(&read(&files.certificate)?).map_err(form(&files.certificate))?;
    let key = private_key(&read(&files.key)?).map_err(form(&files.key))?;
    let authorities = certificates(&read(&files.authorities)?).map_err(form(&files.authorities))?;
    let signing_keys = read(&files.signing_keys)?;
    let signing_keys = String::from_utf8_lossy(&signing_keys)
        .split([',', ' ', '\n', '\r', '\t'])
        .filter(|key| !key.is_empty())
        .map(str::to_owned)
        .collect();
    Credentials::new(chain, key, authorities, signing_keys).map_err(form(&files.certificate))
}

pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("no certificates in PEM: {error}"))
}

pub(crate) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| format!("no private key in PEM: {error}"))
}

/// A certificate in PEM (RFC 7468).
pub(crate) fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for (nth, character) in text.chars().enumerate() {
        if nth > 0 && nth % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}

/// Writes a file for its owner alone, whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let write = || -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let beside = path.with_extension("new");
        // One that was left behind by a process that ended must not keep its mode.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = fs::OpenOptions::new();
        let mut file = file.write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|source| IdentityError::File { path: path.to_owned(), source })
}
