//! Requests must name this machine: a page of another site that has its name
//! resolve to loopback (DNS rebinding) names itself.

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use kubeng_config::authority::{Authority, Host};

use crate::problem::ErrorResponse;

/// Lets requests pass whose `Host` is an address, `localhost` or below it.
pub(crate) async fn check(request: Request, next: Next) -> Response {
    if is_known(request.headers()) {
        return next.run(request).await;
    }
    ErrorResponse {
        status: StatusCode::MISDIRECTED_REQUEST,
        slug: "unknown-host",
        title: "Unknown host",
        detail: "the admin listener answers to addresses and to localhost only".into(),
    }
    .into_response()
}

fn is_known(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    match host.map(Authority::parse) {
        Some(Ok(Authority { host: Host::V4(_) | Host::V6(_), .. })) => true,
        Some(Ok(Authority { host: Host::Name(name), .. })) => {
            name.as_str() == "localhost" || name.as_str().ends_with(".localhost")
        }
        Some(Err(_)) | None => false,
    }
}
