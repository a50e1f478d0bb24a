//! What an error of Pingora means to the pipeline and to the client.

use http::StatusCode;
use pingora_error::{Error, ErrorSource, ErrorType};

use crate::forward::Failure;
use crate::request::RequestContext;

/// What became of a try whose connection could not be opened.
pub(super) fn of_connect(error: &Error) -> Failure {
    let is_late =
        matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout);
    if is_late { Failure::ConnectTimeout } else { Failure::Connect }
}

/// The status of the answer to a request that could not be forwarded; None when nobody would read it.
pub(super) fn status_of(error: &Error, ctx: &RequestContext) -> Option<StatusCode> {
    if let ErrorType::HTTPStatus(code) = error.etype() {
        return StatusCode::from_u16(*code).ok();
    }
    match error.esource() {
        ErrorSource::Upstream => Some(of_backend(error.etype(), ctx)),
        ErrorSource::Downstream => of_client(error.etype()),
        ErrorSource::Internal | ErrorSource::Unset => Some(StatusCode::INTERNAL_SERVER_ERROR),
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
