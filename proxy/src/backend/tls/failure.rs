//! Why TLS to an Endpoint failed: told in words, at most once a minute for each Backend.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::{AlertDescription as Alert, CertificateError, Error};

use crate::backend::CompiledBackend;

/// Why no request goes over a connection that should be encrypted.
#[derive(Debug)]
pub(crate) enum TlsFailure<'a> {
    /// The handshake failed.
    Handshake(&'a io::Error),
    /// The handshake came to its end, and HTTP/2 was not agreed on (RFC 7301).
    NoHttp2,
    /// The Endpoint did not believe who connects, and said so behind the handshake.
    Disbelieved(Alert),
    /// What an engine of others says, in its words.
    Elsewhere(String),
}

/// When it was last told, so that a Backend that is broken does not fill the log.
#[derive(Debug, Default)]
pub(crate) struct LastTold(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    /// Failures since then.
    untold: u64,
}

/// Logs why TLS to the Endpoint of `backend` at `endpoint` failed, unless that was done lately.
pub(crate) fn tell(backend: &CompiledBackend, endpoint: SocketAddr, failure: &TlsFailure<'_>) {
    let Some(untold) = backend.tls.last_told().turn(Instant::now()) else { return };
    let server_name = backend.spec.tls.as_ref().map(|tls| tls.server_name.as_str());
    tracing::warn!(
        backend = %backend.id,
        %endpoint,
        server_name,
        cause = failure.cause().as_str(),
        remedy = failure.remedy(),
        untold,
        "TLS to a backend failed"
    );
}

/// The same in one text, for a question of ours that failed of it.
pub(crate) fn in_words(error: &io::Error) -> Box<str> {
    let failure = TlsFailure::Handshake(error);
    format!("TLS: {}; {}", failure.cause(), failure.remedy()).into()
}

impl LastTold {
    /// Whether it is to be told at `now`: then how many failures were not told before.
    fn turn(&self, now: Instant) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.at.is_some_and(|at| now.saturating_duration_since(at) < TOLD_EVERY) {
            told.untold = told.untold.saturating_add(1);
            return None;
        }
        told.at = Some(now);
        Some(std::mem::take(&mut told.untold))
    }
}

impl TlsFailure<'_> {
    /// What happened. The Endpoint may have chosen a part of it, so its length is bounded.
    fn cause(&self) -> String {
        let mut text = match self {
            Self::Handshake(error) if is_end(error) => {
                "the endpoint ended the connection within the handshake".to_owned()
            }
            Self::Handshake(error) => error.to_string(),
            Self::NoHttp2 => "the endpoint did not agree on HTTP/2 (ALPN h2)".to_owned(),
            Self::Disbelieved(alert) => Error::AlertReceived(*alert).to_string(),
            Self::Elsewhere(text) => text.clone(),
        };
        let end = text.char_indices().nth(CAUSE_MAX).map(|(at, _)| at);
        text.truncate(end.unwrap_or(text.len()));
        text
    }

    /// What can be done about it.
    fn remedy(&self) -> &'static str {
        match self {
            Self::Handshake(error) => {
                match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                    Some(error) => remedy(error),
                    None => LOOK_THERE,
                }
            }
            Self::NoHttp2 => PROTOCOL,
            Self::Disbelieved(_) => DISBELIEVED,
            Self::Elsewhere(_) => COMPARE,
        }
    }
}

/// The cause is one of many, and there may be more of them tomorrow.
fn remedy(error: &Error) -> &'static str {
    use CertificateError as Bad;
    if let Error::InvalidCertificate(bad) = error {
        if matches!(bad, Bad::UnknownIssuer | Bad::BadSignature) {
            "believe the authority that signed its certificate (tls.roots or tls.caBundle)"
        } else if matches!(bad, Bad::NotValidForName | Bad::NotValidForNameContext { .. }) {
            "name what its certificate is for (tls.serverName or tls.subjectAltNames)"
        } else if matches!(bad, Bad::Expired | Bad::ExpiredContext { .. }) {
            "renew its certificate"
        } else if matches!(bad, Bad::NotValidYet | Bad::NotValidYetContext { .. }) {
            "compare the clocks of both machines"
        } else {
            "give it another certificate"
        }
    } else if let Error::AlertReceived(alert) = error {
        if is_disbelief(*alert) {
            DISBELIEVED
        } else if matches!(alert, Alert::ProtocolVersion | Alert::InsufficientSecurity) {
            VERSIONS
        } else if *alert == Alert::UnrecognisedName {
            "name a host that it serves (tls.serverName)"
        } else if *alert == Alert::NoApplicationProtocol {
            PROTOCOL
        } else {
            LOOK_THERE
        }
    } else if matches!(error, Error::PeerIncompatible(_)) {
        VERSIONS
    } else if matches!(error, Error::InvalidMessage(_)) {
        "name the port at which it speaks TLS, or a protocol without TLS"
    } else {
        LOOK_THERE
    }
}

/// Whether an alert says that the one who connects is not believed.
pub(crate) fn is_disbelief(alert: Alert) -> bool {
    matches!(
        alert,
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
    )
}

fn is_end(error: &io::Error) -> bool {
    let kind = error.kind();
    matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

const DISBELIEVED: &str =
    "present a certificate that it believes (tls.clientCertificate), and agree on a cipher suite";
const PROTOCOL: &str = "let it speak the protocol of the backend (ALPN), or name another protocol";
const VERSIONS: &str = "let both sides speak a common version and cipher suite (tls.minVersion)";
const COMPARE: &str = "compare its certificate with tls.serverName and tls.roots";
const LOOK_THERE: &str = "look into the log of the endpoint";
/// So long nothing more is told of a Backend.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// In characters.
const CAUSE_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_once_a_minute_with_the_number_of_those_between() {
        let (told, start) = (LastTold::default(), Instant::now());
        let at = |seconds| told.turn(start + Duration::from_secs(seconds));
        assert_eq!(at(0), Some(0));
        assert_eq!((at(0), at(30), at(59)), (None, None, None));
        assert_eq!(at(60), Some(3));
        assert_eq!(at(61), None);
        assert_eq!(at(1000), Some(1));
    }

    #[track_caller]
    fn check(error: Error, cause: &str, word: &str) {
        let error = io::Error::new(io::ErrorKind::InvalidData, error);
        let failure = TlsFailure::Handshake(&error);
        assert!(failure.cause().contains(cause), "{}", failure.cause());
        assert!(failure.remedy().contains(word), "{cause}: {}", failure.remedy());
    }

    #[test]
    fn every_cause_has_words_and_a_remedy() {
        let bad = Error::InvalidCertificate;
        check(bad(CertificateError::UnknownIssuer), "UnknownIssuer", "tls.roots");
        check(bad(CertificateError::NotValidForName), "NotValidForName", "tls.serverName");
        check(bad(CertificateError::Expired), "Expired", "renew");
        check(bad(CertificateError::NotValidYet), "NotValidYet", "clocks");
        check(bad(CertificateError::BadEncoding), "BadEncoding", "another certificate");
        let told = Error::AlertReceived;
        check(told(Alert::CertificateRequired), "CertificateRequired", "tls.clientCertificate");
        check(told(Alert::ProtocolVersion), "ProtocolVersion", "tls.minVersion");
        check(told(Alert::UnrecognisedName), "UnrecognisedName", "tls.serverName");
        check(told(Alert::InternalError), "InternalError", "log of the endpoint");
        check(Error::General("x".repeat(9999)), "xxx", "log of the endpoint");
        let end = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert!(TlsFailure::Handshake(&end).cause().contains("ended the connection"));
        assert!(TlsFailure::NoHttp2.cause().contains("h2"));
        let long = TlsFailure::Elsewhere("ä".repeat(9999)).cause();
        assert_eq!(long.chars().count(), CAUSE_MAX);
    }
}
