//! What an engine must offer. The boundary is one exchange, so everything about connections exists once.

pub(crate) mod direct;
pub(crate) mod pingora;
mod stream;

use bytes::BytesMut;

use crate::listener::connection::Conn;
use crate::pipeline::Begin;
use crate::request::RequestContext;

/// Carries HTTP between a client and Backends. It asks the pipeline and decides nothing.
pub(crate) trait Engine: Send + Sync + 'static {
    /// Carries out one HTTP/1 exchange. `head` is complete and judged; body bytes may follow in it.
    ///
    /// Gives the connection back when another request may follow.
    fn exchange(
        &self,
        conn: Box<Conn>,
        head: BytesMut,
    ) -> impl Future<Output = Option<Box<Conn>>> + Send;

    /// Serves an HTTP/2 connection until it ends.
    fn serve_h2(&self, conn: Box<Conn>) -> impl Future<Output = ()> + Send;

    /// Lets go of what nobody needs any more; asked every few seconds.
    fn tidy(&self) {}

    /// Draining has begun: nothing may wait for a further request.
    fn drain(&self) -> impl Future<Output = ()> + Send;
}

/// A request that the pipeline has been asked about.
pub(crate) struct Begun {
    pub(crate) ctx: RequestContext,
    pub(crate) begin: Begin,
}
