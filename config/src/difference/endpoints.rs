//! The difference between the Endpoints of Backends, address by address.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Difference, PartDifference, fields};
use crate::endpoint::Endpoint;
use crate::name::BackendId;

/// What differs in the Endpoints of the Backends that both sides have; one that only one side has is a
/// Part that was added or removed.
#[must_use]
pub fn differences(
    before: &BTreeMap<BackendId, Vec<Endpoint>>,
    after: &BTreeMap<BackendId, Vec<Endpoint>>,
) -> Vec<PartDifference> {
    let both = before.iter().filter_map(|(id, old)| Some((id, old, after.get(id)?)));
    both.filter(|(_, old, new)| old != new)
        .map(|(id, old, new)| PartDifference {
            part: format!("endpoints {id}"),
            how: Difference::Changed { fields: fields(&by_address(old), &by_address(new)) },
        })
        .collect()
}

fn by_address(endpoints: &[Endpoint]) -> Value {
    let value = |endpoint: &Endpoint| serde_json::to_value(endpoint).unwrap_or(Value::Null);
    let all = endpoints.iter().map(|endpoint| (endpoint.address.to_string(), value(endpoint)));
    Value::Object(all.collect::<Map<String, Value>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(backend: &str, addresses: &[&str]) -> (BackendId, Vec<Endpoint>) {
        let endpoints = addresses.iter().map(|text| Endpoint::new(text.parse().unwrap()));
        (backend.parse().unwrap(), endpoints.collect())
    }

    #[test]
    fn each_address_that_comes_goes_or_has_another_weight_is_a_field() {
        let web = "Service/shop/web:80";
        let before = BTreeMap::from([
            of(web, &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]),
            of("Service/shop/same:80", &["10.0.0.9:80"]),
            of("Service/shop/gone:80", &["10.0.0.8:80"]),
        ]);
        let mut after = before.clone();
        after.remove(&"Service/shop/gone:80".parse::<BackendId>().unwrap());
        let (id, mut endpoints) = of(web, &["10.0.0.2:80", "10.0.0.3:80", "[2001:db8::4]:80"]);
        endpoints[0].weight = 5;
        after.insert(id, endpoints);
        assert!(differences(&before, &before).is_empty());
        let found = differences(&before, &after);
        assert_eq!(found.len(), 1, "{found:?}");
        let text = found[0].to_string();
        for line in [
            "~ endpoints Service/shop/web:80\n",
            "    /10.0.0.1:80: {\"address\":\"10.0.0.1:80\",\"weight\":1} -> null\n",
            "    /10.0.0.2:80/weight: 1 -> 5\n",
            "    /[2001:db8::4]:80: null -> {",
        ] {
            assert!(text.contains(line), "{line:?}\n{text}");
        }
        assert!(!text.contains("10.0.0.3"), "{text}");
    }
}
