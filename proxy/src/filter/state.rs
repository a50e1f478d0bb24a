//! What Filters remember from one request to the next. It outlives Tables for as long as the Filter
//! stays as it is, and is there only for Routes that have such Filters.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use kubeng_config::certificate::Secret;
use kubeng_config::filter::Filter;
use kubeng_config::filter::jwt::JwtKeys;
use kubeng_config::name::{RouteId, SecretId};
use kubeng_config::route::Route;
use tokio::sync::Semaphore;

use super::basic_auth::Users;
use super::concurrency_limit::Counts;
use super::jwt::key_set::{KeySet, KeySets};
use super::mirror::Share;
use super::rate_limit::Buckets;
use crate::table::{CompiledRoute, Map};

/// What one Filter remembers. A clone is the same memory.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// Nothing.
    None,
    Buckets(Arc<Buckets>),
    Counts(Arc<Counts>),
    /// None without the Secret.
    Users(Option<Arc<Users>>),
    /// The Secret; None without it, or where public keys are written.
    Key(Option<Secret>),
    /// Public keys that are fetched.
    KeySet(Arc<KeySet>),
    Gate(Arc<Semaphore>),
    Share(Arc<Share>),
}

impl State {
    fn new(filter: &Filter, secrets: &Map<SecretId, Secret>, of: &Memory) -> Self {
        match filter {
            Filter::RateLimit(limit) => Self::Buckets(Arc::new(Buckets::new(limit, &of.replicas))),
            Filter::ConcurrencyLimit(limit) => Self::Counts(Arc::new(Counts::new(limit))),
            Filter::BasicAuth(auth) => {
                Self::Users(secrets.get(&auth.users).and_then(Users::read).map(Arc::new))
            }
            Filter::Jwt(jwt) => match &jwt.keys {
                JwtKeys::Secret(id) => Self::Key(secrets.get(id).cloned()),
                JwtKeys::Inline(_) => Self::Key(None),
                JwtKeys::Remote(source) => Self::KeySet(of.key_sets.of(source)),
            },
            Filter::ExternalAuth(auth) => {
                Self::Gate(Arc::new(Semaphore::new(auth.questions_max.as_usize())))
            }
            Filter::Mirror(_) => Self::Share(Arc::default()),
            Filter::RequestHeaders(_)
            | Filter::ResponseHeaders(_)
            | Filter::Redirect(_)
            | Filter::Rewrite(_)
            | Filter::Cors(_)
            | Filter::ClientAddress(_)
            | Filter::BodyLimit(_)
            | Filter::Buffering(_)
            | Filter::RequestId(_)
            | Filter::Compression(_)
            | Filter::ErrorPages(_)
            | Filter::Maintenance(_) => Self::None,
        }
    }

    /// Whether it can be kept. What waits for its Secret looks again.
    fn is_worth_keeping(&self) -> bool {
        match self {
            Self::None | Self::Users(None) | Self::Key(_) => false,
            Self::Users(Some(_))
            | Self::Buckets(_)
            | Self::Counts(_)
            | Self::KeySet(_)
            | Self::Gate(_)
            | Self::Share(_) => true,
        }
    }
}

/// The Routes that are served and remember something.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    routes: HashMap<RouteId, Weak<CompiledRoute>>,
    /// How many there may be before those are forgotten that are served no more.
    sweep_at: usize,
    key_sets: Arc<KeySets>,
    /// How many replicas share out what is the fleet's; 0 until somebody has told.
    replicas: Arc<AtomicU32>,
}

impl Memory {
    /// Of a replica whose keys are fetched by `key_sets`.
    pub(crate) fn new(key_sets: Arc<KeySets>) -> Self {
        Self { key_sets, ..Self::default() }
    }

    /// From here on `replicas` share out what is the fleet's. What was used up stays used up.
    pub(crate) fn set_replicas(&self, replicas: NonZeroU32) {
        self.replicas.store(replicas.get(), Ordering::Relaxed);
    }

    /// The states of the Filters of `route`, in their order; empty where none remembers anything.
    pub(crate) fn states(
        &self,
        id: &RouteId,
        route: &Route,
        secrets: &Map<SecretId, Secret>,
    ) -> Box<[State]> {
        let before = self.routes.get(id).and_then(Weak::upgrade);
        let states: Vec<State> = route
            .filters
            .iter()
            .enumerate()
            .map(|(at, filter)| {
                let known = before.as_ref().and_then(|before| known(before, at, filter));
                known.unwrap_or_else(|| State::new(filter, secrets, self))
            })
            .collect();
        let is_any = states.iter().any(|state| !matches!(state, State::None));
        if is_any { states.into() } else { Box::default() }
    }

    /// Remembers a Route that is going to be served.
    pub(crate) fn keep(&mut self, route: &Arc<CompiledRoute>) {
        if self.routes.len() >= self.sweep_at {
            self.routes.retain(|_, route| route.strong_count() > 0);
            self.sweep_at = self.routes.len() * 2 + 64;
        }
        self.routes.insert(route.usage.id.clone(), Arc::downgrade(route));
    }
}

/// The state of an equal Filter: at its old place, or the first of its kind elsewhere.
fn known(before: &CompiledRoute, at: usize, filter: &Filter) -> Option<State> {
    let filters = &before.route.filters;
    let place = if filters.get(at) == Some(filter) {
        at
    } else {
        filters.iter().position(|other| other == filter)?
    };
    before.states.get(place).filter(|state| state.is_worth_keeping()).cloned()
}
