//! A login with a signed token (RFC 7515, RFC 7519, RFC 8725).
//!
//! The algorithm is decided by the key and the allow-list, never by the token alone; what is not
//! understood is refused.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};
use kubeng_config::certificate::Secret;
use kubeng_config::filter::jwt::{ClaimToHeader, Jwk, Jwt, JwtAlgorithm, JwtKeys, PublicKey};
use kubeng_config::request::cookie;
use ring::{hmac, signature};
use serde_json::{Map, Value};

use super::{Step, Target};
use crate::reply::Reply;
use crate::request::{Extra, RequestEdit};

type Claims = Map<String, Value>;

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Refusal {
    /// There is none.
    None,
    /// It is not valid.
    Invalid,
    /// It is valid, but does not say what is required.
    Lacking,
}

/// Lets a request with a valid token pass.
pub(crate) fn on_request(
    jwt: &Jwt,
    secret: Option<&Secret>,
    at: SystemTime,
    target: &Target<'_>,
    extra: &mut Extra,
) -> Step {
    if matches!(jwt.keys, JwtKeys::Secret(_)) && secret.is_none_or(|key| key.expose().len() < 32) {
        return Step::status(StatusCode::SERVICE_UNAVAILABLE);
    }
    let now = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let claims = token(jwt, target.headers)
        .ok_or(Refusal::None)
        .and_then(|token| {
            claims(jwt, secret, token)
                .filter(|claims| is_valid(jwt, claims, now))
                .ok_or(Refusal::Invalid)
        })
        .and_then(
            |claims| if has_required(jwt, &claims) { Ok(claims) } else { Err(Refusal::Lacking) },
        );
    match claims {
        Ok(claims) => {
            tell(&jwt.claims_to_headers, &claims, extra);
            Step::Pass
        }
        Err(refusal) => refused(refusal),
    }
}

fn refused(refusal: Refusal) -> Step {
    let (status, asked) = match refusal {
        Refusal::None => (StatusCode::UNAUTHORIZED, "Bearer"),
        Refusal::Invalid => (StatusCode::UNAUTHORIZED, "Bearer error=\"invalid_token\""),
        Refusal::Lacking => (StatusCode::FORBIDDEN, "Bearer error=\"insufficient_scope\""),
    };
    let mut reply = Reply::of(status);
    reply.fields.push((header::WWW_AUTHENTICATE, HeaderValue::from_static(asked)));
    Step::Reply(reply)
}

/// The token: that of the one `Authorization` field, else that of the cookie.
fn token<'a>(jwt: &Jwt, headers: &'a HeaderMap) -> Option<&'a str> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let bearer = match (fields.next(), fields.next()) {
        (Some(field), None) => field.to_str().ok().and_then(|field| {
            let (scheme, token) = field.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        }),
        (_, _) => None,
    };
    let of_cookie = || {
        let name = jwt.cookie.as_ref()?.as_str();
        cookie(headers, name)
    };
    bearer.or_else(of_cookie).filter(|token| token.len() <= TOKEN_BYTES_MAX)
}

/// The claims of a token whose signature is right.
fn claims(jwt: &Jwt, secret: Option<&Secret>, token: &str) -> Option<Claims> {
    let (message, signature) = token.rsplit_once('.')?;
    let (head, claims) = message.split_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let head = object(head)?;
    let algorithm: JwtAlgorithm = serde_json::from_value(head.get("alg")?.clone()).ok()?;
    // An extension that must be understood is not (RFC 7515 section 4.1.11).
    if head.contains_key("crit") || !jwt.algorithms.contains(&algorithm) {
        return None;
    }
    let kid = match head.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.as_str()),
        Some(_) => return None,
    };
    let message = message.as_bytes();
    let is_signed = match &jwt.keys {
        JwtKeys::Secret(_) => is_authentic(algorithm, secret?, message, &signature),
        JwtKeys::Inline(keys) => keys
            .iter()
            .filter(|key| is_named(key, kid))
            .any(|key| is_signed_by(algorithm, &key.key, message, &signature)),
    };
    if is_signed { object(claims) } else { None }
}

fn object(encoded: &str) -> Option<Claims> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

fn is_named(key: &Jwk, kid: Option<&str>) -> bool {
    kid.is_none_or(|kid| key.kid.as_ref().is_some_and(|name| name.as_str() == kid))
}

fn is_authentic(algorithm: JwtAlgorithm, secret: &Secret, message: &[u8], tag: &[u8]) -> bool {
    let algorithm = match algorithm {
        JwtAlgorithm::HS256 => hmac::HMAC_SHA256,
        JwtAlgorithm::HS384 => hmac::HMAC_SHA384,
        JwtAlgorithm::HS512 => hmac::HMAC_SHA512,
        JwtAlgorithm::RS256
        | JwtAlgorithm::RS384
        | JwtAlgorithm::RS512
        | JwtAlgorithm::ES256
        | JwtAlgorithm::ES384
        | JwtAlgorithm::EdDSA => return false,
    };
    // In constant time.
    hmac::verify(&hmac::Key::new(algorithm, secret.expose()), message, tag).is_ok()
}

/// Whether `key` is of the kind of `algorithm` and signed `message`.
fn is_signed_by(
    algorithm: JwtAlgorithm,
    key: &PublicKey,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let rsa = |how: &signature::RsaParameters| match key {
        PublicKey::Rsa { n, e } => {
            let key = signature::RsaPublicKeyComponents { n: n.as_bytes(), e: &*e.0 };
            key.verify(how, message, signature).is_ok()
        }
        PublicKey::P256 { .. } | PublicKey::P384 { .. } | PublicKey::Ed25519 { .. } => false,
    };
    let other = |how: &'static dyn signature::VerificationAlgorithm, point: &[u8]| {
        signature::UnparsedPublicKey::new(how, point).verify(message, signature).is_ok()
    };
    match algorithm {
        JwtAlgorithm::RS256 => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
        JwtAlgorithm::RS384 => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
        JwtAlgorithm::RS512 => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
        JwtAlgorithm::ES256 => match key {
            PublicKey::P256 { x, y } => {
                other(&signature::ECDSA_P256_SHA256_FIXED, &point(&x.0, &y.0))
            }
            PublicKey::Rsa { .. } | PublicKey::P384 { .. } | PublicKey::Ed25519 { .. } => false,
        },
        JwtAlgorithm::ES384 => match key {
            PublicKey::P384 { x, y } => {
                other(&signature::ECDSA_P384_SHA384_FIXED, &point(&x.0, &y.0))
            }
            PublicKey::Rsa { .. } | PublicKey::P256 { .. } | PublicKey::Ed25519 { .. } => false,
        },
        JwtAlgorithm::EdDSA => match key {
            PublicKey::Ed25519 { x } => other(&signature::ED25519, &x.0),
            PublicKey::Rsa { .. } | PublicKey::P256 { .. } | PublicKey::P384 { .. } => false,
        },
        // A public key is no secret (RFC 8725 section 2.1).
        JwtAlgorithm::HS256 | JwtAlgorithm::HS384 | JwtAlgorithm::HS512 => false,
    }
}

/// A point of a curve, uncompressed (SEC 1 section 2.3.3).
fn point(x: &[u8], y: &[u8]) -> Vec<u8> {
    [&[4], x, y].concat()
}

/// Whether time, issuer and audience are right. What is there and has the wrong type is not.
fn is_valid(jwt: &Jwt, claims: &Claims, now: u64) -> bool {
    let leeway = jwt.leeway_seconds.get();
    let time = |name| claims.get(name).map(seconds);
    let ends = time("exp").flatten().is_some_and(|ends| now < ends.saturating_add(leeway));
    let begins = time("nbf").is_none_or(|from| from.is_some_and(|from| from <= now + leeway));
    let issuer = claims.get("iss").and_then(Value::as_str) == Some(jwt.issuer.as_str());
    let is_meant = |one: &Value| {
        one.as_str().is_some_and(|one| jwt.audiences.iter().any(|name| name.as_str() == one))
    };
    let audience = jwt.audiences.is_empty()
        || match claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(is_meant),
            Some(one) => is_meant(one),
            None => false,
        };
    ends && begins && issuer && audience
}

/// A time as whole seconds; a token may hold fractions.
fn seconds(value: &Value) -> Option<u64> {
    let rounded = || {
        let number = value.as_f64().filter(|number| (0.0..TIME_MAX).contains(number))?;
        // In range, so nothing is lost but the fraction.
        Some(number as u64)
    };
    value.as_u64().or_else(rounded)
}

fn has_required(jwt: &Jwt, claims: &Claims) -> bool {
    jwt.required.iter().all(|required| {
        let Some(value) = find(claims, required.claim.as_str()) else { return false };
        let fits = |value: &Value| {
            let text = text_of(value);
            text.is_some_and(|text| required.one_of.iter().any(|one| one.as_str() == text))
        };
        match value {
            Value::Null => false,
            _ if required.one_of.is_empty() => true,
            Value::Array(all) => all.iter().any(fits),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => fits(value),
        }
    })
}

/// A claim by its name; where there is none, `.` leads into objects.
fn find<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    find(claims.get(first)?.as_object()?, rest)
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Puts claims into headers; what a client put there is taken out in any case.
fn tell(wanted: &[ClaimToHeader], claims: &Claims, extra: &mut Extra) {
    for ClaimToHeader { claim, header } in wanted {
        let text = match find(claims, claim.as_str()) {
            Some(Value::Array(all)) => {
                let texts: Option<Vec<String>> = all.iter().map(text_of).collect();
                texts.map(|texts| texts.join(","))
            }
            Some(one) => text_of(one),
            None => None,
        };
        let value = text.and_then(|text| HeaderValue::from_str(&text).ok());
        extra.edits.push(match value {
            Some(value) => RequestEdit::Set(header.name().clone(), value),
            None => RequestEdit::Remove(header.name().clone()),
        });
    }
}

/// The longest token.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Far behind any time.
const TIME_MAX: f64 = 1e15;

#[cfg(test)]
mod tests;
