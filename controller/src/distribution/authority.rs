//! The authority that certificates of controllers and replicas come from, and that signs join tokens.
//!
//! [`Authority::open`] keeps it in a folder that all controllers share; the first one makes it, and
//! two that start at once end with the same. [`Authority::from_files`] takes certificates that
//! something else cares for, such as cert-manager. All functions here read and write files: call
//! them where it may take a moment.

mod folder;
#[cfg(test)]
mod tests;
pub mod token;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kubeng_config::canonical::Digest;
use kubeng_config::certificate::Secret;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType,
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};

use super::identity::certificate::{NameFault, identity_uri, label_uri};
use super::line::Identified;

/// How long certificates of replicas and controllers are good for. Replicas renew theirs after two
/// thirds of it.
pub const CERTIFICATE_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How far clocks may differ: certificates begin so much before they are made.
const CLOCK_LEEWAY: Duration = Duration::from_secs(300);

const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Issues certificates, and signs and redeems join tokens.
pub struct Authority {
    certificate: CertificateDer<'static>,
    /// Absent where certificates come from elsewhere: then nobody joins with a token.
    issuer: Option<Issuer<'static, KeyPair>>,
    signing: Ed25519KeyPair,
    signing_pkcs8: Secret,
    /// Where it is noted which tokens have been used.
    redeemed: PathBuf,
}

/// Why there is no authority. Fatal at start; the text says what to mend.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file or folder cannot be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others on the machine can read a private key.
    #[error("others may read {}: take it from them with chmod go= {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// A key is gone that was there: with another one no replica would believe what it is told.
    #[error(
        "{} is gone, and {} is of it: put the key back; to begin anew remove the other one, too, and \
         have all replicas join again",
        key.display(), of.display()
    )]
    Lost {
        /// The key.
        key: PathBuf,
        /// What is left of it.
        of: PathBuf,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {what}: {why}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// Why it is not.
        why: String,
    },
    /// A key or certificate cannot be made.
    #[error("cannot make a key or certificate")]
    Make(#[from] rcgen::Error),
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// Why no certificate is issued. Said to whoever asked.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The names of replicas and fleets stand in certificates.
    #[error(transparent)]
    Name(#[from] NameFault),
    /// The certificate request is none, or is not signed by its own key.
    #[error("the certificate request cannot be used")]
    Request(#[source] rcgen::Error),
    /// The authority is elsewhere.
    #[error(
        "this controller issues no certificates: give the replica one from files, as its \
         controller has"
    )]
    Elsewhere,
}

impl Authority {
    /// Opens the folder of an authority, and makes what is not there yet: `ca.crt`, `ca.key`
    /// (ECDSA P-256), `signing.key` (Ed25519 in PKCS#8 DER) and `signing.pub`.
    ///
    /// # Errors
    /// When it cannot be read or made, others may read its keys, or one of them is gone.
    pub fn open(folder: &Path) -> Result<Self, AuthorityError> {
        folder::make_private(folder)?;
        let at = |name: &str| folder.join(name);
        // What is made of a key is made after it.
        for (key, of) in [("ca.key", "ca.crt"), ("signing.key", "signing.pub")] {
            let (key, of) = (at(key), at(of));
            if of.exists() && !key.exists() {
                return Err(AuthorityError::Lost { key, of });
            }
        }
        // The key decides; whatever certificate of it comes first is that of all.
        let key = folder::read_or_make(&at("ca.key"), || {
            Ok(KeyPair::generate()?.serialize_pem().into_bytes())
        })?;
        let pair = key_pair(&at("ca.key"), &key)?;
        let certificate = folder::read_or_make(&at("ca.crt"), || {
            Ok(authority_params(SystemTime::now()).self_signed(&pair)?.pem().into_bytes())
        })?;
        let signing = folder::read_or_make(&at("signing.key"), || {
            let made = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new());
            Ok(made.map_err(|_| AuthorityError::Random)?.as_ref().to_vec())
        })?;
        let authority = Self::new(
            (at("ca.crt"), certificate.expose()),
            Some((at("ca.key"), pair)),
            (at("signing.key"), signing),
            folder,
        )?;
        let public = format!("{}\n", authority.signing_public_key());
        folder::read_or_make(&at("signing.pub"), || Ok(public.into_bytes()))?;
        Ok(authority)
    }

    /// Takes files that something else cares for: the certificate of the authority, its key, if
    /// replicas shall join with tokens, and the key that Statements are signed with. Which tokens
    /// were used is noted in `folder`.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn from_files(
        certificate: &Path,
        key: Option<&Path>,
        signing_key: &Path,
        folder: &Path,
    ) -> Result<Self, AuthorityError> {
        let read = |path: &Path| folder::read(path);
        let pair = match key {
            Some(path) => Some((path.to_owned(), key_pair(path, &read(path)?)?)),
            None => None,
        };
        Self::new(
            (certificate.to_owned(), read(certificate)?.expose()),
            pair,
            (signing_key.to_owned(), read(signing_key)?),
            folder,
        )
    }

    fn new(
        (path, pem): (PathBuf, &[u8]),
        key: Option<(PathBuf, KeyPair)>,
        (signing_path, signing_pkcs8): (PathBuf, Secret),
        folder: &Path,
    ) -> Result<Self, AuthorityError> {
        let form = |path: &Path, what, why: String| {
            let path = path.to_owned();
            AuthorityError::Form { path, what, why }
        };
        let certificate = CertificateDer::from_pem_slice(pem)
            .map_err(|error| form(&path, "certificate in PEM", error.to_string()))?;
        let issuer = match key {
            None => None,
            Some((key_path, pair)) => {
                belongs(&certificate, &pair)
                    .map_err(|why| form(&key_path, "key of the authority", why))?;
                let issuer = Issuer::from_ca_cert_der(&certificate, pair);
                let why = |error: rcgen::Error| form(&path, "authority", error.to_string());
                Some(issuer.map_err(why)?)
            }
        };
        let signing = Ed25519KeyPair::from_pkcs8_maybe_unchecked(signing_pkcs8.expose())
            .map_err(|error| form(&signing_path, "Ed25519 key in PKCS#8 DER", error.to_string()))?;
        let redeemed = folder.join("redeemed");
        Ok(Self { certificate, issuer, signing, signing_pkcs8, redeemed })
    }

    /// The certificate of the authority.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of the certificate: what join tokens name it by.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of([self.certificate.as_ref()])
    }

    /// The key that Statements are signed with, in PKCS#8 DER.
    #[must_use]
    pub fn signing_key_pkcs8(&self) -> &Secret {
        &self.signing_pkcs8
    }

    /// What replicas verify Statements with: 32 bytes as hexadecimal digits.
    #[must_use]
    pub fn signing_public_key(&self) -> String {
        hex::encode(self.signing.public_key())
    }

    /// Issues the certificate of a replica with these labels, for the key of a certificate request in
    /// DER. Names and whatever else stands in the request count for nothing.
    ///
    /// # Errors
    /// See [`IssueError`].
    pub fn issue_replica(
        &self,
        to: &Identified,
        labels: &BTreeMap<String, String>,
        request: &[u8],
        now: SystemTime,
    ) -> Result<CertificateDer<'static>, IssueError> {
        let issuer = self.issuer.as_ref().ok_or(IssueError::Elsewhere)?;
        let request = CertificateSigningRequestDer::from(request);
        let request =
            CertificateSigningRequestParams::from_der(&request).map_err(IssueError::Request)?;
        let labels = labels.iter().map(|(name, value)| label_uri(name, value));
        let uris = std::iter::once(identity_uri(to)?).chain(labels);
        let named = uris.map(|uri| Ok(SanType::URI(Ia5String::try_from(uri)?)));
        let named: Result<Vec<SanType>, rcgen::Error> = named.collect();
        let mut params = leaf_params(to.replica.as_str(), now);
        params.subject_alt_names = named.map_err(IssueError::Request)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let made = params.signed_by(&request.public_key, issuer).map_err(IssueError::Request)?;
        Ok(made.into())
    }

    /// Issues a certificate for a controller that is reached under `names`: DNS names and IP
    /// addresses. Gives the certificate and its key.
    ///
    /// # Errors
    /// When a name is none, or the authority is elsewhere.
    pub fn issue_server(
        &self,
        names: &[String],
        now: SystemTime,
    ) -> Result<(CertificateDer<'static>, PrivatePkcs8KeyDer<'static>), IssueError> {
        let issuer = self.issuer.as_ref().ok_or(IssueError::Elsewhere)?;
        let named = CertificateParams::new(names.to_vec()).map_err(IssueError::Request)?;
        let mut params = leaf_params("kubeng controller", now);
        params.subject_alt_names = named.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(IssueError::Request)?;
        let made = params.signed_by(&key, issuer).map_err(IssueError::Request)?;
        Ok((made.into(), PrivatePkcs8KeyDer::from(key.serialize_der())))
    }
}

fn key_pair(path: &Path, pem: &Secret) -> Result<KeyPair, AuthorityError> {
    let form = |why: String| AuthorityError::Form {
        path: path.to_owned(),
        what: "private key in PEM",
        why,
    };
    let text = std::str::from_utf8(pem.expose()).map_err(|error| form(error.to_string()))?;
    KeyPair::from_pem(text).map_err(|error| form(error.to_string()))
}

/// Whether the certificate is one of this key.
fn belongs(certificate: &CertificateDer<'_>, pair: &KeyPair) -> Result<(), String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| format!("its certificate cannot be read: {error}"))?;
    if parsed.public_key().raw == pair.subject_public_key_info() {
        Ok(())
    } else {
        Err("the certificate of the authority is of another key".into())
    }
}

fn authority_params(now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("kubeng authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - CLOCK_LEEWAY).into();
    params.not_after = (now + AUTHORITY_LIFE).into();
    params
}

fn leaf_params(common_name: &str, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - CLOCK_LEEWAY).into();
    params.not_after = (now + CERTIFICATE_LIFE).into();
    params
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
