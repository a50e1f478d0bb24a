//! The router of the API; one file per resource, one line each.

mod backends;
mod explain;
mod problems;
mod routes;
mod snapshot;

use axum::Router;
use axum::routing::get;

use crate::server::Context;

pub(crate) fn routes() -> Router<Context> {
    Router::new()
        .route("/routes", get(routes::list))
        .route("/backends", get(backends::list))
        .route("/problems", get(problems::list))
        .route("/snapshot", get(snapshot::read))
        .route("/explain", get(explain::ask))
}
