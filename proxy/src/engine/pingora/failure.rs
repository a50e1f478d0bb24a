//! What an error of Pingora means to the pipeline and to the client.

use std::io;

use http::StatusCode;
use pingora_error::{Error, ErrorSource, ErrorType};
use rustix::io::Errno;

use crate::forward::Failure;
use crate::record::reason::Reason;
use crate::request::RequestContext;

/// What became of a try whose connection could not be opened.
pub(super) fn of_connect(error: &Error) -> Failure {
    if is_local(error) {
        return Failure::Local;
    }
    let is_late =
        matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout);
    if is_late { Failure::ConnectTimeout } else { Failure::Connect }
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
            && let Some(error) = Errno::from_io_error(error)
        {
            return WANTS.contains(&error);
        }
        cause = error.source();
    }
    false
}

/// No descriptors, no ports, no memory.
const WANTS: [Errno; 5] =
    [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];

/// The status of the answer to a request that could not be forwarded; None when nobody would read it.
pub(super) fn status_of(error: &Error, ctx: &RequestContext) -> Option<StatusCode> {
    if let ErrorType::HTTPStatus(code) = error.etype() {
        return StatusCode::from_u16(*code).ok();
    }
    match error.esource() {
        ErrorSource::Upstream => Some(of_backend(error.etype(), ctx)),
        // The connection stands for the Backend, which has not decided about the tunnel in time.
        ErrorSource::Downstream if ctx.is_upgrade && ctx.answered.is_none() && is_late(error) => {
            Some(StatusCode::GATEWAY_TIMEOUT)
        }
        ErrorSource::Downstream => of_client(error.etype()),
        ErrorSource::Internal | ErrorSource::Unset => Some(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// Why a request could not be forwarded, or its answer not be sent to its end.
pub(super) fn reason_of(error: &Error, ctx: &RequestContext, status: Option<StatusCode>) -> Reason {
    let of_try = || ctx.seen.failure.map(Reason::from);
    if let ErrorType::HTTPStatus(code) = error.etype() {
        return of_try().unwrap_or(match code {
            502 => Reason::BackendBroke,
            503 => Reason::NoEndpoint,
            504 => Reason::RequestTimeout,
            _ => Reason::Internal,
        });
    }
    match error.esource() {
        ErrorSource::Upstream => {
            let kinds = [&ErrorType::ReadTimedout, &ErrorType::WriteTimedout];
            let is_late = kinds.contains(&error.etype());
            if is_late { Reason::BackendTimeout } else { of_try().unwrap_or(Reason::BackendBroke) }
        }
        ErrorSource::Downstream => match status {
            Some(StatusCode::GATEWAY_TIMEOUT) => Reason::BackendTimeout,
            Some(StatusCode::REQUEST_TIMEOUT) => Reason::ClientSlow,
            Some(_) => Reason::ClientBroke,
            None => Reason::ClientGone,
        },
        ErrorSource::Internal | ErrorSource::Unset => Reason::Internal,
    }
}

fn of_backend(kind: &ErrorType, ctx: &RequestContext) -> StatusCode {
    if matches!(kind, ErrorType::ReadTimedout | ErrorType::WriteTimedout) {
        StatusCode::GATEWAY_TIMEOUT
    } else {
        ctx.tries.last_status.unwrap_or(StatusCode::BAD_GATEWAY)
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
