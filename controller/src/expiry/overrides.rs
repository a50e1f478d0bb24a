//! RouteOverrides that end: they are taken out at their time, whatever their source goes on saying.
//!
//! Time never enters translation, so this stands in front of it: an Object whose time has come is
//! removed from what is translated, and put back when it says a later one. Pure: the time is an
//! argument, in seconds since 1970.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::problem::{Code, OVERRIDE_EXPIRED, OVERRIDE_EXPIRES, Problem, Subject};

use super::moment;
use super::staples::Staples;
use crate::kind::Body;
use crate::object::{Change, Object};

/// How long before its end an override is told.
const TOLD_BEFORE: i64 = 24 * 3600;

/// The RouteOverrides that end, with those that have; and with them OCSP responses.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    by_key: BTreeMap<ObjectKey, (i64, Arc<Object>)>,
    /// Those that have not ended yet, by when they do.
    ahead: BTreeSet<(i64, ObjectKey)>,
    version: u64,
    staples: Staples,
}

impl Ends {
    /// Takes a change on its way to translation: what has ended is removed instead.
    pub fn admit(&mut self, change: Change, now: i64) -> Change {
        if change.key().kind != ObjectKind::RouteOverride {
            return self.staples.admit(change, now);
        }
        if let Some((end, _)) = self.by_key.remove(change.key()) {
            self.version += 1;
            self.ahead.remove(&(end, change.key().clone()));
        }
        let Change::Upsert(object) = &change else { return change };
        let Some(end) = end_of(object) else { return change };
        let key = object.key.clone();
        self.version += 1;
        self.by_key.insert(key.clone(), (end, Arc::clone(object)));
        if end <= now {
            return Change::Remove(key);
        }
        self.ahead.insert((end, key));
        change
    }

    /// Removes those whose time has come.
    pub fn due(&mut self, now: i64) -> Vec<Change> {
        let mut changes = self.staples.due(now);
        while self.ahead.first().is_some_and(|(end, _)| *end <= now) {
            changes.extend(self.ahead.pop_first().map(|(_, key)| Change::Remove(key)));
        }
        changes
    }

    /// What is translated of `object`; None when its time has come.
    #[must_use]
    pub fn admitted<'a>(&'a self, object: &'a Arc<Object>) -> Option<&'a Arc<Object>> {
        let end = self.by_key.get(&object.key).map(|(end, _)| *end);
        let has_ended = end.is_some_and(|end| !self.ahead.contains(&(end, object.key.clone())));
        (!has_ended).then(|| self.staples.admitted(object))
    }

    /// Grows whenever others end, or at other times.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version + self.staples.version()
    }

    /// When the next one ends.
    #[must_use]
    pub fn next(&self) -> Option<i64> {
        let own = self.ahead.first().map(|(end, _)| *end);
        own.into_iter().chain(self.staples.next()).min()
    }

    /// Those that have ended, and overrides that do within 24 hours.
    #[must_use]
    pub fn problems(&self, now: i64) -> Vec<Problem> {
        let told = self.by_key.values().filter_map(|(end, object)| {
            let (code, verb): (Code, _) = match end.saturating_sub(now) {
                left if left <= 0 => (OVERRIDE_EXPIRED, "ended"),
                left if left <= TOLD_BEFORE => (OVERRIDE_EXPIRES, "ends"),
                _ => return None,
            };
            Some(Problem {
                subject: Subject::Object(object.key.clone()),
                field: "/spec/expiresAt".to_owned(),
                code,
                message: format!("the override {verb} at {}", moment(*end)),
                remedy: "write a later expiresAt, or remove the override".to_owned(),
                provenance: Some(object.provenance.clone()),
            })
        });
        told.chain(self.staples.problems(now)).collect()
    }
}

/// When an Object ends; none for those that do not.
fn end_of(object: &Object) -> Option<i64> {
    match &object.body {
        Body::RouteOverride(written) => written.expires,
        Body::Ingress(_)
        | Body::IngressClass(_)
        | Body::Service(_)
        | Body::EndpointSlice(_)
        | Body::Secret(_)
        | Body::Upstream(_)
        | Body::ConfigMap(_)
        | Body::Fleet(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use kubeng_config::provenance::Provenance;
    use serde_json::json;

    use super::*;
    use crate::decode::{Decoded, decode};
    use crate::object::Author;

    fn ending(at: Option<&str>) -> Change {
        let mut spec = json!({
            "targetRef": {"kind": "Namespace", "name": "shop"}, "patch": {"requestId": {}},
        });
        if let Some(at) = at {
            spec["expiresAt"] = json!(at);
        }
        let value = json!({
            "apiVersion": "kubeng.io/v1alpha1", "kind": "RouteOverride",
            "metadata": {"namespace": "shop", "name": "o"}, "spec": spec,
        });
        match decode(value, Provenance::Product, Author::Tenant) {
            Decoded::Object(object) => Change::Upsert(Arc::from(object)),
            Decoded::Ignored | Decoded::Undecodable(..) | Decoded::Closed(..) => {
                panic!("it is an object")
            }
        }
    }

    fn is_removal(change: &Change) -> bool {
        matches!(change, Change::Remove(_))
    }

    #[test]
    fn an_override_is_taken_out_at_its_time_and_comes_back_with_a_later_one() {
        let mut ends = Ends::default();
        assert!(!is_removal(&ends.admit(ending(Some("1970-01-01T00:01:40Z")), 99)));
        assert_eq!(ends.next(), Some(100));
        assert!(ends.due(99).is_empty());
        assert!(ends.due(100).iter().all(is_removal));
        assert_eq!(ends.next(), None, "it is taken out once");
        assert!(is_removal(&ends.admit(ending(Some("1970-01-01T00:01:40Z")), 100)), "told again");
        assert_eq!(ends.problems(100)[0].code, OVERRIDE_EXPIRED);
        assert!(!is_removal(&ends.admit(ending(Some("1970-01-01T00:05:00Z")), 100)));
        assert_eq!((ends.next(), ends.problems(100)[0].code), (Some(300), OVERRIDE_EXPIRES));
        assert!(!is_removal(&ends.admit(ending(None), 100)));
        assert_eq!((ends.next(), ends.problems(100).len()), (None, 0));
    }

    #[test]
    fn what_is_removed_by_its_source_is_forgotten() {
        let mut ends = Ends::default();
        let change = ends.admit(ending(Some("1970-01-01T00:01:40Z")), 0);
        ends.admit(Change::Remove(change.key().clone()), 0);
        assert_eq!((ends.next(), ends.problems(0).len()), (None, 0));
    }
}
