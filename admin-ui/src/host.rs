//! Requests must name this machine: a page of another site that has its name
//! resolve to loopback (DNS rebinding) names itself.

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use kubeng_config::authority::{Authority, Host};

use crate::problem::ErrorResponse;

/// Lets requests pass whose `Host` is an address, `localhost` or below it. HTTP/1.0 may name nobody:
/// balancers check so (HAProxy does by default), and no browser speaks it.
pub(crate) async fn check(request: Request, next: Next) -> Response {
    if is_known(request.version(), request.headers()) {
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

fn is_known(version: Version, headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return version == Version::HTTP_10 };
    match host.to_str().ok().map(Authority::parse) {
        Some(Ok(Authority { host: Host::V4(_) | Host::V6(_), .. })) => true,
        Some(Ok(Authority { host: Host::Name(name), .. })) => {
            name.as_str() == "localhost" || name.as_str().ends_with(".localhost")
        }
        Some(Err(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_this_machine_or_speaks_too_early_to_name_any_is_let_in() {
        for (version, host, is_wanted) in [
            (Version::HTTP_11, Some("127.0.0.1:9180"), true),
            (Version::HTTP_11, Some("[::1]"), true),
            (Version::HTTP_11, Some("localhost:1"), true),
            (Version::HTTP_11, Some("a.localhost"), true),
            (Version::HTTP_11, Some("evil.example"), false),
            (Version::HTTP_11, None, false),
            (Version::HTTP_10, Some("evil.example"), false),
            (Version::HTTP_10, None, true),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(host.map(|host| (header::HOST, host.parse().unwrap())));
            assert_eq!(is_known(version, &headers), is_wanted, "{version:?} {host:?}");
        }
    }
}
