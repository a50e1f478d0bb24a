//! Listening sockets that outlive the process: lent to the next one, and taken over from the one before.
//!
//! The sockets themselves travel, so their queues do: a connection that the kernel has completed
//! belongs to whichever process asks first. Binding beside the old process with SO_REUSEPORT would
//! give each its own queue, and closing the old ones would reset what waits in them.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The sockets of one address, which listen already.
#[derive(Debug)]
pub struct ListeningSockets {
    /// The address and port that a Listener was given.
    pub address: SocketAddr,
    /// One for each worker of the process that bound them.
    pub sockets: Vec<TcpListener>,
}

/// What is lent and what was taken over. Nobody asks for it while serving.
#[derive(Debug, Default)]
pub(crate) struct Handover(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Second handles on all that is open; they hold a port open as the workers' own do.
    open: BTreeMap<SocketAddr, Vec<TcpListener>>,
    /// What came from another process and no Listener has asked for yet.
    inherited: BTreeMap<SocketAddr, Vec<TcpListener>>,
    /// Whether the ports are another process's, or nobody's, from here on.
    is_given_up: bool,
}

impl Handover {
    /// With these of the process before; an address may come in several pieces.
    pub(crate) fn of(inherited: Vec<ListeningSockets>) -> Self {
        let mut state = State::default();
        for ListeningSockets { address, sockets } in inherited {
            state.inherited.entry(address).or_default().extend(sockets);
        }
        Self(Mutex::new(state))
    }

    /// The inherited sockets of `address`, if there are any: at least one for each of `workers`.
    pub(crate) fn take(
        &self,
        address: SocketAddr,
        workers: usize,
    ) -> Option<io::Result<(SocketAddr, Vec<TcpListener>)>> {
        let sockets = self.state().inherited.remove(&address)?;
        Some(spread(sockets, workers))
    }

    /// Drops what nobody asked for: those ports are closed then.
    pub(crate) fn forget_inherited(&self) {
        self.state().inherited.clear();
    }

    /// Keeps a second handle on the sockets of `address`, in place of those it had.
    pub(crate) fn keep(&self, address: SocketAddr, sockets: &[TcpListener]) -> io::Result<()> {
        let sockets = clones(sockets)?;
        self.state().open.insert(address, sockets);
        Ok(())
    }

    /// Lets go of `address`. To be called before the workers close it.
    pub(crate) fn release(&self, address: SocketAddr) {
        self.state().open.remove(&address);
    }

    /// Lets go of everything. To be called before the workers close their sockets.
    pub(crate) fn release_all(&self) {
        let mut state = self.state();
        state.open.clear();
        state.inherited.clear();
    }

    /// The same, for good: no port is opened any more.
    pub(crate) fn give_up(&self) {
        self.release_all();
        self.state().is_given_up = true;
    }

    /// Whether no port may be opened any more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.state().is_given_up
    }

    /// Handles for another process.
    pub(crate) fn lend(&self) -> io::Result<Vec<ListeningSockets>> {
        let state = self.state();
        let lent = |(address, sockets): (&SocketAddr, &Vec<TcpListener>)| {
            Ok(ListeningSockets { address: *address, sockets: clones(sockets)? })
        };
        state.open.iter().map(lent).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of `sockets`, none is left out: its queue would be lost. Fewer than `workers` are shared.
fn spread(sockets: Vec<TcpListener>, workers: usize) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let first = sockets.first().ok_or(io::ErrorKind::InvalidInput)?;
    let local = first.local_addr()?;
    let missing = workers.saturating_sub(sockets.len());
    let shared: io::Result<Vec<_>> =
        sockets.iter().cycle().take(missing).map(TcpListener::try_clone).collect();
    let mut all = sockets;
    all.extend(shared?);
    for socket in &all {
        socket.set_nonblocking(true)?;
    }
    Ok((local, all))
}

fn clones(sockets: &[TcpListener]) -> io::Result<Vec<TcpListener>> {
    sockets.iter().map(TcpListener::try_clone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(inherited: usize, workers: usize, expected: usize) {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let sockets = (0..inherited).map(|_| TcpListener::bind(address).unwrap()).collect();
        let handover = Handover::of(vec![ListeningSockets { address, sockets }]);
        let (_, taken) = handover.take(address, workers).unwrap().unwrap();
        assert_eq!(taken.len(), expected, "{inherited} for {workers}");
        assert!(handover.take(address, workers).is_none(), "it is taken once");
    }

    #[test]
    fn every_worker_gets_a_socket_and_every_socket_a_worker() {
        check(2, 2, 2);
        check(1, 3, 3);
        check(4, 2, 4);
    }

    #[test]
    fn a_released_port_is_closed() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let handover = Handover::default();
        handover.keep(address, std::slice::from_ref(&socket)).unwrap();
        assert_eq!(handover.lend().unwrap().len(), 1);
        drop(socket);
        assert!(std::net::TcpStream::connect(address).is_ok());
        handover.release_all();
        assert!(std::net::TcpStream::connect(address).is_err());
        assert!(handover.lend().unwrap().is_empty());
    }
}
