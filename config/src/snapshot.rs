//! Snapshots: Parts that fit together. Immutable, and valid by construction.

mod fit;

use std::collections::BTreeSet;

use crate::backend::Backend;
use crate::canonical::Digest;
use crate::certificate::{Certificate, ServerName, ServerNameId};
use crate::delta::{AnyPart, Delta, PartKey};
use crate::listener::Listener;
use crate::name::{BackendId, CertificateId, ListenerId, PolicyId, RouteId};
use crate::part::{self, Change, Part, PartMap};
use crate::policy::Policy;
use crate::route::{Action, Route, TargetAction};

/// All Parts of a fleet. A clone is a few pointers.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    listeners: PartMap<ListenerId, Listener>,
    policies: PartMap<PolicyId, Policy>,
    backends: PartMap<BackendId, Backend>,
    certificates: PartMap<CertificateId, Certificate>,
    server_names: PartMap<ServerNameId, ServerName>,
    routes: PartMap<RouteId, Route>,
    /// How many Parts point at each Part.
    references: imbl::OrdMap<PartKey, u32>,
}

/// Why a Delta does not lead to a valid Snapshot. Nothing has changed then.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SnapshotError {
    /// The Delta starts from another Snapshot. The sender must compute it anew.
    #[error("the delta starts from {base:?}, but {held:?} is held")]
    Base {
        /// Where the Delta starts.
        base: Digest,
        /// What is held.
        held: Digest,
    },
    /// A Part points at one that does not exist. The sender must be mended.
    #[error("{0} is pointed at but does not exist")]
    Dangling(PartKey),
    /// A Route has no match, no Listener or no host, so nobody could reach it.
    #[error("route {0} has no match, no listener or no host")]
    Unreachable(RouteId),
    /// A Part asks for what cannot be honoured as it is, or beside the others. The sender must be
    /// mended: serving it in part would open what it closes.
    #[error("{part} cannot be served: {why}")]
    Misfit {
        /// The Part.
        part: PartKey,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The result is not what the sender meant. The sender must be mended.
    #[error("the delta leads to {found:?}, but says {target:?}")]
    Target {
        /// What the Delta says.
        target: Digest,
        /// What it leads to.
        found: Digest,
    },
}

impl Snapshot {
    /// The Listeners.
    #[must_use]
    pub fn listeners(&self) -> &PartMap<ListenerId, Listener> {
        &self.listeners
    }

    /// The Policies.
    #[must_use]
    pub fn policies(&self) -> &PartMap<PolicyId, Policy> {
        &self.policies
    }

    /// The Backends.
    #[must_use]
    pub fn backends(&self) -> &PartMap<BackendId, Backend> {
        &self.backends
    }

    /// The Certificates.
    #[must_use]
    pub fn certificates(&self) -> &PartMap<CertificateId, Certificate> {
        &self.certificates
    }

    /// The Server names.
    #[must_use]
    pub fn server_names(&self) -> &PartMap<ServerNameId, ServerName> {
        &self.server_names
    }

    /// The Routes.
    #[must_use]
    pub fn routes(&self) -> &PartMap<RouteId, Route> {
        &self.routes
    }

    /// How many Parts point at the Part of `key`.
    #[must_use]
    pub fn references_to(&self, key: &PartKey) -> u32 {
        self.references.get(key).copied().unwrap_or(0)
    }

    /// The digest over all kinds: the identity of the configuration.
    #[must_use]
    pub fn digest(&self) -> Digest {
        of_kinds([
            self.listeners.digest(),
            self.policies.digest(),
            self.backends.digest(),
            self.certificates.digest(),
            self.server_names.digest(),
            self.routes.digest(),
        ])
    }

    /// The digest of a Snapshot that had Parts of these keys and digests, whether or not they fit
    /// together: for who writes Parts again from what they became.
    #[must_use]
    pub fn digest_of(parts: impl IntoIterator<Item = (PartKey, Digest)>) -> Digest {
        let (mut listeners, mut policies, mut backends) = (Vec::new(), Vec::new(), Vec::new());
        let (mut certificates, mut server_names, mut routes) = (Vec::new(), Vec::new(), Vec::new());
        for (key, digest) in parts {
            match key {
                PartKey::Listener(id) => listeners.push((id, digest)),
                PartKey::Policy(id) => policies.push((id, digest)),
                PartKey::Backend(id) => backends.push((id, digest)),
                PartKey::Certificate(id) => certificates.push((id, digest)),
                PartKey::ServerName(id) => server_names.push((id, digest)),
                PartKey::Route(id) => routes.push((id, digest)),
            }
        }
        of_kinds([
            part::digest_of(listeners),
            part::digest_of(policies),
            part::digest_of(backends),
            part::digest_of(certificates),
            part::digest_of(server_names),
            part::digest_of(routes),
        ])
    }

    /// The Snapshot that `delta` leads to; the way of a replica, which checks both ends.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn with(&self, delta: &Delta) -> Result<Self, SnapshotError> {
        let held = self.digest();
        if delta.base != held {
            return Err(SnapshotError::Base { base: delta.base, held });
        }
        let newer = self.edited(delta.upserts.iter().cloned(), delta.removed.iter().cloned())?;
        let found = newer.digest();
        if found == delta.target {
            Ok(newer)
        } else {
            Err(SnapshotError::Target { target: delta.target, found })
        }
    }

    /// The Snapshot with these Parts put in and those taken out; the way of a controller.
    ///
    /// # Errors
    /// When the Parts do not fit together.
    pub fn edited(
        &self,
        upserts: impl IntoIterator<Item = AnyPart>,
        removed: impl IntoIterator<Item = PartKey>,
    ) -> Result<Self, SnapshotError> {
        let mut edits = Edits::default();
        for key in removed {
            edits.remove(key);
        }
        for part in upserts {
            edits.put(part);
        }
        let mut newer = Self {
            listeners: self.listeners.with(edits.listeners),
            policies: self.policies.with(edits.policies),
            backends: self.backends.with(edits.backends),
            certificates: self.certificates.with(edits.certificates),
            server_names: self.server_names.with(edits.server_names),
            routes: self.routes.with(edits.routes),
            references: self.references.clone(),
        };
        newer.recount(self, &edits.touched);
        newer.check(&edits.touched)?;
        Ok(newer)
    }

    /// The difference to `newer`, without Endpoints and secrets, which the sender adds.
    #[must_use]
    pub fn delta_to(&self, newer: &Self) -> Delta {
        let mut delta = Delta { base: self.digest(), target: newer.digest(), ..Delta::default() };
        macro_rules! collect {
            ($($map:ident as $kind:ident),*) => {$(
                for change in self.$map.diff(&newer.$map) {
                    match change {
                        Change::Added(key, part) | Change::Changed(key, _, part) => {
                            delta.upserts.push(AnyPart::$kind(key.clone(), part.clone()));
                        }
                        Change::Removed(key, _) => {
                            delta.removed.push(PartKey::$kind(key.clone()));
                        }
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
        delta
    }

    /// What the Part of `key` points at, each as often as it points there.
    fn pointed_at(&self, key: &PartKey) -> Vec<PartKey> {
        match key {
            PartKey::Listener(id) => self
                .listeners
                .get(id)
                .and_then(|part| part.value().default_certificate.clone())
                .map(PartKey::Certificate)
                .into_iter()
                .collect(),
            PartKey::ServerName(id) => self.server_names.get(id).map_or_else(Vec::new, |part| {
                vec![
                    PartKey::Certificate(part.value().certificate.clone()),
                    PartKey::Listener(id.listener.clone()),
                ]
            }),
            PartKey::Route(id) => {
                self.routes.get(id).map_or_else(Vec::new, |part| route_points_at(part.value()))
            }
            PartKey::Backend(id) => {
                let tls = self.backends.get(id).and_then(|part| part.value().tls.as_ref());
                let presented = tls.and_then(|tls| tls.client_certificate.clone());
                presented.map(PartKey::Certificate).into_iter().collect()
            }
            PartKey::Policy(_) | PartKey::Certificate(_) => Vec::new(),
        }
    }

    fn recount(&mut self, older: &Self, touched: &BTreeSet<PartKey>) {
        for key in touched {
            for target in older.pointed_at(key) {
                let count = older_count(&self.references, &target) - 1;
                if count == 0 {
                    self.references.remove(&target);
                } else {
                    self.references.insert(target, count);
                }
            }
            for target in self.pointed_at(key) {
                let count = self.references_to(&target) + 1;
                self.references.insert(target, count);
            }
        }
    }

    /// Checks what the touched Parts could have broken: themselves, what they
    /// point at, and what points at those that are gone.
    fn check(&self, touched: &BTreeSet<PartKey>) -> Result<(), SnapshotError> {
        for key in touched {
            if self.references_to(key) > 0 && !self.contains(key) {
                return Err(SnapshotError::Dangling(key.clone()));
            }
            if let Some(target) = self.pointed_at(key).into_iter().find(|to| !self.contains(to)) {
                return Err(SnapshotError::Dangling(target));
            }
            if let PartKey::Route(id) = key
                && let Some(route) = self.routes.get(id)
                && !is_reachable(route.value())
            {
                return Err(SnapshotError::Unreachable(id.clone()));
            }
        }
        self.check_fit(touched)
    }

    /// Whether there is a Part of `key`.
    #[must_use]
    pub fn contains(&self, key: &PartKey) -> bool {
        match key {
            PartKey::Listener(id) => self.listeners.contains(id),
            PartKey::Policy(id) => self.policies.contains(id),
            PartKey::Backend(id) => self.backends.contains(id),
            PartKey::Certificate(id) => self.certificates.contains(id),
            PartKey::ServerName(id) => self.server_names.contains(id),
            PartKey::Route(id) => self.routes.contains(id),
        }
    }
}

fn of_kinds(kinds: [Digest; 6]) -> Digest {
    Digest::of(kinds.iter().map(|digest| digest.as_bytes().as_slice()))
}

fn older_count(references: &imbl::OrdMap<PartKey, u32>, key: &PartKey) -> u32 {
    // Counted when the pointing Part came in, so it is at least 1; a wrong
    // count would show in `check`, not as a panic on a replica.
    references.get(key).copied().unwrap_or(1).max(1)
}

fn is_reachable(route: &Route) -> bool {
    !route.matches.is_empty()
        && !route.attached.is_empty()
        && route.attached.iter().all(|attachment| !attachment.hosts.is_empty())
}

fn route_points_at(route: &Route) -> Vec<PartKey> {
    let mut keys = vec![PartKey::Policy(route.policy.clone())];
    keys.extend(route.attached.iter().map(|at| PartKey::Listener(at.listener.clone())));
    for filter in &route.filters {
        keys.extend(filter.backends().into_iter().cloned().map(PartKey::Backend));
    }
    match &route.action {
        Action::Forward(targets) => {
            for target in targets {
                match &target.to {
                    TargetAction::Backend(id) => keys.push(PartKey::Backend(id.clone())),
                    TargetAction::Refuse { .. } => {}
                }
            }
        }
        Action::Answer | Action::Refuse { .. } => {}
    }
    keys
}

/// Edits sorted by kind, as the maps take them.
#[derive(Default)]
struct Edits {
    touched: BTreeSet<PartKey>,
    listeners: Vec<(ListenerId, Option<Part<Listener>>)>,
    policies: Vec<(PolicyId, Option<Part<Policy>>)>,
    backends: Vec<(BackendId, Option<Part<Backend>>)>,
    certificates: Vec<(CertificateId, Option<Part<Certificate>>)>,
    server_names: Vec<(ServerNameId, Option<Part<ServerName>>)>,
    routes: Vec<(RouteId, Option<Part<Route>>)>,
}

impl Edits {
    fn put(&mut self, part: AnyPart) {
        self.touched.insert(part.key());
        match part {
            AnyPart::Listener(id, part) => self.listeners.push((id, Some(part))),
            AnyPart::Policy(id, part) => self.policies.push((id, Some(part))),
            AnyPart::Backend(id, part) => self.backends.push((id, Some(part))),
            AnyPart::Certificate(id, part) => self.certificates.push((id, Some(part))),
            AnyPart::ServerName(id, part) => self.server_names.push((id, Some(part))),
            AnyPart::Route(id, part) => self.routes.push((id, Some(part))),
        }
    }

    fn remove(&mut self, key: PartKey) {
        self.touched.insert(key.clone());
        match key {
            PartKey::Listener(id) => self.listeners.push((id, None)),
            PartKey::Policy(id) => self.policies.push((id, None)),
            PartKey::Backend(id) => self.backends.push((id, None)),
            PartKey::Certificate(id) => self.certificates.push((id, None)),
            PartKey::ServerName(id) => self.server_names.push((id, None)),
            PartKey::Route(id) => self.routes.push((id, None)),
        }
    }
}
