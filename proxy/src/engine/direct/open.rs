//! Opens a connection to an Endpoint: TCP, whom it speaks for, TLS.

use std::hash::BuildHasher;
use std::io;
use std::time::{Duration, Instant};

use rustls::AlertDescription;
use tokio::time::timeout;

use super::stream::Stream;
use crate::backend::connect::{connect, is_want};
use crate::backend::tls::failure::{self, TlsFailure};
use crate::forward::tries::{Failure, Try};
use crate::listener::facts::ConnFacts;
use crate::proxy_protocol::Told;

/// Whom a connection to this Backend speaks for; None where Endpoints do not want to know.
pub(super) fn told(to: &Try, facts: Option<&ConnFacts>) -> Option<Told> {
    to.backend.spec.proxy_protocol?;
    facts.map(|facts| Told { client: facts.client, local: facts.local })
}

/// Equal only for tries that may share a connection: one that speaks for a client is for it alone.
pub(super) fn connection_key(to: &Try, told: Option<Told>) -> u64 {
    match told {
        None => to.connection_key,
        Some(_) => to.connection_key ^ foldhash::fast::FixedState::default().hash_one(told),
    }
}

/// Opens a connection. TLS has its own time, at most until `ends`.
///
/// # Errors
/// What the try failed of; nothing of the request was sent.
pub(super) async fn open(
    to: &Try,
    told: Option<Told>,
    handshake: Duration,
    ends: Option<Instant>,
) -> Result<Stream, Failure> {
    let tell = to.backend.spec.proxy_protocol.map(|version| (version, told));
    let tcp = connect(to.address, to.connect, tell).await.map_err(|error| of_connect(&error))?;
    let Some(connector) = to.backend.tls.connector() else {
        // What should be encrypted is never sent in clear, whoever has chosen this Backend.
        let is_plain = to.backend.spec.tls.is_none();
        return if is_plain { Ok(Stream::Plain(tcp)) } else { Err(Failure::Tls) };
    };
    let left = ends.map(|ends| ends.saturating_duration_since(Instant::now()));
    let within = left.map_or(handshake, |left| left.min(handshake));
    match timeout(within, connector.connect(tcp)).await {
        Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
        Ok(Err(error)) => {
            failure::tell(&to.backend, to.address, &TlsFailure::Handshake(&error));
            Err(Failure::Tls)
        }
        Err(_) => Err(Failure::ConnectTimeout),
    }
}

fn of_connect(error: &io::Error) -> Failure {
    if is_want(error) {
        Failure::Local
    } else if error.kind() == io::ErrorKind::TimedOut {
        Failure::ConnectTimeout
    } else {
        Failure::Connect
    }
}

/// How an Endpoint said that it did not believe who connects; None where it said something else. With
/// TLS 1.3 it says so behind the handshake, where it has read nothing of a request (RFC 8446 section
/// 4.4.2.4).
pub(super) fn disbelief(error: &io::Error) -> Option<AlertDescription> {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::AlertReceived(alert)) = inner else { return None };
    Some(*alert).filter(|alert| failure::is_disbelief(*alert))
}
