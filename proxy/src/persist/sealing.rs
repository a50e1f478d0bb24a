//! Secrets on disk: encrypted where a key is given, else protected by the mode of the file only.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};

/// The key by which secrets are encrypted on disk (ChaCha20-Poly1305, RFC 8439).
pub struct DataKey(LessSafeKey);

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey(..)")
    }
}

/// Why there is no key. Fatal at start.
#[derive(Debug, thiserror::Error)]
pub enum DataKeyError {
    /// Anybody could guess it.
    #[error("a key has at least {DATA_KEY_BYTES_MIN} bytes, and this one {0}")]
    TooShort(usize),
    /// The library does not make one of it.
    #[error("no key can be made of it")]
    Unusable,
}

impl DataKey {
    /// Derives the key from what a file holds, at least 32 bytes.
    ///
    /// # Errors
    /// See [`DataKeyError`].
    pub fn new(bytes: &[u8]) -> Result<Self, DataKeyError> {
        if bytes.len() < DATA_KEY_BYTES_MIN {
            return Err(DataKeyError::TooShort(bytes.len()));
        }
        let derived = Salt::new(HKDF_SHA256, b"kubeng last known good").extract(bytes);
        let derived = derived.expand(&[b"secrets"], &CHACHA20_POLY1305);
        let key = derived.map_err(|_| DataKeyError::Unusable)?;
        Ok(Self(LessSafeKey::new(UnboundKey::from(key))))
    }

    /// `plain` encrypted, behind a nonce of its own. None when the system gives no random bytes.
    pub(super) fn seal(&self, mut plain: Vec<u8>) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let sealing = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_append_tag(sealing, Aad::empty(), &mut plain).ok()?;
        Some([nonce.as_slice(), &plain].concat())
    }

    /// What was sealed; None when it was with another key, or changed.
    pub(super) fn open(&self, sealed: &[u8]) -> Option<zeroize::Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut bytes = zeroize::Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let len = self.0.open_in_place(nonce, Aad::empty(), &mut bytes).ok()?.len();
        bytes.truncate(len);
        Some(bytes)
    }
}

/// As many as the key has that is derived.
pub(super) const DATA_KEY_BYTES_MIN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_own_key_only() {
        let key = DataKey::new(&[7; 32]).unwrap();
        let sealed = key.seal(b"secret".to_vec()).unwrap();
        assert_eq!(key.open(&sealed).unwrap().as_slice(), b"secret");
        assert_ne!(key.seal(b"secret".to_vec()).unwrap(), sealed, "no nonce is used twice");
        assert!(DataKey::new(&[8; 32]).unwrap().open(&sealed).is_none());
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert!(key.open(&other).is_none(), "byte {at}");
            assert!(key.open(&sealed[..at]).is_none(), "{at} bytes");
        }
        DataKey::new(&[7; 31]).unwrap_err();
    }
}
