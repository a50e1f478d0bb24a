//! `auth`: who is let in by a login. Where several are written, a request must pass all of them.

use serde::Deserialize;

use super::reference::{BackendRef, ConfigMapRef, SecretRef};
use super::scalar::Span;
use crate::bounded::{AtMost, Between, TextAtMost};
use crate::editable::EditableName;
use crate::filter::basic_auth::Realm;
use crate::filter::external_auth::{AskMethod, IfUnanswered};
use crate::filter::jwt::{ClaimToHeader, Jwk, JwtAlgorithm, PublicKey, RequiredClaim};
use crate::matching::FieldName;
use crate::name::Hostname;
use crate::path::CanonicalPath;

/// Logins.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Name and password.
    pub basic: Option<Basic>,
    /// A signed token.
    pub jwt: Option<JwtPatch>,
    /// Somebody else is asked.
    pub external: Option<External>,
}

/// Name and password; see [`BasicAuth`](crate::filter::basic_auth::BasicAuth).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Basic {
    /// The Secret whose entry `auth` holds the lines of `htpasswd`; needed.
    pub secret_ref: Option<SecretRef>,
    /// What browsers show.
    pub realm: Option<Realm>,
    /// The header in which the Backend gets the name.
    pub user_header: Option<EditableName>,
}

/// A signed token; see [`Jwt`](crate::filter::jwt::Jwt).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct JwtPatch {
    /// Who must have issued it; needed.
    pub issuer: Option<TextAtMost<256>>,
    /// Whom it must be for; absent: anybody.
    pub audiences: Option<AtMost<TextAtMost<256>, 16>>,
    /// Whose signature counts; needed.
    pub keys: Option<Keys>,
    /// Algorithms that are taken; needed.
    pub algorithms: Option<AtMost<JwtAlgorithm, 10>>,
    /// The cookie that is looked at, too.
    pub cookie: Option<TextAtMost<64>>,
    /// By how much clocks may differ, in seconds.
    pub leeway_seconds: Option<Between<0, 600>>,
    /// Claims that the Backend gets.
    pub claims_to_headers: Option<AtMost<ClaimToHeader, 32>>,
    /// What must stand in it besides.
    pub required: Option<AtMost<RequiredClaim, 32>>,
}

/// Whose signature counts: exactly one of these forms.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", try_from = "KeysOnWire")]
pub enum Keys {
    /// These public keys.
    Jwks(AtMost<Jwk, 32>),
    /// Those of the entry `jwks.json` of this Secret.
    JwksSecret(SecretRef),
    /// Those of the entry `jwks.json` of this ConfigMap: public keys need no Secret.
    JwksConfigMap(ConfigMapRef),
    /// Who knows the entry `key` of this Secret: at least 32 bytes.
    Secret(SecretRef),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeysOnWire {
    jwks: Option<JwkSet>,
    jwks_secret_ref: Option<SecretRef>,
    jwks_config_map_ref: Option<ConfigMapRef>,
    secret_ref: Option<SecretRef>,
}

impl TryFrom<KeysOnWire> for Keys {
    type Error = &'static str;

    fn try_from(written: KeysOnWire) -> Result<Self, Self::Error> {
        let KeysOnWire { jwks, jwks_secret_ref, jwks_config_map_ref, secret_ref } = written;
        match (jwks, jwks_secret_ref, jwks_config_map_ref, secret_ref) {
            (Some(set), None, None, None) => set.keys().map(Self::Jwks),
            (None, Some(secret), None, None) => Ok(Self::JwksSecret(secret)),
            (None, None, Some(map), None) => Ok(Self::JwksConfigMap(map)),
            (None, None, None, Some(secret)) => Ok(Self::Secret(secret)),
            _ => Err("keys are exactly one of jwks, jwksSecretRef, jwksConfigMapRef and secretRef"),
        }
    }
}

/// A set of keys as others write it (RFC 7517). What is not known of a key is passed over, as the
/// standard wants; a key that cannot be used fails.
#[derive(Clone, Debug, Deserialize)]
pub struct JwkSet {
    keys: Vec<JwkOnWire>,
}

#[derive(Clone, Debug, Deserialize)]
struct JwkOnWire {
    kty: String,
    kid: Option<TextAtMost<256>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
}

impl JwkSet {
    /// Reads the text of a key set.
    ///
    /// # Errors
    /// When it is no key set, or holds a key that cannot be used.
    pub fn read(text: &[u8]) -> Result<AtMost<Jwk, 32>, &'static str> {
        let set: Self = serde_json::from_slice(text).map_err(|_| "it is no JSON of a key set")?;
        set.keys()
    }

    /// The keys that signatures are checked with.
    fn keys(self) -> Result<AtMost<Jwk, 32>, &'static str> {
        let signs = |key: &JwkOnWire| key.used_for.as_deref().is_none_or(|used| used == "sig");
        let keys = self.keys.into_iter().filter(signs).map(JwkOnWire::key);
        let keys: Vec<Jwk> = keys.collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err("the key set holds no key for signatures");
        }
        AtMost::new(keys).map_err(|_| "the key set holds more than 32 keys")
    }
}

impl JwkOnWire {
    fn key(self) -> Result<Jwk, &'static str> {
        let Self { kty, kid, crv, n, e, x, y, used_for: _ } = self;
        let text = |part: Option<String>| part.ok_or("a key lacks one of its numbers");
        // Through their text, which checks their lengths.
        let key = match (kty.as_str(), crv.as_deref()) {
            ("RSA", _) => serde_json::json!({"rsa": {"n": text(n)?, "e": text(e)?}}),
            ("EC", Some("P-256")) => serde_json::json!({"p256": {"x": text(x)?, "y": text(y)?}}),
            ("EC", Some("P-384")) => serde_json::json!({"p384": {"x": text(x)?, "y": text(y)?}}),
            ("OKP", Some("Ed25519")) => serde_json::json!({"ed25519": {"x": text(x)?}}),
            ("oct", _) => return Err("a key of type oct is no public key; use secretRef"),
            _ => return Err("a key is none of RSA, EC P-256, EC P-384 and OKP Ed25519"),
        };
        let key: PublicKey = serde_json::from_value(key)
            .map_err(|_| "a key is not as long as its kind, or no base64url without padding")?;
        Ok(Jwk { kid, key })
    }
}

/// Somebody else is asked; see [`ExternalAuth`](crate::filter::external_auth::ExternalAuth).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct External {
    /// Who is asked; needed.
    pub backend: Option<BackendRef>,
    /// The method.
    pub method: Option<AskMethod>,
    /// What is asked for; absent: `/`.
    pub path: Option<CanonicalPath>,
    /// Whether the path of the request is put behind it.
    pub append_path: Option<bool>,
    /// The host that is asked.
    pub host: Option<Hostname>,
    /// Headers that are passed on beside `Authorization` and `Cookie`.
    pub request_headers: Option<AtMost<EditableName, 64>>,
    /// Headers of a positive answer that the request gets.
    pub copy_headers: Option<AtMost<EditableName, 64>>,
    /// Headers of a negative answer that the client gets.
    pub answer_headers: Option<AtMost<FieldName, 64>>,
    /// How long the answer may take, at most a minute.
    pub timeout: Option<Span>,
    /// Questions at a time.
    pub questions_max: Option<Between<1, 65_536>>,
    /// What happens to a request about which there is no answer.
    pub if_unanswered: Option<IfUnanswered>,
}
