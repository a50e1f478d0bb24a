//! What is alive of a Backend: its Endpoints now, their load, and who is out of rotation.
//!
//! It outlives Tables and is shared by all Routes and all workers.

pub(crate) mod balance;
pub(crate) mod resolve;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use kubeng_config::backend::Backend;
use kubeng_config::backend::balance::Balance;
use kubeng_config::endpoint::EndpointSet;
use kubeng_config::name::BackendId;

use crate::metrics::traffic::Traffic;
use balance::{Schedule, Turn};

/// A Backend as a Table holds it: its configuration, and what is alive of it.
#[derive(Debug)]
pub(crate) struct CompiledBackend {
    pub(crate) id: BackendId,
    pub(crate) spec: Arc<Backend>,
    /// What keeps connections of different protocols and TLS policies apart.
    pub(crate) connection_key: u64,
    pub(crate) state: Arc<BackendState>,
    pub(crate) traffic: Arc<Traffic>,
}

/// What is alive of a Backend.
#[derive(Debug, Default)]
pub(crate) struct BackendState {
    live: ArcSwap<Live>,
    turn: Turn,
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
}

/// One address, for as long as it stays in the set.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) address: SocketAddr,
    /// Tells connections to an address that left and came back from those to what is there now.
    pub(crate) generation: u64,
    in_flight: AtomicU32,
    /// Connects that failed in a row.
    failures: AtomicU32,
    /// Until when it gets no request while others can, in milliseconds since the start; 0 for never.
    ejected_until: AtomicU64,
}

impl Member {
    /// Notes that no connection could be opened: it gets no request for a while.
    pub(crate) fn failed(&self, since_start: Duration) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let pause = EJECTION * failures.min(EJECTION_STEPS_MAX);
        self.ejected_until.store(millis(since_start + pause), Ordering::Relaxed);
    }

    /// Notes that it answers.
    pub(crate) fn answered(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejected_until.store(0, Ordering::Relaxed);
        }
    }

    fn is_ejected(&self, since_start: Duration) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        until != 0 && until > millis(since_start)
    }
}

/// Counts one request in flight for as long as it lives.
#[derive(Debug)]
pub(crate) struct InFlight(pub(crate) Arc<Member>);

impl InFlight {
    fn begin(member: &Arc<Member>) -> Self {
        member.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(member.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
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
        let members = endpoints.iter().map(|endpoint| {
            // Both are ordered, but not by address alone.
            let known = before.members.iter().find(|member| member.address == endpoint.address);
            known.cloned().unwrap_or_else(|| {
                *generation += 1;
                Arc::new(Member {
                    address: endpoint.address,
                    generation: *generation,
                    in_flight: AtomicU32::new(0),
                    failures: AtomicU32::new(0),
                    ejected_until: AtomicU64::new(0),
                })
            })
        });
        let members = members.collect();
        let weights: Vec<u32> =
            endpoints.iter().map(|endpoint| u32::from(endpoint.weight)).collect();
        let schedule = Schedule::new(&weights);
        self.live.store(Arc::new(Live { set: set.clone(), members, schedule }));
    }

    /// The Endpoints at this moment.
    pub(crate) fn endpoints(&self) -> Arc<EndpointSet> {
        self.live.load().set.clone()
    }

    /// Chooses an Endpoint for a try. None when there is none that was not `tried`.
    ///
    /// Those that are out of rotation come last, but before nobody at all.
    pub(crate) fn choose(
        &self,
        balance: Balance,
        tried: &[SocketAddr],
        since_start: Duration,
    ) -> Option<InFlight> {
        let live = self.live.load();
        let pick = |number| live.pick(number, tried, since_start);
        let member = match balance {
            Balance::RoundRobin => pick(self.turn.next()),
            Balance::LeastRequests => {
                let load = |member: &Arc<Member>| member.in_flight.load(Ordering::Relaxed);
                match (pick(self.turn.scattered()), pick(self.turn.scattered())) {
                    (Some(one), Some(other)) if load(other) < load(one) => Some(other),
                    (one, other) => one.or(other),
                }
            }
        };
        member.map(InFlight::begin)
    }
}

impl Live {
    fn pick(
        &self,
        number: u64,
        tried: &[SocketAddr],
        since_start: Duration,
    ) -> Option<&Arc<Member>> {
        let mut ejected = None;
        for at in self.schedule.from(number) {
            let Some(member) = self.members.get(at) else { continue };
            if tried.contains(&member.address) {
                continue;
            }
            if !member.is_ejected(since_start) {
                return Some(member);
            }
            ejected.get_or_insert(member);
        }
        ejected
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How long an Endpoint is out of rotation after one failed connect; it grows with each in a row.
const EJECTION: Duration = Duration::from_secs(1);
const EJECTION_STEPS_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use kubeng_config::endpoint::Endpoint;

    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn state(ports: &[u16]) -> BackendState {
        let state = BackendState::default();
        state.store(&set(ports));
        state
    }

    fn set(ports: &[u16]) -> Arc<EndpointSet> {
        let endpoints = ports.iter().map(|&port| Endpoint::new(address(port))).collect();
        Arc::new(EndpointSet::new(endpoints))
    }

    fn choose(state: &BackendState, tried: &[SocketAddr]) -> Option<u16> {
        let chosen = state.choose(Balance::RoundRobin, tried, Duration::ZERO);
        chosen.map(|chosen| chosen.0.address.port())
    }

    #[test]
    fn round_robin_reaches_all_evenly() {
        let state = state(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let mut counts = [0; 11];
        for _ in 0..100 {
            counts[usize::from(choose(&state, &[]).unwrap())] += 1;
        }
        assert_eq!(counts[1..], [10; 10]);
    }

    #[test]
    fn a_retry_goes_to_another_endpoint() {
        let state = state(&[1, 2]);
        for _ in 0..4 {
            assert_eq!(choose(&state, &[address(1)]), Some(2));
        }
        assert_eq!(choose(&state, &[address(1), address(2)]), None);
        assert_eq!(choose(&BackendState::default(), &[]), None);
    }

    #[test]
    fn least_requests_prefers_the_idle_one() {
        let state = state(&[1, 2]);
        let busy: Vec<_> = (0..100)
            .filter_map(|_| state.choose(Balance::RoundRobin, &[address(2)], Duration::ZERO))
            .collect();
        let mut idle = 0;
        for _ in 0..100 {
            let chosen = state.choose(Balance::LeastRequests, &[], Duration::ZERO).unwrap();
            idle += u32::from(chosen.0.address == address(2));
        }
        assert!((50..100).contains(&idle), "{idle}");
        drop(busy);
        assert_eq!(state.live.load().members[0].in_flight.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_endpoint_that_failed_comes_last_for_a_while() {
        let state = state(&[1, 2]);
        let first = state.choose(Balance::RoundRobin, &[address(2)], Duration::ZERO).unwrap();
        first.0.failed(Duration::ZERO);
        assert_eq!([choose(&state, &[]), choose(&state, &[])], [Some(2), Some(2)]);
        assert_eq!(choose(&state, &[address(2)]), Some(1), "better than nobody");
        assert!(!first.0.is_ejected(EJECTION * 2));
        first.0.answered();
        assert!(!first.0.is_ejected(Duration::ZERO));
    }

    #[test]
    fn an_address_that_stays_keeps_its_load_and_one_that_returns_does_not() {
        let state = state(&[1, 2]);
        let before = state.live.load_full();
        state.store(&set(&[2, 3]));
        let after = state.live.load_full();
        assert!(Arc::ptr_eq(&before.members[1], &after.members[0]));
        state.store(&set(&[1, 2]));
        let again = state.live.load_full();
        assert_ne!(before.members[0].generation, again.members[0].generation);
    }
}
