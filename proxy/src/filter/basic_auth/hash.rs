//! Hashes of passwords as `htpasswd` writes them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use ring::digest;
use sha_crypt::{PasswordVerifier as _, ShaCrypt};
use subtle::ConstantTimeEq as _;

/// The hash of one password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Hash {
    /// `$2a$`, `$2b$`, `$2y$`
    Bcrypt(String),
    /// `$5$`, `$6$`
    ShaCrypt(String),
    /// `$apr1$`, which is weak; it is what `htpasswd` writes unless it is told otherwise.
    Apr1 { salt: Box<[u8]>, hash: [u8; APR1_CHARS] },
    /// `{SHA}`, which has no salt and is weaker still.
    Sha1([u8; 20]),
}

impl Hash {
    /// Reads what stands behind a name; None for another form, and for what takes too long to check.
    pub(super) fn read(text: &str) -> Option<Self> {
        if ["$2a$", "$2b$", "$2y$"].iter().any(|start| text.starts_with(start)) {
            let cost = text.get(4..6)?.parse::<u32>().ok()?;
            return (cost <= BCRYPT_COST_MAX).then(|| Self::Bcrypt(text.to_owned()));
        }
        if let Some(fields) = text.strip_prefix(APR1) {
            let (salt, hash) = fields.split_once('$')?;
            let is_salt = (1..=8).contains(&salt.len());
            let hash = hash.as_bytes().try_into().ok().filter(|_| is_salt)?;
            return Some(Self::Apr1 { salt: salt.as_bytes().into(), hash });
        }
        if let Some(encoded) = text.strip_prefix("{SHA}") {
            return STANDARD.decode(encoded).ok()?.try_into().ok().map(Self::Sha1);
        }
        let fields = text.strip_prefix("$5$").or_else(|| text.strip_prefix("$6$"))?;
        let rounds = match fields.strip_prefix("rounds=") {
            Some(rest) => rest.split('$').next()?.parse::<u32>().ok()?,
            None => 5000,
        };
        (rounds <= SHA_ROUNDS_MAX).then(|| Self::ShaCrypt(text.to_owned()))
    }

    /// Orders the forms by the time that a check takes.
    pub(super) fn slowness(&self) -> u8 {
        match self {
            Self::Sha1(_) => 0,
            Self::Apr1 { .. } => 1,
            Self::ShaCrypt(_) => 2,
            Self::Bcrypt(_) => 3,
        }
    }

    /// May take milliseconds; compares in constant time.
    pub(super) fn accepts(&self, password: &str) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::ShaCrypt(hash) => {
                ShaCrypt::default().verify_password(password.as_bytes(), hash.as_str()).is_ok()
            }
            Self::Apr1 { salt, hash } => apr1(password.as_bytes(), salt).ct_eq(hash).into(),
            Self::Sha1(hash) => {
                let algorithm = &digest::SHA1_FOR_LEGACY_USE_ONLY;
                let own = digest::digest(algorithm, password.as_bytes());
                own.as_ref().ct_eq(hash).into()
            }
        }
    }
}

/// The hash of MD5-crypt in its variant of Apache: a thousand rounds of MD5.
fn apr1(password: &[u8], salt: &[u8]) -> [u8; APR1_CHARS] {
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password);
    let inner = inner.finalize();
    let mut outer = Md5::new().chain_update(password).chain_update(APR1).chain_update(salt);
    for part in password.chunks(inner.len()) {
        outer.update(inner.get(..part.len()).unwrap_or_default());
    }
    let mut length = password.len();
    while length > 0 {
        let first = password.get(..1).unwrap_or_default();
        outer.update(if length & 1 == 1 { &[0] } else { first });
        length >>= 1;
    }
    let mut sum = outer.finalize();
    for round in 0..1000 {
        let mut next = Md5::new();
        let is_odd = round % 2 == 1;
        next.update(if is_odd { password } else { &sum });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if is_odd { &sum } else { password });
        sum = next.finalize();
    }
    encode(&sum.into())
}

/// The sum in the order of MD5-crypt, six bits a character, the lowest first.
fn encode(sum: &[u8; 16]) -> [u8; APR1_CHARS] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *sum;
    let groups = [[a, g, m], [b, h, n], [c, i, o], [d, j, p], [e, k, f], [0, 0, l]]
        .map(|[high, mid, low]| u32::from_be_bytes([0, high, mid, low]));
    let mut text = [0; APR1_CHARS];
    for (at, place) in text.iter_mut().enumerate() {
        let group = groups.get(at / 4).copied().unwrap_or_default();
        let six = (group >> (6 * (at % 4))) & 0x3F;
        *place = ALPHABET.get(six as usize).copied().unwrap_or_default();
    }
    text
}

const APR1: &str = "$apr1$";
const APR1_CHARS: usize = 22;
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// About a second.
const BCRYPT_COST_MAX: u32 = 14;
const SHA_ROUNDS_MAX: u32 = 200_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(hash: &str, password: &str) {
        let hash = Hash::read(hash).unwrap();
        assert!(hash.accepts(password), "{hash:?}");
        for other in ["", "Secret", &password[1..], &format!("{password} ")] {
            assert!(!hash.accepts(other), "{other:?} for {hash:?}");
        }
    }

    #[test]
    fn hashes_of_other_programs_are_read() {
        // As openssl and the libraries of others make them.
        check("$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/", "secret");
        check("$apr1$x$16j9.5e7KiXmuYFAYpPJM/", "a");
        check(
            "$apr1$saltsalt$BkBJlUqsWJCbYBr8uCpeT.",
            "a password that is longer than sixteen bytes",
        );
        check("$apr1$./09AZaz$9BvXAqk89e0iQZ7G6fGFO/", "pässword-15byte");
        check("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "secret");
        check("$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!");
    }

    #[test]
    fn what_takes_too_long_to_check_lets_nobody_in() {
        assert!(Hash::read("$2y$15$abcdefghijklmnopqrstuuu").is_none());
        assert!(Hash::read("$2y$14$abcdefghijklmnopqrstuuu").is_some());
        assert!(Hash::read("$6$rounds=200001$salt$hash").is_none());
    }

    #[test]
    fn what_has_another_form_lets_nobody_in() {
        for text in [
            "",
            "plain",
            "$1$salt$hash",
            "$apr1$$zBSE1W5B4GkZUvzzKQlWP/",
            "$apr1$toolongsalt$zBSE1W5B4GkZUvzzKQlWP/",
            "$apr1$salt$short",
            "$apr1$salt",
            "{SHA}!",
            "{SHA}c2hvcnQ=",
            "{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
        ] {
            assert_eq!(Hash::read(text), None, "{text}");
        }
    }
}
