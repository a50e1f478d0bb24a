//! Answers of ours in full: status, fields and body, whatever they are sent through.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::answer_edits;
use crate::reply::{self, Form, Page, Reply, SERVER_NAME};
use crate::request::RequestContext;

/// An answer of ours as it is sent.
#[derive(Debug)]
pub(crate) struct Ours {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// None where none is to be sent.
    pub(crate) body: Option<Bytes>,
}

/// Writes `reply` for a client that asked with `method`. A page of its own goes before `page`.
pub(crate) fn ours(
    ctx: &mut RequestContext,
    method: &Method,
    reply: Reply,
    page: Option<Page>,
) -> Ours {
    let Reply { status: told, location, fields, page: own } = reply;
    let is_grpc = ctx.form == Form::Grpc;
    // gRPC carries its own status, over an HTTP status that says that it is gRPC.
    let status = if is_grpc { StatusCode::OK } else { told };
    let mut headers = HeaderMap::with_capacity(FIELDS + fields.len());
    headers.insert(header::SERVER, HeaderValue::from_static(SERVER_NAME));
    if let Some(location) = location {
        headers.insert(header::LOCATION, location);
    }
    for (name, value) in fields {
        headers.append(name, value);
    }
    if is_grpc {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(GRPC_STATUS, HeaderValue::from_static(reply::grpc_status(told)));
    }
    let body = match (own.or(page), reply::body(status, ctx.form)) {
        (Some(Page { kind, bytes }), Some(_)) => {
            headers.insert(header::CONTENT_TYPE, kind);
            Some(bytes)
        }
        (None, Some(usual)) => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(usual.kind));
            Some(usual.bytes)
        }
        // Neither gRPC nor a status without a body takes a page.
        (_, None) => None,
    };
    if body.is_some() || status != StatusCode::NO_CONTENT {
        let length = body.as_ref().map_or(0, Bytes::len);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    answer_edits(ctx, &mut headers);
    ctx.answered = Some(told);
    Ours { status, headers, body: body.filter(|_| method != Method::HEAD) }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// As most answers have.
const FIELDS: usize = 6;
