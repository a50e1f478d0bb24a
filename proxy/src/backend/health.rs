//! What is known of Endpoints, for whoever looks at a replica from outside.

use std::net::SocketAddr;
use std::time::Duration;

use kubeng_config::name::BackendId;

use super::member::Member;
use super::probe::Health;
use crate::shared::Shared;

/// What is known of one Endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointHealth {
    /// The Backend that it belongs to.
    pub backend: BackendId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share of new requests among all; 0 gets none.
    pub weight: u16,
    /// What it says when it is asked.
    pub health: Health,
    /// What was wrong with its last answer to a question, for people.
    pub fault: Option<Box<str>>,
    /// Whether it is out of rotation because of how it answered requests.
    pub is_ejected: bool,
    /// Requests in flight to it.
    pub requests: u32,
}

/// What is known of all Endpoints, ordered by Backend and address.
pub(crate) fn of(shared: &Shared) -> Vec<EndpointHealth> {
    let since_start = shared.started.elapsed();
    let table = shared.table.load();
    let mut all = Vec::new();
    for backend in table.backends.values() {
        let live = backend.state.live.load();
        let pairs = live.members.iter().zip(live.set.as_slice());
        all.extend(pairs.map(|(member, endpoint)| EndpointHealth {
            backend: backend.id.clone(),
            address: member.address,
            weight: endpoint.share(),
            health: member.probed.health(),
            fault: member.probed.fault(),
            is_ejected: member.is_ejected(since_start),
            requests: member.load(),
        }));
    }
    all.sort_by(|a, b| (&a.backend, a.address).cmp(&(&b.backend, b.address)));
    all
}

/// How many Endpoints are in each state, for metrics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    pub(crate) unknown: u64,
    pub(crate) well: u64,
    pub(crate) unwell: u64,
    /// Of any of them.
    pub(crate) ejected: u64,
    /// Times that one was ejected, of the Backends that are served.
    pub(crate) ejections: u64,
}

impl Counts {
    /// Of all Backends.
    pub(crate) fn of(shared: &Shared) -> Self {
        let since_start = shared.started.elapsed();
        let mut counts = Self::default();
        for backend in shared.table.load().backends.values() {
            counts.ejections += backend.state.ejections();
            for member in &backend.state.live.load().members {
                counts.take(member, since_start);
            }
        }
        counts
    }

    fn take(&mut self, member: &Member, since_start: Duration) {
        let count = match member.probed.health() {
            Health::Unknown => &mut self.unknown,
            Health::Well => &mut self.well,
            Health::Unwell => &mut self.unwell,
        };
        *count += 1;
        self.ejected += u64::from(member.is_ejected(since_start));
    }
}
