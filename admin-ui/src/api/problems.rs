//! `GET /api/v1/problems`: everything that is wrong, the worst first.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::computed;
use crate::problem::ErrorResponse;
use crate::server::Context;

pub(crate) async fn list(State(context): State<Context>) -> Result<Json<Value>, ErrorResponse> {
    let state = context.control.now();
    let replicas = context.replicas.clone();
    computed(move || {
        let mut problems = state.problems();
        problems.extend(replicas.iter().flat_map(|replicas| replicas.problems().to_vec()));
        problems.sort_by_cached_key(|problem| (problem.severity(), problem.clone()));
        Json(json!({ "problems": problems }))
    })
    .await
}
