//! Why a request failed on our side: a closed set, so that it can be counted and searched.

use std::fmt;

use http::StatusCode;

use crate::forward::Failure;
use crate::listener::refusal::Rule;

/// Declares the reasons with their name in records.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident, $text:literal;)*) => {
        /// Why an answer is an error of ours, or there is none.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub(crate) enum Reason {
            /// It broke a rule of input.
            Input(Rule),
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// The names of all but the rules of input, by [`number`](Self::number).
            pub(crate) const NAMES: &[&'static str] = &[$($text),*];
            /// How many there are of them.
            pub(crate) const COUNT: usize = Self::NAMES.len();

            /// The place among [`NAMES`](Self::NAMES); None for a rule of input.
            pub(crate) fn number(self) -> Option<usize> {
                Self::NAMES.iter().position(|name| *name == self.name()).filter(|_| {
                    !matches!(self, Self::Input(_))
                })
            }

            /// The name in records; for a rule of input the name of the rule.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    Self::Input(rule) => rule.name(),
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// No Route takes it.
    NoRoute, "no_route";
    /// The Route that takes it was refused, so it refuses in its place.
    RouteRefused, "route_refused";
    /// The client may not.
    AccessDenied, "access_denied";
    /// The client asks too often.
    RateLimited, "rate_limited";
    /// The body is larger than allowed.
    BodyTooLarge, "body_too_large";
    /// There is too much to do.
    Overload, "overload";
    /// The Backend has no Endpoint.
    NoEndpoint, "no_endpoint";
    /// No connection to an Endpoint could be opened.
    Connect, "connect";
    /// No connection to an Endpoint could be opened in time.
    ConnectTimeout, "connect_timeout";
    /// The Endpoint was silent for too long.
    BackendTimeout, "backend_timeout";
    /// The time for the whole request was over.
    RequestTimeout, "request_timeout";
    /// The Endpoint broke the connection, or sent what is no answer.
    BackendBroke, "backend_broke";
    /// Descriptors, ports or memory of this side have run out.
    Local, "local";
    /// The client went away.
    ClientGone, "client_gone";
    /// The client sent its body too slowly.
    ClientSlow, "client_slow";
    /// What the client sent behind the head is wrong.
    ClientBroke, "client_broke";
    /// A fault of ours.
    Internal, "internal";
}

impl Reason {
    /// Whether neither the client nor the configuration is to blame.
    pub(crate) fn is_ours(self) -> bool {
        match self {
            Self::Overload
            | Self::NoEndpoint
            | Self::Connect
            | Self::ConnectTimeout
            | Self::BackendTimeout
            | Self::RequestTimeout
            | Self::BackendBroke
            | Self::Local
            | Self::Internal => true,
            Self::Input(_)
            | Self::NoRoute
            | Self::RouteRefused
            | Self::AccessDenied
            | Self::RateLimited
            | Self::BodyTooLarge
            | Self::ClientGone
            | Self::ClientSlow
            | Self::ClientBroke => false,
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

impl From<Failure> for Reason {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Connect => Self::Connect,
            Failure::ConnectTimeout => Self::ConnectTimeout,
            Failure::Local => Self::Local,
            Failure::Stale | Failure::Other => Self::BackendBroke,
        }
    }
}

/// Why an answer of ours has `status`, where whoever decided on it did not say; None when it is
/// no failure.
pub(crate) fn of_answer(status: StatusCode, has_route: bool) -> Option<Reason> {
    match status.as_u16() {
        401 | 403 => Some(Reason::AccessDenied),
        413 => Some(Reason::BodyTooLarge),
        429 => Some(Reason::RateLimited),
        404 if !has_route => Some(Reason::NoRoute),
        503 if !has_route => Some(Reason::Overload),
        500.. if has_route => Some(Reason::RouteRefused),
        500.. => Some(Reason::Internal),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_ours_have_a_reason_when_they_are_failures() {
        let check = |status: u16, has_route, expected| {
            let found = of_answer(StatusCode::from_u16(status).unwrap(), has_route);
            assert_eq!(found, expected, "{status} {has_route}");
        };
        check(204, false, None);
        check(308, true, None);
        check(404, false, Some(Reason::NoRoute));
        check(403, true, Some(Reason::AccessDenied));
        check(503, true, Some(Reason::RouteRefused));
        check(500, false, Some(Reason::Internal));
        assert_eq!(Reason::Input(Rule::BareLf).to_string(), "input.bare_lf");
        assert_eq!(Reason::NoRoute.to_string(), "no_route");
    }
}
