//! Edits of header fields.

use kubeng_config::filter::headers::HeaderEdits;

use crate::request::Fields;

/// Removes, then sets, then adds.
pub(crate) fn apply(edits: &HeaderEdits, to: &mut impl Fields) {
    let HeaderEdits { remove, set, add } = edits;
    for name in remove {
        to.remove(name.name());
    }
    for field in set {
        to.set(field.name.name(), field.value.0.clone());
    }
    for field in add {
        to.add(field.name.name(), field.value.0.clone());
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use kubeng_config::filter::headers::Field;

    use super::*;

    #[test]
    fn removals_come_first_then_set_then_add() {
        let field = |name: &str, value: &str| Field {
            name: name.parse().unwrap(),
            value: value.parse().unwrap(),
        };
        let edits = HeaderEdits {
            remove: vec!["a".parse().unwrap()],
            set: vec![field("b", "set")],
            add: vec![field("a", "added"), field("b", "more")],
        };
        let mut headers = HeaderMap::new();
        for (name, value) in [("a", "1"), ("a", "2"), ("b", "1"), ("c", "1")] {
            headers.append(name, value.parse().unwrap());
        }
        apply(&edits, &mut headers);
        let all =
            |name| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("a"), ["added"]);
        assert_eq!(all("b"), ["set", "more"]);
        assert_eq!(all("c"), ["1"]);
    }
}
