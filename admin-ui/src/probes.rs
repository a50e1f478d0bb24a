//! What balancers, kubelets and Prometheus ask.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use kubeng_config::problem::{FLEET_NOT_FOUND, PORT_NOT_BOUND};

use crate::server::Context;

pub(crate) fn routes() -> Router<Context> {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

/// The process answers, so it lives.
pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

/// Ready once a complete Snapshot is served, and until the process is told to stop.
async fn readyz(State(context): State<Context>) -> impl IntoResponse {
    let state = context.control.now();
    if context.replica.is_leaving() {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: stopping\n".to_owned())
    } else if state.is_ready() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        let mut text = "not ready: nothing is served yet\n".to_owned();
        for source in state.sources() {
            text.push_str(&format!("{source}\n"));
        }
        for problem in state.problems() {
            // Without its fleet nothing else can be right, nor behind a port that is not open.
            if [FLEET_NOT_FOUND, PORT_NOT_BOUND].contains(&problem.code) {
                text.push_str(&format!("{problem}\n"));
            }
        }
        (StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

async fn metrics(State(context): State<Context>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let of_replicas = context.replicas.as_ref().map(|replicas| replicas.metrics());
    (kind, context.replica.metrics() + &of_replicas.unwrap_or_default())
}
