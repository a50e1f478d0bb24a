use std::time::Duration;

use ring::rand::SystemRandom;
use ring::signature::KeyPair as _;

use super::*;
use crate::filter::tests::AskedFor;

const NOW: u64 = 1_700_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn signed(head: &str, claims: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", encode(head), encode(claims));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", encode(signature))
}

fn by_secret(message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message).as_ref().to_vec()
}

const GOOD: &str = r#"{"iss":"me","aud":["x","shop"],"exp":1700000100,"nbf":1699999900,
    "sub":"ann","role":["admin","dev"],"realm":{"level":3},"a.b":true}"#;

#[track_caller]
fn check(jwt: &str, token: &str, expected: Result<&[(&str, &str)], u16>) {
    let jwt: Jwt = serde_json::from_str(jwt).unwrap();
    let secret = Secret::new(SECRET.to_vec());
    let bearer = format!("Bearer {token}");
    let asked = AskedFor::new(&[("authorization", &bearer), ("x-sub", "root")]);
    let mut extra = Extra::default();
    let at = UNIX_EPOCH + Duration::from_secs(NOW);
    let keys = Keys::of(&jwt, Some(&secret));
    let step = asked.with(|target| on_request(&jwt, keys.as_ref(), at, target, &mut extra));
    let got = match step {
        Step::Pass => Ok(extra.edits),
        Step::Reply(reply) => Err(reply.status.as_u16()),
        Step::Ask(_) => panic!("nothing is asked"),
    };
    let edit = |(name, value): &(&str, &str)| {
        let name = name.parse().unwrap();
        if value.is_empty() {
            RequestEdit::Remove(name)
        } else {
            RequestEdit::Set(name, value.parse().unwrap())
        }
    };
    assert_eq!(got, expected.map(|edits| edits.iter().map(edit).collect()), "{token}");
}

const LOCAL: &str = r#"{"issuer":"me","audiences":["shop"],"keys":{"secret":"k"},
    "algorithms":["HS256"],"leewaySeconds":10,"claimsToHeaders":[{"claim":"sub","header":"x-sub"}]}"#;
const HEAD: &str = r#"{"alg":"HS256"}"#;

#[test]
fn times_issuer_and_audience_must_be_right() {
    let check = |claims: &str, passes: bool| {
        let expected: Result<&[_], _> = if passes { Ok(&[("x-sub", "")]) } else { Err(401) };
        check(LOCAL, &signed(HEAD, claims, by_secret), expected);
    };
    let end = NOW + 100;
    check(&format!(r#"{{"iss":"me","aud":"shop","exp":{end}}}"#), true);
    check(&format!(r#"{{"iss":"me","aud":"shop","exp":{}}}"#, NOW - 9), true);
    check(&format!(r#"{{"iss":"me","aud":"shop","exp":{}}}"#, NOW - 10), false);
    check(&format!(r#"{{"iss":"me","aud":"shop","exp":{end}.5}}"#), true);
    check(r#"{"iss":"me","aud":"shop"}"#, false);
    check(r#"{"iss":"me","aud":"shop","exp":"2000000000"}"#, false);
    check(&format!(r#"{{"iss":"me","aud":"shop","exp":{end},"nbf":{}}}"#, NOW + 10), true);
    check(&format!(r#"{{"iss":"me","aud":"shop","exp":{end},"nbf":{}}}"#, NOW + 11), false);
    check(&format!(r#"{{"iss":"me","aud":"shop","exp":{end},"nbf":"0"}}"#), false);
    check(&format!(r#"{{"iss":"you","aud":"shop","exp":{end}}}"#), false);
    check(&format!(r#"{{"aud":"shop","exp":{end}}}"#), false);
    check(&format!(r#"{{"iss":"me","aud":["x"],"exp":{end}}}"#), false);
    check(&format!(r#"{{"iss":"me","exp":{end}}}"#), false);
}

#[test]
fn only_what_is_signed_as_it_must_be_is_taken() {
    check(LOCAL, &signed(HEAD, GOOD, by_secret), Ok(&[("x-sub", "ann")]));
    check(LOCAL, &signed(HEAD, GOOD, |_| vec![0; 32]), Err(401));
    for head in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"HS512"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"HS256","crit":["x"]}"#,
        r#"{"alg":"HS256","kid":1}"#,
        "{}",
        "x",
    ] {
        check(LOCAL, &signed(head, GOOD, by_secret), Err(401));
        check(LOCAL, &signed(head, GOOD, |_| Vec::new()), Err(401));
    }
    for token in ["", ".", "..", "a.b.c", "a.b"] {
        check(LOCAL, token, Err(401));
    }
}

#[test]
fn public_keys_are_taken_for_their_own_algorithm_only() {
    let random = SystemRandom::new();
    let p256 = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let ecdsa = signature::EcdsaKeyPair::generate_pkcs8(p256, &random).unwrap();
    let ecdsa = signature::EcdsaKeyPair::from_pkcs8(p256, ecdsa.as_ref(), &random).unwrap();
    let eddsa = signature::Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let eddsa = signature::Ed25519KeyPair::from_pkcs8(eddsa.as_ref()).unwrap();
    let point = ecdsa.public_key().as_ref();
    let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
    let ed = encode(eddsa.public_key());
    let jwt = format!(
        r#"{{"issuer":"me","keys":{{"inline":[{{"kid":"one","key":{{"p256":{{"x":"{x}","y":"{y}"}}}}}},
            {{"kid":"two","key":{{"ed25519":{{"x":"{ed}"}}}}}}]}},
            "algorithms":["ES256","EdDSA","HS256"]}}"#
    );
    let by_ecdsa = |message: &[u8]| ecdsa.sign(&random, message).unwrap().as_ref().to_vec();
    let by_eddsa = |message: &[u8]| eddsa.sign(message).as_ref().to_vec();
    check(&jwt, &signed(r#"{"alg":"ES256","kid":"one"}"#, GOOD, by_ecdsa), Ok(&[]));
    check(&jwt, &signed(r#"{"alg":"ES256"}"#, GOOD, by_ecdsa), Ok(&[]));
    check(&jwt, &signed(r#"{"alg":"ES256","kid":"two"}"#, GOOD, by_ecdsa), Err(401));
    check(&jwt, &signed(r#"{"alg":"ES256","kid":"three"}"#, GOOD, by_ecdsa), Err(401));
    check(&jwt, &signed(r#"{"alg":"EdDSA","kid":"two"}"#, GOOD, by_eddsa), Ok(&[]));
    check(&jwt, &signed(r#"{"alg":"EdDSA"}"#, GOOD, by_ecdsa), Err(401));
    // The public key in the place of a secret.
    let by_public = |message: &[u8]| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, point), message).as_ref().to_vec()
    };
    check(&jwt, &signed(HEAD, GOOD, by_public), Err(401));
}

#[test]
fn rsa_is_checked_as_the_standard_shows() {
    // RFC 7515, appendix A.2: the key, and its signature over the example.
    let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1\
             Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaS\
             HSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9k\
             G4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpo\
             Q";
    let message = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly\
                   9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let sign = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YK\
                t_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArL\
                IARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noO\
                PqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe\
                77Rw";
    let key: PublicKey =
        serde_json::from_str(&format!(r#"{{"rsa":{{"n":"{n}","e":"AQAB"}}}}"#)).unwrap();
    let signature = URL_SAFE_NO_PAD.decode(sign).unwrap();
    let check = |algorithm| is_signed_by(algorithm, &key, message.as_bytes(), &signature);
    assert!(check(JwtAlgorithm::RS256));
    assert!(!check(JwtAlgorithm::RS512));
    assert!(!check(JwtAlgorithm::ES256));
    assert!(!is_signed_by(JwtAlgorithm::RS256, &key, b"other", &signature));
}

#[test]
fn claims_decide_and_are_told() {
    let jwt = |required: &str, told: &str| {
        format!(
            r#"{{"issuer":"me","keys":{{"secret":"k"}},"algorithms":["HS256"],
                "required":[{required}],"claimsToHeaders":[{told}]}}"#
        )
    };
    let good = signed(HEAD, GOOD, by_secret);
    let check_required = |required: &str, expected| check(&jwt(required, ""), &good, expected);
    check_required(r#"{"claim":"role","oneOf":["dev","x"]}"#, Ok(&[]));
    check_required(r#"{"claim":"role","oneOf":["x"]}"#, Err(403));
    check_required(r#"{"claim":"realm.level","oneOf":["3"]}"#, Ok(&[]));
    check_required(r#"{"claim":"a.b","oneOf":["true"]}"#, Ok(&[]));
    check_required(r#"{"claim":"sub"}"#, Ok(&[]));
    check_required(r#"{"claim":"nothing"}"#, Err(403));
    let told = r#"{"claim":"role","header":"x-role"},{"claim":"realm","header":"x-realm"},
        {"claim":"realm.level","header":"x-level"},{"claim":"none","header":"x-sub"}"#;
    let expected = [("x-role", "admin,dev"), ("x-realm", ""), ("x-level", "3"), ("x-sub", "")];
    check(&jwt("", told), &good, Ok(&expected));
}

#[test]
fn a_cookie_can_bring_the_token_and_a_missing_secret_closes() {
    let jwt: Jwt = serde_json::from_str(
        r#"{"issuer":"me","keys":{"secret":"k"},"algorithms":["HS256"],"cookie":"session"}"#,
    )
    .unwrap();
    let cookie = format!("a=b; session={}; c=d", signed(HEAD, GOOD, by_secret));
    let at = UNIX_EPOCH + Duration::from_secs(NOW);
    let check = |secret: Option<Secret>, status: Option<u16>| {
        let asked = AskedFor::new(&[("cookie", &cookie)]);
        let mut extra = Extra::default();
        let keys = Keys::of(&jwt, secret.as_ref());
        let step = asked.with(|target| on_request(&jwt, keys.as_ref(), at, target, &mut extra));
        let got = match step {
            Step::Pass => None,
            Step::Reply(reply) => Some(reply.status.as_u16()),
            Step::Ask(_) => panic!("nothing is asked"),
        };
        assert_eq!(got, status);
    };
    check(Some(Secret::new(SECRET.to_vec())), None);
    check(Some(Secret::new(vec![1; 32])), Some(401));
    check(Some(Secret::new(vec![1; 31])), Some(503));
    check(None, Some(503));
}
