//! Answers of ours through the engine, and what is done to those of Backends beside their headers.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::app::App;
use super::fields::ResponseFields;
use crate::filter::error_pages;
use crate::filter::mirror::Copy;
use crate::nominated::Nominated;
use crate::pipeline;
use crate::pipeline::ours::{Ours, ours};
use crate::reply::{Page, Reply};
use crate::request::{Extra, Instead, RequestContext};

impl App {
    /// Sends an answer of ours.
    pub(super) async fn reply(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        reply: Reply,
    ) -> Result<()> {
        let page = match reply.page {
            Some(_) => None,
            None => self.error_page(session, ctx, reply.status).await,
        };
        let method = session.req_header().method.clone();
        let Ours { status, headers, body } = ours(ctx, &method, reply, page);
        let mut head = ResponseHeader::build(status, Some(headers.len()))?;
        for (name, value) in &headers {
            head.append_header(name, value.clone())?;
        }
        self.shared.observe.show(ctx, &mut ResponseFields(&mut head));
        session.write_response_header(Box::new(head), body.is_none()).await?;
        session.write_response_body(body, true).await
    }

    /// The page that the Route has for `status`.
    async fn error_page(
        &self,
        session: &Session,
        ctx: &RequestContext,
        status: StatusCode,
    ) -> Option<Page> {
        let request = session.req_header();
        let uri = request.uri.path_and_query().map_or("/", |target| target.as_str());
        self.errands.page(ctx, status, (uri, request.headers.get(header::ACCEPT))).await
    }

    /// Sends a copy of a request on its way.
    pub(super) fn mirror(&self, copy: Copy) {
        Arc::clone(&self.errands).send(copy.finish());
    }

    /// Stops an answer that is too large, and puts a page in the place of an error.
    pub(super) async fn check_answer(
        &self,
        session: &Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let status = response.status;
        if pipeline::error_page(ctx, status).is_some() {
            return self.replace(session, response, ctx).await;
        }
        let Some(extra) = &ctx.extra else { return Ok(()) };
        let has_body = session.req_header().method != Method::HEAD;
        if has_body && !extra.bodies.response.allows(&response.headers) {
            let status = StatusCode::BAD_GATEWAY;
            return Err(Error::new(ErrorType::HTTPStatus(status.as_u16())));
        }
        Ok(())
    }

    /// Puts the page of the Route in the place of an error of a Backend.
    async fn replace(
        &self,
        session: &Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let status = response.status;
        let length = response.headers.get(header::CONTENT_LENGTH);
        // Only where a body follows is there a place for another one.
        let has_body = session.req_header().method != Method::HEAD
            && length.map_or_else(
                || response.headers.contains_key(header::TRANSFER_ENCODING),
                |length| length.as_bytes() != b"0",
            );
        let page = if has_body { self.error_page(session, ctx, status).await } else { None };
        let extra = ctx.extra.get_or_insert_default();
        let Some(page) = page.filter(|page| !page.bytes.is_empty()) else {
            // The answer is given up, and with it the connection.
            extra.is_replaced = true;
            return Err(Error::new(ErrorType::HTTPStatus(status.as_u16())));
        };
        let bytes = error_pages::put_in(page, &mut ResponseFields(response));
        extra.page = Instead::Waits(bytes);
        Ok(())
    }
}

/// Counts and encodes a part of the answer.
pub(super) fn answer_part(extra: &mut Extra, body: &mut Option<Bytes>, is_end: bool) -> Result<()> {
    match std::mem::take(&mut extra.page) {
        Instead::Nothing => {}
        Instead::Waits(page) => {
            *body = Some(page);
            extra.page = Instead::Sent;
        }
        Instead::Sent => {
            *body = None;
            extra.page = Instead::Sent;
        }
    }
    if let Some(part) = &body
        && !extra.bodies.response.takes(part.len())
    {
        return Err(broken());
    }
    let Some(mut encoder) = extra.encoder.take() else { return Ok(()) };
    let part = body.take().unwrap_or_default();
    let mut out = encoder.encode(&part).map_err(|_| broken())?;
    if is_end {
        let rest = encoder.finish().map_err(|_| broken())?;
        out = if out.is_empty() { rest } else { [&out[..], &rest].concat().into() };
    } else {
        extra.encoder = Some(encoder);
    }
    // An empty part would end the body too early.
    *body = Some(out).filter(|out| !out.is_empty());
    Ok(())
}

/// The answer has begun and cannot go on: the client sees that it is incomplete.
pub(super) fn broken() -> Box<Error> {
    Error::new(ErrorType::InternalError)
}

/// Carries out what `Connection` says, before the engine refuses it.
pub(super) fn take_out(session: &mut Session, nominated: Nominated) {
    let Nominated { removed, left } = nominated;
    let says_close = |left: &HeaderValue| left.to_str().is_ok_and(|left| left.contains("close"));
    let closes = left.as_ref().is_some_and(says_close);
    let request = session.req_header_mut();
    for name in &removed {
        request.remove_header(name);
    }
    request.remove_header(&header::CONNECTION);
    if let Some(left) = left {
        // It fails only when there are more fields than any limit allows.
        let _ = request.insert_header(header::CONNECTION, left);
    }
    if closes {
        session.set_keepalive(None);
    }
}
