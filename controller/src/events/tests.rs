use kubeng_config::name::ObjectKind;
use kubeng_config::problem::{BACKEND_NOT_FOUND, BAD_HOST, Code, Problem, SHADOWED, Subject};
use kubeng_config::provenance::Provenance;

use super::note::{TEXT_BYTES_MAX, changes};
use super::*;
use crate::kind::Body;
use crate::kind::ingress::Ingress;
use crate::object::Author;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(ObjectKind::Ingress, "shop", name)
}

fn problem(code: Code, message: &str) -> Problem {
    Problem {
        subject: Subject::Object(key("web")),
        field: "/spec/rules/0/host".into(),
        code,
        message: message.into(),
        remedy: "mend it".into(),
        provenance: None,
    }
}

/// The reasons of what is told when these verdicts follow each other.
#[track_caller]
fn check(verdicts: &[(&[Problem], &[&str])]) {
    let mut known = None;
    for (problems, expected) in verdicts {
        let verdict = Verdict::Ours { problems };
        let (told, notes) = changes(&verdict, known.as_ref()).unwrap();
        let reasons: Vec<&str> = notes.iter().map(|note| note.reason).collect();
        assert_eq!(&reasons, expected);
        known = Some(told);
    }
}

#[test]
fn every_change_of_a_verdict_is_told_once() {
    let rejected = problem(BAD_HOST, "\"a b\" has a space");
    let shadowed = problem(SHADOWED, "Ingress/shop/old takes its requests");
    let degraded = problem(BACKEND_NOT_FOUND, "Service \"web\" does not exist");
    check(&[(&[], &["Accepted"]), (&[], &[])]);
    check(&[
        (std::slice::from_ref(&rejected), &["Rejected"]),
        (&[rejected.clone(), degraded.clone()], &["Degraded"]),
        (std::slice::from_ref(&degraded), &["Accepted"]),
        (&[], &["Accepted"]),
    ]);
    check(&[
        (&[shadowed.clone(), degraded.clone()], &["Accepted", "Shadowed", "Degraded"]),
        (std::slice::from_ref(&shadowed), &[]),
        (&[degraded, shadowed.clone()], &["Degraded"]),
        (&[rejected], &["Rejected"]),
    ]);
    assert!(changes(&Verdict::Foreign, None).is_none());
}

#[test]
fn a_note_names_field_value_remedy_and_outcome_and_is_never_too_long() {
    let told = |message: &str, count: usize| {
        let problems: Vec<Problem> =
            (0..count).map(|at| problem(BAD_HOST, &format!("{message}{at}"))).collect();
        changes(&Verdict::Ours { problems: &problems }, None).unwrap().1
    };
    let notes = told("\"a b\" ", 1);
    assert_eq!(
        notes[0].text,
        "/spec/rules/0/host: \"a b\" 0; mend it. KNG-1206: \
         A host is not a DNS name, nor one below *. The Rule is not served under it."
    );
    assert_eq!(notes[0].severity, "Warning");
    let long = told(&"ä".repeat(1_000), 1);
    assert!(long[0].text.len() <= TEXT_BYTES_MAX && long[0].text.ends_with("..."));
    let many = told("x", 20);
    assert_eq!(many.len(), 8);
    assert!(many[7].text.starts_with("(and 12 more) "), "{}", many[7].text);
}

fn object(name: &str) -> Arc<Object> {
    Arc::new(Object {
        key: key(name),
        created: 0,
        uid: Some("uid".into()),
        provenance: Provenance::Cluster { version: "1".into() },
        author: Author::Tenant,
        body: Body::Ingress(Ingress::default()),
        status_addresses: Box::default(),
        problems: Box::default(),
    })
}

fn note(text: &str) -> Note {
    Note { severity: "Normal", reason: note::ACCEPTED, text: text.into() }
}

#[test]
fn the_newest_notes_of_an_ingress_replace_those_that_wait() {
    let now = Instant::now();
    let mut queue = Queue::default();
    for texts in [&["old", "older"][..], &["new"]] {
        let notes = texts.iter().map(|text| note(text)).collect();
        assert_eq!(queue.put(&key("a"), &object("a"), notes, true), 0);
    }
    assert_eq!(queue.put(&key("b"), &object("b"), vec![note("b")], true), 0);
    let texts: Vec<String> =
        std::iter::from_fn(|| queue.take(now)).map(|(_, note)| note.text).collect();
    assert_eq!(texts, ["new", "b"]);
    assert_eq!((queue.notes, queue.wait(now)), (0, None));
}

#[test]
fn notes_beyond_the_limit_are_dropped_and_counted() {
    let mut queue = Queue::default();
    let mut dropped = 0;
    for number in 0..WAITING_MAX + 7 {
        let name = format!("web-{number}");
        dropped += queue.put(&key(&name), &object(&name), vec![note("x")], true);
    }
    assert_eq!((dropped, queue.notes, queue.order.len()), (7, WAITING_MAX, WAITING_MAX));
}
