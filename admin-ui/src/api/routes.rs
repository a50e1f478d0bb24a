//! `GET /api/v1/routes?fleet=`: every Route with where it is served and where it was read.

use axum::Json;
use axum::extract::{RawQuery, State};
use jiff::Timestamp;
use kubeng_config::route::Route;
use kubeng_controller::control::ControlState;
use serde_json::{Value, json};

use super::{computed, of_fleet};
use crate::problem::ErrorResponse;
use crate::server::{Context, LocalReplica};

pub(crate) async fn list(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ErrorResponse> {
    let state = of_fleet(&context, query.as_deref())?;
    computed(move || all(&state, &*context.replica)).await
}

fn all(state: &ControlState, replica: &dyn LocalReplica) -> Json<Value> {
    let snapshot = state.snapshot();
    let routes: Vec<Value> = snapshot
        .routes()
        .sorted()
        .into_iter()
        .map(|(id, part)| {
            let route: &Route = part.value();
            let mut shown = json!({
                "id": id,
                "object": id.object,
                "source": state.provenance_of(id).map(|from| from.to_string()),
                "attached": route.attached,
                "matches": route.matches,
                "filters": route.filters,
                "policy": route.policy,
                "action": route.action,
                "digest": part.digest(),
                "lastHit": replica.last_hit(id).and_then(|at| Timestamp::try_from(at).ok()),
            });
            let overrides = state.overrides_of(id);
            if !overrides.is_empty() {
                shown["overrides"] = json!(overrides);
            }
            shown
        })
        .collect();
    Json(json!({ "fleet": state.fleet(), "snapshot": snapshot.digest(), "routes": routes }))
}
