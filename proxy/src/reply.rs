//! Answers of ours: small, in the form the client reads best, and without anything internal.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// An answer of ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// Where to go instead, on a redirect.
    pub(crate) location: Option<HeaderValue>,
}

impl Reply {
    /// An answer that is only a status.
    pub(crate) fn of(status: StatusCode) -> Self {
        Self { status, location: None }
    }
}

/// How a body of ours is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Form {
    /// For people.
    #[default]
    Html,
    /// For programs (RFC 9457).
    Problem,
    /// For gRPC: a status in headers, no body.
    Grpc,
}

impl Form {
    /// What the client of a request with these headers reads best.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        if text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/grpc")) {
            return Self::Grpc;
        }
        match text(header::ACCEPT) {
            Some(accept) if accept.contains("json") && !accept.contains("text/html") => {
                Self::Problem
            }
            Some(_) | None => Self::Html,
        }
    }
}

/// The body of an answer and its type.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) kind: &'static str,
    pub(crate) bytes: Bytes,
}

/// The body of an answer with `status`; None where there is none to be.
pub(crate) fn body(status: StatusCode, form: Form) -> Option<Body> {
    let is_bodiless = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if is_bodiless {
        return None;
    }
    let code = status.as_u16();
    let title = status.canonical_reason().unwrap_or("Error");
    match form {
        Form::Html => {
            let text = format!(
                "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
                 <title>{code} {title}</title></head>\
                 <body><h1>{code} {title}</h1></body></html>\n"
            );
            Some(Body { kind: "text/html; charset=utf-8", bytes: text.into() })
        }
        Form::Problem => {
            let text =
                format!("{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{code}}}\n");
            Some(Body { kind: "application/problem+json", bytes: text.into() })
        }
        Form::Grpc => None,
    }
}

/// The code of gRPC for a status of HTTP (gRPC, "HTTP to gRPC Status Code Mapping").
pub(crate) fn grpc_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 | 431 => "13",
        401 => "16",
        403 => "7",
        404 => "12",
        429 | 502 | 503 => "14",
        // The mapping says 14; a time limit of ours is told as what it is.
        504 => "4",
        _ => "2",
    }
}

/// A whole answer as bytes of HTTP/1.1, behind which the connection is closed.
pub(crate) fn raw(status: StatusCode) -> Vec<u8> {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = body(status, Form::Html);
    let bytes = body.as_ref().map_or(&[][..], |body| &body.bytes);
    let mut answer = format!(
        "HTTP/1.1 {} {title}\r\nServer: {SERVER_NAME}\r\nContent-Type: text/html; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        status.as_u16(),
        bytes.len(),
    )
    .into_bytes();
    answer.extend_from_slice(bytes);
    answer
}

/// What we call ourselves in `Server`.
pub(crate) const SERVER_NAME: &str = "kubeng";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&str, &str)], expected: Form) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(
                http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        assert_eq!(Form::of(&map), expected, "{headers:?}");
    }

    #[test]
    fn the_form_follows_what_the_client_reads() {
        check(&[], Form::Html);
        check(&[("accept", "*/*")], Form::Html);
        check(&[("accept", "application/json")], Form::Problem);
        check(&[("accept", "application/problem+json")], Form::Problem);
        check(&[("accept", "text/html,application/json")], Form::Html);
        check(&[("content-type", "application/grpc+proto")], Form::Grpc);
    }

    #[test]
    fn problems_are_json() {
        let body = body(StatusCode::BAD_GATEWAY, Form::Problem).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&body.bytes).unwrap();
        assert_eq!(read["status"], 502);
        assert_eq!(read["title"], "Bad Gateway");
    }

    #[test]
    fn a_raw_answer_closes_the_connection() {
        let text = String::from_utf8(raw(StatusCode::BAD_REQUEST)).unwrap();
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
        assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{text}");
    }
}
