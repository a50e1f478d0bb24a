//! What an error of Pingora means to the pipeline and to the client.

use std::io;

use http::StatusCode;
use pingora_error::{Error, ErrorSource, ErrorType};

use crate::backend::connect::is_want;
use crate::forward::tries::Failure;
use crate::reason::Reason;
use crate::request::RequestContext;

/// What became of a try whose connection could not be opened.
pub(super) fn of_connect(error: &Error) -> Failure {
    if is_local(error) {
        return Failure::Local;
    }
    if matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout) {
        return Failure::ConnectTimeout;
    }
    let is_tls = matches!(
        error.etype(),
        ErrorType::TLSHandshakeFailure
            | ErrorType::TLSWantX509Lookup
            | ErrorType::InvalidCert
            | ErrorType::HandshakeError
    );
    if is_tls { Failure::Tls } else { Failure::Connect }
}

/// What became of a try that had its connection; None when that was not the fault of the Endpoint.
///
/// `rings`: the deadline of the request has come, whichever side shows it.
pub(super) fn of_exchange(error: &Error, ctx: &RequestContext, rings: bool) -> Option<Failure> {
    if rings {
        return Some(Failure::Timeout);
    }
    // A Filter of ours has stopped it.
    if let ErrorType::HTTPStatus(_) = error.etype() {
        return None;
    }
    match error.esource() {
        ErrorSource::Upstream => Some(of_backend(error)),
        // The connection stands for the Backend, which has not decided about the tunnel in time.
        ErrorSource::Downstream if ctx.is_upgrade && ctx.answered.is_none() && is_late(error) => {
            Some(Failure::Timeout)
        }
        ErrorSource::Downstream | ErrorSource::Internal | ErrorSource::Unset => None,
    }
}

fn of_backend(error: &Error) -> Failure {
    if is_refused(error) {
        return Failure::Refused;
    }
    let kind = error.etype();
    if matches!(kind, ErrorType::ReadTimedout | ErrorType::WriteTimedout) {
        Failure::Timeout
    } else if error.retry() {
        // The engine marks only what it has seen on a pooled connection.
        Failure::Stale
    } else if matches!(
        kind,
        ErrorType::InvalidHTTPHeader
            | ErrorType::H1Error
            | ErrorType::InvalidH2
            | ErrorType::H2Downgrade
    ) {
        Failure::BadAnswer
    } else {
        Failure::Reset
    }
}

/// Whether HTTP/2 says that the request was not looked at (RFC 9113 section 8.7).
fn is_refused(error: &Error) -> bool {
    error.root_cause().downcast_ref::<h2::Error>().is_some_and(|cause| {
        let reason = cause.reason();
        let is_refused = cause.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM);
        let has_gone = cause.is_go_away() && reason == Some(h2::Reason::NO_ERROR);
        cause.is_remote() && (is_refused || has_gone)
    })
}

fn is_late(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// Whether the system said that this side has run out of something.
fn is_local(error: &Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.root_cause());
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.raw_os_error().is_some()
        {
            return is_want(error);
        }
        cause = error.source();
    }
    false
}

/// The status of the answer to a request that could not be forwarded; None when nobody would read it.
pub(super) fn status_of(error: &Error, ctx: &mut RequestContext) -> Option<StatusCode> {
    if let Some(reason) = ctx.reason {
        return Some(reason.status());
    }
    if let ErrorType::HTTPStatus(code) = error.etype() {
        return StatusCode::from_u16(*code).ok();
    }
    // The connection is read by the engine, so what it found looks like an error of the engine.
    if let Some(rule) = ctx.body_fault() {
        return Some(rule.status());
    }
    match error.esource() {
        ErrorSource::Downstream => of_client(error.etype()),
        ErrorSource::Upstream | ErrorSource::Internal | ErrorSource::Unset => {
            ctx.reason = Some(Reason::Internal);
            Some(Reason::Internal.status())
        }
    }
}

fn of_client(kind: &ErrorType) -> Option<StatusCode> {
    if matches!(kind, ErrorType::ReadTimedout) {
        Some(StatusCode::REQUEST_TIMEOUT)
    } else if matches!(
        kind,
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed
    ) {
        // The client is gone.
        None
    } else {
        Some(StatusCode::BAD_REQUEST)
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[track_caller]
    fn check(errno: Errno, expected: Failure) {
        let error = Error::because(ErrorType::ConnectError, "x", io::Error::from(errno));
        assert_eq!(of_connect(&error), expected, "{errno:?}");
        let outer = Error::because(ErrorType::ConnectError, "y", error);
        assert_eq!(of_connect(&outer), expected, "{errno:?}");
    }

    #[test]
    fn want_on_this_side_is_not_the_fault_of_the_endpoint() {
        check(Errno::MFILE, Failure::Local);
        check(Errno::ADDRNOTAVAIL, Failure::Local);
        check(Errno::CONNREFUSED, Failure::Connect);
        let late = Error::explain(ErrorType::ConnectTimedout, "x");
        assert_eq!(of_connect(&late), Failure::ConnectTimeout);
    }
}
