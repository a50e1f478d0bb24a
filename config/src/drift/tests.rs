use super::*;
use crate::heartbeat::{Emergency, LastKnownGood, Origin, ReportedProblem, Resources, Running};
use crate::position::Position;
use crate::statement::Epoch;

const NOW: Duration = Duration::from_secs(1_800_000_000);

fn digest(of: &str) -> Digest {
    Digest::of([of.as_bytes()])
}

fn in_sync() -> Evidence {
    Evidence {
        heard: NOW,
        heartbeat_every: Duration::from_secs(5),
        apply_timeout: Duration::from_secs(10),
        signs: Vec::new(),
        rejected: None,
        ran: Some(Ran {
            running: digest("target"),
            acknowledged: digest("target"),
            differences: None,
        }),
        divergence: None,
        offered: None,
        acknowledged: digest("target"),
        target: digest("target"),
        refused: 0,
        version: "0.4.0".into(),
        skew: None,
    }
}

/// The columns of the truth table, in the order of the note: heartbeat lost, something changed,
/// last answer no, running differs, probe differs, offer open, offer old, target not acknowledged,
/// parts refused.
type Columns = [bool; 9];

/// The rows: what each column must be, `-` for any.
const ROWS: &[(&str, ReplicaState)] = &[
    ("1--------", ReplicaState::Unreachable),
    ("01-------", ReplicaState::Tampered),
    ("001------", ReplicaState::Rejected),
    ("0001-----", ReplicaState::Drifted),
    ("00001----", ReplicaState::Divergent),
    ("0000011--", ReplicaState::Stale),
    ("0000010--", ReplicaState::Applying),
    ("000000-1-", ReplicaState::Pending),
    ("000000-01", ReplicaState::Skewed),
    ("000000-00", ReplicaState::InSync),
];

fn row_fits(row: &str, columns: &Columns) -> bool {
    row.chars().zip(columns).all(|(wanted, is)| match wanted {
        '-' => true,
        wanted => (wanted == '1') == *is,
    })
}

fn evidence(columns: &Columns) -> Evidence {
    let [lost, changed, no, differs, otherwise, open, old, behind, refused] = *columns;
    let mut evidence = in_sync();
    if lost {
        evidence.heard = NOW - Duration::from_secs(15);
    }
    if changed {
        evidence.signs.push(Sign::File("altered".into()));
    }
    if no {
        evidence.rejected = Some(Rejected { target: digest("bad"), problems: Vec::new() });
    }
    if behind {
        evidence.acknowledged = digest("former");
    }
    let running = if differs { digest("edited") } else { evidence.acknowledged };
    let acknowledged = evidence.acknowledged;
    evidence.ran = Some(Ran { running, acknowledged, differences: None });
    if otherwise {
        evidence.divergence = Some(divergence());
    }
    if open {
        let age = if old { 10_000 } else { 9_999 };
        evidence.offered = Some(NOW - Duration::from_millis(age));
    }
    evidence.refused = usize::from(refused);
    evidence
}

fn divergence() -> Divergence {
    Divergence {
        request: "GET http://a.example/".into(),
        expected: "Ingress/shop/a#a.example/".into(),
        answered: "no route".into(),
        count: 3,
    }
}

#[test]
fn every_combination_is_exactly_one_state() {
    let mut seen = std::collections::BTreeSet::new();
    for bits in 0..1_u32 << 9 {
        let columns: Columns = std::array::from_fn(|at| bits & (1 << at) != 0);
        let rows: Vec<ReplicaState> = ROWS
            .iter()
            .filter(|(row, _)| row_fits(row, &columns))
            .map(|(_, state)| *state)
            .collect();
        let judged = replica_state(&evidence(&columns), NOW);
        assert_eq!(rows, [judged.state], "{columns:?}");
        assert!(!judged.text.is_empty() && !judged.text.contains('\n'), "{}", judged.text);
        assert!(judged.marks.iter().all(|mark| *mark > judged.state), "{judged:?}");
        assert!(!judged.marks.contains(&ReplicaState::InSync), "{judged:?}");
        seen.insert(judged.state);
    }
    assert_eq!(seen.len(), ReplicaState::ALL.len());
}

#[test]
fn what_holds_besides_is_marked() {
    let all = replica_state(&evidence(&[true; 9]), NOW);
    let expected = [
        ReplicaState::Tampered,
        ReplicaState::Rejected,
        ReplicaState::Drifted,
        ReplicaState::Divergent,
        ReplicaState::Stale,
    ];
    assert_eq!(all.marks, expected);
}

#[test]
fn a_replica_whose_table_was_not_walked_yet_has_not_drifted() {
    let evidence = Evidence { ran: None, ..in_sync() };
    assert_eq!(replica_state(&evidence, NOW).state, ReplicaState::InSync);
}

#[track_caller]
fn check(change: impl FnOnce(&mut Evidence), text: &str) {
    let mut evidence = in_sync();
    change(&mut evidence);
    assert_eq!(replica_state(&evidence, NOW).text, text);
}

#[test]
fn the_text_says_what_and_why() {
    let (target, former) = (digest("target").short(), digest("former").short());
    let edited = digest("edited").short();
    check(|_| {}, &format!("In sync, serves {target}"));
    check(
        |evidence| evidence.heard = NOW - Duration::from_secs(60),
        &format!("Not reporting since 2027-01-15T07:59:00Z (last: {target})"),
    );
    check(
        |evidence| {
            evidence.signs = vec![
                Sign::File("it has other contents".into()),
                Sign::Emergency { by: "eve".into(), reason: "fire".into(), until: 1_800_000_060 },
            ];
        },
        "Changed on the machine: its saved configuration: it has other contents; \
         an emergency change by eve until 2027-01-15T08:01:00Z: fire",
    );
    let problem = |object: &str| ReportedProblem {
        code: "KNG-1701".into(),
        object: object.into(),
        field: "/timeouts".into(),
        message: "too long".into(),
        remedy: "write less".into(),
    };
    check(
        |evidence| {
            evidence.acknowledged = digest("former");
            let problems = vec![problem("route a"), problem("route b")];
            evidence.rejected = Some(Rejected { target: digest("target"), problems });
        },
        &format!("Rejected {target} at route a /timeouts: too long (and 1 more); serves {former}"),
    );
    check(
        |evidence| {
            evidence.ran = Some(Ran {
                running: digest("edited"),
                acknowledged: digest("target"),
                differences: Some(4),
            });
        },
        &format!("Acknowledged {target} but runs {edited}, which differs in 4 places"),
    );
    check(
        |evidence| evidence.divergence = Some(divergence()),
        "Same configuration, different answer: GET http://a.example/ goes to no route instead of \
         Ingress/shop/a#a.example/ (and 2 more)",
    );
    check(
        |evidence| evidence.offered = Some(NOW - Duration::from_secs(34)),
        &format!("No acknowledgement of {target} for 34 s"),
    );
    check(
        |evidence| evidence.acknowledged = digest("former"),
        &format!("Waiting for {target}; serves {former}"),
    );
    check(|evidence| evidence.refused = 2, "Version skew: 2 parts refused on replica 0.4.0");
}

#[test]
fn another_version_is_skewed_and_a_mark_of_everything_else() {
    let own = build("0.4.0", "ours");
    assert_eq!(skew(&own, &build("0.4.0", "patched"), None), None, "the file is another matter");
    let newer = Build { model_version: 2, ..build("0.5.0", "newer") };
    for (replica, unread, text) in [
        (
            build("0.3.0", "older"),
            None,
            "replica is 0.3.0 (model 1), controller is 0.4.0 (model 1)",
        ),
        (newer, None, "replica is 0.5.0 (model 2), controller is 0.4.0 (model 1)"),
        (
            own.clone(),
            Some("field x"),
            "replica is 0.4.0 (model 1), controller is 0.4.0 (model 1); \
             what it tells of itself cannot be read: field x",
        ),
    ] {
        let found = skew(&replica, &own, unread);
        check(|evidence| evidence.skew.clone_from(&found), &format!("Version skew: {text}"));
        let mut evidence = in_sync();
        evidence.skew = found;
        assert_eq!(replica_state(&evidence, NOW).state, ReplicaState::Skewed);
        evidence.rejected = Some(Rejected { target: digest("bad"), problems: Vec::new() });
        let judged = replica_state(&evidence, NOW);
        assert_eq!(judged.state, ReplicaState::Rejected);
        assert_eq!(judged.marks, [ReplicaState::Skewed], "it may be why");
    }
}

fn build(version: &str, file: &str) -> Build {
    Build { version: version.into(), sha256: digest(file), model_version: 1 }
}

fn heartbeat() -> Heartbeat {
    Heartbeat {
        epoch: Epoch(1),
        position: Position::default(),
        acknowledged: digest("target"),
        rejected: None,
        running: Running { digest: digest("target"), age_seconds: 0 },
        endpoints: digest("endpoints"),
        origin: Origin::Controller,
        last_known_good: None,
        emergency: None,
        build: build("1.0.0", "ours"),
        resources: Resources::default(),
        problems: Vec::new(),
    }
}

#[test]
fn programs_are_believed_by_list_or_by_being_the_same_as_the_controller() {
    let own = build("1.0.0", "ours");
    let listed = FleetCare { builds: vec![digest("listed")], ..FleetCare::default() };
    for (care, replica, expected) in [
        (FleetCare::default(), build("1.0.0", "ours"), true),
        (FleetCare::default(), build("1.0.0", "patched"), false),
        (FleetCare::default(), build("0.9.0", "older"), true),
        (listed.clone(), build("1.0.0", "ours"), false),
        (listed.clone(), build("0.9.0", "listed"), true),
        (listed, build("0.9.0", "older"), false),
    ] {
        assert_eq!(may_be(&replica, &care, &own), expected, "{replica:?} {care:?}");
    }
}

#[test]
fn what_was_changed_on_the_machine_is_read_from_the_heartbeat() {
    let care = FleetCare::default();
    let own = build("1.0.0", "ours");
    assert_eq!(signs(&heartbeat(), &care, &own), []);
    let mut changed = heartbeat();
    let kept = |file| Some(LastKnownGood { kept: digest("target"), file });
    changed.last_known_good = kept(FileState::Unwritable("the disk is full".into()));
    assert_eq!(signs(&changed, &care, &own), [], "nobody has changed anything");
    changed.last_known_good = kept(FileState::Altered("it is gone".into()));
    changed.emergency =
        Some(Emergency { by: "eve".into(), reason: "fire".into(), until: 1_800_000_060 });
    changed.build = build("1.0.0", "patched");
    let found = signs(&changed, &care, &own);
    assert_eq!(found.iter().map(Sign::is_healable).collect::<Vec<_>>(), [true, true, false]);
}
