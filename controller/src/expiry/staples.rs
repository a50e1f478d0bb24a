//! OCSP responses that end: from then on their Secret is translated as if it had none.
//!
//! Whoever put the response in renews it; a response that holds no longer would make clients that
//! insist on one refuse the certificate. Pure: the time is an argument, in seconds since 1970.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_config::problem::{Problem, STAPLE_ENDED, Subject};

use super::moment;
use crate::kind::Body;
use crate::kind::secret::TlsSecret;
use crate::object::{Change, Object};

/// The Secrets with a response, with those whose response has ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Staples {
    by_key: BTreeMap<ObjectKey, Held>,
    /// Those that have not ended yet, by when they do.
    ahead: BTreeSet<(i64, ObjectKey)>,
    version: u64,
}

#[derive(Clone, Debug)]
struct Held {
    end: i64,
    /// The Secret without its response.
    without: Arc<Object>,
}

impl Staples {
    /// Takes a change on its way to translation: what has ended is left out.
    pub(super) fn admit(&mut self, change: Change, now: i64) -> Change {
        if change.key().kind != ObjectKind::Secret {
            return change;
        }
        if let Some(Held { end, .. }) = self.by_key.remove(change.key()) {
            self.version += 1;
            self.ahead.remove(&(end, change.key().clone()));
        }
        let Change::Upsert(object) = &change else { return change };
        let Some(held) = held(object) else { return change };
        let (end, without) = (held.end, Arc::clone(&held.without));
        self.version += 1;
        self.by_key.insert(object.key.clone(), held);
        if end <= now {
            return Change::Upsert(without);
        }
        self.ahead.insert((end, object.key.clone()));
        change
    }

    /// Leaves out those whose time has come.
    pub(super) fn due(&mut self, now: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        while self.ahead.first().is_some_and(|(end, _)| *end <= now) {
            let Some((_, key)) = self.ahead.pop_first() else { break };
            let without = self.by_key.get(&key).map(|held| Arc::clone(&held.without));
            changes.extend(without.map(Change::Upsert));
        }
        changes
    }

    /// What is translated of `object`.
    pub(super) fn admitted<'a>(&'a self, object: &'a Arc<Object>) -> &'a Arc<Object> {
        match self.by_key.get(&object.key) {
            Some(held) if !self.ahead.contains(&(held.end, object.key.clone())) => &held.without,
            Some(_) | None => object,
        }
    }

    /// Grows whenever others end, or at other times.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// When the next one ends.
    pub(super) fn next(&self) -> Option<i64> {
        self.ahead.first().map(|(end, _)| *end)
    }

    /// Those that have ended.
    pub(super) fn problems(&self, now: i64) -> impl Iterator<Item = Problem> {
        let ended = self.by_key.values().filter(move |held| held.end <= now);
        ended.map(|Held { end, without }| Problem {
            subject: Subject::Object(without.key.clone()),
            field: "/data/tls.ocsp-staple".to_owned(),
            code: STAPLE_ENDED,
            message: format!("the OCSP response ended at {} and is left out", moment(*end)),
            remedy: "store a newer response of the authority".to_owned(),
            provenance: Some(without.provenance.clone()),
        })
    }
}

/// None of what has no response.
fn held(object: &Arc<Object>) -> Option<Held> {
    let secret = match &object.body {
        Body::Secret(secret) => secret,
        Body::Ingress(_)
        | Body::IngressClass(_)
        | Body::Service(_)
        | Body::EndpointSlice(_)
        | Body::Upstream(_)
        | Body::ConfigMap(_)
        | Body::RouteOverride(_)
        | Body::Fleet(_) => return None,
    };
    let end = secret.staple.as_ref()?.ends;
    let body = Body::Secret(TlsSecret { staple: None, ..secret.clone() });
    Some(Held { end, without: Arc::new(Object { body, ..Object::clone(object) }) })
}

#[cfg(test)]
mod tests {
    use kubeng_config::certificate::Der;
    use kubeng_config::provenance::Provenance;

    use super::*;
    use crate::kind::secret::staple::Staple;
    use crate::object::Author;

    fn secret(ends: Option<i64>) -> Change {
        let staple = ends.map(|ends| Staple { response: Der((*b"good").into()), ends });
        Change::Upsert(Arc::new(Object {
            key: "Secret/shop/web".parse().unwrap(),
            created: 0,
            uid: None,
            provenance: Provenance::Product,
            author: Author::Tenant,
            body: Body::Secret(TlsSecret { staple, ..TlsSecret::default() }),
            status_addresses: Box::default(),
            problems: Box::default(),
        }))
    }

    #[track_caller]
    fn has_staple(change: &Change) -> bool {
        let Change::Upsert(object) = change else { panic!("a Secret never goes with its staple") };
        held(object).is_some()
    }

    #[test]
    fn a_response_is_left_out_at_its_end_and_a_newer_one_comes_back() {
        let mut staples = Staples::default();
        assert!(has_staple(&staples.admit(secret(Some(100)), 99)));
        assert_eq!((staples.next(), staples.problems(99).count()), (Some(100), 0));
        assert!(staples.due(99).is_empty());
        let due = staples.due(100);
        assert!(due.len() == 1 && !has_staple(&due[0]));
        assert_eq!((staples.next(), staples.due(100).len()), (None, 0), "it is left out once");
        assert!(!has_staple(&staples.admit(secret(Some(100)), 101)), "told again");
        let told = secret(Some(100));
        let Change::Upsert(object) = &told else { unreachable!() };
        assert!(held(staples.admitted(object)).is_none(), "a World that is made anew");
        assert_eq!(staples.problems(101).next().unwrap().code, STAPLE_ENDED);

        let version = staples.version();
        let newer = staples.admit(secret(Some(300)), 101);
        assert!(has_staple(&newer) && staples.version() > version);
        let Change::Upsert(object) = &newer else { unreachable!() };
        assert!(held(staples.admitted(object)).is_some());
        assert_eq!((staples.next(), staples.problems(101).count()), (Some(300), 0));
        staples.admit(secret(None), 101);
        assert_eq!(staples.next(), None);
        staples.admit(secret(Some(100)), 101);
        staples.admit(Change::Remove("Secret/shop/web".parse().unwrap()), 101);
        assert_eq!(staples.problems(101).count(), 0);
    }
}
