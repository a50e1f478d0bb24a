//! The side of the controller: takes replicas in over mutual TLS, and lets new ones join.
//!
//! [`serve`] runs until it is told to stop. Each replica that follows is handed to the
//! [`Hub`], which gives back a [`Line`](super::line::Line).

mod delivery;
mod joining;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{MissedTickBehavior, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tracing::{debug, warn};

use super::authority::Authority;
use super::connection::{COMPRESSION, CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, Tasks};
use super::identity::certificate::Facts;
use super::identity::server::ServerIdentity;
use super::line::{Hub, Identified};
use super::tls;
use super::wire::proto::delivery_server::{DeliveryServer, SERVICE_NAME as DELIVERY};
use super::wire::proto::joining_server::JoiningServer;
use super::wire::{MESSAGE_BYTES_MAX, in_full};

/// How many connections there may be at once; more are closed as they come.
const CONNECTIONS_MAX: usize = 4096;

/// How long the TLS handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// How long a connection without a certificate may last: long enough to join.
const JOIN_WITHIN: Duration = Duration::from_secs(30);

/// How often a controller asks whether a replica is still there, and how long it waits.
const ASK_EVERY: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How many calls of one connection may run at once.
const STREAMS_MAX: u32 = 8;

/// The largest head of a call.
const HEAD_BYTES_MAX: u32 = 16 * 1024;

/// How much is kept for a stream that cannot send.
const SEND_BYTES_MAX: usize = 512 * 1024;

/// How long connections may take to end when the controller stops.
const END_WITHIN: Duration = Duration::from_secs(2);

/// How often it is looked whether another certificate is due.
const REFRESH_EVERY: Duration = Duration::from_secs(60);

/// How long nothing is accepted after accepting failed, for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why replicas are not served. Fatal at start.
#[derive(Debug, thiserror::Error)]
#[error("TLS for replicas cannot be set up")]
pub struct ServeError(#[from] rustls::Error);

/// Takes in replicas that connect to `listener` until `stop`, then ends all connections.
///
/// # Errors
/// When TLS cannot be set up with the certificate of the authority.
pub async fn serve(
    listener: TcpListener,
    identity: Arc<ServerIdentity>,
    authority: Arc<Authority>,
    hub: Arc<impl Hub>,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let acceptor = TlsAcceptor::from(tls::server(authority.certificate(), Arc::clone(&identity))?);
    let server = Server {
        acceptor,
        authority,
        hub,
        tracker: TaskTracker::new(),
        free: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        stop,
        cut: CancellationToken::new(),
    };
    let mut refresh = tokio::time::interval(REFRESH_EVERY);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = server.stop.cancelled() => break,
            _ = refresh.tick() => {
                let identity = Arc::clone(&identity);
                let refreshed = tokio::task::spawn_blocking(move || {
                    identity.refresh(SystemTime::now())
                });
                if let Ok(Err(error)) = refreshed.await {
                    warn!(error = in_full(&error), "the certificate for replicas is not renewed");
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => server.take(stream, peer),
                Err(error) => {
                    warn!(%error, "no connection of a replica can be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    server.tracker.close();
    if timeout(END_WITHIN, server.tracker.wait()).await.is_err() {
        server.cut.cancel();
        server.tracker.wait().await;
    }
    Ok(())
}

struct Server<H> {
    acceptor: TlsAcceptor,
    authority: Arc<Authority>,
    hub: Arc<H>,
    tracker: TaskTracker,
    free: Arc<Semaphore>,
    /// Streams end.
    stop: CancellationToken,
    /// Connections are dropped.
    cut: CancellationToken,
}

/// Who is at the other end of a connection; it travels with every call.
#[derive(Clone)]
struct Peer {
    address: SocketAddr,
    /// What its certificate says; none when it showed none.
    certificate: Option<Facts>,
    /// Ends the connection at once.
    cut: CancellationToken,
}

impl Peer {
    /// The replica that it is certified as, and when that ends.
    fn certified(&self) -> Result<(Identified, SystemTime), tonic::Status> {
        let facts = self.certificate.as_ref().ok_or_else(|| {
            tonic::Status::unauthenticated(
                "the replica showed no certificate: it must join with a token first",
            )
        })?;
        let identified = facts.replica.clone().ok_or_else(|| {
            tonic::Status::unauthenticated("the certificate names no fleet and replica")
        })?;
        Ok((identified, facts.ends))
    }

    /// What it is labelled, which it cannot choose.
    fn labels(&self) -> BTreeMap<String, String> {
        self.certificate.as_ref().map(|facts| facts.labels.clone()).unwrap_or_default()
    }
}

impl<H: Hub> Server<H> {
    /// Starts to care for a connection.
    fn take(&self, stream: TcpStream, address: SocketAddr) {
        let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else {
            warn!(%address, "there are {CONNECTIONS_MAX} connections of replicas; it is closed");
            return;
        };
        let connection = Care {
            acceptor: self.acceptor.clone(),
            authority: Arc::clone(&self.authority),
            hub: Arc::clone(&self.hub),
            tracker: self.tracker.clone(),
            stop: self.stop.clone(),
            cut: self.cut.child_token(),
            address,
            _permit: permit,
        };
        self.tracker.spawn(async move {
            let cut = connection.cut.clone();
            // Nothing that the connection started outlives it.
            let _end = cut.clone().drop_guard();
            cut.run_until_cancelled(connection.run(stream)).await;
        });
    }
}

/// One connection.
struct Care<H> {
    acceptor: TlsAcceptor,
    authority: Arc<Authority>,
    hub: Arc<H>,
    tracker: TaskTracker,
    stop: CancellationToken,
    cut: CancellationToken,
    address: SocketAddr,
    _permit: OwnedSemaphorePermit,
}

impl<H: Hub> Care<H> {
    async fn run(self, stream: TcpStream) {
        let address = self.address;
        // Small messages must not wait for an answer to the one before.
        let _ = stream.set_nodelay(true);
        let accepting = self.acceptor.accept(stream).into_fallible();
        let stream = match timeout(HANDSHAKE_WITHIN, accepting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, stream))) => {
                debug!(%address, error = in_full(&error), "a replica gets no TLS connection");
                linger(stream).await;
                return;
            }
            Err(_) => {
                debug!(%address, "a TLS handshake takes too long");
                return;
            }
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let peer = match certificate.map(|certificate| read(certificate)).transpose() {
            Ok(certificate) => Peer { address, certificate, cut: self.cut.clone() },
            Err(error) => {
                debug!(%address, error, "the certificate of a replica cannot be read");
                return;
            }
        };
        let last = if peer.certificate.is_none() { JOIN_WITHIN } else { Duration::MAX };
        let connection = self.connection(stream, peer);
        tokio::pin!(connection);
        let mut ending = false;
        let end = tokio::time::sleep(last.min(LONGEST));
        tokio::pin!(end);
        loop {
            tokio::select! {
                result = &mut connection => {
                    if let Err(error) = result {
                        debug!(%address, error = in_full(&error), "a replica is gone");
                    }
                    return;
                }
                () = self.stop.cancelled(), if !ending => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = &mut end => return,
            }
        }
    }

    fn connection(
        &self,
        stream: tokio_rustls::server::TlsStream<TcpStream>,
        peer: Peer,
    ) -> http2::Connection<
        TokioIo<tokio_rustls::server::TlsStream<TcpStream>>,
        impl hyper::service::HttpService<
            Incoming,
            ResBody = Body,
            Future: Send + 'static,
            Error = std::convert::Infallible,
        > + use<H>,
        Tasks,
    > {
        let hub = Arc::clone(&self.hub);
        let delivery = DeliveryServer::new(delivery::Service::new(hub, self.stop.clone()))
            .accept_compressed(COMPRESSION)
            .send_compressed(COMPRESSION)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let joining = JoiningServer::new(joining::Service::new(Arc::clone(&self.authority)))
            .max_decoding_message_size(joining::REQUEST_BYTES_MAX);
        let service = service_fn(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            let (mut delivery, mut joining) = (delivery.clone(), joining.clone());
            async move {
                let path = request.uri().path();
                let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
                if service.is_some_and(|(service, _)| service == DELIVERY) {
                    delivery.call(request).await
                } else {
                    // What it does not know either, it refuses as gRPC wants it.
                    joining.call(request).await
                }
            }
        });
        http2::Builder::new(Tasks::new(&self.tracker, self.cut.clone()))
            .timer(TokioTimer::new())
            .keep_alive_interval(ASK_EVERY)
            .keep_alive_timeout(ANSWER_WITHIN)
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_BYTES_MAX)
            .max_send_buf_size(SEND_BYTES_MAX)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    }
}

/// Reads what still comes, for a short while: closed with something unread, the connection would be
/// reset, and the other side might lose the alert that says what is wrong.
async fn linger(mut stream: TcpStream) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let _ = stream.shutdown().await;
    let mut rest = stream.take(LINGER_BYTES_MAX);
    let mut sink = tokio::io::sink();
    let _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut sink)).await;
}

/// How long, and how much, is read of a connection that gets no TLS.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: u64 = 64 * 1024;

/// Longer than the life of any certificate; a clock of the runtime cannot count to the end of time.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

fn read(certificate: &CertificateDer<'_>) -> Result<Facts, String> {
    Facts::read(certificate)
}
