//! Answers of ours: small, in the form the client reads best, and without anything internal.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};

/// An answer of ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// Where to go instead, on a redirect.
    pub(crate) location: Option<HeaderValue>,
    /// What else the head says.
    pub(crate) fields: Vec<(HeaderName, HeaderValue)>,
    /// The body, where it is not the usual one.
    pub(crate) page: Option<Page>,
}

/// A body that was written or made for an answer of ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Page {
    pub(crate) kind: HeaderValue,
    pub(crate) bytes: Bytes,
}

impl Reply {
    /// An answer that is only a status.
    pub(crate) fn of(status: StatusCode) -> Self {
        Self { status, location: None, fields: Vec::new(), page: None }
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
    pub(crate) fn of(headers: &HeaderMap, version: Version) -> Self {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        // gRPC is spoken over HTTP/2 only.
        if version == Version::HTTP_2
            && text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/grpc"))
        {
            return Self::Grpc;
        }
        text(header::ACCEPT).map_or(Self::Html, Self::of_accept)
    }

    fn of_accept(accept: &str) -> Self {
        if accept.contains("json") && !accept.contains("text/html") {
            Self::Problem
        } else {
            Self::Html
        }
    }
}

/// How a request that is refused by its head alone is answered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Asked {
    form: Form,
    /// For `HEAD`, whose answer has no body.
    is_head: bool,
}

impl Asked {
    /// What can be told from `head`, which may be cut off and may have broken any rule.
    pub(crate) fn of_head(head: &[u8]) -> Self {
        let mut lines = head.split(|&byte| byte == b'\n').skip(1);
        let form = lines.find_map(|line| {
            let (name, value) = line.split_at_checked(ACCEPT.len())?;
            let value = std::str::from_utf8(value).ok()?;
            name.eq_ignore_ascii_case(ACCEPT).then(|| Form::of_accept(value))
        });
        Self { form: form.unwrap_or_default(), is_head: head.starts_with(b"HEAD ") }
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
pub(crate) fn raw(status: StatusCode, asked: Asked) -> Vec<u8> {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = body(status, asked.form);
    let (kind, bytes) =
        body.as_ref().map_or(("text/plain", &[][..]), |body| (body.kind, &body.bytes));
    let mut answer = format!(
        "HTTP/1.1 {} {title}\r\nServer: {SERVER_NAME}\r\nContent-Type: {kind}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        status.as_u16(),
        bytes.len(),
    )
    .into_bytes();
    if !asked.is_head {
        answer.extend_from_slice(bytes);
    }
    answer
}

const ACCEPT: &[u8] = b"accept:";
/// What we call ourselves in `Server`.
pub(crate) const SERVER_NAME: &str = "kubeng";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(version: Version, headers: &[(&str, &str)], expected: Form) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(
                http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        assert_eq!(Form::of(&map, version), expected, "{headers:?}");
    }

    #[test]
    fn the_form_follows_what_the_client_reads() {
        check(Version::HTTP_2, &[], Form::Html);
        check(Version::HTTP_2, &[("accept", "*/*")], Form::Html);
        check(Version::HTTP_2, &[("accept", "application/json")], Form::Problem);
        check(Version::HTTP_2, &[("accept", "application/problem+json")], Form::Problem);
        check(Version::HTTP_2, &[("accept", "text/html,application/json")], Form::Html);
        check(Version::HTTP_2, &[("content-type", "application/grpc+proto")], Form::Grpc);
        check(Version::HTTP_11, &[("content-type", "application/grpc+proto")], Form::Html);
    }

    #[test]
    fn a_refused_head_is_answered_as_it_asked() {
        let check = |head: &str, form, is_head| {
            assert_eq!(Asked::of_head(head.as_bytes()), Asked { form, is_head }, "{head:?}");
        };
        check("", Form::Html, false);
        check("HEAD /\r\n", Form::Html, true);
        check("GET / HTTP/1.1\r\nAccept: application/json\r\nX", Form::Problem, false);
        check("GET / HTTP/1.1\r\nACCEPT:text/html, application/json\r\n", Form::Html, false);
        let text = String::from_utf8(raw(
            StatusCode::BAD_REQUEST,
            Asked { form: Form::Problem, is_head: true },
        ));
        let text = text.unwrap();
        assert!(text.contains("Content-Type: application/problem+json\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n"), "{text}");
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
        let text = String::from_utf8(raw(StatusCode::BAD_REQUEST, Asked::default())).unwrap();
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
        assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{text}");
    }
}
