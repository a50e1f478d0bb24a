//! The guard against mass removal: an empty or short list after an upgrade, a
//! lost right or a missing CRD must not take the routes away.
//!
//! Only whole lists are held, never a single deletion. A list that has nothing at all where
//! there was something is never believed at once, however little that was; one that is only
//! short may take Endpoints away, which come and go with their Pods.

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

/// How many objects a list lacks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    /// Those that it lacks.
    pub(super) gone: usize,
    /// Those that were known of what it covers.
    pub(super) known: usize,
    /// Those that stand in it, whether they can be decoded or not.
    pub(super) listed: usize,
}

/// Whether a list with this loss is not to be believed at once.
pub(super) fn is_mass(kind: ObjectKind, Loss { gone, known, listed }: Loss) -> bool {
    let is_everything = listed == 0 && gone > 0 && gone == known;
    let is_counted = match kind {
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
    is_everything || (is_counted && gone > OBJECTS_MAX && gone * 100 > known * PERCENT_MAX)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: ObjectKind, (gone, known, listed): (usize, usize, usize), expected: bool) {
        let loss = Loss { gone, known, listed };
        assert_eq!(is_mass(kind, loss), expected, "{kind} {loss:?}");
    }

    #[test]
    fn an_empty_list_is_mass_for_every_kind_and_however_little_was_known() {
        for kind in ObjectKind::ALL {
            check(kind, (0, 0, 0), false);
            check(kind, (1, 1, 0), true);
            check(kind, (5, 5, 0), true);
            check(kind, (500, 500, 0), true);
            // One other object shows that the server knows the kind.
            check(kind, (1, 1, 1), false);
            check(kind, (1, 2, 1), false);
        }
    }

    #[test]
    fn a_short_list_is_mass_by_share_and_number_but_for_endpoints() {
        let (slice, ingress) = (ObjectKind::EndpointSlice, ObjectKind::Ingress);
        check(ingress, (10, 20, 10), false);
        check(ingress, (11, 20, 9), true);
        check(ingress, (20, 100, 80), false);
        check(ingress, (21, 100, 79), true);
        check(slice, (99, 100, 1), false);
    }
}
