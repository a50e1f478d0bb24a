//! The guard against mass removal: an empty or short list after an upgrade, a
//! lost right or a missing CRD must not take the routes away.
//!
//! Only whole lists are held, never a single deletion, and never EndpointSlices.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kubeng_config::name::{ObjectKey, ObjectKind};

/// How much later a second list must agree.
pub(super) const BELIEVED_AFTER: Duration = Duration::from_secs(60);

/// A loss of more than this many objects, and
const OBJECTS_MAX: usize = 10;

/// of more than this many in a hundred is held.
const PERCENT_MAX: usize = 20;

/// Objects that a list lacks, and since when.
#[derive(Clone, Debug)]
pub(super) struct Missing {
    keys: BTreeSet<ObjectKey>,
    since: Instant,
}

impl Missing {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.keys.remove(key);
    }

    pub(super) fn into_keys(self) -> BTreeSet<ObjectKey> {
        self.keys
    }

    pub(super) fn wait(&self, now: Instant) -> Duration {
        (self.since + BELIEVED_AFTER).saturating_duration_since(now)
    }
}

/// What becomes of the objects that a list lacks.
#[derive(Debug)]
pub(super) enum Verdict {
    /// They are removed.
    Take(BTreeSet<ObjectKey>),
    /// They stay for the time being.
    Hold(Missing),
}

/// Whether a list that lacks `gone` of `known` objects is not to be believed at once.
pub(super) fn is_mass(kind: ObjectKind, gone: usize, known: usize) -> bool {
    let is_guarded = match kind {
        ObjectKind::EndpointSlice => false,
        ObjectKind::Ingress
        | ObjectKind::IngressClass
        | ObjectKind::Service
        | ObjectKind::Secret
        | ObjectKind::Upstream
        | ObjectKind::ConfigMap
        | ObjectKind::RouteOverride
        | ObjectKind::Fleet => true,
    };
    is_guarded && gone > OBJECTS_MAX && gone * 100 > known * PERCENT_MAX
}

/// Judges a list that lacks `gone`. It is believed when a list that lacked at
/// least these came long enough before.
pub(super) fn judge(
    is_mass: bool,
    gone: BTreeSet<ObjectKey>,
    former: Option<Missing>,
    now: Instant,
) -> Verdict {
    if !is_mass {
        return Verdict::Take(gone);
    }
    match former.filter(|former| gone.is_subset(&former.keys)) {
        Some(former) if former.wait(now).is_zero() => Verdict::Take(gone),
        Some(former) => Verdict::Hold(Missing { keys: gone, since: former.since }),
        None => Verdict::Hold(Missing { keys: gone, since: now }),
    }
}
