//! The router of the API; one file per resource, one line each.

mod backends;
mod compare;
mod drift;
mod explain;
mod export;
mod fleets;
mod problems;
mod replicas;
pub(crate) mod requests;
mod routes;
mod snapshot;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use kubeng_controller::control::ControlState;
use kubeng_controller::replicas::Replicas;

use crate::problem::ErrorResponse;
use crate::server::Context;

pub(crate) fn routes() -> Router<Context> {
    Router::new()
        .route("/routes", get(routes::list))
        .route("/backends", get(backends::list))
        .route("/problems", get(problems::list))
        .route("/snapshot", get(snapshot::read))
        .route("/explain", get(explain::ask))
        .route("/requests", get(requests::recent))
        .route("/request-keys", get(requests::keys))
        .route("/fleets", get(fleets::list))
        .route("/fleets/{fleet}", get(fleets::read))
        .route("/fleets/{fleet}/export", get(fleets::write))
        .route("/replicas", get(replicas::list))
        .route("/replicas/{fleet}/{name}", get(replicas::read).delete(replicas::forget))
        .route("/replicas/{fleet}/{name}/export", get(replicas::write))
        .route("/compare", get(compare::ask))
        .route("/drift", get(drift::list))
        .route("/drift/{id}", get(drift::read))
        .route("/drift/{id}/{verb}", post(drift::act))
}

/// What is known of the fleet that `?fleet=` names; without it that of the only one, or the first.
fn of_fleet(context: &Context, query: Option<&str>) -> Result<Arc<ControlState>, ErrorResponse> {
    let state = context.control.now();
    let Some(named) = parameter(query, "fleet") else { return Ok(state) };
    let fleet = named.parse().ok().and_then(|name| state.of_fleet(&name));
    fleet.map(Arc::new).ok_or_else(|| {
        let known: Vec<String> = state.fleets().map(ToString::to_string).collect();
        ErrorResponse::not_found(format!(
            "there is no fleet {named:.80?}, but: {}",
            known.join(", ")
        ))
    })
}

/// Computes an answer where it holds nothing up: with many routes it takes a while.
async fn computed<T: Send + 'static>(
    answer: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ErrorResponse> {
    tokio::task::spawn_blocking(answer).await.map_err(|_| ErrorResponse {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        slug: "internal",
        title: "The answer could not be computed",
        detail: "this is a fault of Kubeng; its log says more".into(),
    })
}

/// What is known of replicas.
fn replicas_of(context: &Context) -> Result<&Replicas, ErrorResponse> {
    context.replicas.as_ref().ok_or_else(|| {
        ErrorResponse::not_found(
            "this process has no replicas connected to it: ask a kubeng controller".to_owned(),
        )
    })
}

/// The first parameter of this name.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.into_owned())
}
