//! What is alive of a Backend: its Endpoints now, their load, and who is out of rotation.
//!
//! It outlives Tables and is shared by all Routes and all workers.

pub(crate) mod balance;
pub(crate) mod choice;
pub(crate) mod connect;
pub(crate) mod health;
mod levels;
pub(crate) mod member;
pub(crate) mod probe;
pub(crate) mod resolve;
pub(crate) mod sticky;
pub(crate) mod tls;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use kubeng_config::backend::Backend;
use kubeng_config::backend::balance::Balance;
use kubeng_config::backend::resilience::{Circuit, Ejection};
use kubeng_config::endpoint::EndpointSet;
use kubeng_config::name::BackendId;

use crate::metrics::traffic::Traffic;
use balance::consistent_hash::Maglev;
use balance::{Schedule, Turn};
use levels::Level;
pub(crate) use member::InFlight;
use member::{Joins, Member};
use sticky::Tokens;

/// A Backend as a Table holds it: its configuration, and what is alive of it.
#[derive(Debug)]
pub(crate) struct CompiledBackend {
    pub(crate) id: BackendId,
    pub(crate) spec: Arc<Backend>,
    /// What keeps connections of different protocols and TLS policies apart.
    pub(crate) connection_key: u64,
    /// How connections are verified.
    pub(crate) tls: tls::CompiledTls,
    pub(crate) state: Arc<BackendState>,
    pub(crate) traffic: Arc<Traffic>,
}

/// What is alive of a Backend.
#[derive(Debug, Default)]
pub(crate) struct BackendState {
    live: ArcSwap<Live>,
    turn: Turn,
    /// Beside the turns, which a draw must not move.
    chance: Turn,
    /// Requests in flight; counted only where they are bounded.
    requests: AtomicU32,
    /// Retries in flight.
    retries: AtomicU32,
    /// Endpoints taken out so far because of what they answered.
    ejections: AtomicU64,
    /// Held while a set is stored; gives each address that comes its generation.
    generation: Mutex<u64>,
}

/// The Endpoints at one moment.
#[derive(Debug, Default)]
struct Live {
    set: Arc<EndpointSet>,
    /// In the order of the set.
    members: Box<[Arc<Member>]>,
    schedule: Schedule,
    /// Where there are several priorities.
    levels: Box<[Level]>,
    /// Made when it is asked for first, as are all that follow.
    maglev: OnceLock<Maglev>,
    own_zone: OnceLock<OwnZone>,
    tokens: OnceLock<Tokens>,
}

/// The Endpoints in the zone of the replica.
#[derive(Debug)]
struct OwnZone {
    /// Numbers of those that take requests.
    members: Vec<usize>,
    schedule: Schedule,
}

impl BackendState {
    /// Replaces the Endpoints. An address that stays keeps its load and health.
    pub(crate) fn store(&self, set: &Arc<EndpointSet>) {
        let mut generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.live.load();
        if Arc::ptr_eq(&before.set, set) || before.set == *set {
            return;
        }
        let endpoints = set.as_slice();
        let joins = if before.members.is_empty() { Joins::First } else { Joins::Others };
        let members = endpoints.iter().map(|endpoint| {
            // Both are ordered, but not by address alone.
            let known = before.members.iter().find(|member| member.address == endpoint.address);
            known.cloned().unwrap_or_else(|| {
                *generation += 1;
                Arc::new(Member::new(endpoint.address, *generation, joins))
            })
        });
        let members = members.collect();
        let weights: Vec<u32> =
            endpoints.iter().map(|endpoint| u32::from(endpoint.share())).collect();
        let schedule = Schedule::new(&weights);
        let levels = levels::of(set);
        let live = Live { set: set.clone(), members, schedule, levels, ..Live::default() };
        if before.maglev.get().is_some() {
            // Not left to the next request: it takes longer than most.
            live.maglev();
        }
        self.live.store(Arc::new(live));
    }

    /// The Endpoints at this moment.
    pub(crate) fn endpoints(&self) -> Arc<EndpointSet> {
        self.live.load().set.clone()
    }

    /// The same with what is known of each.
    pub(crate) fn members(&self) -> Vec<Arc<Member>> {
        self.live.load().members.to_vec()
    }

    /// A number that looks random.
    pub(crate) fn scatter(&self) -> u64 {
        self.chance.scattered()
    }

    /// Endpoints taken out so far because of what they answered.
    pub(crate) fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }
}

impl CompiledBackend {
    /// Admits one more request; None when as many are in flight as may be.
    pub(crate) fn admit(&self) -> Option<Admitted> {
        let requests_max = self.resilience(|all| all.circuit.requests_max, None);
        let Some(requests_max) = requests_max else { return Some(Admitted(None)) };
        let held = Held::take(&self.state, |state| &state.requests, requests_max)?;
        Some(Admitted(Some(held)))
    }

    /// Admits one more retry; None when the budget is spent.
    pub(crate) fn admit_retry(&self) -> Option<Retrying> {
        let least = Circuit::default();
        let budget = |circuit: &Circuit| (circuit.retry_percent, circuit.retries_min);
        let (percent, least) = self.resilience(|all| budget(&all.circuit), budget(&least));
        let share = u64::from(self.state.load()) * u64::from(percent) / 100;
        let most = u32::try_from(share).unwrap_or(u32::MAX).max(least);
        Held::take(&self.state, |state| &state.retries, most).map(Retrying)
    }

    /// Notes a failure of `member`; gives whether it was taken out for it.
    pub(crate) fn member_failed(&self, member: &Member, since_start: Duration) -> bool {
        let default = Ejection::default();
        let rule = self.spec.resilience.as_deref().map_or(&default, |all| &all.ejection);
        member.fails(rule) && self.state.eject(member, rule, since_start)
    }

    /// Whether anybody asks how soon its Endpoints answer.
    pub(crate) fn measures_latency(&self) -> bool {
        self.spec.balance == Balance::PeakEwma
    }

    fn resilience<T>(
        &self,
        wanted: impl FnOnce(&kubeng_config::backend::resilience::Resilience) -> T,
        otherwise: T,
    ) -> T {
        self.spec.resilience.as_deref().map_or(otherwise, wanted)
    }
}

/// A request that was admitted, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Admitted(
    #[expect(dead_code, reason = "it counts until it is dropped")] Option<Held>,
);

/// A retry that was admitted, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Retrying(#[expect(dead_code, reason = "it counts until it is dropped")] Held);

/// One of a bounded number.
#[derive(Debug)]
struct Held {
    state: Arc<BackendState>,
    count: fn(&BackendState) -> &AtomicU32,
}

impl Held {
    fn take(
        state: &Arc<BackendState>,
        count: fn(&BackendState) -> &AtomicU32,
        most: u32,
    ) -> Option<Self> {
        // Counted first, so that two who come together never both get the last place.
        let held = Self { state: state.clone(), count };
        let before = count(state).fetch_add(1, Ordering::Relaxed);
        (before < most).then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.count)(&self.state).fetch_sub(1, Ordering::Relaxed);
    }
}

impl Live {
    fn maglev(&self) -> &Maglev {
        self.maglev.get_or_init(|| {
            let endpoints = self.set.as_slice().iter();
            let weighted = endpoints.map(|endpoint| (endpoint.address, endpoint.share()));
            Maglev::new(&weighted.collect::<Vec<_>>())
        })
    }

    fn own_zone(&self, zone: &str) -> &OwnZone {
        self.own_zone.get_or_init(|| OwnZone::of(&self.set, zone, |_| true))
    }
}

impl OwnZone {
    fn of(set: &EndpointSet, zone: &str, is_of: impl Fn(u8) -> bool) -> Self {
        let weights = set.as_slice().iter().map(|endpoint| {
            let is_own = endpoint.zone.as_deref() == Some(zone) && is_of(endpoint.priority);
            if is_own { u32::from(endpoint.share()) } else { 0 }
        });
        let weights: Vec<u32> = weights.collect();
        let members =
            (0..weights.len()).filter(|&at| weights.get(at).is_some_and(|weight| *weight > 0));
        Self { members: members.collect(), schedule: Schedule::new(&weights) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use kubeng_config::endpoint::Endpoint;

    use super::*;

    fn set(ports: &[u16]) -> Arc<EndpointSet> {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let endpoints = ports.iter().map(|&port| Endpoint::new(address(port))).collect();
        Arc::new(EndpointSet::new(endpoints))
    }

    #[test]
    fn an_address_that_stays_keeps_its_load_and_one_that_returns_does_not() {
        let state = BackendState::default();
        state.store(&set(&[1, 2]));
        let before = state.live.load_full();
        state.store(&set(&[2, 3]));
        let after = state.live.load_full();
        assert!(Arc::ptr_eq(&before.members[1], &after.members[0]));
        state.store(&set(&[1, 2]));
        let again = state.live.load_full();
        assert_ne!(before.members[0].generation, again.members[0].generation);
    }
}
