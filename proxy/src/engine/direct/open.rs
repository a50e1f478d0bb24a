//! Opens a connection to an Endpoint: TCP, whom it speaks for, TLS.

use std::hash::BuildHasher;
use std::io;
use std::time::{Duration, Instant};

use rustls::AlertDescription as Alert;
use tokio::time::timeout;

use super::stream::Stream;
use crate::backend::connect::{connect, is_want};
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
    let tcp = connect(to.address, to.connect, tell).await.map_err(|error| failure(&error))?;
    let Some(connector) = to.backend.tls.connector() else {
        // What should be encrypted is never sent in clear, whoever has chosen this Backend.
        let is_plain = to.backend.spec.tls.is_none();
        return if is_plain { Ok(Stream::Plain(tcp)) } else { Err(Failure::Tls) };
    };
    let left = ends.map(|ends| ends.saturating_duration_since(Instant::now()));
    let within = left.map_or(handshake, |left| left.min(handshake));
    match timeout(within, connector.connect(tcp)).await {
        Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
        Ok(Err(_)) => Err(Failure::Tls),
        Err(_) => Err(Failure::ConnectTimeout),
    }
}

fn failure(error: &io::Error) -> Failure {
    if is_want(error) {
        Failure::Local
    } else if error.kind() == io::ErrorKind::TimedOut {
        Failure::ConnectTimeout
    } else {
        Failure::Connect
    }
}

/// Whether an Endpoint did not believe who connects. With TLS 1.3 it says so behind the handshake,
/// where it has read nothing of a request (RFC 8446 section 4.4.2.4).
pub(super) fn is_disbelief(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(
        inner,
        Some(rustls::Error::AlertReceived(
            Alert::CertificateRequired
                | Alert::NoCertificate
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::HandshakeFailure
                | Alert::DecryptError
        ))
    )
}
