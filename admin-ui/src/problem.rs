//! Error answers after RFC 9457.

use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An error answer: `application/problem+json`.
#[derive(Debug)]
pub(crate) struct ErrorResponse {
    pub(crate) status: StatusCode,
    /// The end of `type`, which is the path `/problems/SLUG`.
    pub(crate) slug: &'static str,
    pub(crate) title: &'static str,
    pub(crate) detail: String,
}

impl ErrorResponse {
    /// A request that cannot be understood.
    pub(crate) fn malformed(detail: String) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            slug: "malformed",
            title: "The request cannot be understood",
            detail,
        }
    }
}

impl ErrorResponse {
    /// Something that does not exist.
    pub(crate) fn not_found(detail: String) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            slug: "not-found",
            title: "There is nothing here",
            detail,
        }
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        let body = json!({
            "type": format!("/problems/{}", self.slug),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, kind, format!("{body}\n")).into_response()
    }
}

/// The answer for paths that do not exist.
pub(crate) async fn not_found(uri: Uri) -> ErrorResponse {
    nothing_at(
        &uri,
        "see /status and /api/v1/{routes,backends,problems,snapshot,explain,requests,request-keys,\
         fleets,replicas,compare,drift}",
    )
}

/// The same of a replica whose controllers are elsewhere.
pub(crate) async fn not_found_on_replica(uri: Uri) -> ErrorResponse {
    nothing_at(
        &uri,
        "see /status, /metrics and /api/v1/{requests,request-keys,heartbeat} of this replica; its \
         routes, snapshot and explain are at its controllers",
    )
}

fn nothing_at(uri: &Uri, instead: &str) -> ErrorResponse {
    ErrorResponse {
        status: StatusCode::NOT_FOUND,
        slug: "not-found",
        title: "There is nothing here",
        detail: format!("{} does not exist; {instead}", uri.path()),
    }
}
