//! How a replica gets its certificate: [`join`] with a token, once, and renewal while it runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kubeng_config::canonical::Digest;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Status};
use zeroize::Zeroizing;

use super::authority::token::{JoinToken, TokenError};
use super::connection::{Connection, ControllerUrl};
use super::identity::certificate::{NameFault, identity_uri};
use super::identity::{Certified, Identity, IdentityError, write_whole};
use super::line::Identified;
use super::tls;
use super::wire::{in_full, proto};

/// How long a controller may take to issue a certificate.
const ISSUE_WITHIN: Duration = Duration::from_secs(10);

/// The key that a replica joins with, kept until it has: the answer may be lost, and the token is
/// good for this key only then.
const KEY_FILE: &str = "join.key";

/// Why a replica has not joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is for another fleet. Fatal.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The replica or its fleet has a name that cannot stand in a certificate. Fatal.
    #[error(transparent)]
    Name(#[from] NameFault),
    /// What was certified cannot be stored. Fatal.
    #[error(transparent)]
    Store(#[from] IdentityError),
    /// No key can be made. Fatal.
    #[error("no key can be made")]
    Key(#[source] rcgen::Error),
    /// The controller refused, and so will others. Fatal: another token is needed.
    #[error("{controller} refuses: {message}")]
    Refused {
        /// Which.
        controller: String,
        /// What it said.
        message: String,
    },
    /// No controller could be asked. May be tried again.
    #[error("no controller could be asked: {}", reasons.join("; "))]
    Unreachable {
        /// Each with its reason.
        reasons: Vec<String>,
    },
}

impl JoinError {
    /// Whether trying again would lead to the same.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Token(_)
            | Self::Name(_)
            | Self::Store(_)
            | Self::Key(_)
            | Self::Refused { .. } => true,
            Self::Unreachable { .. } => false,
        }
    }
}

/// Joins as `identity` with a token: asks each of `controllers` in turn, and stores what was
/// certified in the folder `data`, which must be there.
///
/// # Errors
/// See [`JoinError`]; a token is used up only when it succeeds, or for the same key again.
pub async fn join(
    controllers: &[ControllerUrl],
    token: &JoinToken,
    identity: &Identified,
    data: &Path,
) -> Result<Identity, JoinError> {
    identity_uri(identity)?;
    if token.fleet() != &identity.fleet {
        let (of, asked) = (token.fleet().clone(), identity.fleet.clone());
        return Err(TokenError::OtherFleet { of, asked }.into());
    }
    let key = join_key(data.join(KEY_FILE)).await?;
    let tracker = TaskTracker::new();
    let mut reasons = Vec::new();
    for controller in controllers {
        match ask(controller, token, identity, &key, &tracker).await {
            Ok(certified) => {
                let folder = data.to_owned();
                let stored = blocking(move || {
                    let identity = Identity::store(&folder, certified)?;
                    // It is part of what was stored.
                    let _ = std::fs::remove_file(folder.join(KEY_FILE));
                    Ok(identity)
                });
                return Ok(stored.await?);
            }
            Err(Asked::Unreachable(why)) => reasons.push(format!("{controller}: {why}")),
            Err(Asked::Refused(message)) => {
                return Err(JoinError::Refused { controller: controller.to_string(), message });
            }
        }
    }
    Err(JoinError::Unreachable { reasons })
}

enum Asked {
    Unreachable(String),
    Refused(String),
}

async fn ask(
    controller: &ControllerUrl,
    token: &JoinToken,
    identity: &Identified,
    key: &KeyPair,
    tracker: &TaskTracker,
) -> Result<Certified, Asked> {
    let unreachable = |error: &dyn std::error::Error| Asked::Unreachable(in_full(error));
    let tls = tls::joining(token.authority()).map_err(|error| unreachable(&error))?;
    let connection =
        Connection::open(controller, tls, tracker).await.map_err(|error| unreachable(&error))?;
    let request = proto::JoinRequest {
        token: token.expose().to_owned(),
        fleet: identity.fleet.to_string(),
        replica: identity.replica.to_string(),
        request: request_for(key).map_err(|error| unreachable(&error))?.into(),
    };
    let mut client = connection.joining();
    let answer = timeout(ISSUE_WITHIN, client.join(Request::new(request))).await;
    let answer = answer.map_err(|_| Asked::Unreachable("no answer".into()))?;
    let refusals = [Code::InvalidArgument, Code::PermissionDenied, Code::Unimplemented];
    let certified = answer.map_err(|status| {
        if refusals.contains(&status.code()) {
            Asked::Refused(status.message().to_owned())
        } else {
            Asked::Unreachable(said(&status))
        }
    })?;
    let certified = read(certified.into_inner(), key);
    let pinned = |one: &CertificateDer<'_>| Digest::of([one.as_ref()]) == token.authority();
    if certified.authorities.iter().any(pinned) {
        Ok(certified)
    } else {
        Err(Asked::Refused("its certificates are not of the authority of the token".into()))
    }
}

/// Renews the certificate of `identity` at one of its controllers. Connections that were made with
/// the old one go on.
pub(super) async fn renew(
    controller: &ControllerUrl,
    identity: &Identity,
    tracker: &TaskTracker,
) -> Result<(), String> {
    let key = KeyPair::generate().map_err(|error| in_full(&error))?;
    let request = request_for(&key).map_err(|error| in_full(&error))?.into();
    let tls = tls::client(&identity.credentials()).map_err(|error| in_full(&error))?;
    let connection = Connection::open(controller, tls, tracker).await;
    let connection = connection.map_err(|error| in_full(&error))?;
    let mut client = connection.joining();
    let answer = client.renew(Request::new(proto::RenewRequest { request }));
    let answer = timeout(ISSUE_WITHIN, answer).await.map_err(|_| "no answer".to_owned())?;
    let certified = read(answer.map_err(|status| connection.why(&status))?.into_inner(), &key);
    let identity = identity.clone();
    blocking(move || identity.renew(certified)).await.map_err(|error| in_full(&error))
}

/// The key to join with: the one of a former try, or another one.
async fn join_key(path: PathBuf) -> Result<KeyPair, JoinError> {
    let former = path.clone();
    let former = tokio::task::spawn_blocking(move || {
        KeyPair::from_pem(&Zeroizing::new(std::fs::read_to_string(former).ok()?)).ok()
    });
    if let Ok(Some(key)) = former.await {
        return Ok(key);
    }
    let key = KeyPair::generate().map_err(JoinError::Key)?;
    let pem = Zeroizing::new(key.serialize_pem());
    blocking(move || write_whole(&path, pem.as_bytes())).await?;
    Ok(key)
}

/// A certificate request in DER. It names nobody: the controller decides whom it certifies.
fn request_for(key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}

fn read(certified: proto::Certified, key: &KeyPair) -> Certified {
    let proto::Certified { certificate, authorities, signing_keys } = certified;
    let der = |bytes: bytes::Bytes| CertificateDer::from(bytes.to_vec());
    Certified {
        key_pem: Zeroizing::new(key.serialize_pem()),
        certificate: der(certificate),
        authorities: authorities.into_iter().map(der).collect(),
        signing_keys: signing_keys.iter().map(hex::encode).collect(),
    }
}

/// What a controller said in place of an answer, or what became of the connection.
pub(super) fn said(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = if text.is_empty() { more } else { format!("{text}: {more}") };
        }
        cause = error.source();
    }
    if text.is_empty() { status.code().to_string() } else { text }
}

/// Runs what waits for the disk where it keeps nobody waiting.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IdentityError> + Send + 'static,
) -> Result<T, IdentityError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(IdentityError::File {
            path: PathBuf::from("identity.pem"),
            source: std::io::Error::other(error),
        }),
    }
}
