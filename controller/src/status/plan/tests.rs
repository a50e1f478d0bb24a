use kubeng_config::name::ObjectKind;
use kubeng_config::problem::{BACKEND_NOT_FOUND, BAD_VALUE, Code, Problem, Subject};

use super::*;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(ObjectKind::Ingress, "shop", name)
}

fn texts(addresses: &[&str]) -> Vec<String> {
    addresses.iter().map(|&address| address.into()).collect()
}

fn show(address: &str) -> Wish {
    Wish::Show(texts(&[address]))
}

fn problem(field: &str, code: Code) -> Problem {
    Problem {
        subject: Subject::Object(key("web")),
        field: field.into(),
        code,
        message: String::new(),
        remedy: String::new(),
        provenance: None,
    }
}

#[test]
fn a_status_is_written_only_when_it_is_ours_and_differs() {
    let ours = texts(&["10.0.0.1", "lb.example"]);
    #[track_caller]
    fn check(verdict: Verdict<'_>, shows: &[&str], expected: Wish) {
        let addresses = texts(&["10.0.0.1", "lb.example"]);
        assert_eq!(wish(&verdict, &texts(shows), &addresses), expected);
    }
    let fine = Verdict::Ours { problems: &[] };
    check(fine, &[], Wish::Show(ours.clone()));
    check(fine, &["10.0.0.1"], Wish::Show(ours.clone()));
    check(fine, &["192.0.2.1"], Wish::Show(ours.clone()));
    check(fine, &["lb.example", "10.0.0.1"], Wish::Leave);
    let degraded = [problem("/spec/rules/0", BACKEND_NOT_FOUND), problem("/spec", BAD_VALUE)];
    check(Verdict::Ours { problems: &degraded }, &[], Wish::Show(ours));
    let rejected = [problem("", BAD_VALUE)];
    check(Verdict::Ours { problems: &rejected }, &[], Wish::Leave);
    check(Verdict::Foreign, &[], Wish::Leave);
    check(Verdict::Foreign, &["192.0.2.1"], Wish::Leave);
    check(Verdict::Foreign, &["10.0.0.1"], Wish::Leave);
    check(Verdict::Foreign, &["lb.example", "10.0.0.1"], Wish::Clear);
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn the_first_change_is_written_at_once_and_those_after_it_when_quiet() {
    let start = Instant::now();
    let mut queue = Queue::default();
    assert_eq!(queue.next(start), Next::Idle);
    queue.ask(&key("web"), show("10.0.0.1"), start);
    assert_eq!(queue.next(start), Next::Write(key("web"), show("10.0.0.1")));
    queue.done(&key("web"), start);

    queue.ask(&key("web"), show("10.0.0.2"), start + millis(10));
    assert_eq!(queue.next(start + millis(10)), Next::At(start + millis(110)));
    // The same wish again is no change.
    queue.ask(&key("web"), show("10.0.0.2"), start + millis(60));
    assert_eq!(queue.next(start + millis(60)), Next::At(start + millis(110)));
    queue.ask(&key("web"), show("10.0.0.3"), start + millis(80));
    assert_eq!(queue.next(start + millis(110)), Next::At(start + millis(180)));
    let expected = Next::Write(key("web"), show("10.0.0.3"));
    assert_eq!(queue.next(start + millis(180)), expected);
    queue.done(&key("web"), start + millis(180));

    // After a long quiet time the next one is a first one again.
    let later = start + millis(5_000);
    queue.ask(&key("web"), show("10.0.0.1"), later);
    assert_eq!(queue.next(later), Next::Write(key("web"), show("10.0.0.1")));
}

#[test]
fn a_status_that_never_is_quiet_is_written_all_the_same() {
    let start = Instant::now();
    let mut queue = Queue::default();
    queue.ask(&key("web"), show("10.0.0.0"), start);
    queue.next(start);
    queue.done(&key("web"), start);
    let mut written = Vec::new();
    for step in 1..100 {
        let now = start + millis(50 * step);
        queue.ask(&key("web"), show(&format!("10.0.0.{step}")), now);
        if let Next::Write(key, _) = queue.next(now) {
            written.push(50 * step);
            queue.done(&key, now);
        }
    }
    assert_eq!(written, [2_000, 4_000]);
}

#[test]
fn all_statuses_together_are_paced_and_none_is_forgotten() {
    let start = Instant::now();
    let mut queue = Queue::default();
    for number in 0..30 {
        queue.ask(&key(&format!("web-{number}")), show("10.0.0.1"), start);
    }
    let (mut now, mut count) = (start, 0);
    loop {
        match queue.next(now) {
            Next::Write(key, _) => {
                count += 1;
                queue.done(&key, now);
            }
            Next::At(at) => now = at,
            Next::Idle => break,
        }
    }
    assert_eq!((count, now - start), (30, millis(1_000)));
}

#[test]
fn a_wish_that_is_withdrawn_or_whose_ingress_is_gone_is_not_written() {
    let now = Instant::now();
    let mut queue = Queue::default();
    queue.ask(&key("a"), show("10.0.0.1"), now);
    queue.ask(&key("a"), Wish::Leave, now);
    queue.ask(&key("b"), show("10.0.0.1"), now);
    queue.keep(|key| &*key.name != "b");
    assert_eq!(queue.next(now), Next::Idle);
}

#[test]
fn one_ingress_that_cannot_be_written_does_not_hold_up_others() {
    let now = Instant::now();
    let mut queue = Queue::default();
    queue.ask(&key("a"), show("10.0.0.1"), now);
    queue.ask(&key("b"), show("10.0.0.1"), now);
    assert!(matches!(queue.next(now), Next::Write(key, _) if &*key.name == "a"));
    queue.failed(&key("a"), now);
    assert!(matches!(queue.next(now), Next::Write(key, _) if &*key.name == "b"));
    queue.done(&key("b"), now);
    assert_eq!(queue.next(now), Next::At(now + millis(500)));
}
