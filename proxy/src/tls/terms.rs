//! What TLS says under a name, and whether a request may come over a handshake for another one.

use std::net::SocketAddr;
use std::sync::Arc;

use kubeng_config::name::CertificateId;

use super::client::ClientPolicy;
use super::config::SpokenTls;
use crate::listener::facts::TlsFacts;
use crate::table::{CompiledListener, Table};

/// What TLS says under a name.
pub(crate) struct Terms<'a> {
    pub(crate) listener: &'a CompiledListener,
    /// Absent: the certificate of the replica's own.
    pub(crate) certificate: Option<&'a CertificateId>,
    /// What is asked of clients.
    pub(crate) policy: Option<&'a Arc<ClientPolicy>>,
}

impl Table {
    /// What TLS says under `name` on this socket: for the name itself, then for its Listener.
    pub(crate) fn terms(&self, socket: SocketAddr, name: Option<&str>) -> Option<Terms<'_>> {
        let listener = self.listener(socket, name)?;
        let named = name.and_then(|name| self.server_names.get(&listener.id)?.find(name));
        let of_listener = || listener.tls.as_ref()?.policy();
        Some(Terms {
            listener,
            certificate: named
                .map(|named| &named.certificate)
                .or(listener.default_certificate.as_ref()),
            policy: named.and_then(|named| named.policy.as_ref()).or_else(of_listener),
        })
    }

    /// Whether a request for `host` needs another handshake than the one it came over: one that
    /// asks clients for something else, or presents another certificate (RFC 9110 section 15.5.20).
    pub(crate) fn is_misdirected(
        &self,
        socket: SocketAddr,
        handshake: &TlsFacts,
        host: Option<&str>,
    ) -> bool {
        let server_name = handshake.session.server_name.as_deref();
        let is_same_name = server_name == host;
        let asks_clients = || self.socket(socket).is_some_and(|socket| socket.asks_clients());
        if is_same_name && !asks_clients() {
            return false;
        }
        let Some(asked) = self.terms(socket, host) else { return false };
        let policy = asked.policy.map(|policy| policy.digest);
        if is_same_name {
            // What is asked may have changed since. What is not asked any more does no harm.
            return policy.is_some() && policy != handshake.policy;
        }
        // Without a name the client chose nothing, so only what protects counts.
        let is_other = |name| {
            let Some(chosen) = self.terms(socket, Some(name)) else { return true };
            let options = |terms: &Terms<'_>| terms.listener.tls.as_ref().map(SpokenTls::options);
            chosen.certificate != asked.certificate || options(&chosen) != options(&asked)
        };
        policy != handshake.policy || server_name.is_some_and(is_other)
    }
}
