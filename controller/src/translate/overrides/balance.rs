//! `balance` and `affinity`: they belong to a Backend, so they are for an Upstream, or for all
//! Backends of a namespace.

use kubeng_config::backend::Backend;
use kubeng_config::backend::balance::{Affinity, Sticky};
use kubeng_config::delta::AnyPart;
use kubeng_config::matching::PathMatch;
use kubeng_config::merge::Merged;
use kubeng_config::name::BackendId;
use kubeng_config::part::Part;
use kubeng_config::patch::Patch;
use kubeng_config::patch::choice::AffinityPatch;

use super::Overrides;
use super::place::Place;
use crate::translate::backend::Target;
use crate::world::view::View;

/// `target` with what overrides change in how its Endpoints are chosen.
pub(crate) fn on(view: &mut View<'_>, id: &BackendId, target: Target) -> Target {
    let overrides = Overrides::of(view, &id.object);
    // An Object as a whole: no Rule stands nowhere.
    let nowhere = Place { name: None, hosts: &[], path: &PathMatch::Otherwise };
    let Some(merged) = overrides.merged(&nowhere) else { return target };
    match target {
        Target::Usable { id, part: AnyPart::Backend(_, part), problems } => {
            let backend = changed(part.value(), &merged);
            let part = AnyPart::Backend(id.clone(), Part::new(backend));
            Target::Usable { id, part, problems }
        }
        other @ (Target::Usable { .. } | Target::Refused { .. }) => other,
    }
}

fn changed(backend: &Backend, merged: &Merged) -> Backend {
    let mut backend = backend.clone();
    let Ok(patch) = serde_json::from_value::<Patch>(merged.values.clone()) else { return backend };
    if merged.resets("/balance") {
        backend.balance = Default::default();
    }
    if let Some(balance) = patch.balance.and_then(|balance| balance.on(&backend.balance)) {
        backend.balance = balance;
    }
    let mut affinity = backend.affinity.as_deref().cloned().unwrap_or_default();
    if merged.resets("/affinity") {
        affinity.sticky = None;
    }
    if let Some(sticky) = patch.affinity.and_then(sticky) {
        affinity.sticky = Some(sticky);
    }
    backend.affinity = (affinity != Affinity::default()).then(|| Box::new(affinity));
    backend
}

fn sticky(written: AffinityPatch) -> Option<Sticky> {
    let AffinityPatch { cookie, max_age } = written;
    let max_age = max_age.and_then(|age| u32::try_from(age.seconds()).ok());
    Some(Sticky { cookie: cookie?, max_age_seconds: max_age })
}
