//! Priorities: Endpoints that serve only while those before them cannot.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use kubeng_config::endpoint::EndpointSet;

use super::OwnZone;
use super::balance::Schedule;
use super::balance::consistent_hash::Maglev;

/// The Endpoints of one priority.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) priority: u8,
    /// Numbers of those that take requests.
    pub(super) members: Vec<usize>,
    pub(super) schedule: Schedule,
    /// Made when it is asked for first, as is what follows.
    maglev: OnceLock<Maglev>,
    own_zone: OnceLock<OwnZone>,
}

impl Level {
    pub(super) fn maglev(&self, set: &EndpointSet) -> &Maglev {
        self.maglev.get_or_init(|| {
            let weighted = set.as_slice().iter().map(|endpoint| {
                let is_here = endpoint.priority == self.priority;
                (endpoint.address, if is_here { endpoint.share() } else { 0 })
            });
            Maglev::new(&weighted.collect::<Vec<_>>())
        })
    }

    pub(super) fn own_zone(&self, set: &EndpointSet, zone: &str) -> &OwnZone {
        self.own_zone.get_or_init(|| OwnZone::of(set, zone, |other| other == self.priority))
    }
}

/// The levels of `set`, the one that serves first in front; none where all have one priority.
pub(super) fn of(set: &EndpointSet) -> Box<[Level]> {
    let endpoints = set.as_slice();
    let taking = endpoints.iter().filter(|endpoint| endpoint.share() > 0);
    let priorities: BTreeSet<u8> = taking.map(|endpoint| endpoint.priority).collect();
    if priorities.len() < 2 {
        return Box::default();
    }
    let level = |priority| {
        let shares: Vec<u32> = endpoints
            .iter()
            .map(
                |endpoint| {
                    if endpoint.priority == priority { u32::from(endpoint.share()) } else { 0 }
                },
            )
            .collect();
        let members = shares.iter().enumerate().filter(|(_, share)| **share > 0);
        Level {
            priority,
            members: members.map(|(at, _)| at).collect(),
            schedule: Schedule::new(&shares),
            maglev: OnceLock::new(),
            own_zone: OnceLock::new(),
        }
    };
    priorities.into_iter().map(level).collect()
}
