//! What may stand in a Patch.

use serde_json::{Value, json};

use super::Patch;
use super::auth::{JwkSet, Keys};
use super::member::MEMBERS;

#[track_caller]
fn reads(value: Value) -> Patch {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{value}: {error}"))
}

#[track_caller]
fn refuses(value: Value, part: &str) {
    let error = serde_json::from_value::<Patch>(value.clone()).expect_err(&value.to_string());
    assert!(error.to_string().contains(part), "{value}: {error}");
}

#[test]
fn nothing_is_needed_and_null_may_stand_everywhere() {
    assert_eq!(reads(json!({})), Patch::default());
    let nulls = MEMBERS.iter().map(|member| (member.name.to_owned(), Value::Null));
    assert_eq!(reads(Value::Object(nulls.collect())), Patch::default());
    reads(json!({"headers": {"request": {"set": {"x-a": null}}}, "limits": {"rate": null}}));
}

#[test]
fn every_member_stands_in_the_list() {
    // All names at once, so that a member of the struct without a line in the list is seen.
    let Patch {
        timeouts: _,
        retry: _,
        limits: _,
        access: _,
        auth: _,
        headers: _,
        rewrite: _,
        redirect: _,
        cors: _,
        affinity: _,
        balance: _,
        backends: _,
        canary: _,
        buffering: _,
        mirror: _,
        compression: _,
        error_pages: _,
        request_id: _,
        maintenance: _,
    } = Patch::default();
    assert_eq!(MEMBERS.len(), 19);
}

#[test]
fn what_frames_a_message_is_nobodys_to_edit() {
    for name in ["Content-Length", "transfer-encoding", "Host", "connection", "upgrade"] {
        refuses(json!({"headers": {"request": {"set": {name: "1"}}}}), "no filter may edit it");
        refuses(json!({"headers": {"response": {"remove": [name]}}}), "no filter may edit it");
    }
    refuses(json!({"headers": {"request": {"set": {"a b": "1"}}}}), "invalid HTTP header name");
    refuses(json!({"headers": {"request": {"set": {"a": "1\r\nb: 2"}}}}), "may not stand");
}

#[test]
fn a_choice_between_forms_is_exactly_one_of_them() {
    reads(json!({"rewrite": {"path": {"prefix": "/x"}}}));
    reads(json!({"rewrite": {"path": {"regex": "/a(.*)", "substitution": "/b$1"}}}));
    refuses(json!({"rewrite": {"path": {"prefix": "/x", "full": "/y"}}}), "one of full");
    refuses(json!({"rewrite": {"path": {"regex": "/a", "substitution": "/$1"}}}), "no group 1");
    refuses(json!({"auth": {"jwt": {"keys": {}}}}), "exactly one of");
    refuses(json!({"errorPages": [{"statuses": [404]}]}), "either a body");
}

#[test]
fn key_sets_are_those_that_others_publish() {
    let x = "A".repeat(43);
    let key = |kty: &str, crv: &str| json!({"kty": kty, "crv": crv, "x": x, "y": x, "alg": "any"});
    let set = |keys: Value| JwkSet::read(json!({ "keys": keys }).to_string().as_bytes());
    assert_eq!(set(json!([key("EC", "P-256"), key("OKP", "Ed25519")])).unwrap().len(), 2);
    let mut for_encryption = key("EC", "P-256");
    for_encryption["use"] = json!("enc");
    assert!(set(json!([for_encryption])).is_err(), "no key signs");
    for wrong in [json!([]), json!([key("EC", "P-521")]), json!([key("oct", "")])] {
        assert!(set(wrong.clone()).is_err(), "{wrong}");
    }
    assert!(JwkSet::read(b"[]").is_err());
    let patch = reads(json!({"auth": {"jwt": {"keys": {"jwks": {"keys": [key("EC", "P-256")]}}}}}));
    let keys = patch.auth.and_then(|auth| auth.jwt).and_then(|jwt| jwt.keys);
    assert!(matches!(keys, Some(Keys::Jwks(keys)) if keys.len() == 1));
}
