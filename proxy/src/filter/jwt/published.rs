//! Sets of public keys as issuers publish them (RFC 7517 section 5).

use std::sync::Arc;

use kubeng_config::filter::jwt::{Jwk, JwtAlgorithm};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A key that an issuer publishes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PublishedKey {
    pub(super) jwk: Jwk,
    /// The only algorithm that it is for; None where the issuer says nothing.
    pub(super) algorithm: Option<JwtAlgorithm>,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Map<String, Value>>,
}

/// Reads a set. Keys of kinds or for uses that are not ours are passed over, as the RFC says.
///
/// # Errors
/// What is wrong, when it is no set, or has too many keys or none that can be used: such an answer
/// must not take the place of a good one.
pub(super) fn read(text: &[u8]) -> Result<Arc<[PublishedKey]>, String> {
    let Set { keys } = serde_json::from_slice(text).map_err(|error| format!("no JWKS: {error}"))?;
    if keys.len() > KEYS_MAX {
        return Err(format!("{} keys, at most {KEYS_MAX} are read", keys.len()));
    }
    let usable: Arc<[PublishedKey]> = keys.into_iter().filter_map(key).collect();
    if usable.is_empty() { Err("no key that can be used".to_owned()) } else { Ok(usable) }
}

fn key(mut key: Map<String, Value>) -> Option<PublishedKey> {
    let is_for_signatures = key.get("use").is_none_or(|used| used == "sig")
        && key.get("key_ops").is_none_or(|all| {
            all.as_array().is_some_and(|all| all.iter().any(|one| one == "verify"))
        });
    if !is_for_signatures {
        return None;
    }
    let algorithm = key.remove("alg").map(serde_json::from_value).transpose().ok()?;
    let kid = key.remove("kid").map(serde_json::from_value).transpose().ok()?;
    let kind = |name: &str| key.get(name).and_then(Value::as_str);
    let number = |name: &str| key.get(name).cloned().unwrap_or_default();
    let written = match (kind("kty")?, kind("crv")) {
        ("RSA", _) => json!({ "rsa": { "n": number("n"), "e": number("e") } }),
        ("EC", Some("P-256")) => json!({ "p256": { "x": number("x"), "y": number("y") } }),
        ("EC", Some("P-384")) => json!({ "p384": { "x": number("x"), "y": number("y") } }),
        ("OKP", Some("Ed25519")) => json!({ "ed25519": { "x": number("x") } }),
        // A symmetric key that is published is no secret.
        _ => return None,
    };
    let key = serde_json::from_value(written).ok()?;
    Some(PublishedKey { jwk: Jwk { kid, key }, algorithm })
}

/// Keys in one set.
const KEYS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const ED: &str =
        r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;

    #[track_caller]
    fn check(keys: &str, expected: Result<usize, &str>) {
        let read = read(format!(r#"{{"keys":[{keys}]}}"#).as_bytes());
        match (read, expected) {
            (Ok(read), Ok(count)) => assert_eq!(read.len(), count, "{keys}"),
            (Err(read), Err(text)) => assert!(read.contains(text), "{keys}: {read}"),
            (read, expected) => panic!("{keys}: {read:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn keys_of_ours_are_read_and_others_are_passed_over() {
        let p256 = r#""kty":"EC","crv":"P-256",
            "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM""#;
        check(&format!("{{{ED}}}"), Ok(1));
        check(&format!(r#"{{{ED},"use":"sig","alg":"EdDSA","kid":"a"}},{{{p256}}}"#), Ok(2));
        check(&format!(r#"{{{ED},"key_ops":["verify"],"x5t":"unknown is fine"}}"#), Ok(1));
        for other in [
            r#""use":"enc""#,
            r#""key_ops":["encrypt"]"#,
            r#""key_ops":"verify""#,
            r#""alg":"RSA-OAEP""#,
            r#""alg":"none""#,
            r#""kid":7"#,
        ] {
            check(&format!("{{{ED}}},{{{ED},{other}}}"), Ok(1));
        }
        let kinds = [
            r#"{"kty":"oct","k":"c2VjcmV0"}"#,
            r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#,
            r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#,
            r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#,
            r#"{"kty":"OKP","crv":"Ed25519"}"#,
            "{}",
        ];
        check(&format!("{{{ED}}},{}", kinds.join(",")), Ok(1));
        check(&kinds.join(","), Err("no key"));
    }

    #[test]
    fn what_is_no_set_takes_no_place() {
        check("", Err("no key"));
        check(&vec!["{}"; KEYS_MAX + 1].join(","), Err("at most"));
        for text in ["", "{}", "[]", r#"{"keys":{}}"#, r#"{"keys":["a"]}"#, "<html>"] {
            assert!(read(text.as_bytes()).unwrap_err().contains("no JWKS"), "{text}");
        }
    }

    #[test]
    fn a_key_is_for_the_algorithm_that_its_issuer_names() {
        let text = format!(r#"{{"keys":[{{{ED},"alg":"EdDSA"}}]}}"#);
        assert_eq!(read(text.as_bytes()).unwrap()[0].algorithm, Some(JwtAlgorithm::EdDSA));
    }
}
