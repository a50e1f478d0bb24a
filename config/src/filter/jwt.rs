//! A login with a signed token (RFC 7519, RFC 8725).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::bounded::{AtMost, Between, TextAtMost};
use crate::editable::EditableName;
use crate::name::{NameError, SecretId, serde_as_text};

/// Lets in who brings a valid token; all others get 401, or 403 where only a claim is missing.
///
/// A token without signature, or whose algorithm does not belong to its key, is never valid. Keys
/// are written here or are a Secret; they are not fetched.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Jwt {
    /// Who must have issued it: the claim `iss`.
    pub issuer: TextAtMost<256>,
    /// Whom it must be for: one of these stands in `aud`. Empty: for anybody. At most 16.
    #[serde(default)]
    pub audiences: AtMost<TextAtMost<256>, 16>,
    /// Whose signature counts.
    pub keys: JwtKeys,
    /// Algorithms that are taken; at least one belongs here, else no token is valid.
    pub algorithms: AtMost<JwtAlgorithm, 10>,
    /// The cookie that is looked at where there is no `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<TextAtMost<64>>,
    /// By how much clocks may differ, in seconds. Default: 60.
    #[serde(default = "default_leeway")]
    pub leeway_seconds: Between<0, 600>,
    /// Claims that the Backend gets; what a client puts into these headers is taken out. At most 32.
    #[serde(default)]
    pub claims_to_headers: AtMost<ClaimToHeader, 32>,
    /// What must stand in the token besides; else 403. At most 32.
    #[serde(default)]
    pub required: AtMost<RequiredClaim, 32>,
}

fn default_leeway() -> Between<0, 600> {
    Between::clamped(60)
}

/// Whose signature counts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum JwtKeys {
    /// These public keys (RFC 7517); at most 32.
    Inline(AtMost<Jwk, 32>),
    /// Who knows this Secret of at least 32 bytes. Without it the answer is 503.
    Secret(SecretId),
}

/// A public key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Jwk {
    /// Its name in tokens. A token that names a key is checked by that one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<TextAtMost<256>>,
    /// The key.
    pub key: PublicKey,
}

/// The numbers of a public key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum PublicKey {
    /// RSA, 2,048 to 8,192 bits.
    Rsa {
        /// The modulus.
        n: RsaModulus,
        /// The exponent.
        e: Octets,
    },
    /// ECDSA over P-256.
    P256 {
        /// The first coordinate.
        x: OctetsOf<32>,
        /// The second one.
        y: OctetsOf<32>,
    },
    /// ECDSA over P-384.
    P384 {
        /// The first coordinate.
        x: OctetsOf<48>,
        /// The second one.
        y: OctetsOf<48>,
    },
    /// EdDSA over Ed25519 (RFC 8037).
    Ed25519 {
        /// The key.
        x: OctetsOf<32>,
    },
}

/// Bytes, written in base64url without padding.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Octets(pub Arc<[u8]>);

impl fmt::Display for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl FromStr for Octets {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let form = || NameError::Form { text: text.into(), form: "base64url without padding" };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| form())?;
        if bytes.is_empty() || bytes.len() > 1024 {
            return Err(form());
        }
        Ok(Self(bytes.into()))
    }
}

/// Exactly `N` bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OctetsOf<const N: usize>(pub [u8; N]);

impl<const N: usize> Serialize for OctetsOf<N> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&Octets(self.0.to_vec().into()))
    }
}

impl<'de, const N: usize> Deserialize<'de> for OctetsOf<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let octets = Octets::deserialize(from)?;
        let count = octets.0.len();
        let bytes = <[u8; N]>::try_from(&*octets.0)
            .map_err(|_| de::Error::custom(format!("{count} bytes are not {N}")))?;
        Ok(Self(bytes))
    }
}

/// The modulus of an RSA key of 2,048 to 8,192 bits.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "Octets", into = "Octets")]
pub struct RsaModulus(Octets);

impl RsaModulus {
    /// The number, its greatest byte first, without zeros in front.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.0
    }
}

impl TryFrom<Octets> for RsaModulus {
    type Error = String;

    fn try_from(octets: Octets) -> Result<Self, String> {
        let first = octets.0.iter().take_while(|&&byte| byte == 0).count();
        let number = octets.0.get(first..).unwrap_or_default();
        let bits =
            number.len() * 8 - number.first().map_or(0, |byte| byte.leading_zeros() as usize);
        if (2048..=8192).contains(&bits) {
            Ok(Self(Octets(number.into())))
        } else {
            Err(format!("an RSA key of {bits} bits is not between 2048 and 8192 bits"))
        }
    }
}

impl From<RsaModulus> for Octets {
    fn from(modulus: RsaModulus) -> Self {
        modulus.0
    }
}

/// How a token is signed (RFC 7518 section 3.1, RFC 8037). There is no `none`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub enum JwtAlgorithm {
    RS256,
    RS384,
    RS512,
    ES256,
    ES384,
    EdDSA,
    HS256,
    HS384,
    HS512,
}

/// A claim whose value a Backend gets: texts, numbers and truth values as they are, lists of them
/// joined by commas. An absent claim, or another kind, gives no header.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClaimToHeader {
    /// The claim; `.` leads into an object.
    pub claim: TextAtMost<128>,
    /// The header.
    pub header: EditableName,
}

/// What must stand in a token.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RequiredClaim {
    /// The claim; `.` leads into an object.
    pub claim: TextAtMost<128>,
    /// One of these: the value, or an entry of a list. Empty: anything but null. At most 64.
    #[serde(default)]
    pub one_of: AtMost<TextAtMost<256>, 64>,
}

serde_as_text! { Octets }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_long_as_their_kind() {
        let p256 = |x: usize| {
            let x = URL_SAFE_NO_PAD.encode(vec![1; x]);
            let y = URL_SAFE_NO_PAD.encode([1; 32]);
            serde_json::from_str::<PublicKey>(&format!(r#"{{"p256":{{"x":"{x}","y":"{y}"}}}}"#))
        };
        assert!(p256(32).is_ok());
        assert!(p256(31).is_err());
        let rsa = |bytes: usize| {
            let n = URL_SAFE_NO_PAD.encode(vec![0xFF; bytes]);
            serde_json::from_str::<PublicKey>(&format!(r#"{{"rsa":{{"n":"{n}","e":"AQAB"}}}}"#))
        };
        assert!(rsa(256).is_ok());
        assert!(rsa(255).is_err());
    }

    #[test]
    fn there_is_no_algorithm_without_a_signature() {
        assert!(serde_json::from_str::<JwtAlgorithm>("\"RS256\"").is_ok());
        for text in ["\"none\"", "\"None\"", "\"rs256\""] {
            assert!(serde_json::from_str::<JwtAlgorithm>(text).is_err(), "{text}");
        }
    }
}
