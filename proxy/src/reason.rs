//! Why a request was not served: a closed list, for the access log and for metrics.

use http::StatusCode;

/// Declares the reasons with their name, status and meaning.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident, $text:literal, $status:ident;)*) => {
        /// Why a request was not served, or not to its end. Names are stable.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(crate) enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// All of them, in the order of their numbers.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name, in metrics and records.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The status of the answer, where none was begun.
            pub(crate) fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                }
            }
        }
    };
}

reasons! {
    /// The Route is refused in its place; its Problem says why.
    RouteRefused, "route_refused", INTERNAL_SERVER_ERROR;
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
    /// A fault of ours.
    Internal, "internal", INTERNAL_SERVER_ERROR;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_statuses_are_those_of_a_server() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
        for (number, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
            assert!(reason.status().is_server_error(), "{}", reason.name());
        }
    }
}
