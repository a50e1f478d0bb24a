//! A table of fixed size from keys to small values, for what is remembered of clients.
//!
//! A key has eight places, all behind one small lock, so keys that have nothing to do with each
//! other rarely wait for each other and nothing ever grows. When all eight are taken, the value that
//! can be spared best gives way.

use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The table. Its memory is taken at the first use.
#[derive(Debug)]
pub(crate) struct Keyed<V> {
    sets: OnceLock<Box<[Mutex<Set<V>>]>>,
    sets_len: usize,
    /// Clients cannot foresee which keys share places.
    seed: foldhash::quality::RandomState,
}

type Set<V> = [Option<(u64, V)>; PLACES];

/// What a value says about giving way to another key.
pub(crate) trait Spare {
    /// The smallest gives way first; None never does.
    fn spare(&self) -> Option<u64>;
}

impl<V: Spare + Clone> Keyed<V> {
    /// A table for about `keys_max` keys.
    pub(crate) fn new(keys_max: usize) -> Self {
        Self {
            sets: OnceLock::new(),
            sets_len: keys_max.div_ceil(PLACES).max(1),
            seed: foldhash::quality::RandomState::default(),
        }
    }

    /// The number under which `key` is kept.
    pub(crate) fn number(&self, key: impl Hash) -> u64 {
        self.seed.hash_one(key)
    }

    /// Works on the value of a key, which is `fresh` where there is none. None when every place is
    /// taken by what cannot be spared.
    pub(crate) fn with<R>(
        &self,
        number: u64,
        fresh: V,
        work: impl FnOnce(&mut V) -> R,
    ) -> Option<R> {
        self.locked(number, |set| {
            let place = set
                .iter()
                .position(|place| place.as_ref().is_some_and(|(key, _)| *key == number))
                .or_else(|| set.iter().position(Option::is_none))
                .or_else(|| spared(set))?;
            let slot = set.get_mut(place)?;
            if slot.as_ref().is_none_or(|(key, _)| *key != number) {
                *slot = Some((number, fresh));
            }
            slot.as_mut().map(|(_, value)| work(value))
        })
    }

    /// Works on the value of a key that is there.
    pub(crate) fn with_known<R>(&self, number: u64, work: impl FnOnce(&mut V) -> R) -> Option<R> {
        self.locked(number, |set| {
            let known = set.iter_mut().flatten().find(|(key, _)| *key == number)?;
            Some(work(&mut known.1))
        })
    }

    fn locked<R>(&self, number: u64, work: impl FnOnce(&mut Set<V>) -> Option<R>) -> Option<R> {
        let sets = self.sets.get_or_init(|| {
            (0..self.sets_len).map(|_| Mutex::new(std::array::from_fn(|_| None))).collect()
        });
        let at = number % u64::try_from(sets.len()).ok()?;
        let set = sets.get(usize::try_from(at).ok()?)?;
        work(&mut set.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn spared<V: Spare>(set: &Set<V>) -> Option<usize> {
    let spare = |place: &Option<(u64, V)>| place.as_ref().and_then(|(_, value)| value.spare());
    let places = set.iter().enumerate().filter_map(|(at, place)| Some((spare(place)?, at)));
    places.min().map(|(_, at)| at)
}

/// Places of one key.
const PLACES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Rank(Option<u64>);

    impl Spare for Rank {
        fn spare(&self) -> Option<u64> {
            self.0
        }
    }

    #[test]
    fn what_can_be_spared_best_gives_way_and_the_rest_never() {
        let table = Keyed::new(8);
        for key in 0..8 {
            assert!(table.with(key, Rank(Some(100 + key)), |_| ()).is_some());
        }
        assert!(table.with(8, Rank(None), |_| ()).is_some());
        assert_eq!(table.with_known(0, |rank| rank.clone()), None);
        assert!(table.with_known(1, |_| ()).is_some());
        for key in 1..8 {
            table.with_known(key, |rank| rank.0 = None);
        }
        assert!(table.with(9, Rank(None), |_| ()).is_none(), "nobody can be spared");
        assert!(table.with_known(8, |_| ()).is_some());
    }

    #[test]
    fn one_key_has_one_value() {
        let table = Keyed::new(1000);
        let number = table.number("a");
        table.with(number, Rank(Some(1)), |rank| rank.0 = Some(7));
        assert_eq!(table.with(number, Rank(Some(1)), |rank| rank.clone()), Some(Rank(Some(7))));
        assert_ne!(number, table.number("b"));
    }
}
