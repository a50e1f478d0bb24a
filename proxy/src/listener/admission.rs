//! Who may have a connection: counts, and their limits. A refusal costs an accept and a close.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpStream;

use super::SocketSpec;
use super::turned_away::TurnedAway;
use crate::forward::is_trusted;
use crate::shared::Shared;

/// Open connections by the address of the client. It holds as many entries as there are connections
/// at most.
#[derive(Debug)]
pub(crate) struct Addresses {
    shards: Box<[Mutex<HashMap<IpAddr, u32, foldhash::fast::RandomState>>]>,
    hash: foldhash::fast::RandomState,
}

impl Default for Addresses {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hash: foldhash::fast::RandomState::default() }
    }
}

impl Addresses {
    /// Counts one more of `address`; false when it has `most` already.
    fn enter(&self, address: IpAddr, most: u32) -> bool {
        let mut counts = self.shard(address).lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= most {
            // An entry without connections would stay for ever.
            if *count == 0 {
                counts.remove(&address);
            }
            return false;
        }
        *count += 1;
        true
    }

    fn leave(&self, address: IpAddr) {
        let mut counts = self.shard(address).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }

    fn shard(&self, address: IpAddr) -> &Mutex<HashMap<IpAddr, u32, foldhash::fast::RandomState>> {
        let at = usize::try_from(self.hash.hash_one(address) % SHARDS as u64).unwrap_or_default();
        &self.shards[at]
    }
}

/// Counts one open connection for as long as it lives.
pub(crate) struct Admitted {
    shared: Arc<Shared>,
    socket: Arc<SocketSpec>,
    /// The address that it counts for.
    address: Option<IpAddr>,
}

impl Admitted {
    /// Counts a connection that was just accepted.
    ///
    /// # Errors
    /// When it may not stay.
    pub(crate) fn enter(
        shared: &Arc<Shared>,
        socket: &Arc<SocketSpec>,
        tcp: &TcpStream,
        from: SocketAddr,
    ) -> Result<Self, TurnedAway> {
        let limits = &shared.limits;
        let of_replica = shared.connections.fetch_add(1, Ordering::Relaxed);
        let of_socket = socket.connections.fetch_add(1, Ordering::Relaxed);
        let mut this = Self { shared: shared.clone(), socket: socket.clone(), address: None };
        if of_replica >= limits.connections_max {
            return Err(TurnedAway::Replica);
        }
        // The kernel gives the lowest number that is free, so this many are in use.
        if usize::try_from(tcp.as_raw_fd()).is_ok_and(|number| number >= limits.descriptors_max) {
            return Err(TurnedAway::Descriptors);
        }
        let table = shared.table.load();
        let compiled = table.socket(socket.address);
        if compiled.and_then(|socket| socket.connections_max).is_some_and(|max| of_socket >= max) {
            return Err(TurnedAway::Listener);
        }
        let is_balancer = compiled.is_some_and(|socket| socket.speaks_for_others(from.ip()));
        if !is_balancer {
            this.count_address(from.ip().to_canonical())?;
        }
        Ok(this)
    }

    /// Counts it for `address` from here on. Trusted proxies may have as many as they want.
    ///
    /// # Errors
    /// When the address has too many.
    pub(crate) fn count_address(&mut self, address: IpAddr) -> Result<(), TurnedAway> {
        let Some(most) = self.shared.limits.connections_per_address_max else { return Ok(()) };
        if is_trusted(address, &self.shared.trusted_proxies) {
            return Ok(());
        }
        if !self.shared.addresses.enter(address, most) {
            return Err(TurnedAway::Address);
        }
        self.address = Some(address);
        Ok(())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let Self { shared, socket, address } = self;
        shared.connections.fetch_sub(1, Ordering::Relaxed);
        socket.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = address {
            shared.addresses.leave(*address);
        }
    }
}

/// The open connections of one socket, among all workers.
pub(crate) type SocketCount = AtomicUsize;

/// Locks that are held for a few instructions each.
const SHARDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_and_is_forgotten_when_it_has_none() {
        let addresses = Addresses::default();
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        assert!(addresses.enter(one, 2) && addresses.enter(one, 2));
        assert!(!addresses.enter(one, 2) && addresses.enter(other, 2));
        assert!(!addresses.enter(IpAddr::from([192, 0, 2, 3]), 0));
        addresses.leave(one);
        assert!(addresses.enter(one, 2));
        for address in [one, one, other] {
            addresses.leave(address);
        }
        let left: usize = addresses.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert_eq!(left, 0);
    }
}
