//! Endpoints that people wrote as DNS names: resolved by each replica, and checked each time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use kubeng_config::address::AddressRule;
use kubeng_config::backend::{Backend, EndpointSource, HostOrIp, WrittenEndpoint};
use kubeng_config::endpoint::{Endpoint, EndpointSet};
use kubeng_config::name::{BackendId, Hostname};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::BackendState;

/// A Backend some of whose Endpoints are names.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) spec: Arc<Backend>,
    /// Gone when no Table uses it any more.
    pub(crate) state: Weak<BackendState>,
}

/// All Backends with names, as the writer of Tables tells them.
pub(crate) type AllNamed = BTreeMap<BackendId, Named>;

/// The addresses that a name was last known to have.
type Answers = BTreeMap<Hostname, BTreeSet<IpAddr>>;

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
    rule: AddressRule,
    answer: impl Fn(&Hostname) -> Vec<IpAddr>,
) -> EndpointSet {
    let mut all = Vec::new();
    for WrittenEndpoint { address, port, weight } in endpoints {
        let addresses = match address {
            HostOrIp::Ip(address) => vec![*address],
            HostOrIp::Name(name) => answer(name),
        };
        let allowed = addresses.into_iter().filter(|&address| rule.forbids(address).is_none());
        all.extend(allowed.map(|address| Endpoint {
            address: SocketAddr::new(address, *port),
            weight: *weight,
            zone: None,
        }));
    }
    EndpointSet::new(all)
}

/// Resolves all names at once when they change, and again every 30 s. Ends with the writer.
pub(crate) async fn run(mut named: watch::Receiver<Arc<AllNamed>>) {
    let mut answers = Answers::new();
    loop {
        let backends = named.borrow_and_update().clone();
        answers = resolve_all(&backends, answers).await;
        for Named { spec, state } in backends.values() {
            let Some(state) = state.upgrade() else { continue };
            let known = |name: &Hostname| {
                answers.get(name).map_or_else(Vec::new, |known| known.iter().copied().collect())
            };
            let set = endpoints(written(spec).unwrap_or_default(), spec.addresses, known);
            state.store(&Arc::new(set));
        }
        tokio::select! {
            changed = named.changed() => if changed.is_err() { return },
            () = sleep(PERIOD), if !backends.is_empty() => {}
        }
    }
}

/// The answers for the names of `backends`; a name that cannot be resolved keeps its last answer.
async fn resolve_all(backends: &AllNamed, before: Answers) -> Answers {
    let names: BTreeSet<Hostname> = backends
        .values()
        .flat_map(|named| written(&named.spec).unwrap_or_default())
        .filter_map(|endpoint| match &endpoint.address {
            HostOrIp::Name(name) => Some(name.clone()),
            HostOrIp::Ip(_) => None,
        })
        .collect();
    let mut before = before;
    let mut questions = JoinSet::new();
    for name in &names {
        let name = name.clone();
        questions.spawn(async move { (resolve(&name).await, name) });
    }
    before.retain(|name, _| names.contains(name));
    while let Some(answered) = questions.join_next().await {
        if let Ok((Some(addresses), name)) = answered {
            before.insert(name, addresses);
        }
    }
    before
}

async fn resolve(name: &Hostname) -> Option<BTreeSet<IpAddr>> {
    // With the dot first: search lists, which a neighbour may be part of, stay out where they can.
    // Without it second: the file of hosts knows only names without.
    let mut found = look_up(format!("{name}.")).await;
    if found.is_err() {
        found = look_up(name.to_string()).await;
    }
    match found {
        Ok(addresses) => Some(addresses),
        Err(error) => {
            tracing::warn!(%name, %error, "name of a backend cannot be resolved");
            None
        }
    }
}

async fn look_up(name: String) -> io::Result<BTreeSet<IpAddr>> {
    let found = timeout(ANSWER, tokio::net::lookup_host((name, 0))).await;
    let addresses = found.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(addresses.map(|address| address.ip().to_canonical()).collect())
}

const PERIOD: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leads_where_the_rule_forbids() {
        let written = [
            WrittenEndpoint { address: "erp.example".parse().unwrap(), port: 80, weight: 1 },
            WrittenEndpoint { address: "10.0.0.1".parse().unwrap(), port: 81, weight: 2 },
        ];
        let answer = |_: &Hostname| vec!["169.254.169.254".parse().unwrap(), [10, 0, 0, 2].into()];
        let tenant = endpoints(&written, AddressRule::Tenant, answer);
        let addresses = |set: &EndpointSet| -> Vec<String> {
            set.as_slice().iter().map(|endpoint| endpoint.address.to_string()).collect()
        };
        assert_eq!(addresses(&tenant), ["10.0.0.1:81", "10.0.0.2:80"]);
        let operator = endpoints(&written, AddressRule::Operator, answer);
        assert_eq!(operator.as_slice().len(), 3);
    }

    #[tokio::test]
    async fn a_name_that_only_the_file_of_hosts_knows_is_found() {
        let found = resolve(&"localhost".parse().unwrap()).await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
    }
}
