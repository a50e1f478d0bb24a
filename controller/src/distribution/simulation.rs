//! Controllers, replicas and a faulty network in virtual time: what delivery promises, seed by seed.
//!
//! Sessions and Followers are the real ones. Around them is a model of sources that controllers read
//! at their own pace, of leadership that is taken and lost, of connections that are cut and played
//! again, and of disks. `KUBENG_SIMULATION_SEED=7` runs one seed and prints what happened;
//! `KUBENG_SIMULATION_SEEDS=100000` runs more than usual.

mod controller;
mod library;
mod network;
mod replica;
mod run;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ToReplica;
use library::Library;
use run::Run;

/// How many seeds run where nobody says otherwise.
const SEEDS: u64 = 10_000;
/// Within how many seeds a replica that breaks a promise must be found out.
const SEEDS_UNTIL_FOUND_MAX: u64 = 2_000;

/// A message on its way.
struct Carried {
    message: Arc<ToReplica>,
    /// Whether a controller has said it so.
    is_genuine: bool,
}

/// How a replica is broken, to see that it is found out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sabotage {
    /// It is not.
    None,
    /// It takes Offers of earlier epochs.
    TakesOlderEpochs,
    /// It takes Offers behind its Position, and does not tell it.
    GoesBack,
    /// It takes Offers that nobody signed.
    BelievesAll,
    /// It does not keep on disk which epochs it has heard of.
    ForgetsEpochs,
    /// It applies a Delta without its last Part.
    AppliesHalf,
    /// It drops Endpoints that come by themselves.
    DropsEndpoints,
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn fails(library: &Library, seed: u64, sabotage: Sabotage) -> Option<String> {
    Run::new(library, seed, sabotage, false).run().err()
}

/// How often replicas answered what in some seeds.
fn answers(library: &Library) -> BTreeMap<String, u32> {
    let mut all = BTreeMap::new();
    for seed in 0..800 {
        let mut run = Run::new(library, seed, Sabotage::None, false);
        run.run().unwrap();
        for (answer, times) in run.answers {
            *all.entry(answer).or_default() += times;
        }
    }
    all
}

/// All that happened in `seed`, and how it ended.
fn story(library: &Library, seed: u64) -> String {
    let mut run = Run::new(library, seed, Sabotage::None, true);
    let end = match run.run() {
        Ok(()) => "all promises were kept".into(),
        Err(why) => format!("BROKEN: {why}"),
    };
    format!("{}\n{end}", run.trace().join("\n"))
}

#[test]
fn whatever_happens_no_replica_goes_back_and_all_agree_in_the_end() {
    let library = Library::new();
    if let Some(seed) = from_environment("KUBENG_SIMULATION_SEED") {
        let story = story(&library, seed);
        assert!(!story.contains("BROKEN"), "seed {seed}:\n{story}");
        return;
    }
    let seeds = from_environment("KUBENG_SIMULATION_SEEDS").unwrap_or(SEEDS);
    for seed in 0..seeds {
        if let Some(why) = fails(&library, seed, Sabotage::None) {
            let story = story(&library, seed);
            panic!(
                "seed {seed}: {why}\n{story}\nagain: KUBENG_SIMULATION_SEED={seed} cargo test -p \
                 kubeng-controller simulation"
            );
        }
    }
}

#[test]
fn every_answer_is_given() {
    let answers = answers(&Library::new());
    let reasons =
        ["Rejected", "Base", "Epoch", "Behind", "Unbelieved"].map(|why| format!("Nack {why}"));
    for answer in reasons.iter().map(String::as_str).chain(["Ack", "Holdings"]) {
        assert!(answers.get(answer).is_some_and(|times| *times > 5), "{answer}: {answers:?}");
    }
}

#[test]
fn a_broken_replica_is_found_out() {
    let library = Library::new();
    let check = |sabotage: Sabotage, expected: &str| {
        let mut seeds = 0..SEEDS_UNTIL_FOUND_MAX;
        let found = seeds.find_map(|seed| fails(&library, seed, sabotage));
        let found = found.unwrap_or_else(|| panic!("{sabotage:?} is not found out"));
        assert!(found.contains(expected), "{sabotage:?}: {found}");
    };
    check(Sabotage::TakesOlderEpochs, "had been heard");
    check(Sabotage::GoesBack, "it went back");
    check(Sabotage::BelievesAll, "forged");
    check(Sabotage::ForgetsEpochs, "had been heard");
    check(Sabotage::AppliesHalf, "nobody published");
    check(Sabotage::DropsEndpoints, "are old");
}
