//! `backends` and `canary`: who gets the requests of a Route.

use kubeng_config::name::{BackendId, ObjectKey};
use kubeng_config::patch::Patch;
use kubeng_config::patch::choice::{BackendPatch, Canary};
use kubeng_config::patch::scalar::Percent;
use kubeng_config::problem::NO_ENDPOINTS;
use kubeng_config::route::{Action, Refusal, Target, TargetAction};

use super::fitting::backend;
use super::{forwards, misfit};
use crate::translate::refusal::Refused;
use crate::world::view::View;

/// Shares the requests of a Route out anew. What cannot be used is left out: it only tunes.
pub(super) fn backends(
    view: &mut View<'_>,
    object: &ObjectKey,
    patch: &Patch,
    action: &mut Action,
) {
    let Action::Forward(targets) = action else { return };
    for written in patch.backends.iter().flat_map(|all| all.iter()) {
        if let Ok(id) = backend(view, object, &written.reference()) {
            put(targets, id, written);
        }
    }
    if targets.iter().all(|target| target.weight == 0) {
        // Somebody has switched all of them off.
        *action = Action::Refuse { status: Refusal::ServiceUnavailable, because: NO_ENDPOINTS };
        return;
    }
    if let Some(canary) = &patch.canary
        && let Some(share) = canary.weight
        && let Ok(id) = canary_backend(view, object, canary)
    {
        divide(targets, id, share);
    }
}

fn put(targets: &mut Vec<Target>, id: BackendId, written: &BackendPatch) {
    let to = TargetAction::Backend(id);
    let known = targets.iter().position(|target| target.to == to);
    let weight = |base: u32| match (written.disabled, written.weight) {
        (Some(true), _) => 0,
        (_, Some(weight)) => u32::try_from(weight.get()).unwrap_or(u32::MAX),
        (_, None) => base,
    };
    match known.and_then(|at| targets.get_mut(at)) {
        Some(target) => target.weight = weight(target.weight),
        None => targets.push(Target { to, weight: weight(1) }),
    }
}

/// Gives `id` its share of all requests; the others keep theirs among each other.
fn divide(targets: &mut Vec<Target>, id: BackendId, share: Percent) {
    let share = u64::from(share.of_ten_thousand());
    let to = TargetAction::Backend(id);
    targets.retain(|target| target.to != to);
    let sum: u64 = targets.iter().map(|target| u64::from(target.weight)).sum();
    let mut weights: Vec<u64> =
        targets.iter().map(|target| u64::from(target.weight) * (10_000 - share)).collect();
    weights.push(if sum == 0 { share } else { sum * share });
    targets.push(Target { to, weight: 0 });
    let divisor = weights.iter().fold(0, |divisor, weight| greatest_divisor(divisor, *weight));
    for (target, weight) in targets.iter_mut().zip(weights) {
        target.weight = u32::try_from(weight / divisor.max(1)).unwrap_or(u32::MAX);
    }
}

fn greatest_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

/// Who gets what a canary takes.
pub(super) fn canary_backend(
    view: &mut View<'_>,
    object: &ObjectKey,
    canary: &Canary,
) -> Result<BackendId, Refused> {
    let needed = || misfit("a canary needs a backend", "write canary.backend with name and port");
    backend(view, object, canary.backend.as_ref().ok_or_else(needed)?)
}

/// What of `backends` and `canary` cannot be used, by pointer.
pub(super) fn faults(
    view: &mut View<'_>,
    object: &ObjectKey,
    patch: &Patch,
) -> Vec<(&'static str, Refused)> {
    let mut faults = Vec::new();
    for written in patch.backends.iter().flat_map(|all| all.iter()) {
        let found = backend(view, object, &written.reference());
        faults.extend(found.err().map(|refused| ("/backends", refused)));
    }
    if let Some(canary) = &patch.canary {
        let found = canary_backend(view, object, canary);
        faults.extend(found.err().map(|refused| ("/canary/backend", refused)));
    }
    faults
}

/// Whether a canary with a sign of its own gets a Route.
pub(super) fn signed<'a>(patch: &'a Patch, action: &Action) -> Option<&'a Canary> {
    let canary = patch.canary.as_ref().filter(|_| forwards(action))?;
    (canary.header.is_some() || canary.cookie.is_some()).then_some(canary)
}
