//! Fragments to Snapshot: what is referenced stands in it, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use kubeng_config::delta::{AnyPart, PartKey};
use kubeng_config::filter::Filter;
use kubeng_config::route::{Action, TargetAction};
use kubeng_config::snapshot::{Snapshot, SnapshotError};

/// What changes in the Parts that answers give.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Roots that stand in the Snapshot from here on: Listeners, Server names, Routes.
    pub(crate) roots: BTreeMap<PartKey, AnyPart>,
    /// Roots that stand in it no more.
    pub(crate) gone: BTreeSet<PartKey>,
    /// Parts that stand in it as long as something points at them, and have changed.
    pub(crate) supplies: BTreeSet<PartKey>,
}

/// A Snapshot, and what is different in it.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) snapshot: Snapshot,
    /// Exactly the Parts that are different, by key.
    pub(crate) changed: BTreeSet<PartKey>,
    /// Roots that do not fit and were left out: a fault of translation, never of an Object.
    pub(crate) left_out: Vec<(PartKey, SnapshotError)>,
}

/// Puts changes into a Snapshot. `supply` gives the Parts that roots may point at.
///
/// Backends, Certificates and Policies enter with the first that points at
/// them and leave with the last; only what has changed is counted.
pub(crate) fn assemble(
    before: &Snapshot,
    changes: &Changes,
    supply: &dyn Fn(&PartKey) -> Option<AnyPart>,
) -> Assembled {
    match edit(before, changes, supply) {
        Ok((snapshot, changed)) => Assembled { snapshot, changed, left_out: Vec::new() },
        Err(_) => one_by_one(before, changes, supply),
    }
}

/// Puts in whatever fits, so that one wrong Part cannot hold back the others.
fn one_by_one(
    before: &Snapshot,
    changes: &Changes,
    supply: &dyn Fn(&PartKey) -> Option<AnyPart>,
) -> Assembled {
    let mut assembled =
        Assembled { snapshot: before.clone(), changed: BTreeSet::new(), left_out: Vec::new() };
    let roots = changes.roots.iter().map(|(key, part)| (key, Some(part)));
    // Listeners come first in the order of keys, so that what points at them fits.
    let gone = changes.gone.iter().rev().map(|key| (key, None));
    let supplies = changes
        .supplies
        .iter()
        .map(|key| Changes { supplies: BTreeSet::from([key.clone()]), ..Changes::default() });
    let steps = roots.chain(gone).map(|(key, part)| Changes {
        roots: part.iter().map(|part| (key.clone(), (*part).clone())).collect(),
        gone: part.is_none().then(|| key.clone()).into_iter().collect(),
        supplies: BTreeSet::new(),
    });
    for step in steps.chain(supplies) {
        match edit(&assembled.snapshot, &step, supply) {
            Ok((snapshot, changed)) => {
                assembled.snapshot = snapshot;
                assembled.changed.extend(changed);
            }
            Err(error) => {
                let keys = step.roots.into_keys().chain(step.gone).chain(step.supplies);
                assembled.left_out.extend(keys.map(|key| (key, error.clone())));
            }
        }
    }
    assembled
}

fn edit(
    before: &Snapshot,
    changes: &Changes,
    supply: &dyn Fn(&PartKey) -> Option<AnyPart>,
) -> Result<(Snapshot, BTreeSet<PartKey>), SnapshotError> {
    let mut upserts: BTreeMap<PartKey, AnyPart> = BTreeMap::new();
    let mut removed: BTreeSet<PartKey> = BTreeSet::new();
    let mut counts: BTreeMap<PartKey, i64> = BTreeMap::new();
    for (key, part) in &changes.roots {
        let old = part_of(before, key);
        if old.as_ref() == Some(part) {
            continue;
        }
        count(&mut counts, old.as_ref(), -1);
        count(&mut counts, Some(part), 1);
        upserts.insert(key.clone(), part.clone());
    }
    for key in &changes.gone {
        if let Some(old) = part_of(before, key) {
            count(&mut counts, Some(&old), -1);
            removed.insert(key.clone());
        }
    }
    for key in &changes.supplies {
        counts.entry(key.clone()).or_default();
    }
    for (key, change) in counts {
        let is_needed = i64::from(before.references_to(&key)) + change > 0;
        match (is_needed, is_supply(&key)) {
            (_, false) => {}
            (false, true) => {
                if before.contains(&key) {
                    removed.insert(key);
                }
            }
            (true, true) => {
                let part = supply(&key).ok_or_else(|| SnapshotError::Dangling(key.clone()))?;
                if part_of(before, &key).as_ref() != Some(&part) {
                    upserts.insert(key, part);
                }
            }
        }
    }
    let changed: BTreeSet<PartKey> = upserts.keys().chain(&removed).cloned().collect();
    if changed.is_empty() {
        return Ok((before.clone(), changed));
    }
    let snapshot = before.edited(upserts.into_values(), removed)?;
    Ok((snapshot, changed))
}

/// Whether the Part stands in the Snapshot only as long as something points at it.
fn is_supply(key: &PartKey) -> bool {
    match key {
        PartKey::Policy(_) | PartKey::Backend(_) | PartKey::Certificate(_) => true,
        PartKey::Listener(_) | PartKey::ServerName(_) | PartKey::Route(_) => false,
    }
}

fn count(counts: &mut BTreeMap<PartKey, i64>, part: Option<&AnyPart>, change: i64) {
    for key in part.map(points_at).unwrap_or_default() {
        *counts.entry(key).or_default() += change;
    }
}

/// What a Part points at, each as often as it points there.
fn points_at(part: &AnyPart) -> Vec<PartKey> {
    match part {
        AnyPart::Listener(_, part) => {
            part.value().default_certificate.iter().cloned().map(PartKey::Certificate).collect()
        }
        AnyPart::ServerName(id, part) => vec![
            PartKey::Listener(id.listener.clone()),
            PartKey::Certificate(part.value().certificate.clone()),
        ],
        AnyPart::Route(_, part) => {
            let route = part.value();
            let mut keys = vec![PartKey::Policy(route.policy.clone())];
            keys.extend(route.attached.iter().map(|at| PartKey::Listener(at.listener.clone())));
            let asked = route.filters.iter().flat_map(Filter::backends);
            keys.extend(asked.cloned().map(PartKey::Backend));
            match &route.action {
                Action::Forward(targets) => {
                    keys.extend(targets.iter().filter_map(|target| match &target.to {
                        TargetAction::Backend(id) => Some(PartKey::Backend(id.clone())),
                        TargetAction::Refuse { .. } => None,
                    }));
                }
                Action::Answer | Action::Refuse { .. } => {}
            }
            keys
        }
        AnyPart::Policy(..) | AnyPart::Backend(..) | AnyPart::Certificate(..) => Vec::new(),
    }
}

fn part_of(snapshot: &Snapshot, key: &PartKey) -> Option<AnyPart> {
    macro_rules! part {
        ($map:ident, $id:ident, $kind:ident) => {
            snapshot.$map().get($id).map(|part| AnyPart::$kind($id.clone(), part.clone()))
        };
    }
    match key {
        PartKey::Listener(id) => part!(listeners, id, Listener),
        PartKey::Policy(id) => part!(policies, id, Policy),
        PartKey::Backend(id) => part!(backends, id, Backend),
        PartKey::Certificate(id) => part!(certificates, id, Certificate),
        PartKey::ServerName(id) => part!(server_names, id, ServerName),
        PartKey::Route(id) => part!(routes, id, Route),
    }
}

#[cfg(test)]
mod tests {
    use kubeng_config::name::{ListenerId, RouteId};
    use kubeng_config::part::Part;
    use kubeng_config::policy::Policy;
    use kubeng_config::route::{Attachment, Rank, Refusal, Route};

    use super::*;

    fn listener() -> AnyPart {
        let listener = kubeng_config::listener::Listener::new(
            ([127, 0, 0, 1], 80).into(),
            kubeng_config::listener::Protocol::Http,
        );
        AnyPart::Listener("http".parse().unwrap(), Part::new(listener))
    }

    fn route(name: &str, listener: &str) -> AnyPart {
        let listener: ListenerId = listener.parse().unwrap();
        let hosts = vec![kubeng_config::matching::HostMatch::Any];
        let path = kubeng_config::matching::PathMatch::Otherwise;
        let route = Route {
            rank: Rank { created: 0, rule: 0 },
            attached: vec![Attachment { listener, hosts }],
            matches: vec![kubeng_config::matching::Match::of_path(path)],
            filters: Vec::new(),
            policy: "fleet/main".parse().unwrap(),
            action: Action::Refuse {
                status: Refusal::ServiceUnavailable,
                because: kubeng_config::problem::BACKEND_NOT_FOUND,
            },
        };
        let id = RouteId::new("Ingress/shop/web".parse().unwrap(), name);
        AnyPart::Route(id, Part::new(route))
    }

    #[test]
    fn a_part_that_does_not_fit_is_left_out_and_holds_nobody_back() {
        let supply = |key: &PartKey| match key {
            PartKey::Policy(id) => Some(AnyPart::Policy(id.clone(), Part::new(Policy::default()))),
            PartKey::Listener(_)
            | PartKey::Backend(_)
            | PartKey::Certificate(_)
            | PartKey::ServerName(_)
            | PartKey::Route(_) => None,
        };
        let parts = [listener(), route("good", "http"), route("lost", "nowhere")];
        let changes = Changes {
            roots: parts.into_iter().map(|part| (part.key(), part)).collect(),
            ..Changes::default()
        };
        let assembled = assemble(&Snapshot::default(), &changes, &supply);
        let lost = route("lost", "nowhere").key();
        assert_eq!(assembled.snapshot.routes().len(), 1);
        assert_eq!(assembled.left_out.iter().map(|(key, _)| key).collect::<Vec<_>>(), [&lost]);
        assert!(!assembled.changed.contains(&lost));

        let gone = Changes { gone: changes.roots.into_keys().collect(), ..Changes::default() };
        let emptied = assemble(&assembled.snapshot, &gone, &supply);
        assert_eq!(emptied.snapshot.digest(), Snapshot::default().digest());
        assert_eq!(emptied.changed, assembled.changed, "what came has gone");
    }
}
