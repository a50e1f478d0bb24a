//! Join tokens: one line that lets a replica into one fleet, a few times, for a while.
//!
//! A token names the fleet, its own number, when it ends, how often it may be used, what the replicas
//! that join with it are labelled, and the certificate of the authority by its SHA-256, so that a replica knows its controller before it has
//! anything. It is signed with the key of the authority. Whoever has it can join: it is a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kubeng_config::canonical::{self, Digest};
use kubeng_config::label;
use kubeng_config::name::FleetName;
use ring::rand::SecureRandom as _;
use ring::signature::{ED25519, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::folder;
use super::{Authority, AuthorityError};
use crate::distribution::identity::certificate::{NameFault, check_name};

/// The longest time that a token may be good for.
pub const TOKEN_LIFE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long a token is good for unless something else is said.
pub const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// How often a token may be used at most.
pub const TOKEN_USES_MAX: u16 = 1000;

/// How every token begins.
const PREFIX: &str = "kng1.";

/// The longest text that is looked at.
const TOKEN_BYTES_MAX: usize = 8192;

/// In front of what is signed, so that a signature of a token is none of a Statement.
const PURPOSE: &[u8] = b"kubeng join token\n";

/// Notes of tokens that ended so long ago are removed: their time refuses them.
const NOTE_LIFE: Duration = Duration::from_secs(3 * 24 * 3600);

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Content {
    authority: Digest,
    /// In seconds since 1970.
    ends: i64,
    fleet: FleetName,
    id: String,
    /// What the replicas that join with it are labelled.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    uses: u16,
}

/// A join token, as somebody wrote it: only the authority can tell whether it is good.
#[derive(Clone)]
pub struct JoinToken {
    text: String,
    fleet: FleetName,
    authority: Digest,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken(for fleet {}, ..)", self.fleet)
    }
}

impl std::str::FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let (content, _, _) = read(text)?;
        Ok(Self { text: text.to_owned(), fleet: content.fleet, authority: content.authority })
    }
}

impl JoinToken {
    /// The fleet that it is for.
    #[must_use]
    pub fn fleet(&self) -> &FleetName {
        &self.fleet
    }

    /// SHA-256 of the certificate of the authority.
    #[must_use]
    pub fn authority(&self) -> Digest {
        self.authority
    }

    /// The token itself, to send it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }
}

/// Why a token is not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateTokenError {
    /// The fleet has a name that cannot stand in a certificate.
    #[error(transparent)]
    Fleet(#[from] NameFault),
    /// It would be good for too long, or not at all.
    #[error("a token is good for 1 second to 24 hours")]
    Life,
    /// It could be used never, or too often.
    #[error("a token is for 1 to {TOKEN_USES_MAX} replicas")]
    Uses,
    /// Its labels are none, too many or too long.
    #[error(
        "a token has at most {} labels NAME=VALUE, and {TOKEN_BYTES_MAX} bytes with them",
        label::LABELS_MAX
    )]
    Labels,
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// Why a token is not taken. Not retried: another token is needed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Not of the form of a token.
    #[error(
        "this is no join token, which is one line that begins with {PREFIX}: copy it as a whole, \
         or make another with kubeng token create"
    )]
    Form,
    /// Its signature is not that of this authority.
    #[error(
        "the join token was altered, or is of another authority: make another one here with \
         kubeng token create --fleet {fleet}"
    )]
    Altered {
        /// The fleet that it names.
        fleet: FleetName,
    },
    /// Its time is over.
    #[error(
        "the join token ended {ago_seconds} s ago: make another with kubeng token create --fleet \
         {fleet}"
    )]
    Ended {
        /// The fleet that it is for.
        fleet: FleetName,
        /// How long ago.
        ago_seconds: i64,
    },
    /// It has been used as often as it may.
    #[error(
        "the join token has been used {uses} of {uses} times: make another with kubeng token \
         create --fleet {fleet}"
    )]
    Used {
        /// The fleet that it is for.
        fleet: FleetName,
        /// How often it may be used.
        uses: u16,
    },
    /// It is for another fleet.
    #[error(
        "the join token is for fleet {of}, not for {asked}: mend --fleet, or make another with \
         kubeng token create --fleet {asked}"
    )]
    OtherFleet {
        /// The fleet that it is for.
        of: FleetName,
        /// The fleet that was asked for.
        asked: FleetName,
    },
    /// The controller cannot note that it was used, so nobody is let in.
    #[error("the controller cannot note that the token was used")]
    Note(#[source] AuthorityError),
}

impl Authority {
    /// Makes a token that lets `uses` replicas into `fleet` for the time of `life` from `now`.
    ///
    /// # Errors
    /// When it would be good for too long or too many.
    pub fn create_token(
        &self,
        fleet: &FleetName,
        life: Duration,
        uses: u16,
        now: SystemTime,
    ) -> Result<String, CreateTokenError> {
        self.create_labelled_token(fleet, BTreeMap::new(), life, uses, now)
    }

    /// The same for replicas that have these labels from then on.
    ///
    /// # Errors
    /// The same, and when there are no such labels, or too many.
    pub fn create_labelled_token(
        &self,
        fleet: &FleetName,
        labels: BTreeMap<String, String>,
        life: Duration,
        uses: u16,
        now: SystemTime,
    ) -> Result<String, CreateTokenError> {
        check_name("the fleet", fleet.as_str())?;
        if life < Duration::from_secs(1) || life > TOKEN_LIFE_MAX {
            return Err(CreateTokenError::Life);
        }
        if uses == 0 || uses > TOKEN_USES_MAX {
            return Err(CreateTokenError::Uses);
        }
        if !are_labels(&labels) {
            return Err(CreateTokenError::Labels);
        }
        let mut id = [0; 16];
        ring::rand::SystemRandom::new().fill(&mut id).map_err(|_| CreateTokenError::Random)?;
        let content = canonical::to_bytes(&Content {
            authority: self.fingerprint(),
            ends: seconds(now + life),
            fleet: fleet.clone(),
            id: hex::encode(id),
            labels,
            uses,
        });
        let signature = self.signing.sign(&[PURPOSE, &content].concat());
        let (content, signature) =
            (URL_SAFE_NO_PAD.encode(content), URL_SAFE_NO_PAD.encode(signature));
        let token = format!("{PREFIX}{content}.{signature}");
        if token.len() > TOKEN_BYTES_MAX {
            return Err(CreateTokenError::Labels);
        }
        Ok(token)
    }

    /// Takes a token for `fleet` at `now`, and notes that it was used by whoever holds the key of
    /// this digest; the same key may come again, for the answer may have been lost.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn redeem(
        &self,
        token: &str,
        fleet: &FleetName,
        key: Digest,
        now: SystemTime,
    ) -> Result<(), TokenError> {
        let content = self.verify(token, fleet, now)?;
        let noted = self.note(&content, key, now).map_err(TokenError::Note)?;
        if noted {
            Ok(())
        } else {
            Err(TokenError::Used { fleet: content.fleet, uses: content.uses })
        }
    }

    /// What a replica that joins `fleet` at `now` with this token is labelled. Nothing is noted.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn labels_of(
        &self,
        token: &str,
        fleet: &FleetName,
        now: SystemTime,
    ) -> Result<BTreeMap<String, String>, TokenError> {
        self.verify(token, fleet, now).map(|content| content.labels)
    }

    fn verify(
        &self,
        token: &str,
        fleet: &FleetName,
        now: SystemTime,
    ) -> Result<Content, TokenError> {
        let (content, signed, signature) = read(token)?;
        UnparsedPublicKey::new(&ED25519, self.signing.public_key())
            .verify(&[PURPOSE, &signed].concat(), &signature)
            .map_err(|_| TokenError::Altered { fleet: content.fleet.clone() })?;
        if content.fleet != *fleet {
            return Err(TokenError::OtherFleet { of: content.fleet, asked: fleet.clone() });
        }
        let ago_seconds = seconds(now) - content.ends;
        if ago_seconds >= 0 {
            return Err(TokenError::Ended { fleet: content.fleet, ago_seconds });
        }
        Ok(content)
    }

    /// Takes the first use that is free. Each is a file that one controller alone can make.
    fn note(
        &self,
        content: &Content,
        key: Digest,
        now: SystemTime,
    ) -> Result<bool, AuthorityError> {
        folder::make_private(&self.redeemed)?;
        forget_old(&self.redeemed, now);
        let key = key.to_string();
        for nth in 0..content.uses {
            let path = self.redeemed.join(format!("{}.{nth}", content.id));
            match folder::write_new(&path, key.as_bytes()) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if std::fs::read(&path).is_ok_and(|noted| noted == key.as_bytes()) {
                        return Ok(true);
                    }
                }
                Err(source) => return Err(AuthorityError::File { path, source }),
            }
        }
        Ok(false)
    }
}

/// Reads a token: what it says, the bytes that are signed, and the signature.
fn read(text: &str) -> Result<(Content, Vec<u8>, Vec<u8>), TokenError> {
    if text.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::Form);
    }
    let rest = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Form)?;
    let (content, signature) = rest.split_once('.').ok_or(TokenError::Form)?;
    let decode = |text| URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Form);
    let (bytes, signature) = (decode(content)?, decode(signature)?);
    let content: Content = canonical::from_bytes(&bytes).map_err(|_| TokenError::Form)?;
    // It becomes the name of a file.
    if content.id.len() != 32 || !content.id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(TokenError::Form);
    }
    if !are_labels(&content.labels) {
        return Err(TokenError::Form);
    }
    Ok((content, bytes, signature))
}

fn are_labels(labels: &BTreeMap<String, String>) -> bool {
    let is_label =
        |(name, value): (&String, &String)| label::is_name(name) && label::is_value(value);
    labels.len() <= label::LABELS_MAX && labels.iter().all(is_label)
}

/// Removes notes that nobody needs any more. What cannot be removed stays: it does no harm.
fn forget_old(folder: &Path, now: SystemTime) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.map(|modified| now.duration_since(modified).unwrap_or_default());
        if age.is_ok_and(|age| age > NOTE_LIFE) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn seconds(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
