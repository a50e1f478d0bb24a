//! `GET /api/v1/problems`: everything that is wrong, the worst first.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::computed;
use crate::problem::ErrorResponse;
use crate::server::Context;

pub(crate) async fn list(State(context): State<Context>) -> Result<Json<Value>, ErrorResponse> {
    let state = context.control.now();
    computed(move || Json(json!({ "problems": state.problems() }))).await
}
