//! What may be changed over the admin listener, and by whom. There is no login, so only this machine
//! may, and never a page of another site in the browser of somebody on it.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::problem::ErrorResponse;
use crate::server::Context;

/// Lets requests pass that change nothing, and those that may.
pub(crate) async fn check(
    State(context): State<Context>,
    request: Request,
    next: Next,
) -> Response {
    match refusal(request.method(), request.headers(), context.is_loopback) {
        None => next.run(request).await,
        Some(refusal) => refusal.into_response(),
    }
}

fn refusal(method: &Method, headers: &HeaderMap, is_loopback: bool) -> Option<ErrorResponse> {
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
        return None;
    }
    let forbidden = |detail: &str| {
        Some(ErrorResponse {
            status: StatusCode::FORBIDDEN,
            slug: "forbidden",
            title: "Not allowed",
            detail: detail.into(),
        })
    };
    if !is_loopback {
        return forbidden(
            "nothing can be changed over an admin listener that others can reach, for there is no \
             login; let the controller listen on 127.0.0.1 and send it from there",
        );
    }
    if !is_own_page(headers) {
        return forbidden("the request comes from a page of another site");
    }
    if *method == Method::POST && !is_json(headers) {
        return Some(ErrorResponse {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            slug: "unsupported-media-type",
            title: "Only JSON is read",
            detail: "send Content-Type: application/json".into(),
        });
    }
    None
}

/// Whether no page of another site has sent it.
fn is_own_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let is_own_site =
        text("sec-fetch-site").is_none_or(|site| ["same-origin", "none"].contains(&site));
    let is_own_origin = text(header::ORIGIN.as_str()).is_none_or(|origin| {
        let origin = origin.parse::<Uri>().ok();
        let authority = origin.as_ref().and_then(Uri::authority);
        authority.map(|authority| authority.as_str()) == text(header::HOST.as_str())
    });
    is_own_site && is_own_origin
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: Method, fields: &[(&'static str, &str)], is_loopback: bool, status: u16) {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "127.0.0.1:9180".parse().unwrap());
        for (name, value) in fields {
            headers.insert(*name, value.parse().unwrap());
        }
        let found = refusal(&method, &headers, is_loopback);
        assert_eq!(found.map_or(200, |refusal| refusal.status.as_u16()), status, "{fields:?}");
    }

    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    #[test]
    fn only_programs_and_own_pages_on_this_machine_change_anything() {
        check(Method::GET, &[("origin", "http://evil.example")], false, 200);
        check(Method::POST, &[JSON], true, 200);
        check(Method::POST, &[JSON], false, 403);
        check(Method::DELETE, &[], true, 200);
        check(Method::DELETE, &[], false, 403);
        check(Method::POST, &[], true, 415);
        check(Method::POST, &[("content-type", "text/plain")], true, 415);
        for (origin, status) in [
            ("http://127.0.0.1:9180", 200),
            ("http://127.0.0.1:9181", 403),
            ("http://evil.example", 403),
            ("null", 403),
        ] {
            check(Method::POST, &[JSON, ("origin", origin)], true, status);
        }
        for (site, status) in [("same-origin", 200), ("none", 200), ("cross-site", 403)] {
            check(Method::POST, &[JSON, ("sec-fetch-site", site)], true, status);
        }
    }
}
