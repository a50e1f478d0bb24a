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

fn decoded(value: serde_json::Value) -> Arc<Object> {
    let provenance = Provenance::Cluster { version: "1".into() };
    match crate::decode::decode(value, provenance, Author::Tenant) {
        crate::decode::Decoded::Object(object) => Arc::from(object),
        other @ (crate::decode::Decoded::Ignored
        | crate::decode::Decoded::Undecodable(..)
        | crate::decode::Decoded::Closed(..)) => panic!("{other:?}"),
    }
}

fn state(objects: Vec<Arc<Object>>) -> crate::control::ControlState {
    let listener = kubeng_config::listener::Listener::new(
        ([127, 0, 0, 1], 443).into(),
        kubeng_config::listener::Protocol::Https,
    );
    let listeners = vec![("https".parse().unwrap(), listener)];
    let settings = crate::settings::TranslateSettings::new("main".parse().unwrap(), listeners);
    crate::control::ControlState::new(crate::world::World::rebuild(settings, objects)).complete()
}

#[test]
fn what_is_wrong_with_an_upstream_of_a_cluster_is_told_at_the_upstream() {
    let upstream = decoded(serde_json::json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "Upstream",
        "metadata": {"namespace": "shop", "name": "erp"},
        "spec": {"endpoints": [], "protocol": "junk"},
    }));
    let state = state(vec![upstream]);
    let told: Vec<_> = upstreams(&state).collect();
    let [(object, problems)] = told.as_slice() else { panic!("{} Upstreams", told.len()) };
    assert_eq!(object.key.to_string(), "Upstream/shop/erp");
    let fields: Vec<&str> = problems.iter().map(|problem| &*problem.field).collect();
    assert_eq!(fields, ["/spec/endpoints", "/spec/protocol"]);
    let (_, notes) = changes(&Verdict::Ours { problems }, None).unwrap();
    let reasons: Vec<&str> = notes.iter().map(|note| note.reason).collect();
    assert_eq!(reasons, ["Degraded", "Rejected"]);
    assert_eq!(api_version(object.key.kind), "kubeng.io/v1alpha1");
}

#[test]
fn a_secret_that_may_not_be_read_is_not_called_missing() {
    let ingress = decoded(serde_json::json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {
            "ingressClassName": "kubeng",
            "tls": [{"hosts": ["a.example"], "secretName": "tls"}],
            "rules": [{"host": "a.example"}],
        },
    }));
    let key = ObjectKey::new(ObjectKind::Secret, "shop", "tls");
    let about_secret = |objects: Vec<Arc<Object>>| {
        let state = state(objects);
        let of_tls = |problem: &Problem| problem.field.starts_with("/spec/tls");
        let problem = state.problems().into_iter().find(of_tls).unwrap();
        format!("{}; {}", problem.message, problem.remedy)
    };
    let missing = about_secret(vec![Arc::clone(&ingress)]);
    assert!(missing.contains("does not exist"), "{missing}");
    let denied = crate::source::kubernetes::scope::Scope::of_object(&key).denied().unwrap();
    let told = about_secret(vec![ingress, denied]);
    assert!(told.contains("Kubeng may not read Secret \"tls\""), "{told}");
    assert!(told.contains("ask who runs Kubeng") && !told.contains("does not exist"), "{told}");
}
