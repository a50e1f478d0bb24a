//! Routes that are refused on this replica alone, because somebody on the machine says so.

use std::sync::Arc;

use kubeng_config::name::RouteId;
use kubeng_config::problem;
use kubeng_config::route::{Action, Refusal, Route};

use super::TableWriter;
use crate::table::{CompiledRoute, Table};

impl TableWriter {
    /// Requests for the Route are answered with 503 from here on, whatever controllers say of it, until
    /// [`serve_again`](Self::serve_again) or a [`heal`](Self::heal). False where there is none.
    pub fn refuse(&mut self, id: &RouteId) -> bool {
        let mut table = Table::clone(&self.shared.table.load());
        let Some(before) = put_refusal(&mut table, id) else { return false };
        self.refused.entry(id.clone()).or_insert(Some(before));
        self.shared.table.store(Arc::new(table));
        true
    }

    /// Serves Routes again that were refused on this replica alone.
    pub fn serve_again(&mut self) {
        let mut table = Table::clone(&self.shared.table.load());
        for (id, before) in std::mem::take(&mut self.refused) {
            let Some(part) = table.snapshot.routes().get(&id) else { continue };
            let route = part.value().clone();
            let Some(before) = before else { continue };
            table.routes.remove(&id, &route);
            table.routes.insert(&id, &route, &before);
        }
        self.shared.table.store(Arc::new(table));
    }

    /// The Routes that are refused on this replica alone.
    pub fn refused(&self) -> impl Iterator<Item = &RouteId> {
        self.refused.keys()
    }

    /// Keeps refusing what a Delta has brought anew.
    pub(super) fn refuse_again(&mut self, table: &mut Table) {
        for (id, before) in &mut self.refused {
            *before = put_refusal(table, id).filter(|there| !is_refusal(there)).or(before.take());
        }
    }
}

/// Puts a Route that refuses in the place of the one that serves; gives that one.
fn put_refusal(table: &mut Table, id: &RouteId) -> Option<Arc<CompiledRoute>> {
    let route = table.snapshot.routes().get(id)?.value().clone();
    let before = compiled(table, id)?;
    if is_refusal(&before) {
        return Some(before);
    }
    let refusing = CompiledRoute {
        route: Arc::new(Route {
            filters: Vec::new(),
            action: Action::Refuse {
                status: Refusal::ServiceUnavailable,
                because: problem::REFUSED_ON_MACHINE,
            },
            ..Route::clone(&route)
        }),
        states: Box::default(),
        rotation: None,
        usage: before.usage.clone(),
    };
    table.routes.remove(id, &route);
    table.routes.insert(id, &route, &Arc::new(refusing));
    Some(before)
}

fn is_refusal(compiled: &CompiledRoute) -> bool {
    match &compiled.route.action {
        Action::Refuse { because, .. } => *because == problem::REFUSED_ON_MACHINE,
        Action::Forward(_) | Action::Answer => false,
    }
}

/// What serves a Route. Asked for once in a long while, so every place is looked at.
fn compiled(table: &Table, id: &RouteId) -> Option<Arc<CompiledRoute>> {
    let place = table.routes.places().find(|place| place.placed.id == id)?;
    Some(place.placed.value.clone())
}
