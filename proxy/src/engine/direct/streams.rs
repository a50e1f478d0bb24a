//! Requests of HTTP/2: which are carried, answered at once, or handed to the other engine.

use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::request::{Parts, Request};
use http::{Method, StatusCode, header};
use kubeng_config::backend::BackendProtocol;
use kubeng_config::filter::error_pages::PageSource;

use super::call::Call;
use super::http2::Http2;
use super::request::Whole;
use super::upstream::Upstream;
use super::{Direct, spoken};
use crate::engine::Begun;
use crate::engine::stream::{BodyEnd, Stream};
use crate::filter::error_pages;
use crate::listener::facts::ConnFacts;
use crate::listener::refusal::Rule;
use crate::over::{self, Over};
use crate::pipeline::ours::{Ours, ours};
use crate::pipeline::{self, Begin, http2};
use crate::reason::Reason;
use crate::record::Quoted;
use crate::reply::{Form, Page, Reply};
use crate::request::{Incoming, RequestContext};

/// Why a request ends before a Backend is asked.
enum Broke {
    /// The client sent a body behind a head that says that there is none.
    Unannounced,
    Ended(BodyEnd),
}

impl Direct {
    /// Serves one request of HTTP/2.
    pub(super) async fn stream(
        &self,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        facts: Arc<ConnFacts>,
    ) {
        let (head, body) = request.into_parts();
        let mut stream = Stream::new(body, respond, &self.shared.limits);
        let incoming = Incoming {
            method: &head.method,
            uri: &head.uri,
            version: head.version,
            headers: &head.headers,
        };
        let mut begun = self.begin(&facts, &incoming).await;
        // A call may be silent for as long as it likes.
        stream.body.is_paced = begun.ctx.form != Form::Grpc;
        let protocol = spoken(&begun);
        match begun.begin {
            Begin::Refuse(rule) => {
                self.metrics.refused(rule);
                return self.reply_stream(head, stream, begun.ctx, Reply::of(rule.status())).await;
            }
            Begin::Reply(reply) => return self.reply_stream(head, stream, begun.ctx, reply).await,
            Begin::Forward | Begin::Ask(..) => {}
        }
        let status = match early(&head, &mut stream).await {
            Ok(is_empty) => {
                let mut client = Http2::new(stream, &head.headers, is_empty);
                let whole = whole(head, &begun.ctx);
                return match protocol {
                    Some(BackendProtocol::Http2 | BackendProtocol::Grpc) => {
                        // In a box: whatever goes over HTTP/1.1 has room for it else.
                        Box::pin(self.carry::<_, Call>(&mut client, whole, begun.ctx)).await;
                    }
                    Some(BackendProtocol::Http1) | None => {
                        self.carry::<_, Upstream>(&mut client, whole, begun.ctx).await;
                    }
                };
            }
            Err(Broke::Ended(BodyEnd::Gone)) => {
                begun.ctx.reason = Some(Reason::ClientGone);
                return self.tell_stream(&head, &stream, &mut begun.ctx);
            }
            Err(Broke::Ended(BodyEnd::Slow)) => {
                self.metrics.refused(Rule::SlowBody);
                begun.ctx.reason = Some(Reason::ClientSlow);
                StatusCode::REQUEST_TIMEOUT
            }
            Err(Broke::Unannounced) => {
                begun.ctx.reason = Some(Reason::ClientBroke);
                StatusCode::BAD_REQUEST
            }
        };
        self.reply_stream(head, stream, begun.ctx, Reply::of(status)).await;
    }

    /// Sends an answer of ours.
    async fn reply_stream(
        &self,
        head: Parts,
        mut stream: Stream,
        mut ctx: RequestContext,
        reply: Reply,
    ) {
        let page = match pipeline::error_page(&ctx, reply.status) {
            Some(PageSource::Inline { content_type, body }) => {
                Some(error_pages::inline(&content_type.0, body.as_str()))
            }
            Some(PageSource::Backend(_)) => {
                let Some(facts) = ctx.facts.clone() else { return };
                let begun = Begun { ctx, begin: Begin::Reply(reply) };
                return Box::pin(self.other.stream(head, stream, &facts, begun)).await;
            }
            None => None,
        };
        self.send_ours(&mut stream, &mut ctx, &head.method, reply, page).await;
        self.tell_stream(&head, &stream, &mut ctx);
    }

    async fn send_ours(
        &self,
        stream: &mut Stream,
        ctx: &mut RequestContext,
        method: &Method,
        reply: Reply,
        page: Option<Page>,
    ) {
        let Ours { status, mut headers, body } = ours(ctx, method, reply, page);
        self.shared.observe.show(ctx, &mut headers);
        let is_sent = stream.send_head(status, headers, body.is_none()).is_ok();
        let is_sent = is_sent && stream.send_part(body.unwrap_or_default(), true).await.is_ok();
        if !is_sent {
            ctx.reason = ctx.reason.or(Some(Reason::ClientGone));
        }
    }

    /// Tells that a request is over that no Backend was asked about.
    fn tell_stream(&self, head: &Parts, stream: &Stream, ctx: &mut RequestContext) {
        let over = Over {
            method: &head.method,
            uri: &head.uri,
            version: head.version,
            quoted: self.quote(head),
            body_bytes: (stream.body.read(), stream.sent()),
        };
        over::tell(&self.shared, self.worker, ctx, over);
    }

    fn quote(&self, head: &Parts) -> Quoted {
        self.shared.observe.quote(&head.headers)
    }
}

/// Waits for the end of a request that has no body; gives whether it has none.
///
/// One that has ended is asked how: one that was reset, also by this side for its faults, looks
/// complete.
async fn early(head: &Parts, stream: &mut Stream) -> Result<bool, Broke> {
    if !stream.body.is_done() && !http2::is_said_empty(&head.headers) {
        return Ok(false);
    }
    while let Some(part) = stream.body.part().await.map_err(Broke::Ended)? {
        if !part.is_empty() {
            return Err(Broke::Unannounced);
        }
    }
    Ok(true)
}

/// The request as Backends read it, which are told of a cookie and a host once.
fn whole(head: Parts, ctx: &RequestContext) -> Whole {
    let Parts { method, uri, version, mut headers, .. } = head;
    http2::join_cookies(&mut headers);
    if let Some(authority) = &ctx.authority {
        headers.insert(header::HOST, authority.clone());
    }
    let body = Bytes::new();
    Whole { method, uri, version, headers, body, is_chunked: false, is_last: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<F>(
        _: impl FnOnce(&'static Direct, Request<RecvStream>, SendResponse<Bytes>, Arc<ConnFacts>) -> F,
    ) -> usize {
        size_of::<F>()
    }

    fn connection_size<F>(
        _: impl FnOnce(&'static Direct, Box<crate::listener::connection::Conn>) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_stream_and_an_idle_connection_stay_small() {
        // As many streams as a connection may have are within a megabyte.
        let (stream, connection) = (size(Direct::stream), connection_size(Direct::serve_streams));
        assert!(stream <= 10 * 1024, "{stream}");
        assert!(connection <= 4 * 1024, "{connection}");
    }
}
