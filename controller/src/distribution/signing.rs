//! Signatures of Statements: Ed25519 (RFC 8032).
//!
//! Mutual TLS protects the way to a replica; the signature protects what lies on its disk, and what
//! somebody hands it who has a certificate but not the key of the controllers.

use std::fmt;
use std::str::FromStr;

use kubeng_config::certificate::Secret;
use kubeng_config::statement::{Signature, SignedStatement, Statement};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// The key that controllers sign Statements with. It never leaves them.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    pkcs8: Secret,
    verifying: VerifyingKey,
}

impl SigningKey {
    /// Makes a new one.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, SigningKeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| SigningKeyError::NoRandomness)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// Reads one from PKCS#8 DER, version 2 as [`to_pkcs8`](Self::to_pkcs8) writes it, or version 1
    /// as `openssl genpkey -algorithm ED25519 -outform DER` does.
    ///
    /// # Errors
    /// When the bytes are no such key.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, SigningKeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes)
            .map_err(|rejected| SigningKeyError::Form(rejected.to_string()))?;
        let verifying = pair.public_key().as_ref().try_into();
        let verifying = verifying.map_err(|_| SigningKeyError::Form("no public key".into()))?;
        Ok(Self { pair, pkcs8: Secret::new(bytes.to_vec()), verifying: VerifyingKey(verifying) })
    }

    /// The key in PKCS#8 DER, for the file that it is kept in.
    #[must_use]
    pub fn to_pkcs8(&self) -> &Secret {
        &self.pkcs8
    }

    /// What replicas verify its signatures with.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        self.verifying
    }

    /// Stands for `statement`.
    #[must_use]
    pub fn sign(&self, statement: Statement) -> SignedStatement {
        let signature = self.pair.sign(&statement.to_bytes());
        // An Ed25519 signature has 64 bytes; of another length it would be believed by nobody.
        let signature = signature.as_ref().try_into().ok().map(Signature);
        SignedStatement { statement, signature }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.verifying)
    }
}

/// Why there is no key to sign with. Fatal: the file must be mended, or removed to make a new key.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum SigningKeyError {
    /// The system gave no random bytes.
    #[error("the system has no randomness for a new key")]
    NoRandomness,
    /// Something else, cut short, or a key of another kind.
    #[error("not an Ed25519 key in PKCS#8 DER ({0})")]
    Form(String),
}

/// The public half of a [`SigningKey`], written as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VerifyingKey([u8; 32]);

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for VerifyingKey {
    type Err = VerifyingKeyError;

    fn from_str(text: &str) -> Result<Self, VerifyingKeyError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| VerifyingKeyError::Form(text.chars().take(80).collect()))?;
        Ok(Self(bytes))
    }
}

/// Whom a replica believes: one key, or several while keys are exchanged. First all replicas get the
/// next key beside the old one, then controllers sign with it, then the old one is taken away.
///
/// Written as the keys with commas between.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifyingKeys(Vec<VerifyingKey>);

/// How many keys a replica believes at most.
pub const VERIFYING_KEYS_MAX: usize = 8;

impl VerifyingKeys {
    /// Believes each of `keys`.
    ///
    /// # Errors
    /// When there are none, or more than [`VERIFYING_KEYS_MAX`].
    pub fn new(keys: Vec<VerifyingKey>) -> Result<Self, VerifyingKeyError> {
        match keys.len() {
            0 => Err(VerifyingKeyError::None),
            1..=VERIFYING_KEYS_MAX => Ok(Self(keys)),
            _ => Err(VerifyingKeyError::TooMany),
        }
    }

    /// What is said in `signed`, if one of the keys stands for it.
    ///
    /// # Errors
    /// When it is not signed, or not by one of them over just these words.
    pub fn verify<'a>(&self, signed: &'a SignedStatement) -> Result<&'a Statement, Disbelief> {
        let signature = signed.signature.as_ref().ok_or(Disbelief::Unsigned)?;
        let bytes = signed.statement.to_bytes();
        let stands = |key: &VerifyingKey| {
            UnparsedPublicKey::new(&ED25519, key.0).verify(&bytes, &signature.0).is_ok()
        };
        if self.0.iter().any(stands) { Ok(&signed.statement) } else { Err(Disbelief::Forged) }
    }

    /// The keys.
    #[must_use]
    pub fn as_slice(&self) -> &[VerifyingKey] {
        &self.0
    }
}

impl From<VerifyingKey> for VerifyingKeys {
    fn from(key: VerifyingKey) -> Self {
        Self(vec![key])
    }
}

impl fmt::Display for VerifyingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, key) in self.0.iter().enumerate() {
            let comma = if nth == 0 { "" } else { "," };
            write!(f, "{comma}{key}")?;
        }
        Ok(())
    }
}

impl FromStr for VerifyingKeys {
    type Err = VerifyingKeyError;

    fn from_str(text: &str) -> Result<Self, VerifyingKeyError> {
        let keys = text.split(',').map(str::trim).filter(|key| !key.is_empty());
        Self::new(keys.map(str::parse).collect::<Result<_, _>>()?)
    }
}

/// Why a text names no keys to believe. Fatal: the setting must be mended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VerifyingKeyError {
    /// Not the form of one key.
    #[error("{0:?} is not a public key: 64 hexadecimal digits are expected")]
    Form(String),
    /// There is none.
    #[error("no public key is named: at least one is needed to believe anybody")]
    None,
    /// There are too many.
    #[error("more than {VERIFYING_KEYS_MAX} public keys are named")]
    TooMany,
}

/// Why a Statement is not believed. It is refused, and what is served stays.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Disbelief {
    /// Nobody stands for it.
    #[error("the statement is not signed")]
    Unsigned,
    /// Somebody else signed it, or it was altered afterwards.
    #[error("the statement is not signed by a key that is believed, or was altered since")]
    Forged,
}

#[cfg(test)]
mod tests {
    use kubeng_config::canonical::{self, Digest};
    use kubeng_config::position::Position;
    use kubeng_config::statement::{Epoch, MODEL_VERSION};

    use super::*;

    fn statement() -> Statement {
        let mut position = Position::default();
        position.advance("kubernetes", 4_711);
        Statement {
            fleet: "prod".parse().unwrap(),
            epoch: Epoch(3),
            position,
            target: Digest::of([b"x".as_slice()]),
            model_version: MODEL_VERSION,
        }
    }

    #[test]
    fn what_is_signed_is_believed_by_those_who_know_the_key() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let signed = key.sign(statement());
        let believed = VerifyingKeys::from(key.verifying_key());
        assert_eq!(believed.verify(&signed), Ok(&statement()));
        assert_eq!(believed.verify(&other.sign(statement())), Err(Disbelief::Forged));
        let unsigned = SignedStatement { signature: None, ..signed.clone() };
        assert_eq!(believed.verify(&unsigned), Err(Disbelief::Unsigned));
        let both = VerifyingKeys::new(vec![other.verifying_key(), key.verifying_key()]).unwrap();
        assert_eq!(both.verify(&signed), Ok(&statement()), "while keys are exchanged");
        assert_eq!(both.verify(&other.sign(statement())), Ok(&statement()));
    }

    #[test]
    fn no_byte_of_statement_or_signature_can_be_altered() {
        let key = SigningKey::generate().unwrap();
        let believed = VerifyingKeys::from(key.verifying_key());
        let signed = key.sign(statement());
        let signature = signed.signature.unwrap();
        for at in 0..64 {
            let mut altered = signature;
            altered.0[at] ^= 1;
            let altered = SignedStatement { signature: Some(altered), ..signed.clone() };
            assert_eq!(believed.verify(&altered), Err(Disbelief::Forged), "byte {at}");
        }
        let bytes = signed.statement.to_bytes();
        let mut read = 0;
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            // Most are no Statements any more; the others say something else.
            if let Ok(statement) = canonical::from_bytes::<Statement>(&altered) {
                read += 1;
                let altered = SignedStatement { statement, ..signed.clone() };
                assert_eq!(believed.verify(&altered), Err(Disbelief::Forged), "byte {at}");
            }
        }
        assert!(read > 60, "names, numbers and digests can be altered: {read}");
    }

    #[test]
    fn keys_survive_being_written() {
        let key = SigningKey::generate().unwrap();
        let read = SigningKey::from_pkcs8(key.to_pkcs8().expose()).unwrap();
        assert_eq!(read.verifying_key(), key.verifying_key());
        assert_eq!(read.sign(statement()), key.sign(statement()), "Ed25519 has no chance in it");
        assert!(!format!("{key:?}").contains(&hex::encode(key.to_pkcs8().expose())));
        let cut = &key.to_pkcs8().expose()[1..];
        assert!(matches!(SigningKey::from_pkcs8(cut), Err(SigningKeyError::Form(_))));
        let keys = VerifyingKeys::new(vec![key.verifying_key(); 2]).unwrap();
        assert_eq!(keys.to_string().parse(), Ok(keys.clone()));
        assert_eq!(keys.to_string().replace(',', " , ").parse(), Ok(keys));
    }

    #[test]
    fn what_names_no_keys_says_so() {
        let parse = |text: &str| text.parse::<VerifyingKeys>().unwrap_err();
        assert_eq!(parse(" , "), VerifyingKeyError::None);
        assert_eq!(parse("12"), VerifyingKeyError::Form("12".into()));
        let many = vec![VerifyingKey([0; 32]); VERIFYING_KEYS_MAX + 1];
        assert_eq!(VerifyingKeys::new(many), Err(VerifyingKeyError::TooMany));
    }

    #[test]
    fn a_key_of_another_program_is_read() {
        // RFC 8410 section 10.3: a key in version 1, without its public half.
        let seed = "d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842";
        let bytes = hex::decode(format!("302e020100300506032b657004220420{seed}")).unwrap();
        let public = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
        let key = SigningKey::from_pkcs8(&bytes).unwrap();
        assert_eq!(key.verifying_key().to_string(), public);
    }
}
