//! The engine of exchanges with Backends, plain or over TLS, by HTTP/1.1 or HTTP/2.
//!
//! It parses each head once, keeps idle connections over HTTP/1.1 in a list instead of a task
//! for each, and relays bodies without a channel in between. What it does not do
//! goes to the other engine, with all that the pipeline has found out already.
//!
//! Clients of HTTP/2 are all its own: their streams are carried here, or handed over one by one.

mod ahead;
mod answer;
mod call;
mod carry;
mod chunks;
mod client;
mod connection;
mod deliver;
mod endpoint;
mod http1;
mod http2;
mod multiplex;
mod open;
mod pool;
mod relay;
mod request;
mod sending;
mod stream;
mod streams;
mod trailers;
mod upstream;
mod watched;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::Guard;
use bytes::{Bytes, BytesMut};
use http::header::HeaderMap;
use kubeng_config::backend::BackendProtocol;
use tokio::sync::Semaphore;

use super::pingora::Pingora;
use super::{Begun, Engine};
use crate::forward;
use crate::listener::connection::Conn;
use crate::listener::facts::ConnFacts;
use crate::metrics::WorkerMetrics;
use crate::nominated::nominated;
use crate::observe;
use crate::pipeline::{self, Begin};
use crate::request::{Incoming, RequestContext};
use crate::shared::Shared;
use call::Call;
use http1::Http1;
use multiplex::Connections;
use pool::Pool;
use upstream::Upstream;

/// One worker's engine, before the one that does all the rest.
pub(crate) struct Direct {
    shared: Arc<Shared>,
    worker: usize,
    metrics: Arc<WorkerMetrics>,
    pool: Pool,
    /// Of Backends over HTTP/2.
    multiplexed: Connections,
    /// KiB that may be held of bodies that are read whole.
    buffers: Arc<Semaphore>,
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
            multiplexed: Connections::new(limits),
            buffers: Arc::new(Semaphore::new(BUFFERS_KIB_MAX)),
            other: Pingora::new(shared, worker),
        }
    }

    /// Asks the pipeline about a request, behind all questions.
    async fn begin(&self, facts: &Arc<ConnFacts>, incoming: &Incoming<'_>) -> Begun {
        let mut ctx = RequestContext { facts: Some(facts.clone()), ..Default::default() };
        let now = (Instant::now(), SystemTime::now());
        let (begin, table) = {
            let table = self.shared.table.load();
            let begin = match pipeline::http2::check(incoming, &self.shared.limits) {
                Ok(()) => pipeline::begin(&table, incoming, facts, now, &mut ctx),
                Err(rule) => Begin::Refuse(rule),
            };
            let (observe, worker) = (&self.shared.observe, self.worker);
            observe.begun(&table, incoming, facts, worker, &begin, &mut ctx);
            match begin {
                // The answer may be long in coming, and the Table must be the same then.
                Begin::Ask(..) => (begin, Guard::into_inner(table)),
                Begin::Forward | Begin::Reply(_) | Begin::Refuse(_) => return Begun { ctx, begin },
            }
        };
        let begin = match begin {
            Begin::Ask(question, pending) => {
                let asked = (question, pending);
                let asking =
                    self.other.errands().ask(&table, incoming, facts, now, asked, &mut ctx);
                let begin = Box::pin(asking).await;
                observe::decided(&begin, &mut ctx);
                begin
            }
            begin @ (Begin::Forward | Begin::Reply(_) | Begin::Refuse(_)) => begin,
        };
        Begun { ctx, begin }
    }
}

impl Engine for Direct {
    async fn exchange(&self, conn: Box<Conn>, head: BytesMut) -> Option<Box<Conn>> {
        let bytes = head.freeze();
        let Some(mut whole) = request::read(&bytes) else {
            return self.other.exchange(conn, thaw(bytes)).await;
        };
        let incoming = Incoming {
            method: &whole.method,
            uri: &whole.uri,
            version: whole.version,
            headers: &whole.headers,
        };
        let begun = self.begin(&conn.facts, &incoming).await;
        if let Some(protocol) = spoken(&begun) {
            // Who reads them in pieces has copied what came with the head.
            drop(bytes);
            let mut client = if begun.ctx.is_upgrade {
                Http1::before_tunnel(conn, &self.shared, &mut whole)
            } else {
                Http1::new(conn, &self.shared, &mut whole)
            };
            match protocol {
                BackendProtocol::Http1 => {
                    self.carry::<_, Upstream>(&mut client, whole, begun.ctx).await;
                }
                BackendProtocol::Http2 | BackendProtocol::Grpc => {
                    // In a box: whatever goes over HTTP/1.1 has room for it else.
                    let carried = self.carry::<_, Call>(&mut client, whole, begun.ctx);
                    Box::pin(carried).await;
                }
            }
            return client.finish().await;
        }
        drop(whole);
        self.other.go_on(conn, thaw(bytes), begun).await
    }

    async fn serve_h2(&self, conn: Box<Conn>) {
        // In a box: whatever waits for a request on HTTP/1 pays for no more than the pointer.
        Box::pin(self.serve_streams(conn)).await;
    }

    fn tidy(&self) {
        let now = Instant::now();
        self.pool.tidy(now);
        self.multiplexed.tidy(now);
    }

    async fn drain(&self) {
        self.pool.clear();
        self.multiplexed.end().await;
        self.other.drain().await;
    }
}

/// What the Backend speaks that a request goes to; None where it goes to none.
fn spoken(begun: &Begun) -> Option<BackendProtocol> {
    let Begun { ctx, begin } = begun;
    match begin {
        Begin::Forward => ctx.backend.as_ref().map(|backend| backend.spec.protocol),
        Begin::Reply(_) | Begin::Refuse(_) | Begin::Ask(..) => None,
    }
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
    // Of an upgrade that is not passed on (RFC 9113 section 3.1).
    headers.remove("http2-settings");
}

/// Of all bodies that one worker reads whole at a time: 64 MiB; then 503.
const BUFFERS_KIB_MAX: usize = 64 * 1024;
