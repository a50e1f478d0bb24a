//! What comes before requests: the PROXY protocol, the server name, TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::BytesMut;
use http::HeaderValue;
use kubeng_config::listener::{Opening, Protocol};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::SocketSpec;
use super::accept::Worker;
use super::admission::Admitted;
use super::client_hello::{CLIENT_HELLO_BYTES_MAX, Hello, NoHello, Peek, plain};
use super::connection::Conn;
use super::facts::{ConnFacts, TlsFacts, TlsSession};
use super::stream::ClientStream;
use super::transport::Transport;
use super::turned_away::TurnedAway;
use crate::engine::Engine;
use crate::forward::is_trusted;
use crate::metrics::Handshake;
use crate::proxy_protocol::{self, Header, Told};
use crate::tls::client::{ClientCertificate, ClientPolicy};

/// How a connection goes on.
pub(super) enum Opened {
    /// Requests are read from it.
    Requests(Box<Conn>),
    /// It is passed on as it is.
    PassOn(Box<ToPassOn>),
}

/// A connection that is passed on as it is.
pub(super) struct ToPassOn {
    pub(super) stream: ClientStream,
    /// The address that its Listeners were given.
    pub(super) socket: SocketAddr,
    pub(super) ends: Told,
    /// The name in the ClientHello; absent on plain TCP.
    pub(super) server_name: Option<Box<str>>,
}

/// Why a connection ends before it goes on.
pub(super) enum Unopened {
    TurnedAway(TurnedAway),
    /// The handshake failed, or took too long.
    Handshake(Handshake),
    /// The client was gone.
    Gone,
}

impl From<TurnedAway> for Unopened {
    fn from(reason: TurnedAway) -> Self {
        Self::TurnedAway(reason)
    }
}

/// Reads what comes before requests.
pub(super) async fn open<E: Engine>(
    worker: &Worker<E>,
    tcp: TcpStream,
    from: SocketAddr,
    spec: &SocketSpec,
    admitted: &mut Admitted,
) -> Result<Opened, Unopened> {
    tcp.set_nodelay(true).map_err(|_| Unopened::Gone)?;
    let local = tcp.local_addr().map_err(|_| Unopened::Gone)?;
    let mut ends = Told { client: canonical(from), local: canonical(local) };
    let mut stream = ClientStream::new(tcp);
    let is_balancer = {
        let table = worker.shared.table.load();
        table.socket(spec.address).is_some_and(|socket| socket.speaks_for_others(ends.client.ip()))
    };
    if is_balancer {
        let header = timeout(worker.shared.limits.proxy_header, read_header(&mut stream)).await;
        let told = header.map_err(|_| TurnedAway::ProxyHeaderLate)??;
        ends = told.unwrap_or(ends);
        if told.is_some() {
            admitted.count_address(ends.client.ip())?;
        }
    }
    match spec.opening {
        Opening::Http => {
            let transport = Transport::Plain(stream);
            Ok(Opened::Requests(conn(worker, spec, ends, transport, None)))
        }
        Opening::Bytes => {
            let to_pass_on = ToPassOn { stream, socket: spec.address, ends, server_name: None };
            Ok(Opened::PassOn(Box::new(to_pass_on)))
        }
        Opening::Tls => open_tls(worker, spec, ends, stream).await,
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Reads the header of the PROXY protocol, and nothing of what stands behind it.
async fn read_header(stream: &mut ClientStream) -> Result<Option<Told>, TurnedAway> {
    loop {
        match proxy_protocol::parse(stream.early()) {
            Ok(Header::Complete { told, length }) => {
                stream.skip(length);
                return Ok(told);
            }
            Ok(Header::Partial) => {
                let read = stream.more(proxy_protocol::BYTES_MAX).await;
                read.map_err(|_| TurnedAway::ProxyHeader)?;
            }
            Err(error) => {
                tracing::debug!(%error, "a balancer sent no header of the PROXY protocol");
                return Err(TurnedAway::ProxyHeader);
            }
        }
    }
}

/// How a connection goes on that begins with TLS.
enum Tls {
    /// Ended here.
    End(Arc<ServerConfig>, Option<Arc<ClientPolicy>>),
    /// By the Endpoint.
    PassOn,
    /// What the client asks for is decided by its ClientHello.
    ByName,
}

async fn open_tls<E: Engine>(
    worker: &Worker<E>,
    spec: &SocketSpec,
    ends: Told,
    mut stream: ClientStream,
) -> Result<Opened, Unopened> {
    let shared = &worker.shared;
    // The ClientHello counts as a handshake: it is what floods send.
    let turn = Handshaking::begin(worker)?;
    let (tls, server_name) = match decide(worker, spec, None) {
        Some(Tls::ByName) => {
            let hello = timeout(shared.limits.client_hello, server_name(&mut stream)).await;
            let name = hello.map_err(|_| TurnedAway::ServerNameLate)??;
            (decide(worker, spec, Some(name.as_deref())), name)
        }
        tls => (tls, None),
    };
    match tls {
        Some(Tls::End(config, policy)) => {
            let accepted = TlsAcceptor::from(config).accept(stream);
            let accepted = timeout(shared.limits.handshake, accepted).await;
            let accepted = accepted.map_err(|_| Unopened::Handshake(Handshake::Late))?;
            let stream = accepted.map_err(|_| Unopened::Handshake(Handshake::Failed))?;
            drop(turn);
            let facts = facts(&stream, policy).ok_or(Unopened::Handshake(Handshake::Failed))?;
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            worker.metrics.handshake(Handshake::Done);
            let transport = Transport::Tls(Box::new(stream));
            let mut conn = conn(worker, spec, ends, transport, Some(facts));
            if is_h2 {
                conn.become_h2(BytesMut::new(), worker.shared.limits.requests_max);
            }
            Ok(Opened::Requests(conn))
        }
        Some(Tls::PassOn) if server_name.is_some() => {
            let socket = spec.address;
            Ok(Opened::PassOn(Box::new(ToPassOn { stream, socket, ends, server_name })))
        }
        // No Listener takes the name, or there is none where one is needed.
        Some(Tls::PassOn | Tls::ByName) | None => Err(TurnedAway::ServerName.into()),
    }
}

/// What becomes of a client that asks for `name`; None before it was asked.
fn decide<E: Engine>(
    worker: &Worker<E>,
    spec: &SocketSpec,
    name: Option<Option<&str>>,
) -> Option<Tls> {
    let table = worker.shared.table.load();
    let socket = table.socket(spec.address)?;
    let Some(name) = name else {
        // Most sockets have one Listener that asks nobody for anything.
        let one = match &*socket.listeners {
            [one] => one.tls.as_ref(),
            _ => None,
        };
        let only = one.and_then(|spoken| Some((spoken.only()?, spoken.policy())));
        let end = |(config, policy): (&Arc<ServerConfig>, Option<&Arc<ClientPolicy>>)| {
            Tls::End(config.clone(), policy.cloned())
        };
        return Some(only.map_or(Tls::ByName, end));
    };
    let terms = table.terms(spec.address, name)?;
    match terms.listener.protocol {
        Protocol::Https => {
            let config = terms.listener.tls.as_ref()?.config(terms.policy)?;
            Some(Tls::End(config.clone(), terms.policy.cloned()))
        }
        Protocol::TlsPassthrough => Some(Tls::PassOn),
        // A Snapshot has none of them on such a socket.
        Protocol::Http | Protocol::Tcp => None,
    }
}

/// The server name that the client asks for; what was read is read again by whoever comes next.
async fn server_name(stream: &mut ClientStream) -> Result<Option<Box<str>>, TurnedAway> {
    let mut peek = Peek::default();
    loop {
        match peek.look(stream.early()) {
            Ok(Hello::Whole(name)) => return Ok(name),
            Ok(Hello::Partial) => {
                let read = stream.more(CLIENT_HELLO_BYTES_MAX).await;
                read.map_err(|_| TurnedAway::ServerName)?;
            }
            Err(NoHello) => return Err(TurnedAway::ServerName),
        }
    }
}

/// What the handshake told; None when the client's certificate cannot be told to Backends.
fn facts(stream: &TlsStream<ClientStream>, policy: Option<Arc<ClientPolicy>>) -> Option<TlsFacts> {
    let session = stream.get_ref().1;
    let presented = session.peer_certificates().and_then(|chain| chain.first());
    let client = match presented {
        Some(der) => Some(Box::new(ClientCertificate::read(der)?)),
        None => None,
    };
    Some(TlsFacts {
        session: TlsSession::of(session, session.server_name().map(|name| plain(name).into())),
        policy: policy.map(|policy| policy.digest),
        client,
    })
}

fn conn<E: Engine>(
    worker: &Worker<E>,
    spec: &SocketSpec,
    ends: Told,
    transport: Transport,
    tls: Option<TlsFacts>,
) -> Box<Conn> {
    let shared = &worker.shared;
    let Told { client, local } = ends;
    let facts = Arc::new(ConnFacts {
        socket: spec.address,
        client,
        client_text: HeaderValue::from_str(&client.ip().to_string())
            .expect("an address is visible ASCII"),
        trusted_proxies: is_trusted(client.ip(), &shared.trusted_proxies)
            .then(|| shared.trusted_proxies.clone()),
        local,
        local_port: local.port(),
        port_text: HeaderValue::from(local.port()),
        tls,
        is_tunnel: AtomicBool::new(false),
        switch_millis: AtomicU64::new(0),
        alarm: super::alarm::Alarm::default(),
        is_last: AtomicBool::new(false),
        body_fault: super::body::BodyFault::default(),
        is_cut: AtomicBool::new(false),
    });
    Box::new(Conn::new(transport, facts, &shared.limits))
}

/// One of the handshakes that may go on at a time.
struct Handshaking<'a, E: Engine>(&'a Worker<E>);

impl<'a, E: Engine> Handshaking<'a, E> {
    /// An error when there are too many already.
    fn begin(worker: &'a Worker<E>) -> Result<Self, TurnedAway> {
        let before = worker.handshakes.fetch_add(1, Ordering::Relaxed);
        let this = Self(worker);
        if before < worker.shared.limits.handshakes_max {
            Ok(this)
        } else {
            Err(TurnedAway::Handshakes)
        }
    }
}

impl<E: Engine> Drop for Handshaking<'_, E> {
    fn drop(&mut self) {
        self.0.handshakes.fetch_sub(1, Ordering::Relaxed);
    }
}
