//! Opens and closes ports while running.
//!
//! Sockets and Listeners are two things: a socket is an address and port, a
//! Listener is an entry of the Table that is looked up for each request. Every
//! worker has its own SO_REUSEPORT socket for each address; an address is
//! bound by all workers or by none.

pub(crate) mod accept;
pub(crate) mod admission;
pub(crate) mod alarm;
pub(crate) mod body;
pub(crate) mod client_hello;
pub(crate) mod connection;
mod cut;
pub(crate) mod facts;
pub(crate) mod frames;
pub(crate) mod handover;
pub(crate) mod head;
pub(crate) mod opening;
pub(crate) mod refusal;
pub(crate) mod serve;
mod stall;
pub(crate) mod stream;
pub(crate) mod transport;
pub(crate) mod tunnel;
pub(crate) mod turned_away;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Weak};

use kubeng_config::listener::Opening;
use socket2::{Domain, Socket, Type};
use tokio::sync::mpsc;

use admission::SocketCount;
use handover::Handover;

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
    /// What stands first on its connections.
    pub(crate) opening: Opening,
    /// Its open connections.
    pub(crate) connections: SocketCount,
}

/// What a worker is told.
pub(crate) enum Command {
    /// Take connections from here; the last is let go when that ends.
    Open(Arc<SocketSpec>, TcpListener, Arc<()>),
    /// Stop taking connections there.
    Close(SocketAddr),
}

/// The open sockets of all workers.
pub(crate) struct Sockets {
    workers: Vec<mpsc::Sender<Command>>,
    open: BTreeMap<SocketAddr, Open>,
    /// Those that were told to close, and whether a worker still listens there.
    leaving: Vec<(SocketAddr, Weak<()>)>,
    handover: Arc<Handover>,
}

struct Open {
    opening: Opening,
    /// The address with the port that the system chose, where port 0 was asked for.
    local: SocketAddr,
    families: Families,
    /// Held by every worker for as long as it listens.
    listening: Arc<()>,
}

impl Open {
    fn new(opening: Opening, local: SocketAddr, families: Families) -> Self {
        Self { opening, local, families, listening: Arc::new(()) }
    }
}

/// Whose connections a socket takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Families {
    /// Those of its own address.
    Own,
    /// IPv6 only, for IPv4 has a socket of its own.
    V6,
    /// IPv6, and IPv4 with mapped addresses.
    Both,
}

impl Families {
    fn of(address: SocketAddr, is_ipv4_beside: bool) -> Self {
        match address {
            SocketAddr::V4(_) => Self::Own,
            SocketAddr::V6(_) if is_ipv4_beside => Self::V6,
            SocketAddr::V6(_) => Self::Both,
        }
    }
}

impl Sockets {
    /// No sockets yet; `workers` are told of every change.
    pub(crate) fn new(workers: Vec<mpsc::Sender<Command>>, handover: Arc<Handover>) -> Self {
        Self { workers, open: BTreeMap::new(), leaving: Vec::new(), handover }
    }

    /// Opens what is wanted and not open, closes what is open and not wanted.
    ///
    /// Gives the ports that could not be opened; calling it again tries them again.
    pub(crate) fn become_like(&mut self, wanted: &BTreeMap<SocketAddr, Opening>) -> Vec<Unbound> {
        if self.handover.is_given_up() {
            // Another process opens and closes them.
            return Vec::new();
        }
        let mut unbound = Vec::new();
        self.leaving.retain(|(_, listening)| listening.strong_count() > 0);
        let gone: Vec<_> =
            self.open.keys().filter(|address| !wanted.contains_key(address)).copied().collect();
        for address in gone {
            self.handover.release(address);
            self.close(address);
        }
        for (&address, &opening) in wanted {
            let is_ipv4_beside =
                wanted.keys().any(|other| other.ip() == IPV4_ANY && other.port() == address.port());
            let families = Families::of(address, is_ipv4_beside);
            let before = self.open.get(&address);
            if before.is_some_and(|open| open.opening == opening && open.families == families) {
                continue;
            }
            let workers = self.workers.len();
            let bound = match before {
                // What is spoken changed: the port stays open all the time.
                Some(open) => bind_all(open.local, workers, families),
                None => self.handover.take(address, workers).unwrap_or_else(|| {
                    // Sockets of our own are no reason to refuse: all of them share their ports.
                    if !self.is_ours(address) {
                        probe(address, families)?;
                    }
                    bind_all(address, workers, families)
                }),
            };
            let kept = bound.and_then(|(local, listeners)| {
                self.handover.keep(address, &listeners).map(|()| (local, listeners))
            });
            match kept {
                Ok((local, listeners)) => {
                    self.close(address);
                    self.start(address, Open::new(opening, local, families), listeners);
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

    /// Whether a socket that is open, or has not been closed yet, stands in the way of `address`.
    fn is_ours(&self, address: SocketAddr) -> bool {
        let open = self.open.values().map(|open| open.local);
        open.chain(self.leaving.iter().map(|(local, _)| *local)).any(|other| {
            other.port() == address.port()
                && (other.ip() == address.ip()
                    || other.ip().is_unspecified()
                    || address.ip().is_unspecified())
        })
    }

    fn start(&mut self, address: SocketAddr, open: Open, listeners: Vec<TcpListener>) {
        let connections = SocketCount::new(0);
        let spec = Arc::new(SocketSpec { address, opening: open.opening, connections });
        for (worker, listener) in self.workers.iter().cycle().zip(listeners) {
            send(worker, Command::Open(spec.clone(), listener, open.listening.clone()));
        }
        self.open.insert(address, open);
    }

    fn close(&mut self, address: SocketAddr) {
        if let Some(open) = self.open.remove(&address) {
            self.leaving.push((open.local, Arc::downgrade(&open.listening)));
            self.tell_all(|| Command::Close(address));
        }
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            send(worker, command());
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        // The workers close their sockets when nobody can tell them anything any more.
        self.handover.release_all();
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
fn probe(address: SocketAddr, families: Families) -> io::Result<()> {
    let socket = socket(address, families)?;
    socket.bind(&address.into())
}

/// One listening socket for each of `workers`, or none.
fn bind_all(
    address: SocketAddr,
    workers: usize,
    families: Families,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let mut local = address;
    let mut listeners = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = socket(local, families)?;
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

fn socket(address: SocketAddr, families: Families) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    match families {
        Families::Own => {}
        Families::V6 => socket.set_only_v6(true)?,
        Families::Both => socket.set_only_v6(false)?,
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
        let (local, listeners) = bind_all(any, 3, Families::Own).unwrap();
        assert_eq!(listeners.len(), 3);
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == local));
        assert_eq!(probe(local, Families::Own).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = bind_all(foreign.local_addr().unwrap(), 2, Families::Own).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
