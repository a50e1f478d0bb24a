//! `GET /api/v1/backends`: every Backend with its Endpoints, and how the replica finds them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use kubeng_config::backend::EndpointSource;
use kubeng_controller::control::ControlState;
use serde_json::{Value, json};

use super::computed;
use crate::problem::ErrorResponse;
use crate::server::{Context, LocalReplica};

pub(crate) async fn list(State(context): State<Context>) -> Result<Json<Value>, ErrorResponse> {
    let state = context.control.now();
    let replica = Arc::clone(&context.replica);
    computed(move || all(&state, &*replica)).await
}

fn all(state: &ControlState, replica: &dyn LocalReplica) -> Json<Value> {
    let health = replica.health();
    let snapshot = state.snapshot();
    let backends: Vec<Value> = snapshot
        .backends()
        .sorted()
        .into_iter()
        .map(|(id, part)| {
            let backend = part.value();
            let endpoints = match &backend.endpoints {
                EndpointSource::Discovered => json!({
                    "discovered": state.endpoints_of(id).map(|set| set.as_slice().to_vec()),
                }),
                EndpointSource::Written(endpoints) => json!({ "written": endpoints }),
            };
            json!({
                "id": id,
                "protocol": backend.protocol,
                "tls": backend.tls,
                "balance": backend.balance,
                "endpoints": endpoints,
                "health": health.get(id),
                "digest": part.digest(),
            })
        })
        .collect();
    Json(json!({ "fleet": state.fleet(), "snapshot": snapshot.digest(), "backends": backends }))
}
