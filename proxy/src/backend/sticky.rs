//! The cookie that keeps a client at its Endpoint.
//!
//! Its value is a keyed hash (HMAC-SHA-256, cut to 128 bits) over Backend and address: without the key
//! it tells nothing and cannot be made, and each replica with the same key reads it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use http::HeaderValue;
use kubeng_config::backend::balance::Sticky;
use kubeng_config::name::BackendId;
use ring::hmac;

/// The key of all such cookies. It is never shown.
pub(crate) struct StickyKey(hmac::Key);

impl std::fmt::Debug for StickyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StickyKey(..)")
    }
}

impl StickyKey {
    /// A key of these bytes; without any, one of this process only.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(crate) fn new(bytes: Option<&[u8]>) -> Result<Self, ring::error::Unspecified> {
        match bytes {
            Some(bytes) => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))),
            None => {
                let random = ring::rand::SystemRandom::new();
                hmac::Key::generate(hmac::HMAC_SHA256, &random).map(Self)
            }
        }
    }

    /// Whether `token` stands for this Endpoint.
    pub(crate) fn is_token_of(
        &self,
        token: Token,
        backend: &BackendId,
        address: SocketAddr,
    ) -> bool {
        // Whoever guesses learns only what the next cookie would tell anyway.
        self.token(backend, address) == token
    }

    fn token(&self, backend: &BackendId, address: SocketAddr) -> Token {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(backend.to_string().as_bytes());
        // Neither holds a line feed, so no two pairs are written alike.
        context.update(b"\n");
        context.update(address.to_string().as_bytes());
        let tag = context.sign();
        let mut token = Token::default();
        let length = token.0.len();
        token.0.copy_from_slice(tag.as_ref().get(..length).unwrap_or(&[0; 16]));
        token
    }
}

/// What stands in the cookie, as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Token([u8; 16]);

impl Token {
    /// Reads the value of a cookie; None when it cannot be one of ours.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let mut token = Self::default();
        if text.len() != token.0.len() * 2 {
            return None;
        }
        for (byte, digits) in token.0.iter_mut().zip(text.chunks(2)) {
            let digits = std::str::from_utf8(digits).ok()?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(token)
    }
}

/// The Endpoints of a set by their tokens.
#[derive(Debug)]
pub(crate) struct Tokens(HashMap<Token, usize>);

impl Tokens {
    /// Of the Endpoints with these addresses, in their order.
    pub(crate) fn new(
        key: &StickyKey,
        backend: &BackendId,
        addresses: impl Iterator<Item = SocketAddr>,
    ) -> Self {
        let numbered = addresses.enumerate();
        Self(numbered.map(|(at, address)| (key.token(backend, address), at)).collect())
    }

    /// The number of the Endpoint that `token` stands for; None when it is gone.
    pub(crate) fn find(&self, token: Token) -> Option<usize> {
        self.0.get(&token).copied()
    }
}

/// `Set-Cookie` for a client that was sent to `address`.
pub(crate) fn set_cookie(
    key: &StickyKey,
    backend: &BackendId,
    address: SocketAddr,
    sticky: &Sticky,
    is_tls: bool,
) -> Option<HeaderValue> {
    let mut text = format!("{}=", sticky.cookie);
    for byte in key.token(backend, address).0 {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push_str("; Path=/; HttpOnly; SameSite=Lax");
    if let Some(seconds) = sticky.max_age_seconds {
        let _ = write!(text, "; Max-Age={seconds}");
    }
    if is_tls {
        text.push_str("; Secure");
    }
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sticky() -> Sticky {
        Sticky { cookie: "route".parse().unwrap(), max_age_seconds: Some(60) }
    }

    #[test]
    fn a_token_names_its_endpoint_under_its_key_only_and_shows_nothing() {
        let backend: BackendId = "Service/shop/web:80".parse().unwrap();
        let address = |port| SocketAddr::from(([10, 1, 2, 3], port));
        let key = StickyKey::new(Some(b"secret")).unwrap();
        let cookie = set_cookie(&key, &backend, address(2), &sticky(), true).unwrap();
        let cookie = cookie.to_str().unwrap();
        let (value, rest) = cookie.strip_prefix("route=").unwrap().split_once(';').unwrap();
        assert_eq!(rest, " Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure");
        let token = Token::read(value.as_bytes()).unwrap();
        let addresses = || [1, 2, 3].into_iter().map(address);
        assert_eq!(Tokens::new(&key, &backend, addresses()).find(token), Some(1));
        let other: BackendId = "Service/other/web:80".parse().unwrap();
        assert_eq!(Tokens::new(&key, &other, addresses()).find(token), None);
        let stranger = StickyKey::new(None).unwrap();
        assert_eq!(Tokens::new(&stranger, &backend, addresses()).find(token), None);
        for text in ["10.1.2.3", "0a010203"] {
            assert!(!cookie.contains(text), "{cookie}");
        }
        let plain = set_cookie(&key, &backend, address(2), &sticky(), false).unwrap();
        assert!(!plain.to_str().unwrap().contains("Secure"));
    }

    #[test]
    fn only_what_may_be_ours_is_read() {
        for bad in ["", "00", "g0112233445566778899aabbccddeeff", "+0112233445566778899aabbccddeef"]
        {
            assert_eq!(Token::read(bad.as_bytes()), None, "{bad}");
        }
    }
}
