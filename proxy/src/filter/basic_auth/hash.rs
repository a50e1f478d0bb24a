//! Hashes of passwords as `htpasswd` writes them.

use kubeng_config::htpasswd::{APR1_CHARS, PasswordHash};
use md5::{Digest as _, Md5};
use ring::digest;
use sha_crypt::{PasswordVerifier as _, ShaCrypt};
use subtle::ConstantTimeEq as _;

/// Orders the forms by the time that a check takes.
pub(super) fn slowness(hash: &PasswordHash) -> u8 {
    match hash {
        PasswordHash::Sha1(_) => 0,
        PasswordHash::Apr1 { .. } => 1,
        PasswordHash::ShaCrypt(_) => 2,
        PasswordHash::Bcrypt(_) => 3,
    }
}

/// May take milliseconds; compares in constant time.
pub(super) fn accepts(hash: &PasswordHash, password: &str) -> bool {
    match hash {
        PasswordHash::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
        PasswordHash::ShaCrypt(hash) => {
            ShaCrypt::default().verify_password(password.as_bytes(), hash.as_str()).is_ok()
        }
        PasswordHash::Apr1 { salt, hash } => apr1(password.as_bytes(), salt).ct_eq(hash).into(),
        PasswordHash::Sha1(hash) => {
            let algorithm = &digest::SHA1_FOR_LEGACY_USE_ONLY;
            let own = digest::digest(algorithm, password.as_bytes());
            own.as_ref().ct_eq(hash).into()
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
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(hash: &str, password: &str) {
        let hash = PasswordHash::read(hash).unwrap();
        assert!(accepts(&hash, password), "{hash:?}");
        for other in ["", "Secret", &password[1..], &format!("{password} ")] {
            assert!(!accepts(&hash, other), "{other:?} for {hash:?}");
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
}
