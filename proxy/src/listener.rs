//! Opens and closes ports while running.
//!
//! Sockets and Listeners are two things: a socket is an address and port, a
//! Listener is an entry of the Table that is looked up for each request. Every
//! worker has its own SO_REUSEPORT socket for each address; an address is
//! bound by all workers or by none.

pub(crate) mod accept;
pub(crate) mod body;
pub(crate) mod connection;
mod cut;
pub(crate) mod frames;
pub(crate) mod head;
pub(crate) mod refusal;
pub(crate) mod serve;
pub(crate) mod transport;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use kubeng_config::listener::Protocol;
use rustls::ServerConfig;
use socket2::{Domain, Socket, Type};
use tokio::sync::mpsc;

use crate::shared::Shared;
use crate::tls;

/// A port that could not be opened. It is tried again; what else was asked for is served.
#[derive(Debug)]
pub struct Unbound {
    /// The address and port that were asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub error: io::Error,
}

/// What a connection must know about the socket that it came through.
#[derive(Debug)]
pub(crate) struct SocketSpec {
    /// The address as its Listeners were given it: the key in the Table.
    pub(crate) address: SocketAddr,
    /// Present when TLS is spoken.
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// What a worker is told.
pub(crate) enum Command {
    /// Take connections from here.
    Open(Arc<SocketSpec>, TcpListener),
    /// Stop taking connections there.
    Close(SocketAddr),
}

/// The open sockets of all workers.
pub(crate) struct Sockets {
    workers: Vec<mpsc::Sender<Command>>,
    open: BTreeMap<SocketAddr, Open>,
}

struct Open {
    protocol: Protocol,
    /// The address with the port that the system chose, where port 0 was asked for.
    local: SocketAddr,
}

impl Sockets {
    /// No sockets yet; `workers` are told of every change.
    pub(crate) fn new(workers: Vec<mpsc::Sender<Command>>) -> Self {
        Self { workers, open: BTreeMap::new() }
    }

    /// Opens what is wanted and not open, closes what is open and not wanted.
    ///
    /// Gives the ports that could not be opened; calling it again tries them again.
    pub(crate) fn become_like(
        &mut self,
        wanted: &BTreeMap<SocketAddr, Protocol>,
        shared: &Arc<Shared>,
    ) -> Vec<Unbound> {
        let mut unbound = Vec::new();
        let gone: Vec<_> =
            self.open.keys().filter(|address| !wanted.contains_key(address)).copied().collect();
        for address in gone {
            self.open.remove(&address);
            self.tell_all(|| Command::Close(address));
        }
        for (&address, &protocol) in wanted {
            let before = self.open.get(&address);
            if before.is_some_and(|open| open.protocol == protocol) {
                continue;
            }
            let is_ipv4_beside =
                wanted.keys().any(|other| other.ip() == IPV4_ANY && other.port() == address.port());
            let bound = match before {
                // The protocol changed: the port stays open all the time.
                Some(open) => bind_all(open.local, self.workers.len(), is_ipv4_beside),
                None => probe(address, is_ipv4_beside)
                    .and_then(|()| bind_all(address, self.workers.len(), is_ipv4_beside)),
            };
            match bound {
                Ok((local, listeners)) => {
                    if before.is_some() {
                        self.tell_all(|| Command::Close(address));
                    }
                    self.start(address, local, protocol, listeners, shared);
                }
                Err(error) => unbound.push(Unbound { address, error }),
            }
        }
        unbound
    }

    /// Where connections are taken: the address that was asked for, and the real one.
    pub(crate) fn open(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr)> {
        self.open.iter().map(|(&address, open)| (address, open.local))
    }

    fn start(
        &mut self,
        address: SocketAddr,
        local: SocketAddr,
        protocol: Protocol,
        listeners: Vec<TcpListener>,
        shared: &Arc<Shared>,
    ) {
        let tls = match protocol {
            Protocol::Http => None,
            Protocol::Https => Some(tls::server_config(shared, address)),
        };
        let spec = Arc::new(SocketSpec { address, tls });
        for (worker, listener) in self.workers.iter().zip(listeners) {
            send(worker, Command::Open(spec.clone(), listener));
        }
        self.open.insert(address, Open { protocol, local });
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            send(worker, command());
        }
    }
}

fn send(worker: &mpsc::Sender<Command>, command: Command) {
    match worker.try_send(command) {
        // A closed queue is that of a worker that has drained: there is nothing to open or close.
        Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
        Err(mpsc::error::TrySendError::Full(_)) => tracing::error!("a worker takes no commands"),
    }
}

/// Fails when another program listens there, even one that shares its port as we do.
fn probe(address: SocketAddr, is_ipv4_beside: bool) -> io::Result<()> {
    let socket = socket(address, is_ipv4_beside)?;
    socket.bind(&address.into())
}

/// One listening socket for each of `workers`, or none.
fn bind_all(
    address: SocketAddr,
    workers: usize,
    is_ipv4_beside: bool,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let mut local = address;
    let mut listeners = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = socket(local, is_ipv4_beside)?;
        socket.set_reuse_port(true)?;
        socket.bind(&local.into())?;
        let listener = TcpListener::from(socket);
        local = listener.local_addr()?;
        listeners.push(listener);
    }
    // Listening begins when all are bound: a connection never meets half of them.
    for listener in &listeners {
        socket2::SockRef::from(listener).listen(BACKLOG)?;
    }
    Ok((local, listeners))
}

fn socket(address: SocketAddr, is_ipv4_beside: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(is_ipv4_beside)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

const BACKLOG: i32 = 4096;
const IPV4_ANY: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_bound_by_all_workers_or_by_none() {
        let any = "127.0.0.1:0".parse().unwrap();
        let (local, listeners) = bind_all(any, 3, false).unwrap();
        assert_eq!(listeners.len(), 3);
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == local));
        assert_eq!(probe(local, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = bind_all(foreign.local_addr().unwrap(), 2, false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
