//! What a replica holds, as far as the controller knows, and the difference from there.

use std::collections::BTreeMap;

use kubeng_config::backend::EndpointSource;
use kubeng_config::canonical::Digest;
use kubeng_config::delta::{AnyPart, Delta, PartKey};
use kubeng_config::name::BackendId;
use kubeng_config::snapshot::Snapshot;

use crate::distribution::publisher::Published;

/// What a replica holds.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each replica, and it is nearly always known"
)]
pub(super) enum Held {
    /// It must tell.
    Unknown,
    /// A Snapshot that is known here.
    Snapshot { digest: Digest, snapshot: Snapshot },
    /// One that is not known here, but which Parts it has. Bounded by the message that told it.
    Parts { digest: Digest, parts: BTreeMap<PartKey, Digest> },
}

impl Held {
    pub(super) fn of(snapshot: Snapshot) -> Self {
        Self::Snapshot { digest: snapshot.digest(), snapshot }
    }

    /// The digest; none while it is not known.
    pub(super) fn digest(&self) -> Option<Digest> {
        match self {
            Self::Unknown => None,
            Self::Snapshot { digest, .. } | Self::Parts { digest, .. } => Some(*digest),
        }
    }

    /// Whether it has the Backend; none while that is not known.
    pub(super) fn has_backend(&self, id: &BackendId) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::Snapshot { snapshot, .. } => Some(snapshot.backends().contains(id)),
            Self::Parts { parts, .. } => Some(parts.contains_key(&PartKey::Backend(id.clone()))),
        }
    }

    /// The Backends whose Endpoints are discovered; none while they are not known.
    pub(super) fn discovered(&self, newest: &Published) -> Option<Vec<BackendId>> {
        let is_discovered = |source: &EndpointSource| match source {
            EndpointSource::Discovered => true,
            EndpointSource::Written(_) => false,
        };
        match self {
            Self::Unknown => None,
            Self::Snapshot { snapshot, .. } => {
                let backends = snapshot.backends().iter();
                let backends = backends.filter(|(_, part)| is_discovered(&part.value().endpoints));
                Some(backends.map(|(id, _)| id.clone()).collect())
            }
            // What a Part of its says is not known, only what the one of this name here does; of one
            // that is gone here, whether there are still Endpoints.
            Self::Parts { parts, .. } => {
                let is_discovered = |id: &BackendId| match newest.snapshot.backends().get(id) {
                    Some(part) => is_discovered(&part.value().endpoints),
                    None => newest.endpoints.contains_key(id),
                };
                let backends = parts.keys().filter_map(|key| match key {
                    PartKey::Backend(id) => Some(id),
                    PartKey::Listener(_)
                    | PartKey::Policy(_)
                    | PartKey::Certificate(_)
                    | PartKey::ServerName(_)
                    | PartKey::Route(_) => None,
                });
                Some(backends.filter(|id| is_discovered(id)).cloned().collect())
            }
        }
    }

    /// The difference to `newer`, without Endpoints and secrets; none while it is not known from where.
    pub(super) fn delta_to(&self, newer: &Snapshot) -> Option<Delta> {
        match self {
            Self::Unknown => None,
            Self::Snapshot { snapshot, .. } => Some(snapshot.delta_to(newer)),
            Self::Parts { digest, parts } => Some(delta_from_parts(*digest, parts, newer)),
        }
    }
}

fn delta_from_parts(base: Digest, held: &BTreeMap<PartKey, Digest>, newer: &Snapshot) -> Delta {
    let mut delta = Delta { base, target: newer.digest(), ..Delta::default() };
    macro_rules! collect {
        ($($map:ident as $kind:ident),*) => {$(
            for (key, part) in newer.$map().iter() {
                if held.get(&PartKey::$kind(key.clone())) != Some(&part.digest()) {
                    delta.upserts.push(AnyPart::$kind(key.clone(), part.clone()));
                }
            }
        )*};
    }
    collect!(
        listeners as Listener,
        policies as Policy,
        backends as Backend,
        certificates as Certificate,
        server_names as ServerName,
        routes as Route
    );
    delta.removed = held.keys().filter(|key| !newer.contains(key)).cloned().collect();
    delta
}
