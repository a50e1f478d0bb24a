//! The router of the API; one file per resource, one line each.

mod backends;
mod explain;
mod problems;
pub(crate) mod requests;
mod routes;
mod snapshot;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;

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
