//! Routes, from the places where look-ups find them.

use std::ops::ControlFlow;
use std::sync::Arc;

use kubeng_config::delta::AnyPart;
use kubeng_config::index::walk::Place;
use kubeng_config::matching::{HostMatch, Match};
use kubeng_config::name::{ListenerId, RouteId};
use kubeng_config::part::Part;
use kubeng_config::route::{Action, Attachment, Route};

use super::Take;
use crate::table::{CompiledRoute, Table};

/// Where one Route is found.
struct Seen<'a> {
    compiled: &'a Arc<CompiledRoute>,
    places: &'a [Found<'a>],
}

type Found<'a> = Place<'a, Arc<CompiledRoute>>;

pub(super) fn routes(table: &Table, take: Take<'_>) -> ControlFlow<()> {
    // Two that stand under one name are two: both count, so it shows.
    fn of<'a>(place: &Found<'a>) -> (*const CompiledRoute, &'a RouteId) {
        (Arc::as_ptr(place.placed.value), place.placed.id)
    }
    let mut all: Vec<Found<'_>> = table.routes.places().collect();
    all.sort_unstable_by(|a, b| of(a).cmp(&of(b)));
    for places in all.chunk_by(|a, b| of(a) == of(b)) {
        let Some(Place { placed, .. }) = places.first() else { continue };
        let seen = Seen { compiled: placed.value, places };
        take(AnyPart::Route(placed.id.clone(), seen.written()))?;
    }
    ControlFlow::Continue(())
}

impl Seen<'_> {
    fn written(&self) -> Part<Route> {
        let route = &self.compiled.route;
        let is_placed = self.is_where(route);
        let is_matched = self.places.iter().all(|place| {
            Arc::ptr_eq(place.placed.route, route) || place.placed.route.matches == route.matches
        });
        let turns = self.other_turns();
        if is_placed && is_matched && turns.is_none() {
            return Part::of(route.clone());
        }
        let mut route = Route::clone(route);
        if !is_placed || !is_matched {
            route.attached = self.attached();
            route.matches = self.matches();
        }
        if let (Some(turns), Action::Forward(targets)) = (turns, &mut route.action) {
            for (target, turns) in targets.iter_mut().zip(turns) {
                target.weight = turns;
            }
        }
        Part::new(route)
    }

    /// Whether it is found where `route` says, and nowhere else.
    fn is_where(&self, route: &Route) -> bool {
        let mut wanted: Vec<(&ListenerId, &HostMatch)> = route
            .attached
            .iter()
            .flat_map(|at| at.hosts.iter().map(move |host| (&at.listener, host)))
            .collect();
        wanted.sort();
        wanted.dedup();
        let place = |place: &Place<'_, _>| {
            let is_path = route.matches.get(place.placed.at).is_some_and(|m| m.path == place.path);
            is_path && wanted.binary_search(&(place.listener, &place.host)).is_ok()
        };
        let mut found: Vec<_> = self.places.iter().map(key).collect();
        found.sort();
        found.dedup();
        found.len() == self.places.len()
            && found.len() == wanted.len() * route.matches.len()
            && self.places.iter().all(place)
    }

    /// The turns of its targets, where they are not those of their weights.
    fn other_turns(&self) -> Option<Vec<u32>> {
        let Action::Forward(targets) = &self.compiled.route.action else { return None };
        let weights: Vec<u32> = targets.iter().map(|target| target.weight).collect();
        match &self.compiled.rotation {
            Some(rotation) if rotation.is_of(&weights) => None,
            Some(rotation) => Some((0..weights.len()).map(|at| rotation.turns_of(at)).collect()),
            None if matches!(weights.as_slice(), [weight] if *weight > 0) => None,
            // The first gets everything.
            None => Some((0..weights.len()).map(|at| u32::from(at == 0)).collect()),
        }
    }

    /// Where it is found.
    fn attached(&self) -> Vec<Attachment> {
        let mut found: Vec<_> = self.places.iter().map(|at| (at.listener, &at.host)).collect();
        found.sort();
        found.dedup();
        let mut attached: Vec<Attachment> = Vec::new();
        for (listener, host) in found {
            match attached.last_mut().filter(|last| last.listener == *listener) {
                Some(last) => last.hosts.push(host.clone()),
                None => {
                    let (listener, hosts) = (listener.clone(), vec![host.clone()]);
                    attached.push(Attachment { listener, hosts });
                }
            }
        }
        attached
    }

    /// By what it is found.
    fn matches(&self) -> Vec<Match> {
        let mut places: Vec<_> = self.places.iter().collect();
        places.sort_by_key(|place| place.placed.at);
        let mut matches: Vec<Match> = Vec::new();
        for place in places {
            let Some(wanted) = place.placed.route.matches.get(place.placed.at) else { continue };
            let found = Match { path: place.path.clone(), ..wanted.clone() };
            if !matches.contains(&found) {
                matches.push(found);
            }
        }
        matches
    }
}

fn key<'a, T>(place: &'a Place<'_, T>) -> (&'a ListenerId, &'a HostMatch, usize) {
    (place.listener, &place.host, place.placed.at)
}
