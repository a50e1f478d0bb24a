//! What controllers read, and what they make of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use fastrand::Rng;
use kubeng_config::canonical::Digest;
use kubeng_config::position::Position;
use kubeng_config::statement::Epoch;

use super::super::history::History;
use super::super::publisher::Published;
use super::library::{CLUSTERS, FOLDERS, Library, SETS};

/// What is true: the changes of a cluster and of a folder, Endpoints, and who leads.
pub(super) struct Truth {
    /// The states that each source has gone through.
    pub(super) logs: [Vec<usize>; 2],
    /// The number of the set of each Backend.
    pub(super) endpoints: [usize; 2],
    /// The term of leadership.
    pub(super) epoch: Epoch,
    /// Counts how often the cluster was restored from a backup.
    pub(super) restored: u32,
}

impl Truth {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let logs = [vec![rng.usize(..CLUSTERS)], vec![rng.usize(..FOLDERS)]];
        Self { logs, endpoints: [1, 1], epoch: Epoch(0), restored: 0 }
    }

    pub(super) fn change(&mut self, rng: &mut Rng) {
        if rng.u8(..3) == 0 {
            self.logs[1].push(rng.usize(..FOLDERS));
        } else {
            self.logs[0].push(rng.usize(..CLUSTERS));
        }
    }

    pub(super) fn change_endpoints(&mut self, rng: &mut Rng) {
        self.endpoints[rng.usize(..2)] = rng.usize(..SETS);
    }
}

/// One controller without its sessions, which are kept with their connections.
pub(super) struct Controller {
    pub(super) is_paused: bool,
    pub(super) epoch: Epoch,
    pub(super) history: Arc<History>,
    pub(super) published: Arc<Published>,
    /// How many changes of each source it has read.
    read: [usize; 2],
    endpoints: [usize; 2],
    restored: u32,
}

impl Controller {
    /// One that has just begun: nothing is read, and nothing remembered.
    pub(super) fn new(truth: &Truth, library: &Library) -> Self {
        Self {
            is_paused: false,
            epoch: Epoch::default(),
            history: Arc::default(),
            published: Arc::clone(&library.unpublished),
            read: [0; 2],
            endpoints: [0; 2],
            restored: truth.restored,
        }
    }

    /// Reads some more of a source.
    pub(super) fn read(&mut self, truth: &Truth, rng: &mut Rng) {
        let source = rng.usize(..2);
        // While it has not heard that the cluster is another one, it sees what it saw before.
        if self.restored == truth.restored {
            let left = truth.logs[source].len() - self.read[source];
            self.read[source] += if left > 0 { rng.usize(1..=left) } else { 0 };
        }
    }

    /// Reads all that there is.
    pub(super) fn read_all(&mut self, truth: &Truth) {
        self.observe(truth);
        self.read = [truth.logs[0].len(), truth.logs[1].len()];
        self.endpoints = truth.endpoints;
    }

    pub(super) fn read_endpoints(&mut self, truth: &Truth) {
        self.endpoints = truth.endpoints;
    }

    /// Hears who leads. That comes from the same place as what it reads: when that was restored from a
    /// backup it reads anew first.
    pub(super) fn observe(&mut self, truth: &Truth) {
        if self.restored != truth.restored {
            self.restored = truth.restored;
            self.read[0] = 1;
        }
        self.epoch = truth.epoch;
    }

    /// What it publishes then; nothing before each source has told something.
    pub(super) fn publish(&mut self, truth: &Truth, library: &Library, all: &mut BTreeSet<Digest>) {
        let is_current = self.restored == truth.restored;
        if self.read.contains(&0) || !is_current {
            return;
        }
        let [cluster, folder] = [0, 1].map(|source| truth.logs[source][self.read[source] - 1]);
        let snapshot = library.snapshot(cluster, folder).clone();
        let mut position = Position::default();
        position.advance("cluster", self.read[0] as u64);
        position.advance("folder", self.read[1] as u64);
        let sets = self.endpoints.iter().map(|nth| Arc::clone(&library.sets[*nth]));
        // As the loop does it: an empty set is not kept.
        let endpoints = library.backends.iter().cloned().zip(sets);
        let endpoints = endpoints.filter(|(_, set)| !set.as_slice().is_empty()).collect();
        all.insert(snapshot.digest());
        self.history.note(&snapshot);
        let (world, received) = (None, None);
        self.published =
            Arc::new(Published { snapshot, world, endpoints, position, received, pulse: None });
    }
}
