//! Maglev hashing: a table of fixed size in which every Endpoint has its share of the places.
//!
//! After "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016), section 3.4, with
//! weights. The size never changes with the number of Endpoints, so an Endpoint that comes or goes
//! moves little more than its own share of the keys.

use std::hash::BuildHasher;
use std::net::SocketAddr;

/// Which Endpoint takes a key.
#[derive(Debug)]
pub(crate) struct Maglev {
    /// Numbers of Endpoints; empty when none takes anything.
    places: Box<[u16]>,
}

impl Maglev {
    /// The table for Endpoints with these weights; a weight of 0 gets no place.
    ///
    /// Of more than [`ENDPOINTS_MAX`] those that come later get none.
    pub(crate) fn new(endpoints: &[(SocketAddr, u16)]) -> Self {
        let mut turns: Vec<Turn> = endpoints
            .iter()
            .zip(0..ENDPOINTS_MAX)
            .filter(|((_, weight), _)| *weight > 0)
            .map(|((address, weight), number)| Turn::of(*address, *weight, number))
            .collect();
        let Some(heaviest) = turns.iter().map(|turn| turn.weight).max() else {
            return Self { places: Box::default() };
        };
        let mut places = vec![FREE; SIZE];
        let mut left = SIZE;
        loop {
            for turn in &mut turns {
                // The heaviest takes a place in each round, the others as often as their weight says.
                turn.owed += turn.weight;
                if turn.owed < heaviest {
                    continue;
                }
                turn.owed -= heaviest;
                let Some(place) = turn.next_free(&places) else { continue };
                if let Some(free) = places.get_mut(place) {
                    *free = turn.number;
                }
                left -= 1;
                if left == 0 {
                    return Self { places: places.into() };
                }
            }
        }
    }

    /// The Endpoint for a key.
    pub(crate) fn find(&self, key: u64) -> Option<usize> {
        let place = usize::try_from(key % SIZE as u64).ok()?;
        self.places.get(place).map(|&number| usize::from(number))
    }
}

/// The order in which one Endpoint asks for places.
struct Turn {
    number: u16,
    weight: u32,
    owed: u32,
    at: usize,
    skip: usize,
}

impl Turn {
    fn of(address: SocketAddr, weight: u16, number: u16) -> Self {
        // By the address alone, so that every replica has the same order.
        let hash = hash_of(address.to_string().as_bytes());
        let part = |bits: u64, size: usize| usize::try_from(bits % size as u64).unwrap_or(0);
        Self {
            number,
            weight: u32::from(weight),
            owed: 0,
            at: part(hash >> 32, SIZE),
            skip: part(hash & 0xFFFF_FFFF, SIZE - 1) + 1,
        }
    }

    /// The next place of its order that is free; the size is a prime, so the order has them all.
    fn next_free(&mut self, places: &[u16]) -> Option<usize> {
        for _ in 0..SIZE {
            let place = self.at;
            self.at = (self.at + self.skip) % SIZE;
            if places.get(place) == Some(&FREE) {
                return Some(place);
            }
        }
        None
    }
}

/// A key from what a request says.
pub(crate) fn hash_of(bytes: &[u8]) -> u64 {
    mix(foldhash::fast::FixedState::default().hash_one(bytes))
}

/// Another number that looks random: the finaliser of SplitMix64.
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Places: a prime; 32 KiB for each Backend that is balanced so.
const SIZE: usize = 16_381;
/// Endpoints that have a place at all.
const ENDPOINTS_MAX: u16 = 8192;
const FREE: u16 = u16::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(numbers: impl Iterator<Item = u8>) -> Vec<(SocketAddr, u16)> {
        numbers.map(|number| (SocketAddr::from(([10, 0, 0, number], 80)), 1)).collect()
    }

    fn address(table: &Maglev, endpoints: &[(SocketAddr, u16)], key: u64) -> SocketAddr {
        endpoints[table.find(mix(key)).unwrap()].0
    }

    #[test]
    fn every_endpoint_gets_its_share_of_the_places() {
        let mut endpoints = endpoints(0..10);
        endpoints[3].1 = 3;
        endpoints[4].1 = 0;
        let table = Maglev::new(&endpoints);
        let mut counts = [0_usize; 10];
        for &place in &table.places {
            counts[usize::from(place)] += 1;
        }
        assert_eq!(counts.iter().sum::<usize>(), SIZE);
        // Weights 1 to 8 others, 3, and 0: eleven shares.
        for (number, count) in counts.into_iter().enumerate() {
            let shares = match number {
                3 => 3,
                4 => 0,
                _ => 1,
            };
            let expected = SIZE * shares / 11;
            assert!(count.abs_diff(expected) <= 4, "{number}: {count} instead of {expected}");
        }
        assert_eq!(Maglev::new(&[]).find(7), None);
    }

    #[test]
    fn one_that_goes_moves_little_more_than_its_own_keys() {
        let all = endpoints(0..20);
        let fewer = endpoints((0..20).filter(|number| *number != 7));
        let (before, after) = (Maglev::new(&all), Maglev::new(&fewer));
        let gone = SocketAddr::from(([10, 0, 0, 7], 80));
        let keys = 20_000;
        let mut moved = 0;
        for key in 0..keys {
            let was = address(&before, &all, key);
            let is = address(&after, &fewer, key);
            moved += u64::from(was != gone && was != is);
        }
        assert!(moved < keys * 3 / 100, "{moved} of {keys} moved without need");
    }

    #[test]
    fn the_order_of_endpoints_and_replicas_does_not_matter() {
        let forwards = endpoints(0..9);
        let (one, other) = (Maglev::new(&forwards), Maglev::new(&forwards));
        for key in 0..1000 {
            assert_eq!(address(&one, &forwards, key), address(&other, &forwards, key));
        }
    }
}
