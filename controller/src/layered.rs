//! Who has set what of a Route: asked for when somebody wants to know, and kept nowhere.

use std::sync::Arc;

use kubeng_config::layer::{Layer, Scope};
use kubeng_config::merge::Setter;
use kubeng_config::name::{ObjectKey, RouteId};
use serde::Serialize;
use serde_json::Value;

use crate::control::ControlState;
use crate::object::Object;
use crate::translate::overrides::place::Place;
use crate::translate::overrides::{Overrides, written};
use crate::world::World;

/// One value of a Route that overrides have set, and all who did.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Layered {
    /// Which value, as a JSON Pointer into a patch.
    pub pointer: String,
    /// Whose word counts.
    pub winner: Said,
    /// Whose word does not, the lowest layer first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub losers: Vec<Said>,
}

/// What one override says.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    /// Its layer.
    pub layer: Layer,
    /// How much it is for.
    pub scope: Scope,
    /// The RouteOverride.
    pub object: ObjectKey,
    /// What it has set; null where it took back what lower layers had set.
    pub value: Option<Value>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

impl std::fmt::Display for Layered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Said { layer, scope, object, value, reason: _, expires_at } = &self.winner;
        match value {
            Some(value) => write!(f, "{} = {value} by {object} ({layer}, {scope}", self.pointer)?,
            None => write!(f, "{} taken back by {object} ({layer}, {scope}", self.pointer)?,
        }
        match expires_at {
            Some(end) => write!(f, ", until {end})"),
            None => f.write_str(")"),
        }
    }
}

impl ControlState {
    /// What overrides have set in a Route, by pointer; empty where none is for it.
    #[must_use]
    pub fn overrides_of(&self, id: &RouteId) -> Vec<Layered> {
        layered(self.world(), id, self.snapshot().routes().get(id).map(|part| &**part.value()))
    }
}

fn layered(
    world: &World,
    id: &RouteId,
    route: Option<&kubeng_config::route::Route>,
) -> Vec<Layered> {
    let overrides = Overrides::among(&id.object, |target| world.overrides(target));
    let Some(route) = route.filter(|_| !overrides.is_empty()) else { return Vec::new() };
    let (Some(at), Some(wanted)) = (route.attached.first(), route.matches.first()) else {
        return Vec::new();
    };
    let place = Place { name: Some(&id.rule), hosts: &at.hosts, path: &wanted.path };
    let Some(merged) = overrides.merged(&place) else { return Vec::new() };
    let said = |setter: Setter| {
        let object = world.object(&setter.object);
        let written = object.and_then(|object: &Arc<Object>| written(object));
        let end = written.and_then(|written| written.expires);
        Said {
            layer: setter.layer,
            scope: setter.scope,
            value: setter.value,
            reason: written.and_then(|written| written.reason.clone()),
            expires_at: end.map(crate::expiry::moment),
            object: setter.object,
        }
    };
    let of = |(pointer, setters): (String, Vec<Setter>)| {
        let mut all: Vec<Said> = setters.into_iter().map(said).collect();
        let winner = all.pop()?;
        Some(Layered { pointer, winner, losers: all })
    };
    merged.setters.into_iter().filter_map(of).collect()
}
