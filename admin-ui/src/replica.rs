//! The admin listener of a replica whose controllers are elsewhere: read-only, but for one verb.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use kubeng_config::heartbeat::{Emergency, Heartbeat};
use kubeng_config::name::RouteId;
use serde::Deserialize;

use crate::api::requests;
use crate::problem::{self, ErrorResponse};
use crate::server::LocalReplica;
use crate::{host, probes, status};

/// What a replica says of itself to who asks it on its own machine.
pub trait StandaloneReplica: LocalReplica {
    /// One screen of plain text.
    fn status(&self) -> String;
    /// Whether it serves, and a word on how; the error says why it does not.
    ///
    /// # Errors
    /// When nothing is served yet, or it is about to end.
    fn readiness(&self) -> Result<String, String>;
    /// What it tells its controllers; none before it has looked for the first time.
    fn heartbeat(&self) -> Option<Heartbeat>;
    /// Refuses a Route on this replica alone; the error says why it does not.
    fn refuse(&self, change: EmergencyChange) -> Later<Result<Emergency, String>>;
    /// Takes that back; false where there is nothing to take back.
    fn end_emergency(&self) -> Later<bool>;
}

/// What comes when somebody else has done it.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A change on the machine itself.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EmergencyChange {
    /// The Route that answers 503.
    pub route: RouteId,
    /// Who wants it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// How long, in seconds; at most a day.
    pub seconds: u64,
}

impl EmergencyChange {
    /// How long it lasts.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// The longest time that a change on a machine lasts: it is to be made where it belongs until then.
const SECONDS_MAX: u64 = 24 * 60 * 60;
/// The longest text that is told to controllers, in bytes.
const TEXT_BYTES_MAX: usize = 500;

#[derive(Clone)]
struct Context(Arc<dyn StandaloneReplica>);

impl FromRef<Context> for Arc<dyn LocalReplica> {
    fn from_ref(context: &Context) -> Self {
        Arc::<dyn StandaloneReplica>::clone(&context.0)
    }
}

pub(crate) fn router(replica: Arc<dyn StandaloneReplica>) -> Router {
    Router::new()
        .route("/livez", get(probes::livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/", get(|| async { Redirect::temporary("/status") }))
        .route(
            "/status",
            get(|State(Context(replica)): State<Context>| async move { replica.status() }),
        )
        .route("/problems", get(status::codes))
        .route("/problems/{code}", get(status::code))
        .route("/api/v1/requests", get(requests::recent))
        .route("/api/v1/request-keys", get(requests::keys))
        .route("/api/v1/heartbeat", get(heartbeat))
        .route("/api/v1/emergency", post(refuse).delete(end))
        .fallback(problem::not_found_on_replica)
        .layer(middleware::from_fn(host::check))
        .with_state(Context(replica))
}

async fn readyz(State(Context(replica)): State<Context>) -> impl IntoResponse {
    match replica.readiness() {
        Ok(how) => (StatusCode::OK, how),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn metrics(State(Context(replica)): State<Context>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, replica.metrics())
}

async fn heartbeat(State(Context(replica)): State<Context>) -> Result<Response, ErrorResponse> {
    match replica.heartbeat() {
        Some(heartbeat) => Ok(Json(heartbeat).into_response()),
        None => Err(ErrorResponse {
            status: StatusCode::SERVICE_UNAVAILABLE,
            slug: "not-ready",
            title: "Not known yet",
            detail: "the replica has not looked yet what it runs; ask again in a moment".into(),
        }),
    }
}

/// A body that is JSON by its type cannot be sent by a page of another site without being asked.
async fn refuse(
    State(Context(replica)): State<Context>,
    Json(change): Json<EmergencyChange>,
) -> Result<Json<Emergency>, ErrorResponse> {
    for (name, text) in [("by", &change.by), ("reason", &change.reason)] {
        if text.trim().is_empty() || text.len() > TEXT_BYTES_MAX {
            let detail = format!("{name} is empty or longer than {TEXT_BYTES_MAX} bytes");
            return Err(ErrorResponse::malformed(detail));
        }
    }
    if change.seconds == 0 || change.seconds > SECONDS_MAX {
        let detail = format!("seconds is {}; write 1 to {SECONDS_MAX}", change.seconds);
        return Err(ErrorResponse::malformed(detail));
    }
    replica.refuse(change).await.map(Json).map_err(|detail| ErrorResponse {
        status: StatusCode::NOT_FOUND,
        slug: "no-route",
        title: "The route is not refused",
        detail,
    })
}

async fn end(State(Context(replica)): State<Context>) -> Result<StatusCode, ErrorResponse> {
    if replica.end_emergency().await {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ErrorResponse {
        status: StatusCode::NOT_FOUND,
        slug: "no-emergency",
        title: "Nothing to take back",
        detail: "no emergency change is in force on this replica".into(),
    })
}
