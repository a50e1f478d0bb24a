//! Keys of session tickets.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use kubeng_config::canonical::Digest;
use rustls::server::ProducesTickets;

/// Where the keys of session tickets come from.
///
/// A ticket says that a client was verified, so each scope has keys of its own:
/// what one policy for clients has let in is a stranger to another.
pub(super) trait TicketKeys: Send + Sync {
    /// What makes and reads the tickets of `scope`; None when sessions cannot be resumed.
    fn ticketer(&mut self, scope: Digest) -> Option<Arc<dyn ProducesTickets>>;
}

/// Keys that this replica makes itself. The library changes them every six hours and reads tickets
/// of the keys before; other replicas cannot read them.
#[derive(Debug, Default)]
pub(super) struct OwnTicketKeys(HashMap<Digest, Weak<dyn ProducesTickets>>);

impl TicketKeys for OwnTicketKeys {
    fn ticketer(&mut self, scope: Digest) -> Option<Arc<dyn ProducesTickets>> {
        if let Some(known) = self.0.get(&scope).and_then(Weak::upgrade) {
            return Some(known);
        }
        self.0.retain(|_, known| known.strong_count() > 0);
        match rustls::crypto::ring::Ticketer::new() {
            Ok(ticketer) => {
                self.0.insert(scope, Arc::downgrade(&ticketer));
                Some(ticketer)
            }
            Err(error) => {
                tracing::warn!(%error, "sessions cannot be resumed by ticket");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_read_in_its_own_scope_only() {
        let mut keys = OwnTicketKeys::default();
        let (one, other) = (Digest::of([&b"a"[..]]), Digest::of([&b"b"[..]]));
        let first = keys.ticketer(one).unwrap();
        let ticket = first.encrypt(b"session").unwrap();
        assert_eq!(keys.ticketer(one).unwrap().decrypt(&ticket).unwrap(), b"session");
        assert_eq!(keys.ticketer(other).unwrap().decrypt(&ticket), None);
    }
}
