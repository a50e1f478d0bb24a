use kubeng_config::address::AddressRule;
use kubeng_config::backend::balance::{HashKey, Sticky};
use kubeng_config::backend::resilience::{Ejection, Resilience};
use kubeng_config::backend::{Backend, BackendProtocol, EndpointSource};
use kubeng_config::endpoint::{Endpoint, EndpointSet};

use super::*;
use crate::backend::BackendState;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn set(endpoints: impl IntoIterator<Item = (u16, u16)>) -> Arc<EndpointSet> {
    let endpoint = |(port, weight)| Endpoint { weight, ..Endpoint::new(address(port)) };
    Arc::new(EndpointSet::new(endpoints.into_iter().map(endpoint).collect()))
}

fn backend(balance: Balance, endpoints: &[(u16, u16)]) -> CompiledBackend {
    let state = BackendState::default();
    state.store(&set(endpoints.iter().copied()));
    let spec = Backend {
        protocol: BackendProtocol::Http1,
        tls: None,
        balance,
        affinity: None,
        resilience: None,
        endpoints: EndpointSource::Discovered,
        resolve: None,
        addresses: AddressRule::Operator,
        proxy_protocol: None,
    };
    let id = "Service/test/web:80".parse().unwrap();
    CompiledBackend {
        traffic: Arc::default(),
        tls: crate::backend::tls::CompiledTls::of(&id, &spec, None),
        id,
        spec: Arc::new(spec),
        connection_key: 0,
        state: Arc::new(state),
    }
}

fn edit(backend: &mut CompiledBackend, change: impl FnOnce(&mut Backend)) {
    change(Arc::get_mut(&mut backend.spec).unwrap());
}

struct Replica {
    key: StickyKey,
    zone: Option<&'static str>,
    since_start: Duration,
}

impl Default for Replica {
    fn default() -> Self {
        let key = StickyKey::new(Some(b"key")).unwrap();
        Self { key, zone: None, since_start: Duration::from_secs(1) }
    }
}

impl Replica {
    fn setting(&self) -> Setting<'_> {
        Setting { since_start: self.since_start, zone: self.zone, sticky_key: &self.key }
    }

    fn try_choose(
        &self,
        backend: &CompiledBackend,
        wish: Wish,
        tried: &[u16],
    ) -> Result<InFlight, NoEndpoint> {
        let tried: Vec<_> = tried.iter().copied().map(address).collect();
        backend.choose(wish, &tried, self.setting())
    }

    #[track_caller]
    fn choose(&self, backend: &CompiledBackend, wish: Wish) -> u16 {
        self.try_choose(backend, wish, &[]).unwrap().0.address.port()
    }

    /// How often each port is chosen in so many requests that end at once.
    fn counts(&self, backend: &CompiledBackend, requests: u64, key: bool) -> Vec<(u16, u64)> {
        let mut counts = std::collections::BTreeMap::new();
        for number in 0..requests {
            let wish = Wish { key: key.then_some(number), token: None };
            *counts.entry(self.choose(backend, wish)).or_default() += 1;
        }
        counts.into_iter().collect()
    }
}

const fn wish_for(key: u64) -> Wish {
    Wish { key: Some(key), token: None }
}

fn algorithms() -> [Balance; 4] {
    [
        Balance::RoundRobin,
        Balance::LeastRequests,
        Balance::PeakEwma,
        Balance::ConsistentHash(HashKey::Path),
    ]
}

#[test]
fn round_robin_reaches_all_evenly() {
    let backend = backend(Balance::RoundRobin, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(|p| (p, 1)));
    let counts = Replica::default().counts(&backend, 100, false);
    assert!(counts.iter().all(|(_, count)| *count == 10), "{counts:?}");
}

#[test]
fn every_algorithm_honours_weights() {
    for balance in algorithms() {
        let backend = backend(balance.clone(), &[(1, 1), (2, 2), (3, 5), (4, 0)]);
        let counts = Replica::default().counts(&backend, 8000, true);
        assert_eq!(counts.iter().map(|(port, _)| *port).collect::<Vec<_>>(), [1, 2, 3]);
        // Of two by weight the first keeps a draw, so shares are exact; chance has its tenth.
        for ((port, count), share) in counts.into_iter().zip([1000_u64, 2000, 5000]) {
            let slack = if balance == Balance::RoundRobin { 1 } else { share / 8 };
            assert!(count.abs_diff(share) <= slack, "{balance:?} {port}: {count} for {share}");
        }
    }
}

#[test]
fn a_retry_goes_to_another_endpoint_and_nobody_is_left_in_the_end() {
    for balance in algorithms() {
        let backend = backend(balance, &[(1, 1), (2, 1), (3, 0)]);
        let replica = Replica::default();
        for key in 0..20 {
            let chosen = replica.try_choose(&backend, wish_for(key), &[1]).unwrap();
            assert_eq!(chosen.0.address.port(), 2);
        }
        let none = replica.try_choose(&backend, wish_for(1), &[1, 2]);
        assert_eq!(none.unwrap_err(), NoEndpoint::None);
    }
    let none = Replica::default().try_choose(&backend(Balance::RoundRobin, &[]), wish_for(1), &[]);
    assert_eq!(none.unwrap_err(), NoEndpoint::None);
}

#[test]
fn least_requests_prefers_the_idle_one() {
    let backend = backend(Balance::LeastRequests, &[(1, 1), (2, 1)]);
    let replica = Replica::default();
    let busy: Vec<_> =
        (0..100).map(|_| replica.try_choose(&backend, Wish::default(), &[2]).unwrap()).collect();
    // Both are always among the two, so the idle one wins until it is as busy.
    let idle: Vec<_> =
        (0..100).map(|_| replica.try_choose(&backend, Wish::default(), &[]).unwrap()).collect();
    assert!(idle.iter().all(|chosen| chosen.0.address.port() == 2));
    drop((busy, idle));
    assert_eq!(backend.state.load(), 0);
}

#[test]
fn peak_ewma_prefers_the_one_that_answers_sooner() {
    let backend = backend(Balance::PeakEwma, &[(1, 1), (2, 1), (3, 1)]);
    let replica = Replica::default();
    for (member, millis) in backend.state.members().iter().zip([200, 10, 10]) {
        member.latency.observe(Duration::from_millis(millis), replica.since_start);
    }
    let counts = replica.counts(&backend, 3000, false);
    assert!(counts.iter().all(|(port, _)| *port != 1), "{counts:?}");
    // After a while without a measurement it is asked again.
    let later = Replica { since_start: Duration::from_secs(120), ..Replica::default() };
    assert!(later.counts(&backend, 300, false).iter().any(|(port, _)| *port == 1));
}

#[test]
fn the_same_key_leads_to_the_same_endpoint_while_others_come_and_go() {
    let backend = backend(
        Balance::ConsistentHash(HashKey::ClientAddress),
        &(1..=10).map(|port| (port, 1)).collect::<Vec<_>>(),
    );
    let replica = Replica::default();
    let places = |backend: &CompiledBackend| -> Vec<u16> {
        (0..2000).map(|key| replica.choose(backend, wish_for(key))).collect()
    };
    let before = places(&backend);
    assert_eq!(before, places(&backend));
    backend.state.store(&set((1..=11).map(|port| (port, 1))));
    let grown = places(&backend);
    let moved = before.iter().zip(&grown).filter(|(was, is)| was != is).count();
    assert!((100..300).contains(&moved), "about an eleventh moves: {moved} of 2000");
    // One that is out gives its keys to all others, and gets them back.
    let out = backend.state.members()[0].clone();
    out.eject(&Ejection::default(), replica.since_start);
    let without = places(&backend);
    let mut heirs: Vec<u16> =
        grown.iter().zip(&without).filter(|(was, _)| **was == 1).map(|(_, is)| *is).collect();
    heirs.sort_unstable();
    heirs.dedup();
    assert!(heirs.len() >= 9 && !heirs.contains(&1), "{heirs:?}");
    let kept = grown.iter().zip(&without).filter(|(was, _)| **was != 1);
    assert!(kept.clone().all(|(was, is)| was == is), "the others keep theirs");
    out.answered();
    // An ejection ends at once with a good answer after a failure.
    out.fails(&Ejection::default());
    out.answered();
    assert_eq!(places(&backend), grown);
}

#[test]
fn an_endpoint_that_failed_comes_last_for_a_while() {
    let backend = backend(Balance::RoundRobin, &[(1, 1), (2, 1)]);
    let replica = Replica::default();
    let first = replica.try_choose(&backend, Wish::default(), &[2]).unwrap();
    first.0.avoid(replica.since_start);
    assert_eq!([replica.choose(&backend, Wish::default()); 2], [2, 2]);
    let last = replica.try_choose(&backend, Wish::default(), &[2]).unwrap();
    assert_eq!(last.0.address.port(), 1, "better than nobody");
    assert!(!first.0.is_avoided(replica.since_start + Duration::from_secs(2)));
    first.0.connected();
    assert!(!first.0.is_avoided(replica.since_start));
}

#[test]
fn never_more_than_half_are_taken_out() {
    let backend = backend(Balance::RoundRobin, &[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]);
    let replica = Replica::default();
    let mut out = 0;
    for member in backend.state.members() {
        for _ in 0..5 {
            out += u32::from(backend.member_failed(&member, replica.since_start));
        }
    }
    assert_eq!((out, backend.state.ejections()), (2, 2));
    let counts = replica.counts(&backend, 300, false);
    assert_eq!(counts.iter().map(|(port, _)| *port).collect::<Vec<_>>(), [3, 4, 5]);
    let single = super::tests::backend(Balance::RoundRobin, &[(1, 1)]);
    let member = single.state.members().remove(0);
    assert!((0..20).all(|_| !single.member_failed(&member, replica.since_start)));
}

#[test]
fn when_too_few_are_well_all_are_used() {
    let mut backend = backend(Balance::RoundRobin, &[(1, 1), (2, 1), (3, 1), (4, 1)]);
    let replica = Replica::default();
    let ports = |backend: &CompiledBackend| -> Vec<u16> {
        replica.counts(backend, 400, false).into_iter().map(|(port, _)| port).collect()
    };
    let members = backend.state.members();
    members[0].probed.set_unwell(true);
    members[1].probed.set_unwell(true);
    assert_eq!(ports(&backend), [3, 4], "half is enough");
    members[2].probed.set_unwell(true);
    assert_eq!(ports(&backend), [1, 2, 3, 4]);
    let never = Resilience { panic_percent: 0, ..Resilience::default() };
    edit(&mut backend, |spec| spec.resilience = Some(Box::new(never)));
    assert_eq!(ports(&backend), [4]);
    members[3].probed.set_unwell(true);
    let nobody = replica.try_choose(&backend, Wish::default(), &[]);
    assert_eq!(nobody.err(), Some(NoEndpoint::None));
}

#[test]
fn an_endpoint_that_joins_gets_its_share_little_by_little() {
    let mut backend = backend(Balance::RoundRobin, &[(1, 1), (2, 1), (3, 1)]);
    let slow = Affinity { slow_start: Some(Duration::from_secs(10)), ..Affinity::default() };
    edit(&mut backend, |spec| spec.affinity = Some(Box::new(slow)));
    backend.state.store(&set([(1, 1), (2, 1), (3, 1), (4, 1)]));
    let share = |seconds: u64| {
        let replica =
            Replica { since_start: Duration::from_secs(100 + seconds), ..Replica::default() };
        let counts = replica.counts(&backend, 4000, false);
        counts.iter().find(|(port, _)| *port == 4).map_or(0, |(_, count)| *count)
    };
    let (at_once, half, whole) = (share(0), share(5), share(10));
    assert!((50..180).contains(&at_once), "a tenth of 1000: {at_once}");
    assert!((400..600).contains(&half), "half of 1000: {half}");
    assert!((990..=1010).contains(&whole), "{whole}");
}

#[test]
fn the_own_zone_comes_first_while_enough_of_it_is_well() {
    let endpoint = |port: u16, zone: &str| Endpoint {
        zone: Some(zone.into()),
        ..Endpoint::new(address(port))
    };
    let mut backend = backend(Balance::RoundRobin, &[]);
    let zones = Affinity { zones: Zones::PreferOwn(60), ..Affinity::default() };
    edit(&mut backend, |spec| spec.affinity = Some(Box::new(zones)));
    let all = vec![endpoint(1, "a"), endpoint(2, "a"), endpoint(3, "b"), endpoint(4, "b")];
    backend.state.store(&Arc::new(EndpointSet::new(all)));
    let ports = |zone| -> Vec<u16> {
        let replica = Replica { zone, ..Replica::default() };
        replica.counts(&backend, 200, false).into_iter().map(|(port, _)| port).collect()
    };
    assert_eq!(ports(None), [1, 2, 3, 4]);
    // The zone of a replica never changes, so the next is another backend state.
    backend.state.store(&set([]));
    let all = vec![endpoint(1, "a"), endpoint(2, "a"), endpoint(3, "b"), endpoint(4, "b")];
    backend.state.store(&Arc::new(EndpointSet::new(all)));
    assert_eq!(ports(Some("a")), [1, 2]);
    backend.state.members()[0].probed.set_unwell(true);
    assert_eq!(ports(Some("a")), [2, 3, 4], "half of the zone is not enough");
    let replica = Replica { zone: Some("a"), ..Replica::default() };
    backend.state.members()[0].probed.set_unwell(false);
    let other = replica.try_choose(&backend, Wish::default(), &[1, 2]).unwrap();
    assert!([3, 4].contains(&other.0.address.port()), "a retry leaves the zone");
}

#[test]
fn a_cookie_keeps_a_client_at_its_endpoint_until_that_takes_nothing_new() {
    let mut backend = backend(Balance::RoundRobin, &[(1, 1), (2, 1), (3, 1)]);
    let sticky = Sticky { cookie: "r".parse().unwrap(), max_age_seconds: None };
    let affinity = Affinity { sticky: Some(sticky.clone()), ..Affinity::default() };
    edit(&mut backend, |spec| spec.affinity = Some(Box::new(affinity)));
    let replica = Replica::default();
    let set_cookie = |port| {
        let value = crate::backend::sticky::set_cookie(
            &replica.key,
            &backend.id,
            address(port),
            &sticky,
            true,
        );
        let value = value.unwrap();
        let text = value.to_str().unwrap();
        Token::read(text.split([';', '=']).nth(1).unwrap().as_bytes())
    };
    let wish = Wish { key: None, token: set_cookie(2) };
    assert!(wish.token.is_some());
    assert!((0..9).all(|_| replica.choose(&backend, wish) == 2));
    assert_ne!(replica.try_choose(&backend, wish, &[2]).unwrap().0.address.port(), 2);
    for gone in [set([(1, 1), (2, 0), (3, 1)]), set([(1, 1), (3, 1)])] {
        backend.state.store(&gone);
        assert!((0..9).all(|_| replica.choose(&backend, wish) != 2), "{gone:?}");
    }
}

#[test]
fn a_full_endpoint_gets_nothing_and_a_full_backend_says_so() {
    let mut backend = backend(Balance::RoundRobin, &[(1, 1), (2, 1)]);
    let circuit = Circuit { connections_max: 2, pending_max: 1, ..Circuit::default() };
    let resilience = Resilience { circuit, ..Resilience::default() };
    edit(&mut backend, |spec| spec.resilience = Some(Box::new(resilience)));
    let replica = Replica::default();
    let choose = || replica.try_choose(&backend, Wish::default(), &[]);
    let pending = [choose().unwrap(), choose().unwrap()];
    assert_eq!(choose().unwrap_err(), NoEndpoint::Full, "one waits at each");
    pending.iter().for_each(InFlight::connected);
    let second = [choose().unwrap(), choose().unwrap()];
    second.iter().for_each(InFlight::connected);
    assert_eq!(choose().unwrap_err(), NoEndpoint::Full, "two are connected to each");
    drop(second);
    assert!(choose().is_ok());
}

#[test]
fn requests_and_retries_are_bounded() {
    let mut backend = backend(Balance::RoundRobin, &[(1, 1)]);
    let retries: Vec<_> = std::iter::from_fn(|| backend.admit_retry()).collect();
    assert_eq!(retries.len(), 3, "at least three");
    drop(retries);
    let replica = Replica::default();
    let flying: Vec<_> =
        (0..50).map(|_| replica.try_choose(&backend, Wish::default(), &[]).unwrap()).collect();
    let retries: Vec<_> = std::iter::from_fn(|| backend.admit_retry()).collect();
    assert_eq!(retries.len(), 10, "a fifth of fifty");
    drop((retries, flying));
    let circuit = Circuit { requests_max: Some(2), ..Circuit::default() };
    let resilience = Resilience { circuit, ..Resilience::default() };
    edit(&mut backend, |spec| spec.resilience = Some(Box::new(resilience)));
    let (one, other) = (backend.admit(), backend.admit());
    assert!(one.is_some() && other.is_some() && backend.admit().is_none());
    drop(one);
    assert!(backend.admit().is_some());
}

fn leveled(backend: &CompiledBackend, endpoints: &[(u16, u8, EndpointState)]) {
    let endpoint = |&(port, priority, state): &(u16, u8, EndpointState)| Endpoint {
        priority,
        state,
        ..Endpoint::new(address(port))
    };
    backend.state.store(&Arc::new(EndpointSet::new(endpoints.iter().map(endpoint).collect())));
}

#[test]
fn those_of_a_higher_number_serve_only_while_no_lower_one_can() {
    use EndpointState::Active;
    for balance in algorithms() {
        let backend = backend(balance.clone(), &[]);
        let all = [(1, 0, Active), (2, 0, Active), (3, 1, Active), (4, 1, Active), (5, 7, Active)];
        leveled(&backend, &all);
        let members = backend.state.members();
        let replica = Replica::default();
        let ports = || -> Vec<u16> {
            replica.counts(&backend, 400, true).into_iter().map(|(port, _)| port).collect()
        };
        assert_eq!(ports(), [1, 2], "{balance:?}");
        members[0].probed.set_unwell(true);
        assert_eq!(ports(), [2], "{balance:?}");
        members[1].avoid(replica.since_start);
        assert_eq!(ports(), [3, 4], "{balance:?}");
        members[2].probed.set_unwell(true);
        members[3].probed.set_unwell(true);
        assert_eq!(ports(), [5], "{balance:?}");
        members[0].probed.set_unwell(false);
        assert_eq!(ports(), [1], "it is back: {balance:?}");
        let retry = replica.try_choose(&backend, wish_for(1), &[1]).unwrap();
        assert_eq!(retry.0.address.port(), 5, "a retry goes on to who can: {balance:?}");
    }
}

#[test]
fn one_that_is_drained_keeps_its_clients_and_gets_no_others() {
    use EndpointState::{Active, Draining};
    let mut backend = backend(Balance::RoundRobin, &[]);
    let sticky = Sticky { cookie: "route".parse().unwrap(), max_age_seconds: None };
    let affinity = Affinity { sticky: Some(sticky), ..Affinity::default() };
    edit(&mut backend, |spec| spec.affinity = Some(Box::new(affinity)));
    let replica = Replica::default();
    leveled(&backend, &[(1, 0, Draining), (2, 0, Active)]);
    let keeper = Wish { key: None, token: Some(replica.key.token(&backend.id, address(1))) };
    assert_eq!(replica.choose(&backend, keeper), 1);
    assert_eq!(replica.counts(&backend, 50, false), [(2, 50)]);
    // Who stood in for others keeps nobody when they are back.
    leveled(&backend, &[(1, 1, Active), (2, 0, Active)]);
    assert_eq!(replica.choose(&backend, keeper), 2);
}
