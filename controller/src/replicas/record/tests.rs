use super::*;

fn record(id: &str, replica: &str, since_seconds: u64) -> DriftRecord {
    DriftRecord {
        id: id.into(),
        replica: ReplicaId { fleet: "prod".parse().unwrap(), name: replica.parse().unwrap() },
        state: ReplicaState::Drifted,
        text: "t".into(),
        since: "s".into(),
        since_seconds,
        fingerprint: Digest::default(),
        difference: None,
        evidence: None,
        is_healable: true,
        resolution: None,
    }
}

#[test]
fn a_record_is_changed_by_who_has_seen_its_last_version() {
    let book = Book::open(None);
    book.put(record("a", "r1", 1));
    let seen = book.get("a").unwrap().etag();
    let stale = book.resolve("a", Some("\"x\""), Resolution::Dismissed, "me", "why");
    assert!(matches!(stale, Err(RecordError::Stale { .. })), "{stale:?}");
    let done = book.resolve("a", Some(&seen), Resolution::Dismissed, "me", "why").unwrap();
    assert_ne!(done.etag(), seen);
    let twice = book.resolve("a", None, Resolution::Gone, "me", "");
    assert!(matches!(twice, Err(RecordError::Over { .. })), "{twice:?}");
    let none = book.resolve("b", None, Resolution::Gone, "me", "");
    assert!(matches!(none, Err(RecordError::Unknown(_))), "{none:?}");
}

#[test]
fn what_was_seen_to_be_well_before_the_heal_was_over_is_healed_and_nothing_else() {
    let book = Book::open(None);
    book.put(record("a", "r1", 1));
    book.resolve("a", None, Resolution::Gone, "controller", "").unwrap();
    let late = book.resolve("a", None, Resolution::Dismissed, "me", "why");
    assert!(matches!(late, Err(RecordError::Over { .. })), "{late:?}");
    let healed = book.resolve("a", None, Resolution::Healed, "me", "").unwrap();
    assert_eq!(healed.resolution.unwrap().resolution, Resolution::Healed);
    let twice = book.resolve("a", None, Resolution::Healed, "me", "");
    assert!(matches!(twice, Err(RecordError::Over { .. })), "{twice:?}");
}

#[test]
fn what_was_dismissed_stands_and_what_is_gone_does_not() {
    let book = Book::open(None);
    let one = record("a", "r1", 1);
    book.put(one.clone());
    let standing = || book.standing(&one.replica, ReplicaState::Drifted).map(|record| record.id);
    assert_eq!(standing(), Some("a".to_owned()));
    assert!(book.standing(&one.replica, ReplicaState::Tampered).is_none());
    book.resolve("a", None, Resolution::Dismissed, "me", "why").unwrap();
    assert_eq!(standing(), Some("a".to_owned()));
    book.put(record("0", "r1", 1));
    assert_eq!(standing(), Some("0".to_owned()), "what is open counts before what was dismissed");
    book.resolve("0", None, Resolution::Gone, "me", "").unwrap();
    assert_eq!(standing(), Some("a".to_owned()));
    let other = record("b", "r2", 2);
    book.put(other.clone());
    book.resolve("b", None, Resolution::Gone, "me", "").unwrap();
    assert!(book.standing(&other.replica, ReplicaState::Drifted).is_none());
}

#[test]
fn records_are_bounded_in_number_and_age_and_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(Some(folder.path().to_owned()));
    let time = now().as_secs();
    for number in 0..RECORDS_MAX as u64 + 3 {
        book.put(record(&format!("{number:03x}"), "r1", time + number));
    }
    assert_eq!(book.list().len(), RECORDS_MAX);
    assert_eq!(book.list().last().unwrap().id, "003", "the oldest have gone");
    let again = Book::open(Some(folder.path().to_owned()));
    assert_eq!(again.list().len(), RECORDS_MAX);

    let mut old = record("old", "r2", 1);
    old.resolution = Some(Resolved {
        resolution: Resolution::Gone,
        by: "me".into(),
        reason: String::new(),
        at: String::new(),
        at_seconds: time - KEPT_FOR.as_secs() - 1,
    });
    let book = Book::open(None);
    book.put(old);
    assert!(book.list().is_empty());
}
