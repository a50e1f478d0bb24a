//! Choosing by weight: a fixed order in which everything comes as often as its weight says. One file
//! for each other algorithm.

pub(crate) mod consistent_hash;
pub(crate) mod peak_ewma;
pub(crate) mod two_choices;

use std::sync::atomic::{AtomicU64, Ordering};

/// The order in which things with weights take turns, spread evenly.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Schedule {
    /// Numbers of the things; each as often as its weight, in lowest terms.
    turns: Box<[u32]>,
}

impl Schedule {
    /// The order for things of these weights; a weight of 0 gets no turn.
    pub(crate) fn new(weights: &[u32]) -> Self {
        let divisor = weights.iter().fold(0, |divisor, &weight| greatest_divisor(divisor, weight));
        if divisor == 0 {
            return Self::default();
        }
        let sum: u64 = weights.iter().map(|&weight| u64::from(weight / divisor)).sum();
        // Large weights that share no divisor are rounded, but never down to nothing.
        let shrink = sum.div_ceil(TURNS_MAX).max(1);
        let weights: Vec<i64> = weights
            .iter()
            .map(|&weight| {
                let exact = i64::from(weight / divisor);
                let shrunk = exact / i64::try_from(shrink).unwrap_or(i64::MAX);
                shrunk.max(i64::from(weight > 0))
            })
            .collect();
        Self { turns: spread(&weights) }
    }

    /// Everything that has a turn, beginning with the turn of `number`; things may repeat.
    pub(crate) fn from(&self, number: u64) -> impl Iterator<Item = usize> {
        let start = if self.turns.is_empty() {
            0
        } else {
            usize::try_from(number % self.turns.len() as u64).unwrap_or(0)
        };
        let (before, after) = self.turns.split_at(start);
        after.iter().chain(before).map(|&turn| turn as usize)
    }
}

/// Smooth weighted round robin: whoever is owed most takes the next turn.
fn spread(weights: &[i64]) -> Box<[u32]> {
    let sum: i64 = weights.iter().sum();
    if weights.iter().all(|&weight| weight == 1) {
        return (0..u32::try_from(weights.len()).unwrap_or(u32::MAX)).collect();
    }
    let mut owed = vec![0_i64; weights.len()];
    let mut turns = Vec::with_capacity(usize::try_from(sum).unwrap_or(0));
    for _ in 0..sum {
        let mut next = 0;
        for (at, &weight) in weights.iter().enumerate() {
            owed[at] += weight;
            if owed[at] > owed[next] {
                next = at;
            }
        }
        owed[next] -= sum;
        turns.push(u32::try_from(next).unwrap_or(u32::MAX));
    }
    turns.into()
}

fn greatest_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

/// Several things that take turns.
#[derive(Debug)]
pub(crate) struct Rotation {
    schedule: Schedule,
    turn: Turn,
}

impl Rotation {
    /// Of things with these weights; none for a single one that gets everything.
    pub(crate) fn of(weights: &[u32]) -> Option<Self> {
        match weights {
            [weight] if *weight > 0 => None,
            _ => Some(Self { schedule: Schedule::new(weights), turn: Turn::default() }),
        }
    }

    /// Whether it is that of things with these weights.
    pub(crate) fn is_of(&self, weights: &[u32]) -> bool {
        self.schedule == Schedule::new(weights)
    }

    /// How many turns the thing of this number really has.
    pub(crate) fn turns_of(&self, number: usize) -> u32 {
        let turns = self.schedule.turns.iter().filter(|turn| **turn as usize == number);
        u32::try_from(turns.count()).unwrap_or(u32::MAX)
    }

    /// The one whose turn it is; none when none has a weight.
    pub(crate) fn next(&self) -> Option<usize> {
        self.schedule.from(self.turn.next()).next()
    }
}

/// A number that takes turns, shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct Turn(AtomicU64);

impl Turn {
    /// The next number.
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// The next number, scattered: for choices that must look random.
    pub(crate) fn scattered(&self) -> u64 {
        // The finaliser of SplitMix64.
        let mut mixed = self.next().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

const TURNS_MAX: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(weights: &[u32], expected: &[usize]) {
        let schedule = Schedule::new(weights);
        assert_eq!(schedule.from(0).collect::<Vec<_>>(), expected, "{weights:?}");
    }

    #[test]
    fn turns_are_spread_by_weight() {
        check(&[], &[]);
        check(&[0, 0], &[]);
        check(&[7], &[0]);
        check(&[1, 1, 1], &[0, 1, 2]);
        check(&[50, 50], &[0, 1]);
        check(&[2, 0, 1], &[0, 2, 0]);
        check(&[5, 1, 1], &[0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn large_weights_are_rounded_and_none_is_lost() {
        let schedule = Schedule::new(&[1_000_003, 1, 0]);
        let turns: Vec<_> = schedule.from(0).collect();
        assert!(turns.len() <= usize::try_from(TURNS_MAX).unwrap() + 2, "{}", turns.len());
        assert!(turns.contains(&1) && !turns.contains(&2));
    }

    #[test]
    fn any_number_begins_somewhere() {
        let schedule = Schedule::new(&[1, 1, 1]);
        assert_eq!(schedule.from(u64::MAX).count(), 3);
        assert_eq!(schedule.from(4).next(), Some(1));
        assert_eq!(Schedule::new(&[]).from(4).next(), None);
    }
}
