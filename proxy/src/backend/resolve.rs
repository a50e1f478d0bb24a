//! Endpoints that people wrote as DNS names: resolved by each replica, and checked each time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use kubeng_config::address::{Gate, Reserved};
use kubeng_config::backend::resolve::{Family, OnFailure, Resolve};
use kubeng_config::backend::{Backend, EndpointSource, HostOrIp, WrittenEndpoint};
use kubeng_config::endpoint::{Endpoint, EndpointSet};
use kubeng_config::name::{BackendId, Hostname};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::BackendState;

/// A Backend some of whose Endpoints are names.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) spec: Arc<Backend>,
    /// What it may not name on this replica.
    pub(crate) reserved: Arc<Reserved>,
    /// Gone when no Table uses it any more.
    pub(crate) state: Weak<BackendState>,
}

impl Named {
    fn terms(&self) -> Terms<'_> {
        Terms::of(&self.spec, &self.reserved)
    }
}

/// Which addresses of names a Backend uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    gate: Gate<'a>,
    resolve: Resolve,
}

impl<'a> Terms<'a> {
    pub(crate) fn of(spec: &Backend, reserved: &'a Reserved) -> Self {
        let gate = Gate { rule: spec.addresses, reserved };
        Self { gate, resolve: spec.resolve.as_deref().copied().unwrap_or_default() }
    }

    /// The addresses of a name that are used, whether they are allowed or not.
    fn addresses(self, answer: &Answer) -> impl Iterator<Item = IpAddr> {
        let is_lost = answer.error.is_some() && self.resolve.on_failure == OnFailure::Drop;
        let kept = (!is_lost).then_some(&answer.addresses).into_iter().flatten();
        kept.copied().filter(move |address| self.resolve.family.accepts(*address))
    }
}

/// All Backends with names, as the writer of Tables tells them. While their lock is held, what is
/// written and what is stored belong together.
pub(crate) type AllNamed = BTreeMap<BackendId, Named>;

/// What is known of each name.
pub(crate) type Answers = BTreeMap<Hostname, Answer>;

/// What is known of a name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Answer {
    /// The addresses that it was last known to have.
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// Why it could not be resolved the last time.
    pub(crate) error: Option<String>,
}

/// A name of a Backend that leads nowhere, or cannot be resolved any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unresolved {
    /// The Backend that names it.
    pub backend: BackendId,
    /// The name.
    pub name: String,
    /// What is wrong with it, for people.
    pub reason: String,
}

/// The addresses that a person wrote as such; None when all Endpoints are discovered.
pub(crate) fn written(spec: &Backend) -> Option<&[WrittenEndpoint]> {
    match &spec.endpoints {
        EndpointSource::Discovered => None,
        EndpointSource::Written(endpoints) => Some(endpoints),
    }
}

/// Whether some of `endpoints` must be resolved.
pub(crate) fn has_names(endpoints: &[WrittenEndpoint]) -> bool {
    endpoints.iter().any(|endpoint| matches!(endpoint.address, HostOrIp::Name(_)))
}

/// The Endpoints that `endpoints` stand for: those with an address, and those whose name is known.
///
/// An address that the rule forbids is left out: a name may lead anywhere, at any time.
pub(crate) fn endpoints(
    endpoints: &[WrittenEndpoint],
    terms: Terms<'_>,
    answers: &Answers,
) -> EndpointSet {
    let mut all = Vec::new();
    for WrittenEndpoint { address, port, weight, zone, state, priority } in endpoints {
        let addresses = match address {
            HostOrIp::Ip(address) => vec![*address],
            HostOrIp::Name(name) => {
                answers.get(name).into_iter().flat_map(|known| terms.addresses(known)).collect()
            }
        };
        let sockets = addresses.into_iter().map(|address| SocketAddr::new(address, *port));
        let allowed = sockets.filter(|&socket| terms.gate.forbids(socket).is_none());
        let (weight, state, priority) = (*weight, *state, *priority);
        all.extend(allowed.map(|address| {
            let zone = zone.clone();
            Endpoint { address, weight, zone, state, priority }
        }));
    }
    EndpointSet::new(all)
}

/// Whether one of `endpoints` is a name that was never asked.
pub(crate) fn has_unasked(endpoints: &[WrittenEndpoint], answers: &Answers) -> bool {
    names_of(endpoints).any(|name| !answers.contains_key(name))
}

/// The names that lead nowhere, or cannot be resolved any more. Those never asked are not told.
pub(crate) fn unresolved(named: &AllNamed, answers: &Answers) -> Vec<Unresolved> {
    let mut all = Vec::new();
    for (backend, one) in named {
        let endpoints = written(&one.spec).unwrap_or_default();
        let names: BTreeSet<_> = names_of(endpoints).collect();
        for name in names {
            let Some(answer) = answers.get(name) else { continue };
            let ports = endpoints.iter().filter_map(|endpoint| match &endpoint.address {
                HostOrIp::Name(other) => (other == name).then_some(endpoint.port),
                HostOrIp::Ip(_) => None,
            });
            if let Some(reason) = fault(answer, one.terms(), &ports.collect::<Vec<_>>()) {
                all.push(Unresolved { backend: backend.clone(), name: name.to_string(), reason });
            }
        }
    }
    all
}

fn fault(answer: &Answer, terms: Terms<'_>, ports: &[u16]) -> Option<String> {
    if let Some(error) = &answer.error {
        return Some(error.clone());
    }
    let mut reasons = Vec::new();
    for address in terms.addresses(answer) {
        for &port in ports {
            // One that may be used is enough.
            let reason = terms.gate.forbids(SocketAddr::new(address, port))?;
            reasons.push(format!("{address}: {reason}"));
        }
    }
    Some(match (reasons.is_empty(), terms.resolve.family) {
        (false, _) => reasons.join(", "),
        (true, Family::Any) => "it has no address".to_owned(),
        (true, Family::Ipv4) => "it has no address of IPv4".to_owned(),
        (true, Family::Ipv6) => "it has no address of IPv6".to_owned(),
    })
}

/// Resolves each name when it comes, and again as often as its Backends want. Ends with the writer.
pub(crate) async fn run(mut named: watch::Receiver<AllNamed>, answers: watch::Sender<Answers>) {
    let mut questions = Questions::default();
    let mut rounds = Rounds::default();
    loop {
        tokio::select! {
            changed = named.changed() => {
                if changed.is_err() {
                    return;
                }
                rounds.take(&named.borrow_and_update());
                answers.send_modify(|answers| answers.retain(|name, _| rounds.has(name)));
                // An answer may have come while the writer worked without it.
                store(&named, &answers, |_| true);
            }
            () = rounds.wait() => questions.ask(rounds.due(Instant::now())),
            Some((name, found)) = questions.next() => {
                if note(&answers, &name, found) {
                    store(&named, &answers, |other| *other == name);
                }
            }
        }
    }
}

/// When each name is asked again.
#[derive(Debug, Default)]
struct Rounds(BTreeMap<Hostname, Round>);

#[derive(Clone, Copy, Debug)]
struct Round {
    /// From one question to the next.
    every: Duration,
    /// When it was asked the last time.
    asked: Option<Instant>,
}

impl Round {
    fn next(self) -> Option<Instant> {
        self.asked.map(|asked| asked + self.every)
    }
}

impl Rounds {
    /// Takes the names over that there are; those that stay keep their turn.
    fn take(&mut self, named: &AllNamed) {
        let before = std::mem::take(&mut self.0);
        for one in named.values() {
            let every = one.terms().resolve.every.max(PERIOD_MIN);
            for name in names_of(written(&one.spec).unwrap_or_default()) {
                let asked = before.get(name).and_then(|round| round.asked);
                let round = self.0.entry(name.clone()).or_insert(Round { every, asked });
                round.every = round.every.min(every);
            }
        }
    }

    fn has(&self, name: &Hostname) -> bool {
        self.0.contains_key(name)
    }

    /// Waits until a name is due. Cancel safe.
    async fn wait(&self) {
        // One that was never asked is due: `None` is the smallest.
        match self.0.values().map(|round| round.next()).min() {
            None => std::future::pending().await,
            Some(None) => {}
            Some(Some(next)) => tokio::time::sleep_until(next).await,
        }
    }

    /// The names that are due; their next turn is counted from `now`.
    fn due(&mut self, now: Instant) -> Vec<Hostname> {
        let due = self.0.iter_mut().filter(|(_, round)| round.next().is_none_or(|at| at <= now));
        due.map(|(name, round)| {
            round.asked = Some(now);
            name.clone()
        })
        .collect()
    }
}

fn names_of(endpoints: &[WrittenEndpoint]) -> impl Iterator<Item = &Hostname> {
    endpoints.iter().filter_map(|endpoint| match &endpoint.address {
        HostOrIp::Name(name) => Some(name),
        HostOrIp::Ip(_) => None,
    })
}

/// Puts the Endpoints of those Backends in place that have such a name.
fn store(
    named: &watch::Receiver<AllNamed>,
    answers: &watch::Sender<Answers>,
    is_such: impl Fn(&Hostname) -> bool,
) {
    // Held while storing: under the same lock the writer changes what is written together with the
    // Endpoints, so the result of an older configuration never replaces that of a newer one.
    let named = named.borrow();
    let answers = answers.borrow();
    for one in named.values() {
        let written = written(&one.spec).unwrap_or_default();
        if names_of(written).any(&is_such)
            && let Some(state) = one.state.upgrade()
        {
            state.store(&Arc::new(current(written, one.terms(), &answers, &state)));
        }
    }
}

/// The Endpoints that a Backend has at this moment.
///
/// While nothing is known yet, what served goes on as far as the rule allows.
pub(crate) fn current(
    written: &[WrittenEndpoint],
    terms: Terms<'_>,
    answers: &Answers,
    state: &BackendState,
) -> EndpointSet {
    let set = endpoints(written, terms, answers);
    if !set.as_slice().is_empty() || !has_unasked(written, answers) {
        return set;
    }
    let before = state.endpoints();
    let allowed = before.as_slice().iter().filter(|one| terms.gate.forbids(one.address).is_none());
    EndpointSet::new(allowed.cloned().collect())
}

/// Remembers an answer; gives whether it is another than before.
fn note(
    answers: &watch::Sender<Answers>,
    name: &Hostname,
    found: io::Result<BTreeSet<IpAddr>>,
) -> bool {
    answers.send_if_modified(|answers| {
        let before = answers.get(name);
        let answer = match found {
            Ok(addresses) => Answer { addresses, error: None },
            // The last addresses stay.
            Err(error) => Answer {
                addresses: before.map(|before| before.addresses.clone()).unwrap_or_default(),
                error: Some(error.to_string()),
            },
        };
        if before == Some(&answer) {
            return false;
        }
        match &answer.error {
            Some(error) => tracing::warn!(%name, error, "name of a backend cannot be resolved"),
            None => {
                tracing::info!(%name, addresses = ?answer.addresses, "name of a backend resolved");
            }
        }
        answers.insert(name.clone(), answer);
        true
    })
}

/// Look-ups in progress: one at a time for each name, and only so many at once.
struct Questions {
    asked: BTreeSet<Hostname>,
    running: JoinSet<(Hostname, io::Result<BTreeSet<IpAddr>>)>,
    turns: Arc<Semaphore>,
}

impl Default for Questions {
    fn default() -> Self {
        let turns = Arc::new(Semaphore::new(QUESTIONS_MAX));
        Self { asked: BTreeSet::new(), running: JoinSet::new(), turns }
    }
}

impl Questions {
    fn ask(&mut self, names: impl IntoIterator<Item = Hostname>) {
        for name in names {
            if self.asked.insert(name.clone()) {
                let turns = self.turns.clone();
                self.running.spawn(async move {
                    // Never closed, so an error cannot come; it would only lift the bound.
                    let _turn = turns.acquire().await;
                    (name.clone(), resolve(&name).await)
                });
            }
        }
    }

    /// The next answer; None when no question is open.
    async fn next(&mut self) -> Option<(Hostname, io::Result<BTreeSet<IpAddr>>)> {
        let answered = self.running.join_next().await?;
        // `resolve` does not panic, and nobody aborts it.
        let (name, found) = answered.ok()?;
        self.asked.remove(&name);
        Some((name, found))
    }
}

async fn resolve(name: &Hostname) -> io::Result<BTreeSet<IpAddr>> {
    // With the dot first: search lists, which a neighbour may be part of, stay out where they can.
    // Without it second: the file of hosts knows only names without.
    match look_up(format!("{name}.")).await {
        Ok(addresses) => Ok(addresses),
        Err(_) => look_up(name.to_string()).await,
    }
}

async fn look_up(name: String) -> io::Result<BTreeSet<IpAddr>> {
    let found = timeout(ANSWER, tokio::net::lookup_host((name, 0))).await;
    let addresses = found.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(addresses.map(|address| address.ip().to_canonical()).collect())
}

/// The smallest [`Resolve::every`].
const PERIOD_MIN: Duration = Duration::from_secs(1);
/// Look-ups at once; each may hold a thread.
const QUESTIONS_MAX: usize = 16;
const ANSWER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use kubeng_config::address::AddressRule;

    use super::*;

    fn terms(rule: AddressRule) -> Terms<'static> {
        static NOTHING: std::sync::LazyLock<Reserved> = std::sync::LazyLock::new(Reserved::default);
        let gate = Gate { rule, reserved: &NOTHING };
        Terms { gate, resolve: Resolve::default() }
    }

    #[test]
    fn a_name_never_leads_where_the_rule_forbids() {
        let written = [
            WrittenEndpoint::new("erp.example".parse().unwrap(), 80),
            WrittenEndpoint::new("10.0.0.1".parse().unwrap(), 81),
        ];
        let addresses = ["169.254.169.254".parse().unwrap(), [10, 0, 0, 2].into()].into();
        let answers =
            Answers::from([("erp.example".parse().unwrap(), Answer { addresses, error: None })]);
        let tenant = endpoints(&written, terms(AddressRule::Tenant), &answers);
        let addresses = |set: &EndpointSet| -> Vec<String> {
            set.as_slice().iter().map(|endpoint| endpoint.address.to_string()).collect()
        };
        assert_eq!(addresses(&tenant), ["10.0.0.1:81", "10.0.0.2:80"]);
        let operator = endpoints(&written, terms(AddressRule::Operator), &answers);
        assert_eq!(operator.as_slice().len(), 3);
    }

    #[test]
    fn a_name_never_leads_to_the_control_plane() {
        let written = [10250, 6443, 80]
            .map(|port| WrittenEndpoint::new("erp.example".parse().unwrap(), port));
        let addresses = [[10, 0, 0, 2].into()].into();
        let answers =
            Answers::from([("erp.example".parse().unwrap(), Answer { addresses, error: None })]);
        let reserved = Reserved::new(["10.0.0.2:6443".parse().unwrap()]);
        let gate = Gate { rule: AddressRule::Tenant, reserved: &reserved };
        let tenant = Terms { gate, resolve: Resolve::default() };
        let set = endpoints(&written, tenant, &answers);
        let ports: Vec<_> = set.as_slice().iter().map(|one| one.address.port()).collect();
        assert_eq!(ports, [80]);
        let gate = Gate { rule: AddressRule::Operator, ..gate };
        let operator = Terms { gate, ..tenant };
        assert_eq!(endpoints(&written, operator, &answers).as_slice().len(), 3);
    }

    #[tokio::test]
    async fn a_name_that_only_the_file_of_hosts_knows_is_found() {
        let found = resolve(&"localhost".parse().unwrap()).await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
    }

    fn named(names: &[&str], addresses: AddressRule, state: &Arc<BackendState>) -> AllNamed {
        let endpoints = names.iter().map(|name| WrittenEndpoint::new(name.parse().unwrap(), 80));
        let spec = Backend {
            protocol: kubeng_config::backend::BackendProtocol::Http1,
            tls: None,
            balance: kubeng_config::backend::balance::Balance::RoundRobin,
            affinity: None,
            resilience: None,
            endpoints: EndpointSource::Written(endpoints.collect()),
            resolve: None,
            addresses,
            proxy_protocol: None,
        };
        let reserved = Arc::default();
        let named = Named { spec: Arc::new(spec), reserved, state: Arc::downgrade(state) };
        AllNamed::from([("Service/test/web:80".parse().unwrap(), named)])
    }

    #[test]
    fn an_answer_serves_what_is_written_when_it_comes() {
        let state = Arc::new(BackendState::default());
        let (writer, reader) =
            watch::channel(named(&["a.example", "b.example"], AddressRule::Tenant, &state));
        let answers = watch::Sender::new(Answers::new());
        let name = "a.example".parse().unwrap();
        // The configuration changed while the question was open.
        writer.send_replace(named(&["a.example", "10.0.0.9"], AddressRule::Tenant, &state));
        assert!(note(&answers, &name, Ok([[10, 0, 0, 1].into()].into())));
        store(&reader, &answers, |other| *other == name);
        let stored = state.endpoints();
        let ports: Vec<_> = stored.as_slice().iter().map(|one| one.address.to_string()).collect();
        assert_eq!(ports, ["10.0.0.1:80", "10.0.0.9:80"]);
        assert!(!note(&answers, &name, Ok([[10, 0, 0, 1].into()].into())), "nothing is different");
    }

    #[test]
    fn names_that_lead_nowhere_are_told() {
        let state = Arc::new(BackendState::default());
        let named = named(&["a.example", "b.example", "c.example"], AddressRule::Tenant, &state);
        let answers = watch::Sender::new(Answers::new());
        let told = || -> Vec<_> {
            let all = unresolved(&named, &answers.borrow());
            all.into_iter().map(|one| format!("{} {}", one.name, one.reason)).collect()
        };
        assert!(told().is_empty(), "never asked");
        let good = || Ok([[10, 0, 0, 1].into()].into());
        note(&answers, &"a.example".parse().unwrap(), good());
        note(&answers, &"b.example".parse().unwrap(), Err(io::Error::other("no such name")));
        note(&answers, &"c.example".parse().unwrap(), Ok([[127, 0, 0, 1].into()].into()));
        let all = told();
        assert_eq!(all.len(), 2, "{all:?}");
        assert_eq!(all[0], "b.example no such name");
        assert!(all[1].starts_with("c.example 127.0.0.1: "), "{all:?}");
        // One that is lost keeps its addresses, and is told.
        note(&answers, &"a.example".parse().unwrap(), Err(io::Error::other("gone")));
        assert_eq!(told()[0], "a.example gone");
        assert_eq!(answers.borrow()["a.example"].addresses.len(), 1);
        note(&answers, &"b.example".parse().unwrap(), good());
        assert_eq!(told().len(), 2);
    }

    #[test]
    fn family_and_failure_decide_which_addresses_are_used() {
        let written = [WrittenEndpoint::new("a.example".parse().unwrap(), 80)];
        let addresses = [[10, 0, 0, 1].into(), "fd00::1".parse().unwrap()].into();
        let count = |error: Option<&str>, family, on_failure| {
            let resolve = Resolve { family, on_failure, ..Resolve::default() };
            let terms = Terms { resolve, ..terms(AddressRule::Tenant) };
            let addresses = std::collections::BTreeSet::clone(&addresses);
            let answer = Answer { addresses, error: error.map(Into::into) };
            let answers = Answers::from([("a.example".parse().unwrap(), answer)]);
            endpoints(&written, terms, &answers).as_slice().len()
        };
        assert_eq!(count(None, Family::Any, OnFailure::Keep), 2);
        assert_eq!(count(None, Family::Ipv4, OnFailure::Drop), 1);
        assert_eq!(count(None, Family::Ipv6, OnFailure::Keep), 1);
        assert_eq!(count(Some("gone"), Family::Any, OnFailure::Keep), 2);
        assert_eq!(count(Some("gone"), Family::Any, OnFailure::Drop), 0);
    }

    #[tokio::test]
    async fn a_name_is_asked_as_often_as_the_most_impatient_backend_wants() {
        let state = Arc::new(BackendState::default());
        let of = |seconds: u64, id: &str| {
            let mut all = named(&["a.example"], AddressRule::Tenant, &state);
            let (_, mut one) = all.pop_first().unwrap();
            let every = Duration::from_secs(seconds);
            let spec = Arc::make_mut(&mut one.spec);
            spec.resolve = Some(Box::new(Resolve { every, ..Resolve::default() }));
            (id.parse().unwrap(), one)
        };
        let (slow, fast) = (of(60, "Upstream/test/slow"), of(5, "Upstream/test/fast"));
        let mut rounds = Rounds::default();
        rounds.take(&AllNamed::from([slow.clone()]));
        let now = Instant::now();
        assert_eq!(rounds.due(now).len(), 1, "it was never asked");
        let after = |seconds| now + Duration::from_secs(seconds);
        assert!(rounds.due(after(59)).is_empty());
        rounds.take(&AllNamed::from([slow.clone(), fast]));
        assert!(rounds.due(after(4)).is_empty(), "it keeps its turn");
        assert_eq!(rounds.due(after(5)).len(), 1);
        rounds.take(&AllNamed::from([slow]));
        assert!(rounds.due(after(64)).is_empty());
        assert_eq!(rounds.due(after(65)).len(), 1);
    }
}
