//! The engine of the common case: a whole HTTP/1.1 request to a Backend that speaks plain HTTP/1.1.
//!
//! It parses each head once, keeps idle connections in a list instead of a task
//! for each, and relays bodies without a channel in between. What it does not do
//! goes to the other engine, with all that the pipeline has found out already.
//!
//! Clients of HTTP/2 are all its own: their streams are carried here, or handed over one by one.

mod answer;
mod carry;
mod chunks;
mod client;
mod connection;
mod http1;
mod http2;
mod pool;
mod relay;
mod request;
mod streams;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::HeaderMap;
use kubeng_config::backend::BackendProtocol;

use super::pingora::Pingora;
use super::{Begun, Engine};
use crate::filter;
use crate::forward;
use crate::listener::connection::{Conn, ConnFacts};
use crate::metrics::WorkerMetrics;
use crate::nominated::nominated;
use crate::pipeline::{self, Begin};
use crate::request::{Incoming, RequestContext};
use crate::shared::Shared;
use carry::Carried;
use http1::Http1;
use pool::Pool;

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
    fn begin(&self, facts: &Arc<ConnFacts>, incoming: &Incoming<'_>) -> Begun {
        let mut ctx = RequestContext { facts: Some(facts.clone()), ..Default::default() };
        let now = (Instant::now(), SystemTime::now());
        let table = self.shared.table.load();
        let begin = match pipeline::http2::check(incoming, &self.shared.limits) {
            Ok(()) => pipeline::begin(&table, incoming, facts, now, &mut ctx),
            Err(rule) => Begin::Refuse(rule),
        };
        let (observe, worker) = (&self.shared.observe, self.worker);
        observe.begun(&table, incoming, facts, worker, &begin, &mut ctx);
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
        let incoming = Incoming {
            method: &whole.method,
            uri: &whole.uri,
            version: whole.version,
            headers: &whole.headers,
        };
        let begun = self.begin(&conn.facts, &incoming);
        if is_for_us(&begun) {
            let mut client = Http1::new(conn, &self.shared, whole.is_last);
            let given_up = match self.carry(&mut client, whole, begun.ctx).await {
                Carried::Over => return client.kept(),
                Carried::GivenUp(given_up) => given_up,
            };
            let begin = Begin::Reply(given_up.reply());
            // What refers to the bytes is dropped, so they are thawed without a copy.
            let begun = Begun { ctx: given_up.ctx, begin };
            return self.other.go_on(client.unanswered(), thaw(bytes), begun).await;
        }
        drop(whole);
        self.other.go_on(conn, thaw(bytes), begun).await
    }

    async fn serve_h2(&self, conn: Box<Conn>) {
        // In a box: whatever waits for a request on HTTP/1 pays for no more than the pointer.
        Box::pin(self.serve_streams(conn)).await;
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
    let speaks_plainly = match backend.spec.protocol {
        BackendProtocol::Http1 => {
            backend.spec.tls.is_none() && backend.spec.proxy_protocol.is_none()
        }
        BackendProtocol::Http2 | BackendProtocol::Grpc => false,
    };
    speaks_plainly && !ctx.is_upgrade && !route.route.filters.iter().any(filter::touches_bodies)
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
