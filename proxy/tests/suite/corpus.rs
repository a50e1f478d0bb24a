//! Hostile HTTP/1.1, byte for byte: each case says what has to become of it (`Verdict`).
//!
//! The one rule is that a Backend gets exactly one canonical request, or
//! nothing. A recording Backend and a strict reader judge what arrives.

pub(crate) mod case;
mod chunks;
mod codings;
mod fields;
mod hosts;
mod lengths;
mod limits;
mod lines;
mod paths;
mod pipelining;
pub(crate) mod run;

use std::collections::BTreeMap;

use case::Case;
use run::Lane;

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    codings::add(&mut cases);
    lengths::add(&mut cases);
    chunks::add(&mut cases);
    fields::add(&mut cases);
    lines::add(&mut cases);
    hosts::add(&mut cases);
    paths::add(&mut cases);
    limits::add(&mut cases);
    pipelining::add(&mut cases);
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_http1_leaks_nothing_and_valid_http1_passes() {
    let cases = cases();
    assert!(cases.len() >= 1_000, "{}", cases.len());
    let mut faults = Vec::new();
    let mut table = BTreeMap::<&str, [usize; 4]>::new();
    let mut lanes = Vec::new();
    for _ in 0..LANES {
        lanes.push(Lane::start().await);
    }
    let runs = lanes.iter().enumerate().map(|(number, lane)| {
        let own = cases.iter().skip(number).step_by(LANES);
        async move {
            let mut faults = Vec::new();
            for case in own {
                if let Err(fault) = lane.run(case).await {
                    faults.push((case.class, format!("{} {}: {fault}", case.class, case.name)));
                }
            }
            faults
        }
    });
    for (class, fault) in futures::future::join_all(runs).await.into_iter().flatten() {
        table.entry(class).or_default()[3] += 1;
        faults.push(fault);
    }
    for case in &cases {
        table.entry(case.class).or_default()[case.verdict.column()] += 1;
    }
    let mut text =
        format!("{:<20}{:>8}{:>8}{:>8}{:>8}\n", "class", "served", "refused", "cut", "faults");
    for (class, [served, refused, cut, faults]) in &table {
        text.push_str(&format!("{class:<20}{served:>8}{refused:>8}{cut:>8}{faults:>8}\n"));
    }
    eprintln!("{text}{} cases, {} faults", cases.len(), faults.len());
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Replicas that work side by side.
const LANES: usize = 4;
