//! Certificates: chain and key of a Secret, parsed and checked once.

use std::sync::Arc;

use kubeng_config::canonical::Digest;
use kubeng_config::certificate::{Certificate, Der, Secret};
use kubeng_config::delta::AnyPart;
use kubeng_config::matching::HostMatch;
use kubeng_config::name::{CertificateId, ObjectKey, SecretId};
use kubeng_config::part::Part;
use kubeng_config::problem::{BAD_CERTIFICATE, SECRET_NOT_FOUND};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::refusal::Refused;
use crate::kind::Body;
use crate::kind::secret::{TlsSecret, denied};
use crate::world::view::View;

/// What a Secret holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Chain {
    /// A chain and the key of its first certificate.
    Usable {
        /// The Part, without the key.
        part: AnyPart,
        /// The key, which is in no Part.
        secret: Secret,
    },
    /// Nothing that can be presented.
    Unusable(Refused),
}

impl Chain {
    pub(crate) fn part(&self) -> Option<&AnyPart> {
        match self {
            Self::Usable { part, .. } => Some(part),
            Self::Unusable(_) => None,
        }
    }

    /// The certificate and its name, or why there is none.
    pub(crate) fn certificate(&self) -> Result<(&CertificateId, &Certificate), &Refused> {
        match self {
            Self::Usable { part: AnyPart::Certificate(id, part), .. } => Ok((id, part.value())),
            Self::Usable { .. } => unreachable!("`chain` makes certificates only"),
            Self::Unusable(refused) => Err(refused),
        }
    }
}

/// Whether `certificate` names `host`; a wildcard stands for one label.
pub(crate) fn covers(certificate: &Certificate, host: &HostMatch) -> bool {
    certificate.names.iter().any(|name| {
        let name = name.to_ascii_lowercase();
        match (name.strip_prefix("*."), host) {
            (Some(parent), HostMatch::Exact(host)) => host.parent() == Some(parent),
            (None, HostMatch::Exact(host)) => host.as_str() == name,
            (Some(parent), HostMatch::OneLabelBelow(host)) => host.as_str() == parent,
            (None, HostMatch::OneLabelBelow(_))
            | (_, HostMatch::Any | HostMatch::AnyLabelsBelow(_)) => false,
        }
    })
}

/// Chain and key of the Secret of `key`.
pub(crate) fn chain(view: &mut View<'_>, key: &ObjectKey) -> Chain {
    let Some(object) = view.object(key) else {
        let message = format!("Secret {:?} does not exist in this namespace", key.name);
        let remedy = "create the Secret with type kubernetes.io/tls, or name another one";
        return Chain::Unusable(Refused::new(SECRET_NOT_FOUND, message, remedy));
    };
    if object.is_denied() {
        let (message, remedy) = denied(key);
        return Chain::Unusable(Refused::new(SECRET_NOT_FOUND, message, remedy));
    }
    let Body::Secret(written) = &object.body else {
        unreachable!("{key} is a key of kind Secret, so its body is one");
    };
    read(key, written).unwrap_or_else(|why| {
        let message = format!("Secret {:?} cannot be used: {why}", key.name);
        let remedy = "store a PEM chain in tls.crt and its private key in tls.key";
        Chain::Unusable(Refused::new(BAD_CERTIFICATE, message, remedy))
    })
}

fn read(key: &ObjectKey, written: &TlsSecret) -> Result<Chain, String> {
    let pem = written.chain.as_deref().ok_or("it has no tls.crt")?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("tls.crt is no PEM: {error}"))?;
    let leaf = chain.first().ok_or("tls.crt holds no certificate")?;
    let pem = written.key.as_ref().ok_or("it has no tls.key")?;
    // The error is left out: it could show bytes of the key.
    let private = PrivateKeyDer::from_pem_slice(pem.expose())
        .map_err(|_| "tls.key holds no private key in PEM")?;
    let about = about(leaf)?;
    let secret = Secret::new(private.secret_der().to_vec());
    check_pair(&chain, &private)?;
    let certificate = Certificate {
        chain: chain.iter().map(|der| Der(Arc::from(der.as_ref()))).collect(),
        key: about.key,
        names: about.names,
        not_after: about.not_after,
        ocsp: written.staple.as_ref().map(|staple| staple.response.clone()),
    };
    let id: CertificateId = key.to_string().parse().expect("the text of a key is not empty");
    Ok(Chain::Usable { part: AnyPart::Certificate(id, Part::new(certificate)), secret })
}

fn check_pair(
    chain: &[CertificateDer<'static>],
    private: &PrivateKeyDer<'_>,
) -> Result<(), String> {
    let signing = any_supported_type(private)
        .map_err(|_| "tls.key is of a kind that is not supported".to_owned())?;
    CertifiedKey::new(chain.to_vec(), signing)
        .keys_match()
        .map_err(|_| "tls.key does not belong to the first certificate of tls.crt".to_owned())
}

struct About {
    key: SecretId,
    names: Vec<String>,
    not_after: i64,
}

fn about(leaf: &CertificateDer<'_>) -> Result<About, String> {
    let (_, parsed) = X509Certificate::from_der(leaf)
        .map_err(|_| "the first certificate of tls.crt cannot be read".to_owned())?;
    let alternative = parsed
        .subject_alternative_name()
        .map_err(|_| "the first certificate of tls.crt has broken names".to_owned())?;
    let names = alternative.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| {
        let GeneralName::DNSName(name) = name else { return None };
        Some((*name).to_owned())
    });
    let digest = Digest::of([parsed.public_key().raw]);
    Ok(About {
        key: digest.to_string().parse().expect("a digest is not empty"),
        names: names.collect(),
        not_after: parsed.validity().not_after.timestamp(),
    })
}
