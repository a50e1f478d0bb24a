//! An Endpoint as the engine wants to see it.

use std::sync::Arc;

use pingora_core::upstreams::peer::HttpPeer;

use super::connector::Telling;
use super::tls;
use crate::forward;
use crate::forward::tries::Try;
use crate::limits::Limits;
use crate::listener::facts::ConnFacts;
use crate::proxy_protocol::Told;

/// Where one try goes, with all its time limits.
pub(super) fn peer(limits: &Limits, to: &Try, facts: Option<&ConnFacts>) -> HttpPeer {
    let server_name = to.backend.spec.tls.as_ref().map(|tls| tls.server_name.as_str());
    // An empty name would switch verification off; the type of the name has no empty value.
    let mut peer = HttpPeer::new(
        to.address,
        server_name.is_some(),
        server_name.unwrap_or_default().to_owned(),
    );
    peer.group_key = to.connection_key;
    peer.options.ca = to.backend.tls.authorities().and_then(|_| tls::authorities(to));
    let options = &mut peer.options;
    options.connection_timeout = Some(to.connect);
    options.total_connection_timeout = Some(match server_name {
        Some(_) => to.connect + limits.backend_handshake,
        None => to.connect,
    });
    options.read_timeout = Some(to.read);
    options.write_timeout = Some(to.write);
    options.idle_timeout = Some(limits.pool_idle);
    if forward::is_http2(to.backend.spec.protocol) {
        options.set_http_version(2, 2);
        options.max_h2_streams = BACKEND_STREAMS_MAX;
    }
    if let Some(version) = to.backend.spec.proxy_protocol {
        let told = facts.map(|facts| Told { client: facts.client, local: facts.local });
        let telling = Telling::new(version, told, to.connect);
        // Such a connection speaks for one client, so no other may use it.
        peer.group_key ^= telling.key();
        peer.options.custom_l4 = Some(Arc::new(telling));
    }
    peer
}

/// Streams that share one connection to an Endpoint.
const BACKEND_STREAMS_MAX: usize = 100;
