//! The Service whose addresses the statuses of Ingresses show.

use kubeng_config::name::ObjectKey;
use kubeng_config::problem::{NO_PUBLISHED_ADDRESS, Problem, Subject};
use kubeng_config::provenance::Provenance;

use crate::kind::service::service_of;
use crate::object::Object;

/// That the Service of `key`, which the settings name, has no address; `object` is what is known of it.
pub(crate) fn problem(key: &ObjectKey, object: Option<&Object>) -> Option<Problem> {
    let setting = format!("--publish-service {}/{}", key.namespace, key.name);
    let (what, remedy) = match object.and_then(service_of) {
        None => ("does not exist", "create the Service, or name another one"),
        Some(service) if service.addresses.is_empty() => (
            "has no address: its load balancer has given none, and it has no externalIPs",
            "wait for the address of its load balancer, set externalIPs, name another Service, or \
             use --publish-address",
        ),
        Some(_) => return None,
    };
    Some(Problem {
        subject: Subject::Object(key.clone()),
        field: String::new(),
        code: NO_PUBLISHED_ADDRESS,
        message: format!(
            "{setting} names it, and it {what}; statuses of Ingresses are not written"
        ),
        remedy: remedy.to_owned(),
        provenance: Some(object.map_or(Provenance::Product, |object| object.provenance.clone())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Decoded, decode};
    use crate::object::Author;

    fn service(rest: &str) -> Object {
        let text = format!(
            r#"{{"apiVersion": "v1", "kind": "Service",
                "metadata": {{"namespace": "edge", "name": "front"}}, {rest}}}"#
        );
        let value = serde_json::from_str(&text).unwrap();
        match decode(value, Provenance::Product, Author::Operator) {
            Decoded::Object(object) => *object,
            other @ (Decoded::Ignored | Decoded::Undecodable(..) | Decoded::Closed(..)) => {
                panic!("{other:?}")
            }
        }
    }

    #[track_caller]
    fn check(object: Option<&Object>, expected: Option<&str>) {
        let key = "Service/edge/front".parse().unwrap();
        let told = problem(&key, object).map(|problem| problem.to_string());
        match (&told, expected) {
            (None, None) => {}
            (Some(told), Some(part)) => {
                for word in ["Service/edge/front", "--publish-service edge/front", part] {
                    assert!(told.contains(word), "{word}: {told}");
                }
            }
            (Some(_), None) | (None, Some(_)) => panic!("{told:?} is not {expected:?}"),
        }
    }

    #[test]
    fn a_service_to_publish_must_exist_and_have_an_address() {
        check(None, Some("create the Service"));
        let nothing = "has no address";
        check(Some(&service(r#""spec": {"type": "LoadBalancer"}"#)), Some(nothing));
        check(Some(&service(r#""spec": {"clusterIP": "None"}"#)), Some(nothing));
        check(Some(&service(r#""spec": {"clusterIP": "10.0.0.7"}"#)), Some(nothing));
        check(Some(&service(r#""spec": {"externalIPs": ["192.0.2.7"]}"#)), None);
        let balancer = r#""status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}}"#;
        check(Some(&service(balancer)), None);
    }
}
