//! `GET /api/v1/problems`: everything that is wrong, the worst first.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::server::Context;

pub(crate) async fn list(State(context): State<Context>) -> Json<Value> {
    let problems = context.control.now().problems();
    Json(json!({ "problems": problems }))
}
