//! Connections to Endpoints that are told about the client first, by the PROXY protocol.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use kubeng_config::backend::ProxyVersion;
use pingora_core::connectors::l4::Connect;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_error::{Error, ErrorType, Result};

use crate::backend::connect::connect;
use crate::proxy_protocol::Told;

/// Opens connections that speak for one connection of a client.
#[derive(Debug)]
pub(super) struct Telling {
    version: ProxyVersion,
    /// None where this side speaks for itself.
    told: Option<Told>,
    /// The engine has no limit for connections that are opened elsewhere.
    within: Duration,
}

impl Telling {
    pub(super) fn new(version: ProxyVersion, told: Option<Told>, within: Duration) -> Self {
        Self { version, told, within }
    }

    /// What keeps connections that speak for others apart.
    pub(super) fn key(&self) -> u64 {
        // A client chooses a part of its address and its port, so it must not know the hash: another
        // one's connection would speak for it.
        HASHER.hash_one(self.told)
    }
}

#[async_trait]
impl Connect for Telling {
    async fn connect(&self, to: &SocketAddr) -> Result<Stream> {
        let SocketAddr::Inet(to) = to else {
            return Error::e_explain(ErrorType::ConnectError, "not an address of the Internet");
        };
        let connected = connect(*to, self.within, Some((self.version, self.told))).await;
        connected.map(Stream::from).map_err(|error| {
            let is_late = error.kind() == io::ErrorKind::TimedOut;
            let kind = if is_late { ErrorType::ConnectTimedout } else { ErrorType::ConnectError };
            Error::because(kind, "connecting for a client", error)
        })
    }
}

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
