//! Tiny Snapshots and Endpoints, made once and shared by all seeds.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use fastrand::Rng;
use kubeng_config::address::AddressRule;
use kubeng_config::backend::{Backend, BackendProtocol, EndpointSource};
use kubeng_config::canonical::Digest;
use kubeng_config::delta::{AnyPart, Delta, PartKey};
use kubeng_config::endpoint::{Endpoint, EndpointSet};
use kubeng_config::listener::{Listener, Protocol};
use kubeng_config::matching::{Match, PathMatch};
use kubeng_config::name::{BackendId, RouteId};
use kubeng_config::part::Part;
use kubeng_config::policy::Policy;
use kubeng_config::problem::BACKEND_NOT_FOUND;
use kubeng_config::route::{Action, Attachment, Rank, Refusal, Route, Target, TargetAction};
use kubeng_config::snapshot::{Snapshot, SnapshotError};

use super::super::publisher::Published;
use super::super::signing::{SigningKey, VerifyingKeys};

/// In how many states a cluster can be, and a folder.
pub(super) const CLUSTERS: usize = 7;
pub(super) const FOLDERS: usize = 3;
/// The state of the cluster that one replica rejects.
pub(super) const POISON: usize = CLUSTERS - 1;
/// How many different sets a Backend can have; the first one is empty.
pub(super) const SETS: usize = 6;

pub(super) struct Library {
    /// What a cluster and a folder in these states become.
    snapshots: Vec<Vec<Snapshot>>,
    poisoned: BTreeSet<Digest>,
    pub(super) nothing: Snapshot,
    /// What is published before anything is known.
    pub(super) unpublished: Arc<Published>,
    pub(super) backends: [BackendId; 2],
    pub(super) sets: Vec<Arc<EndpointSet>>,
    pub(super) key: Arc<SigningKey>,
    pub(super) believed: VerifyingKeys,
    /// What Deltas lead to. It follows from them, and is slow to compute where nothing is optimised.
    led: RefCell<HashMap<DeltaKey, Result<Snapshot, SnapshotError>>>,
}

/// All that the result of a Delta follows from.
#[derive(Eq, Hash, PartialEq)]
struct DeltaKey {
    held: Digest,
    base: Digest,
    target: Digest,
    upserts: Vec<(PartKey, Digest)>,
    removed: Vec<PartKey>,
}

impl Library {
    pub(super) fn new() -> Self {
        let mut rng = Rng::with_seed(7);
        let backends = ["a", "b"].map(|name| format!("Service/shop/{name}:80").parse().unwrap());
        let nothing = Snapshot::default();
        let folders: Vec<Vec<AnyPart>> = (0..FOLDERS).map(|nth| folder(nth, &mut rng)).collect();
        let both = |cluster: &Vec<AnyPart>| {
            let of = |folder: &Vec<AnyPart>| {
                nothing.edited(cluster.iter().chain(folder).cloned(), []).unwrap()
            };
            folders.iter().map(of).collect::<Vec<_>>()
        };
        let clusters = (0..CLUSTERS).map(|nth| cluster(nth, &backends, &mut rng));
        let snapshots: Vec<Vec<Snapshot>> = clusters.map(|cluster| both(&cluster)).collect();
        let poisoned = snapshots[POISON].iter().map(Snapshot::digest).collect();
        let key = SigningKey::generate().unwrap();
        let believed = key.verifying_key().into();
        let key = Arc::new(key);
        let sets = (0..SETS).map(set).collect();
        let led = RefCell::default();
        Self {
            snapshots,
            poisoned,
            nothing,
            unpublished: Arc::default(),
            backends,
            sets,
            key,
            believed,
            led,
        }
    }

    pub(super) fn snapshot(&self, cluster: usize, folder: usize) -> &Snapshot {
        &self.snapshots[cluster][folder]
    }

    pub(super) fn is_poisoned(&self, digest: Digest) -> bool {
        self.poisoned.contains(&digest)
    }

    /// What `delta` leads to from `held`, as [`Snapshot::with`] says.
    pub(super) fn with(&self, held: &Snapshot, delta: &Delta) -> Result<Snapshot, SnapshotError> {
        let key = DeltaKey {
            held: held.digest(),
            base: delta.base,
            target: delta.target,
            upserts: delta.upserts.iter().map(|part| (part.key(), part.digest())).collect(),
            removed: delta.removed.clone(),
        };
        self.led.borrow_mut().entry(key).or_insert_with(|| held.with(delta)).clone()
    }
}

fn set(nth: usize) -> Arc<EndpointSet> {
    let port = u16::try_from(nth).unwrap();
    let endpoints = (nth > 0).then(|| Endpoint::new(([10, 0, 0, 1], port).into()));
    Arc::new(EndpointSet::new(endpoints.into_iter().collect()))
}

/// Routes and Backends at random; the first one differs from state to state.
fn cluster(nth: usize, backends: &[BackendId; 2], rng: &mut Rng) -> Vec<AnyPart> {
    let mut parts = Vec::new();
    let mut used: BTreeSet<&BackendId> = backends.iter().filter(|_| rng.bool()).collect();
    for rule in 0..4 {
        let to = rng.choice(backends).filter(|_| rng.u8(..4) > 0);
        used.extend(to);
        if rule == 0 || rng.bool() {
            let created = if rule == 0 { i64::try_from(nth).unwrap() } else { rng.i64(..3) };
            parts.push(route(rule, created, to));
        }
    }
    for id in used {
        let backend = Backend {
            protocol: BackendProtocol::Http1,
            tls: None,
            balance: Default::default(),
            affinity: None,
            resilience: None,
            endpoints: EndpointSource::Discovered,
            resolve: None,
            addresses: AddressRule::Tenant,
            proxy_protocol: None,
        };
        parts.push(AnyPart::Backend(id.clone(), Part::new(backend)));
    }
    parts
}

/// A Listener, and the Policies that Routes name.
fn folder(nth: usize, rng: &mut Rng) -> Vec<AnyPart> {
    let listener = Listener::new(([127, 0, 0, 1], 80).into(), Protocol::Http);
    let mut parts = vec![AnyPart::Listener("http".parse().unwrap(), Part::new(listener))];
    for name in ["p0", "p1"] {
        let mut policy = Policy::default();
        policy.retry.retries_max =
            if name == "p0" { u8::try_from(nth).unwrap() } else { rng.u8(..3) };
        parts.push(AnyPart::Policy(name.parse().unwrap(), Part::new(policy)));
    }
    parts
}

fn route(rule: u32, created: i64, to: Option<&BackendId>) -> AnyPart {
    let action = match to {
        Some(id) => {
            let to = TargetAction::Backend(id.clone());
            Action::Forward(vec![Target { to, weight: 1 }])
        }
        None => Action::Refuse { status: Refusal::ServiceUnavailable, because: BACKEND_NOT_FOUND },
    };
    let hosts = vec!["a.example".parse().unwrap()];
    let route = Route {
        rank: Rank { created, rule },
        attached: vec![Attachment { listener: "http".parse().unwrap(), hosts }],
        matches: vec![Match::of_path(PathMatch::Otherwise)],
        filters: Vec::new(),
        policy: format!("p{}", rule % 2).parse().unwrap(),
        action,
    };
    let id = RouteId::new("Ingress/shop/web".parse().unwrap(), &rule.to_string());
    AnyPart::Route(id, Part::new(route))
}
