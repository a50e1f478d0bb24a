//! Fleets that come, change and go.

use std::sync::Arc;

use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::provenance::Provenance;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use crate::decode::{Decoded, decode};
use crate::object::{Author, Change, Object};

/// Fleets of every name may list every class; the settings of a World say which one it is.
pub(super) fn fleet() -> BoxedStrategy<Change> {
    let classes = vec(select(&["kubeng", "c1", "c2"][..]), 0..3);
    let key = select(&["main", "f1", "f2"][..]);
    let upsert = (key.clone(), classes, 0..3_i64).prop_map(|(name, mut classes, created)| {
        classes.sort_unstable();
        classes.dedup();
        let value = json!({
            "apiVersion": "kubeng.io/v1alpha1", "kind": "Fleet", "metadata": {"name": name},
            "spec": {"serves": {"ingressClasses": classes}},
        });
        match decode(value, Provenance::Product, Author::Tenant) {
            Decoded::Object(object) => Change::Upsert(Arc::new(Object { created, ..*object })),
            Decoded::Ignored | Decoded::Undecodable(..) | Decoded::Closed(..) => {
                panic!("it is an object")
            }
        }
    });
    let remove = key.prop_map(|name| Change::Remove(ObjectKey::new(ObjectKind::Fleet, "", name)));
    prop_oneof![3 => upsert, 1 => remove].boxed()
}
