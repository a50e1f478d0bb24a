use super::*;

const ME: &str = "me";
const PACE: Pace = Pace {
    duration: Duration::from_secs(15),
    renew_within: Duration::from_secs(10),
    retry: Duration::from_secs(2),
};

fn record(holder: Option<&str>, transitions: u64, version: &str) -> Record {
    Record {
        holder: holder.map(Arc::from),
        duration: Duration::from_secs(15),
        transitions,
        renewed: None,
        acquired: None,
        version: Some(version.to_owned()),
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What a candidate that saw `seen` does `after` that.
#[track_caller]
fn check(seen: Option<Record>, after: u64, expected: Result<u64, Attempt>) {
    let start = Instant::now();
    let mut candidate = Candidate::new(ME.into(), PACE);
    candidate.saw(seen.clone(), start);
    // The same once more does not prolong it.
    candidate.saw(seen, start + seconds(after));
    match (candidate.decide(start + seconds(after)), expected) {
        (Attempt::Replace { record, version }, Ok(epoch)) => {
            assert_eq!((record.holder.as_deref(), record.transitions), (Some(ME), epoch));
            assert_eq!(version, "7");
        }
        (Attempt::Create { record }, Ok(epoch)) => assert_eq!(record.transitions, epoch),
        (attempt, Err(expected)) => assert_eq!(attempt, expected),
        (Attempt::Wait, Ok(_)) => panic!("it waits"),
    }
}

#[test]
fn a_lease_is_taken_when_nobody_holds_it_or_its_holder_was_silent_for_its_duration() {
    check(None, 0, Ok(0));
    check(Some(record(None, 4, "7")), 0, Ok(5));
    check(Some(record(Some(""), 4, "7")), 0, Ok(5));
    check(Some(record(Some("other"), 4, "7")), 0, Err(Attempt::Wait));
    check(Some(record(Some("other"), 4, "7")), 14, Err(Attempt::Wait));
    check(Some(record(Some("other"), 4, "7")), 15, Ok(5));
    // Mine, but I do not lead: the term ran out, so its epoch is spent.
    check(Some(record(Some(ME), 4, "7")), 0, Ok(5));
}

#[test]
fn a_renewal_by_another_one_starts_the_wait_again_whatever_its_clock_says() {
    let start = Instant::now();
    let mut candidate = Candidate::new(ME.into(), PACE);
    candidate.saw(Some(record(Some("other"), 4, "7")), start);
    let renewed: MicroTime = MicroTime("1999-01-01T00:00:00Z".parse().unwrap());
    let renewal = Record { renewed: Some(renewed), ..record(Some("other"), 4, "8") };
    candidate.saw(Some(renewal), start + seconds(14));
    assert_eq!(candidate.decide(start + seconds(28)), Attempt::Wait);
    assert!(matches!(candidate.decide(start + seconds(29)), Attempt::Replace { .. }));
}

/// A candidate that leads in epoch 3 since `start`.
fn leader(start: Instant) -> Candidate {
    let mut candidate = Candidate::new(ME.into(), PACE);
    candidate.saw(Some(record(None, 2, "7")), start);
    candidate.wrote(record(Some(ME), 3, "8"), start);
    candidate
}

#[test]
fn a_leader_renews_in_the_same_epoch_without_reading() {
    let start = Instant::now();
    let candidate = leader(start);
    assert!(!candidate.must_read());
    assert_eq!(candidate.leadership().epoch_at(start), Some(3));
    let Attempt::Replace { record, version } = candidate.decide(start + seconds(2)) else {
        panic!("it does not renew");
    };
    assert_eq!((record.transitions, version.as_str()), (3, "8"));
    assert_eq!(candidate.pause(start + seconds(1)), seconds(2));
}

#[test]
fn a_leader_that_cannot_renew_steps_down_before_another_one_may_take_over() {
    let start = Instant::now();
    let mut candidate = leader(start);
    // Tries end, and pauses too, when the term does.
    assert_eq!(candidate.patience(start + seconds(9)), seconds(1));
    assert_eq!(candidate.pause(start + seconds(9)), seconds(1));
    candidate.end_term_if_over(start + seconds(9));
    assert_eq!(candidate.leadership().epoch_at(start + seconds(9)), Some(3));
    // Who holds what it was told earlier learns it, too.
    assert_eq!(candidate.leadership().epoch_at(start + seconds(10)), None);
    candidate.end_term_if_over(start + seconds(10));
    assert_eq!(candidate.leadership(), Leadership::Follower);
    assert!(PACE.renew_within < PACE.duration);
}

#[test]
fn a_leader_whose_lease_was_taken_or_removed_leads_no_more() {
    for seen in [Some(record(Some("other"), 4, "9")), None] {
        let start = Instant::now();
        let mut candidate = leader(start);
        candidate.forget();
        assert!(candidate.must_read());
        candidate.saw(seen, start + seconds(1));
        assert_eq!(candidate.leadership(), Leadership::Follower);
    }
}

#[test]
fn an_answer_that_was_lost_does_not_end_the_term() {
    let start = Instant::now();
    let mut candidate = leader(start);
    candidate.forget();
    candidate.saw(Some(record(Some(ME), 3, "9")), start + seconds(4));
    assert_eq!(candidate.leadership().epoch_at(start + seconds(4)), Some(3));
    let Attempt::Replace { record, version } = candidate.decide(start + seconds(4)) else {
        panic!("it does not renew");
    };
    assert_eq!((record.transitions, version.as_str()), (3, "9"));
}

#[test]
fn a_lease_is_given_back_by_its_holder_only() {
    let (record, version) = leader(Instant::now()).farewell().unwrap();
    assert_eq!((record.holder, record.transitions, version.as_str()), (None, 3, "8"));
    assert!(Candidate::new(ME.into(), PACE).farewell().is_none());
}

#[test]
fn a_lease_is_read_as_it_was_written() {
    let settings = LeaderSettings {
        namespace: "kubeng".into(),
        name: "kubeng".into(),
        identity: ME.into(),
        pace: PACE,
    };
    let now = jiff::Timestamp::UNIX_EPOCH;
    let written = record(Some(ME), 3, "8");
    let read = Record::of(&written.lease(&settings, Some("8".into()), now));
    let times = (Some(MicroTime(now)), Some(MicroTime(now)));
    assert_eq!((read.renewed.clone(), read.acquired.clone()), times);
    assert_eq!(Record { renewed: None, acquired: None, ..read }, written);
}

#[test]
fn a_lease_that_was_restored_from_a_backup_does_not_lead_in_a_term_that_is_over() {
    let start = Instant::now();
    let transitions = |attempt: Attempt| match attempt {
        Attempt::Create { record } | Attempt::Replace { record, .. } => Some(record.transitions),
        Attempt::Wait => None,
    };
    // Who leads begins a term after the one that somebody has heard of.
    let mut candidate = leader(start);
    candidate.not_before(3);
    assert_eq!(transitions(candidate.decide(start)), Some(3), "the same is no news");
    candidate.not_before(9);
    candidate.not_before(4);
    assert_eq!(transitions(candidate.decide(start)), Some(9));
    candidate.wrote(record(Some(ME), 9, "9"), start);
    assert_eq!(transitions(candidate.decide(start)), Some(9), "once");
    // So does who takes it; who may not take it does not.
    for (seen, expected) in [
        (None, Some(9)),
        (Some(record(None, 4, "7")), Some(9)),
        (Some(record(None, 12, "7")), Some(13)),
        (Some(record(Some("other"), 4, "7")), None),
    ] {
        let mut candidate = Candidate::new(ME.into(), PACE);
        candidate.not_before(9);
        candidate.saw(seen.clone(), start);
        assert_eq!(transitions(candidate.decide(start)), expected, "{seen:?}");
    }
}
