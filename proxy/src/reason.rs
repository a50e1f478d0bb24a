//! Why a request was not served: a closed list, for the access log and for metrics.

use std::fmt;

use http::StatusCode;

use crate::listener::refusal::Rule;

/// Declares the reasons with their name, status and meaning.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident, $text:literal, $status:ident;)*) => {
        /// Why a request was not served, or not to its end. Names are stable.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub(crate) enum Reason {
            /// It broke a rule of input.
            Input(Rule),
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// All but the rules of input, in the order of their numbers.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name, in metrics and records; for a rule of input the name of the rule.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    Self::Input(rule) => rule.name(),
                    $(Self::$name => $text,)*
                }
            }

            /// The status of the answer, where none was begun.
            pub(crate) fn status(self) -> StatusCode {
                match self {
                    Self::Input(rule) => rule.status(),
                    $(Self::$name => StatusCode::$status,)*
                }
            }
        }
    };
}

reasons! {
    /// No Route takes it.
    NoRoute, "no_route", NOT_FOUND;
    /// The Route is refused in its place; its Problem says why.
    RouteRefused, "route_refused", INTERNAL_SERVER_ERROR;
    /// The client may not.
    AccessDenied, "access_denied", FORBIDDEN;
    /// The client asks too often.
    RateLimited, "rate_limited", TOO_MANY_REQUESTS;
    /// The body is larger than allowed.
    BodyTooLarge, "body_too_large", PAYLOAD_TOO_LARGE;
    /// There is too much to do, or what decides about the request is not there.
    Overload, "overload", SERVICE_UNAVAILABLE;
    /// The Backend has no Endpoint that takes requests.
    NoEndpoint, "no_endpoint", SERVICE_UNAVAILABLE;
    /// All Endpoints have as many connections, or requests waiting for one, as they may.
    EndpointsFull, "endpoints_full", SERVICE_UNAVAILABLE;
    /// As many requests are in flight to the Backend as may be.
    BackendFull, "backend_full", SERVICE_UNAVAILABLE;
    /// The TLS of the Backend cannot be verified as it is configured, so nothing is sent.
    TlsUnusable, "tls_unusable", SERVICE_UNAVAILABLE;
    /// Descriptors, ports or memory of this replica.
    LocalResources, "local_resources", SERVICE_UNAVAILABLE;
    /// A WebSocket was asked for, and the Backend is spoken to over HTTP/2.
    UpgradeUnsupported, "upgrade_unsupported", NOT_IMPLEMENTED;
    /// No connection could be opened.
    ConnectFailed, "connect_failed", BAD_GATEWAY;
    /// No connection could be opened in time.
    ConnectTimeout, "connect_timeout", GATEWAY_TIMEOUT;
    /// The handshake failed, or the certificate is not the one that was wanted.
    TlsFailed, "tls_failed", BAD_GATEWAY;
    /// HTTP/2 refused the stream.
    StreamRefused, "stream_refused", BAD_GATEWAY;
    /// The connection was reset or closed before the answer began.
    Reset, "reset", BAD_GATEWAY;
    /// What came is no answer that may be passed on.
    BadAnswer, "bad_answer", BAD_GATEWAY;
    /// The answer did not begin, or not go on, in time.
    AnswerTimeout, "answer_timeout", GATEWAY_TIMEOUT;
    /// One try took too long.
    TryTimeout, "try_timeout", GATEWAY_TIMEOUT;
    /// The whole request took too long.
    RequestTimeout, "request_timeout", GATEWAY_TIMEOUT;
    /// The answer had begun when the connection was reset or closed: the client sees it cut off.
    AnswerCut, "answer_cut", BAD_GATEWAY;
    /// The client went away.
    ClientGone, "client_gone", BAD_REQUEST;
    /// The client sent its body too slowly.
    ClientSlow, "client_slow", REQUEST_TIMEOUT;
    /// What the client sent behind the head is wrong.
    ClientBroke, "client_broke", BAD_REQUEST;
    /// A fault of ours.
    Internal, "internal", INTERNAL_SERVER_ERROR;
}

impl Reason {
    /// The place among [`ALL`](Self::ALL); None for a rule of input.
    pub(crate) fn number(self) -> Option<usize> {
        Self::ALL.iter().position(|&other| other == self)
    }

    /// Whether neither the client nor the configuration is to blame.
    pub(crate) fn is_ours(self) -> bool {
        match self {
            Self::Overload
            | Self::NoEndpoint
            | Self::EndpointsFull
            | Self::BackendFull
            | Self::TlsUnusable
            | Self::LocalResources
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::TlsFailed
            | Self::StreamRefused
            | Self::Reset
            | Self::BadAnswer
            | Self::AnswerTimeout
            | Self::TryTimeout
            | Self::RequestTimeout
            | Self::AnswerCut
            | Self::Internal => true,
            Self::Input(_)
            | Self::NoRoute
            | Self::RouteRefused
            | Self::AccessDenied
            | Self::RateLimited
            | Self::BodyTooLarge
            | Self::UpgradeUnsupported
            | Self::ClientGone
            | Self::ClientSlow
            | Self::ClientBroke => false,
        }
    }

    /// Why an answer of ours has `status`, where whoever decided on it did not say; None when it is
    /// no failure.
    pub(crate) fn of_answer(status: StatusCode, has_route: bool) -> Option<Self> {
        match status.as_u16() {
            401 | 403 => Some(Self::AccessDenied),
            413 => Some(Self::BodyTooLarge),
            429 => Some(Self::RateLimited),
            404 if !has_route => Some(Self::NoRoute),
            503 => Some(Self::Overload),
            500.. => Some(Self::Internal),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Input(_) = self {
            f.write_str("input.")?;
        }
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_statuses_tell_whose_fault_it_is() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
        for (number, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.number(), Some(number));
            if reason.is_ours() {
                assert!(reason.status().is_server_error(), "{}", reason.name());
            }
        }
    }

    #[test]
    fn answers_of_ours_have_a_reason_when_they_are_failures() {
        let check = |status: u16, has_route, expected| {
            let found = Reason::of_answer(StatusCode::from_u16(status).unwrap(), has_route);
            assert_eq!(found, expected, "{status} {has_route}");
        };
        check(204, false, None);
        check(308, true, None);
        check(404, false, Some(Reason::NoRoute));
        check(403, true, Some(Reason::AccessDenied));
        check(503, true, Some(Reason::Overload));
        check(500, false, Some(Reason::Internal));
        assert_eq!(Reason::Input(Rule::BareLf).to_string(), "input.bare_lf");
        assert_eq!(Reason::Input(Rule::BareLf).number(), None);
        assert_eq!(Reason::NoRoute.to_string(), "no_route");
    }
}
