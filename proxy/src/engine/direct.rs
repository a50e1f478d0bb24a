//! The engine of the common case: a whole HTTP/1.1 request to a Backend that speaks HTTP/1.1.
//!
//! It parses each head once, keeps idle connections in a list instead of a task
//! for each, and relays bodies without a channel in between. What it does not do
//! goes to the other engine, with all that the pipeline has found out already.

mod answer;
mod carry;
mod chunks;
mod client;
mod http1;
mod open;
mod pool;
mod relay;
mod request;
mod stream;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::HeaderMap;
use kubeng_config::backend::BackendProtocol;

use super::pingora::Pingora;
use super::{Begun, Engine};
use crate::filter;
use crate::forward;
use crate::listener::connection::Conn;
use crate::metrics::WorkerMetrics;
use crate::nominated::nominated;
use crate::pipeline::{self, Begin};
use crate::reply::Reply;
use crate::request::{Incoming, RequestContext};
use crate::shared::Shared;
use carry::Carried;
use http1::Http1;
use pool::Pool;
use request::Whole;

/// One worker's engine, before the one that does all the rest.
pub(crate) struct Direct {
    shared: Arc<Shared>,
    worker: usize,
    metrics: Arc<WorkerMetrics>,
    pool: Pool,
    other: Pingora,
}

impl Direct {
    /// The engine of worker number `worker`.
    pub(crate) fn new(shared: &Arc<Shared>, worker: usize) -> Self {
        let limits = &shared.limits;
        Self {
            shared: shared.clone(),
            worker,
            metrics: shared.metrics.workers.get(worker).cloned().unwrap_or_default(),
            pool: Pool::new(limits.pool_max, limits.pool_idle),
            other: Pingora::new(shared, worker),
        }
    }

    /// Asks the pipeline about a request.
    fn begin(&self, conn: &Conn, whole: &Whole) -> Begun {
        let mut ctx = RequestContext { facts: Some(conn.facts.clone()), ..Default::default() };
        let incoming = Incoming {
            method: &whole.method,
            uri: &whole.uri,
            version: whole.version,
            headers: &whole.headers,
        };
        let now = (Instant::now(), SystemTime::now());
        let table = self.shared.table.load();
        let begin = pipeline::begin(&table, &incoming, &conn.facts, now, &mut ctx);
        let (observe, worker) = (&self.shared.observe, self.worker);
        observe.begun(&table, &incoming, &conn.facts, worker, &begin, &mut ctx);
        Begun { ctx, begin }
    }
}

impl Engine for Direct {
    async fn exchange(&self, conn: Box<Conn>, head: BytesMut) -> Option<Box<Conn>> {
        // A body that is still to come is streamed by the other engine.
        if !conn.has_whole_request() {
            return self.other.exchange(conn, head).await;
        }
        let bytes = head.freeze();
        let Some(whole) = request::read(&bytes) else {
            return self.other.exchange(conn, thaw(bytes)).await;
        };
        let begun = self.begin(&conn, &whole);
        if is_for_us(&begun) {
            let mut client = Http1::new(conn, &self.shared, whole.is_last);
            let ctx = match self.carry(&mut client, whole, begun.ctx).await {
                Carried::Over => return client.kept(),
                Carried::GivenUp(ctx) => *ctx,
            };
            // The other engine answers: it knows all forms of answers.
            let status = ctx.reason.map_or(StatusCode::BAD_GATEWAY, |reason| reason.status());
            let begun = Begun { ctx, begin: Begin::Reply(Reply::of(status)) };
            return self.other.go_on(client.unanswered(), thaw(bytes), begun).await;
        }
        drop(whole);
        self.other.go_on(conn, thaw(bytes), begun).await
    }

    async fn serve_h2(&self, conn: Box<Conn>) {
        self.other.serve_h2(conn).await;
    }

    fn tidy(&self) {
        self.pool.tidy(Instant::now());
    }

    async fn drain(&self) {
        self.pool.clear();
        self.other.drain().await;
    }
}

/// Whether a request goes to a Backend that this engine speaks to, and no body is touched on the way.
fn is_for_us(begun: &Begun) -> bool {
    let Begun { ctx, begin } = begun;
    let (Begin::Forward, Some(backend), Some(route)) = (begin, &ctx.backend, &ctx.route) else {
        return false;
    };
    let is_spoken = match backend.spec.protocol {
        BackendProtocol::Http1 => true,
        BackendProtocol::Http2 | BackendProtocol::Grpc => false,
    };
    is_spoken && !ctx.is_upgrade && !route.route.filters.iter().any(filter::touches_bodies)
}

/// The bytes of a head as they came. Copied only where something still refers to them.
fn thaw(bytes: Bytes) -> BytesMut {
    bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}

/// Takes out what concerns one connection only, and what `Connection` nominates for that.
fn strip(headers: &mut HeaderMap) {
    if let Some(nominated) = nominated(headers) {
        for name in &nominated.removed {
            headers.remove(name);
        }
    }
    for name in forward::OF_CONNECTION {
        headers.remove(name);
    }
}
