//! How the keys of one host leave a bucket: space-saving with a floor.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Count;

/// The order of the keys of one host, the least frequent first.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Count, number and place of each key that is held. A count is the one at the time the key was
    /// put in order; it may have grown since.
    order: BinaryHeap<Reverse<(u64, u64, usize)>>,
    /// How often a key that is not held came at most.
    pub(super) floor: u64,
    next: u64,
}

impl Group {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// The count that a key begins with, and its number.
    pub(super) fn enter(&mut self) -> (Count, u64) {
        let number = self.next;
        self.next += 1;
        (Count { count: self.floor + 1, error: self.floor }, number)
    }

    /// Puts a key in order.
    pub(super) fn order(&mut self, count: u64, number: u64, place: usize) {
        self.order.push(Reverse((count, number, place)));
    }

    /// Takes out the key that came least, the oldest of several, and gives its place.
    ///
    /// Keys whose count has grown are put in order again on the way: each such step is paid for by
    /// a hit.
    pub(super) fn evict(&mut self, count_of: impl Fn(usize) -> u64) -> Option<usize> {
        loop {
            let Reverse((known, number, place)) = self.order.pop()?;
            let count = count_of(place);
            if count == known {
                self.floor = self.floor.max(count);
                return Some(place);
            }
            self.order.push(Reverse((count, number, place)));
        }
    }
}
