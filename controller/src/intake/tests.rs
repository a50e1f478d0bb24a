use std::collections::BTreeMap;

use kubeng_config::problem::BAD_VALUE;
use kubeng_config::provenance::Provenance;
use proptest::prelude::*;

use super::*;
use crate::kind::Body;
use crate::kind::ingress_class::IngressClass;
use crate::object::{Author, List};

fn key(number: u8) -> ObjectKey {
    let kind = if number.is_multiple_of(2) { ObjectKind::Ingress } else { ObjectKind::Service };
    ObjectKey::new(kind, "shop", &format!("o{number}"))
}

fn object(key: ObjectKey, says: u8) -> Arc<Object> {
    Arc::new(Object {
        key,
        created: 0,
        uid: None,
        provenance: Provenance::Product,
        author: Author::Tenant,
        // The body need not fit the kind: nothing here looks into it.
        body: Body::IngressClass(IngressClass {
            controller: says.to_string(),
            is_default: false,
            parameters: Default::default(),
        }),
        status_addresses: Box::default(),
        problems: Box::default(),
    })
}

fn problem(key: &ObjectKey) -> Problem {
    Problem {
        subject: Subject::Object(key.clone()),
        field: "/spec".into(),
        code: BAD_VALUE,
        message: "is wrong".into(),
        remedy: "mend it".into(),
        provenance: None,
    }
}

fn intake(sources: usize) -> Intake {
    let name = |number| SourceName(format!("s{number}").into());
    Intake::new((0..sources).map(|number| (name(number), ObjectKind::ALL.into())))
}

fn says(object: &Object) -> String {
    let Body::IngressClass(class) = &object.body else { panic!("{object:?}") };
    class.controller.clone()
}

fn ingresses(numbers: std::ops::Range<u16>) -> Event {
    let key = |number| ObjectKey::new(ObjectKind::Ingress, "shop", &format!("i{number}"));
    list(ObjectKind::Ingress, numbers.map(|number| object(key(number), 0)).collect())
}

fn list(kind: ObjectKind, objects: Vec<Arc<Object>>) -> Event {
    Event::Replace(List::of_kind(kind, objects))
}

/// A list of one namespace.
fn list_in(namespace: &str, objects: Vec<Arc<Object>>) -> Event {
    let mut list = List::of_kind(ObjectKind::Ingress, objects);
    list.extent.namespace = Some(namespace.into());
    Event::Replace(list)
}

#[test]
fn the_gate_opens_when_every_source_has_told_every_kind() {
    let mut intake = intake(2);
    let now = Instant::now();
    for source in 0..2 {
        for kind in ObjectKind::ALL {
            assert!(!intake.is_open());
            intake.take(source, Event::Synced(kind), now);
        }
    }
    assert!(intake.is_open());
    assert_eq!(intake.awaited().count(), 0);
}

#[test]
fn the_first_source_is_the_home_and_the_other_is_reported() {
    let mut intake = intake(2);
    let now = Instant::now();
    let of = |says| Event::Upsert(object(key(0), says));
    assert_eq!(intake.take(1, of(1), now).len(), 1);
    let changes = intake.take(0, of(0), now);
    assert!(matches!(&changes[..], [Change::Upsert(object)] if says(object) == "0"));
    assert!(intake.take(1, of(2), now).is_empty(), "what is not served changes nothing");
    let problems = intake.problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].message, "both s0 and s1 define it; s0 is served");
    let changes = intake.take(0, Event::Remove(key(0)), now);
    assert!(matches!(&changes[..], [Change::Upsert(object)] if says(object) == "2"));
    assert!(intake.problems().is_empty());
}

#[test]
fn what_says_the_same_changes_nothing_but_new_provenance_is_passed_on() {
    let mut intake = intake(1);
    let now = Instant::now();
    assert_eq!(intake.take(0, Event::Upsert(object(key(0), 1)), now).len(), 1);
    assert_eq!(intake.take(0, Event::Upsert(object(key(0), 1)), now).len(), 0);
    let mut newer = Arc::unwrap_or_clone(object(key(0), 1));
    newer.provenance = Provenance::Cluster { version: "2".into() };
    assert_eq!(intake.take(0, Event::Upsert(Arc::new(newer)), now).len(), 1);
}

#[test]
fn an_object_that_cannot_be_decoded_stays_as_it_was_and_is_reported() {
    let mut intake = intake(1);
    let now = Instant::now();
    intake.take(0, Event::Upsert(object(key(0), 1)), now);
    for number in [0, 2] {
        let event = Event::Undecodable(key(number), problem(&key(number)));
        assert!(intake.take(0, event, now).is_empty());
    }
    assert_eq!(intake.problems().len(), 2);
    let undecodable = [key(0), key(2)].map(|key| (key.clone(), problem(&key))).into();
    let known = List { undecodable, ..List::of_kind(ObjectKind::Ingress, vec![]) };
    assert!(intake.take(0, Event::Replace(known), now).is_empty());
    assert_eq!(intake.problems().len(), 2);
    assert_eq!(intake.take(0, Event::Upsert(object(key(0), 2)), now).len(), 1);
    assert_eq!(intake.problems().len(), 1);
    assert_eq!(intake.take(0, Event::Remove(key(2)), now).len(), 0);
    assert!(intake.problems().is_empty());
}

#[test]
fn a_mass_removal_is_held_until_a_second_list_agrees() {
    let mut intake = intake(1);
    let start = Instant::now();
    assert_eq!(intake.take(0, ingresses(0..50), start).len(), 50);
    assert!(intake.take(0, ingresses(0..10), start).is_empty());
    assert_eq!(intake.held(start)[0].objects, 40);
    assert_eq!(intake.problems()[0].code, REMOVAL_HELD);
    let early = start + Duration::from_secs(59);
    assert!(intake.take(0, ingresses(0..10), early).is_empty());
    assert_eq!(intake.held(early)[0].wait, Duration::from_secs(1));
    let late = start + Duration::from_secs(60);
    assert_eq!(intake.take(0, ingresses(0..10), late).len(), 40);
    assert!(intake.held(late).is_empty() && intake.problems().is_empty());
}

#[test]
fn a_hold_ends_when_the_objects_return_and_starts_anew_when_more_are_missing() {
    let mut intake = intake(1);
    let start = Instant::now();
    intake.take(0, ingresses(0..50), start);
    intake.take(0, ingresses(0..20), start);
    let late = start + Duration::from_secs(90);
    assert!(intake.take(0, ingresses(0..10), late).is_empty(), "more are missing");
    assert_eq!(intake.held(late)[0].wait, Duration::from_secs(60));
    assert!(intake.take(0, ingresses(0..50), late).is_empty());
    assert!(intake.held(late).is_empty());
}

#[test]
fn single_deletions_additions_and_the_first_list_pass_a_hold() {
    let mut intake = intake(1);
    let now = Instant::now();
    assert!(intake.take(0, ingresses(0..0), now).is_empty());
    intake.take(0, ingresses(0..50), now);
    assert_eq!(intake.take(0, ingresses(49..60), now).len(), 10, "new ones are taken");
    assert_eq!(intake.held(now)[0].objects, 49);
    let gone = ObjectKey::new(ObjectKind::Ingress, "shop", "i0");
    assert_eq!(intake.take(0, Event::Remove(gone), now).len(), 1);
    assert_eq!(intake.held(now)[0].objects, 48);
    assert_eq!(intake.confirm().len(), 48);
    assert!(intake.held(now).is_empty());
}

#[test]
fn small_and_few_losses_pass_at_once() {
    for (before, after, removed) in [(0..50, 0..40, 10), (0..100, 0..80, 20), (0..5, 4..5, 4)] {
        let mut intake = intake(1);
        intake.take(0, ingresses(before), Instant::now());
        assert_eq!(intake.take(0, ingresses(after), Instant::now()).len(), removed);
    }
}

#[test]
fn an_empty_list_is_held_whatever_the_kind_and_however_little_was_known() {
    for kind in ObjectKind::ALL {
        let mut intake = intake(1);
        let start = Instant::now();
        let one = object(ObjectKey::new(kind, "shop", "one"), 0);
        assert_eq!(intake.take(0, list(kind, vec![Arc::clone(&one)]), start).len(), 1);
        assert!(intake.take(0, list(kind, vec![]), start).is_empty(), "{kind}");
        let problems = intake.problems();
        assert!(matches!(&problems[..], [problem] if problem.code == REMOVAL_HELD), "{kind}");
        let text = format!("a list lacks 1 of 1 objects of kind {kind};");
        assert!(problems[0].message.starts_with(&text), "{}", problems[0]);
        let again = start + Duration::from_secs(5);
        assert!(intake.take(0, list(kind, vec![]), again).is_empty(), "too early a second one");
        assert!(intake.take(0, list(kind, vec![one]), again).is_empty(), "a false alarm");
        assert!(intake.problems().is_empty() && intake.held(again).is_empty());

        assert!(intake.take(0, list(kind, vec![]), again).is_empty(), "{kind}");
        let late = again + Duration::from_secs(60);
        assert_eq!(intake.take(0, list(kind, vec![]), late).len(), 1, "{kind}");
        assert!(intake.problems().is_empty() && intake.objects().next().is_none());
    }
}

#[test]
fn the_last_object_goes_at_once_when_its_deletion_is_told() {
    for kind in ObjectKind::ALL {
        let mut intake = intake(1);
        let now = Instant::now();
        let key = ObjectKey::new(kind, "shop", "one");
        intake.take(0, list(kind, vec![object(key.clone(), 0)]), now);
        assert_eq!(intake.take(0, Event::Remove(key.clone()), now).len(), 1, "{kind}");
        // Also one that a list lacked already.
        intake.take(0, Event::Upsert(object(key.clone(), 0)), now);
        assert!(intake.take(0, list(kind, vec![]), now).is_empty());
        assert_eq!(intake.take(0, Event::Remove(key), now).len(), 1, "{kind}");
        assert!(intake.held(now).is_empty() && intake.problems().is_empty());
    }
}

#[test]
fn an_empty_list_that_gets_an_object_is_believed() {
    let mut intake = intake(1);
    let now = Instant::now();
    intake.take(0, ingresses(0..3), now);
    assert!(intake.take(0, ingresses(0..0), now).is_empty());
    assert_eq!(intake.take(0, ingresses(7..8), now).len(), 4, "three go, one comes");
    assert!(intake.held(now).is_empty());
}

#[test]
fn each_namespace_that_is_listed_by_itself_is_guarded_by_itself() {
    let mut intake = intake(1);
    let now = Instant::now();
    let key = |namespace: &str| ObjectKey::new(ObjectKind::Ingress, namespace, "web");
    let full = |namespace| list_in(namespace, vec![object(key(namespace), 0)]);
    for namespace in ["one", "two", "two-more"] {
        assert_eq!(intake.take(0, full(namespace), now).len(), 1);
    }
    for namespace in ["two", "one"] {
        assert!(intake.take(0, list_in(namespace, vec![]), now).is_empty(), "{namespace}");
    }
    assert_eq!(intake.held(now).len(), 2);
    assert!(intake.problems()[0].message.contains("of kind Ingress in namespace one;"));
    assert!(intake.take(0, full("one"), now).is_empty());
    let late = now + Duration::from_secs(60);
    assert_eq!(intake.take(0, list_in("two", vec![]), late).len(), 1);
    assert_eq!(intake.objects().count(), 2);
}

#[test]
fn an_object_of_which_only_a_broken_form_is_known_is_held_like_others() {
    let mut intake = intake(1);
    let now = Instant::now();
    intake.take(0, ingresses(0..1), now);
    let broken = ObjectKey::new(ObjectKind::Ingress, "shop", "i0");
    intake.take(0, Event::Undecodable(broken.clone(), problem(&broken)), now);
    assert!(intake.take(0, ingresses(0..0), now).is_empty());
    let told = intake.problems();
    assert!(matches!(&told[..], [problem] if problem.code == REMOVAL_HELD), "{told:?}");
}

/// A step: which source tells what.
#[derive(Clone, Debug)]
enum Step {
    Upsert(u8, u8),
    Remove(u8),
    Replace(ObjectKind, Vec<(u8, u8)>),
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let kind = prop_oneof![Just(ObjectKind::Ingress), Just(ObjectKind::Service)];
    let step = prop_oneof![
        (0..8u8, 0..3u8).prop_map(|(number, says)| Step::Upsert(number, says)),
        (0..8u8).prop_map(Step::Remove),
        (kind, proptest::collection::vec((0..8u8, 0..3u8), 0..6)).prop_map(|(kind, mut all)| {
            all.retain(|(number, _)| key(*number).kind == kind);
            all.sort_unstable();
            all.dedup_by_key(|(number, _)| *number);
            // An empty list is held: that has tests of its own.
            if all.is_empty() {
                all.push((if kind == ObjectKind::Ingress { 0 } else { 1 }, 0));
            }
            Step::Replace(kind, all)
        }),
    ];
    (0..3usize, step)
}

proptest! {
    #[test]
    fn changes_lead_to_what_the_first_source_says(steps in proptest::collection::vec(step(), 1..60)) {
        let mut intake = intake(3);
        let mut served = BTreeMap::new();
        // The oracle: a map for each source, looked through in order.
        let mut told = vec![BTreeMap::new(); 3];
        for (source, step) in steps {
            let event = match step {
                Step::Upsert(number, says) => {
                    told[source].insert(key(number), says);
                    Event::Upsert(object(key(number), says))
                }
                Step::Remove(number) => {
                    told[source].remove(&key(number));
                    Event::Remove(key(number))
                }
                Step::Replace(kind, all) => {
                    told[source].retain(|key: &ObjectKey, _| key.kind != kind);
                    told[source].extend(all.iter().map(|(number, says)| (key(*number), *says)));
                    let objects = all.iter().map(|(number, says)| object(key(*number), *says));
                    list(kind, objects.collect())
                }
            };
            for change in intake.take(source, event, Instant::now()) {
                match change {
                    Change::Upsert(object) => {
                        let before = served.insert(object.key.clone(), says(&object));
                        prop_assert_ne!(before, Some(says(&object)), "nothing is told twice");
                    }
                    Change::Remove(key) => {
                        prop_assert!(served.remove(&key).is_some(), "nothing is removed twice");
                    }
                }
            }
            let mut expected = BTreeMap::new();
            for told in told.iter().rev() {
                expected.extend(told.iter().map(|(key, says)| (key.clone(), says.to_string())));
            }
            prop_assert_eq!(&served, &expected);
            let doubles = expected
                .keys()
                .filter(|key| told.iter().filter(|told| told.contains_key(*key)).count() > 1)
                .count();
            prop_assert_eq!(intake.problems().len(), doubles);
        }
    }
}
