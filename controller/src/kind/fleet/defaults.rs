//! `spec.defaults`: what all Routes of a fleet have unless they, or an override, say otherwise.

use kubeng_config::backend::balance::Balance;
use kubeng_config::filter::Filter;
use kubeng_config::patch::Patch;
use kubeng_config::patch::member::{MEMBERS, find};
use kubeng_config::policy::Policy;
use kubeng_config::problem::Problem;
use serde_json::Value;

use super::Wrong;
use crate::decode::notes::Notes;
use crate::decode::suggest::nearest;
use crate::decode::typed;
use crate::translate::overrides::fitting::of_fleet;

/// The members that can be carried out for all Routes at once: those that name nothing of a namespace.
const CARRIED_OUT: [&str; 9] = [
    "timeouts",
    "retry",
    "limits",
    "access",
    "headers",
    "balance",
    "buffering",
    "compression",
    "requestId",
];

/// Those of them that are no Filters.
const NO_FILTERS: [&str; 3] = ["timeouts", "retry", "balance"];

/// What is read of it.
#[derive(Default)]
pub(super) struct Defaults {
    pub(super) policy: Policy,
    pub(super) filters: Vec<Filter>,
    pub(super) patch: Value,
    pub(super) balance: Balance,
}

/// # Errors
/// With what cannot be carried out for a whole fleet, or cannot be understood.
pub(super) fn read(written: Option<Value>, notes: &mut Notes) -> Result<Defaults, Box<Problem>> {
    let Some(written) = written.filter(|value| !value.is_null()) else {
        return Ok(Defaults::default());
    };
    let Some(members) = written.as_object() else {
        let message = "the defaults are no object".to_owned();
        return Err(Wrong(notes).at(FIELD, message, "write members of a RouteOverride below it"));
    };
    for name in members.keys().filter(|name| !CARRIED_OUT.contains(&name.as_str())) {
        let field = format!("{FIELD}/{name}");
        if find(name).is_some() {
            let message = format!("{name} cannot be a default of a fleet");
            let remedy = "remove it, and write a RouteOverride for each namespace";
            return Err(Wrong(notes).at(&field, message, remedy));
        }
        let names: Vec<&str> = MEMBERS.iter().map(|member| member.name).collect();
        notes.unknown_field(&field, nearest(name, &names));
        notes.refuse_within(FIELD)?;
    }
    if typed::part::<Patch>(written.clone(), FIELD, ALLOWED, notes).is_err() {
        notes.refuse_within(FIELD)?;
    }
    let mut of_filters = members.clone();
    of_filters.retain(|name, _| !NO_FILTERS.contains(&name.as_str()));
    let patch: Patch = serde_json::from_value(written)
        .map_err(|error| Wrong(notes).at(FIELD, error.to_string(), ALLOWED))?;
    let filters = of_fleet(&patch).map_err(|(pointer, refused)| {
        Wrong(notes).at(&format!("{FIELD}{pointer}"), refused.message, &refused.remedy)
    })?;
    let product = Policy::default();
    let policy = Policy {
        timeouts: patch.timeouts.unwrap_or_default().on(product.timeouts),
        retry: patch.retry.unwrap_or_default().over(product.retry),
    };
    let balance = match patch.balance {
        None => Balance::default(),
        Some(written) => written.on(&Balance::default()).ok_or_else(|| {
            let message = "policy hash does not say what is hashed".to_owned();
            Wrong(notes).at(&format!("{FIELD}/balance/hashOn"), message, "write what is hashed")
        })?,
    };
    Ok(Defaults { policy, filters, patch: Value::Object(of_filters), balance })
}

const FIELD: &str = "/spec/defaults";
const ALLOWED: &str = "write it as in a RouteOverride";
