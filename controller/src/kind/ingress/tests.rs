use kubeng_config::problem::BAD_VALUE;
use kubeng_config::provenance::Provenance;
use serde_json::{Value, json};

use crate::decode::{Decoded, decode};
use crate::object::Author;

#[track_caller]
fn untold(spec: Value) -> String {
    let value = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "web", "namespace": "shop"}, "spec": spec,
    });
    let provenance = Provenance::File { path: "a.yaml".into(), line: 1 };
    match decode(value, provenance, Author::Operator) {
        Decoded::Undecodable(Some(key), problem) => {
            assert_eq!(key.to_string(), "Ingress/shop/web");
            assert_eq!(problem.code, BAD_VALUE);
            format!("{}: {}", problem.field, problem.message)
        }
        other @ (Decoded::Object(_)
        | Decoded::Ignored
        | Decoded::Undecodable(None, _)
        | Decoded::Closed(..)) => panic!("{other:?}"),
    }
}

#[test]
fn an_ingress_of_which_no_host_can_be_told_says_that_nothing_is_refused_for_it() {
    for (spec, field) in [
        (json!("x"), "/spec"),
        (json!([1]), "/spec"),
        (json!({"rules": "x"}), "/spec/rules"),
        (json!({"rules": ["x"]}), "/spec/rules/0"),
        // What takes the rest of its hosts takes no other host because nobody knows which those are.
        (
            json!({"rules": "x", "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}),
            "/spec/rules",
        ),
        (json!({"rules": [{"host": ["a"], "http": {"paths": []}}]}), "/spec/rules/0/host"),
    ] {
        let told = untold(spec.clone());
        assert!(told.starts_with(&format!("{field}: ")), "{spec}: {told}");
        assert!(told.ends_with("so nothing is refused in its place"), "{spec}: {told}");
    }
}
