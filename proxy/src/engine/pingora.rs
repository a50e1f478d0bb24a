//! The adapter to Pingora: the only place, with its folder, that names it. It decides nothing.

mod answer;
mod app;
mod connector;
mod errand;
mod failure;
mod fields;
mod io;
mod peer;
mod session;
mod steps;
mod tls;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use http::request::Parts;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ServerApp};
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::server::configuration::ServerConf;
use pingora_http::ResponseHeader;
use pingora_proxy::HttpProxy;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Begun;
use super::stream::Stream;
use crate::listener::alarm::Alarm;
use crate::listener::connection::Conn;
use crate::listener::facts::ConnFacts;
use crate::shared::Shared;
use app::{App, Handed};
use errand::Errands;
use io::PingoraIo;
use session::StreamSession;

/// Pingora with a pool of connections to Backends that belongs to one worker.
pub(crate) struct Pingora {
    proxy: Arc<HttpProxy<App>>,
    errands: Arc<Errands>,
    shared: Arc<Shared>,
    leaving: watch::Receiver<bool>,
}

impl Pingora {
    /// The engine of worker number `worker`.
    pub(crate) fn new(shared: &Arc<Shared>, worker: usize) -> Self {
        let limits = &shared.limits;
        let conf = ServerConf {
            threads: 1,
            upstream_keepalive_pool_size: limits.pool_max,
            // Only a last resort: tries are counted in the pipeline.
            max_retries: 16,
            ..ServerConf::default()
        };
        let app = App::new(shared.clone(), worker);
        let errands = app.errands.clone();
        let mut proxy = HttpProxy::new(app, Arc::new(conf));
        let mut options = HttpServerOptions::default();
        // The pipeline refuses CONNECT; the engine would name itself in its own answer.
        options.allow_connect_method_proxying = true;
        proxy.server_options = Some(options);
        proxy.handle_init_modules();
        let leaving = shared.leaving.subscribe();
        Self { proxy: Arc::new(proxy), errands, shared: shared.clone(), leaving }
    }

    /// What carries out requests of our own.
    pub(crate) fn errands(&self) -> &Arc<Errands> {
        &self.errands
    }

    /// Carries a request on that the pipeline has been asked about already.
    pub(crate) async fn go_on(
        &self,
        conn: Box<Conn>,
        head: BytesMut,
        begun: Begun,
    ) -> Option<Box<Conn>> {
        self.process(conn, head, Some(begun)).await
    }

    async fn process(
        &self,
        conn: Box<Conn>,
        head: BytesMut,
        begun: Option<Begun>,
    ) -> Option<Box<Conn>> {
        let limits = &self.shared.limits;
        let facts = conn.facts.clone();
        if conn.requests() >= limits.requests_max || Instant::now() >= conn.ends() {
            facts.is_last.store(true, Ordering::Relaxed);
        }
        let mut session = ServerSession::new_http1(Box::new(PingoraIo { conn }));
        // Any time makes it answer keep-alive; the wait itself is not Pingora's. None, before the
        // request was read, makes it wait for another one. Below a second would be none at all.
        session.set_keepalive(Some(limits.idle.as_secs().max(1)));
        // Parsed without a copy and before any read.
        session.set_pipelined_prefix(head);
        session.set_connection_user_context(Some(Box::new(Handed::new(facts, begun))));
        session.set_read_timeout(Some(limits.body_read));
        session.set_write_timeout(Some(limits.write_stall));
        // A body that nobody wanted is read for a moment, so that the connection can go on.
        session.set_total_drain_timeout(Some(DRAIN_BODY));
        let reusable = self.proxy.process_new_http(session, &self.leaving).await?;
        let (stream, _) = reusable.consume();
        stream.into_any().downcast::<PingoraIo>().ok().map(|io| io.conn)
    }

    /// Carries out one HTTP/1 exchange from its begin.
    pub(crate) async fn exchange(&self, conn: Box<Conn>, head: BytesMut) -> Option<Box<Conn>> {
        self.process(conn, head, None).await
    }

    /// Carries a request of HTTP/2 on that the pipeline has been asked about already.
    pub(crate) async fn stream(
        &self,
        head: Parts,
        stream: Stream,
        facts: &Arc<ConnFacts>,
        mut begun: Begun,
    ) {
        let alarm = Arc::new(Alarm::default());
        begun.ctx.alarm = Some(alarm.clone());
        let Ok(nothing) = ResponseHeader::build(200, Some(0)) else { return };
        let handed: Box<dyn Any + Send + Sync> = Box::new(Handed::new(facts.clone(), Some(begun)));
        let handed = ProxyDigest::new(Box::new(nothing), Some(handed));
        let digest = Digest { proxy_digest: Some(Arc::new(handed)), ..Digest::default() };
        let session = Box::new(StreamSession::new(head, stream, alarm, digest));
        let session = ServerSession::new_custom(session);
        self.proxy.process_new_http(session, &self.leaving).await;
    }

    /// Ends what nobody waits for.
    pub(crate) async fn drain(&self) {
        self.errands.end().await;
        self.proxy.cleanup().await;
    }
}

/// How long the rest of a body is read that was not needed for the answer.
const DRAIN_BODY: std::time::Duration = std::time::Duration::from_secs(5);
