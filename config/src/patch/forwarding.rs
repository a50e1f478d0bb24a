//! `timeouts` and `retry`: how a request is forwarded.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::scalar::{Deadline, Span};
use crate::bounded::{AtMost, Between};
use crate::name::{NameError, serde_as_text};
use crate::policy::retry::{Repeat, Retry, RetryOn};
use crate::policy::timeouts::Timeouts;

/// Time limits; see [`Timeouts`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TimeoutsPatch {
    /// The whole request with all tries; `0s`: no limit.
    pub request: Option<Deadline>,
    /// One try; `0s`: no limit.
    pub backend_request: Option<Deadline>,
    /// Opening a connection.
    pub connect: Option<Span>,
    /// Until the answer begins; `0s`: as `idle`.
    pub first_byte: Option<Deadline>,
    /// The longest silence of the Backend.
    pub idle: Option<Span>,
    /// The longest silence on a WebSocket.
    pub tunnel: Option<Span>,
}

impl TimeoutsPatch {
    /// `base` with what is set here.
    #[must_use]
    pub fn on(&self, base: Timeouts) -> Timeouts {
        let Self { request, backend_request, connect, first_byte, idle, tunnel } = self;
        let or = |set: &Option<Deadline>, base| set.map_or(base, Deadline::get);
        Timeouts {
            request: or(request, base.request),
            per_try: or(backend_request, base.per_try),
            first_byte: or(first_byte, base.first_byte),
            connect: connect.map_or(base.connect, Span::get),
            read: idle.map_or(base.read, Span::get),
            write: idle.map_or(base.write, Span::get),
            tunnel: tunnel.map_or(base.tunnel, Span::get),
        }
    }
}

/// What is tried again; see [`Retry`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RetryPatch {
    /// Tries after the first.
    pub attempts: Option<Between<0, 5>>,
    /// Reasons beside a connection that failed.
    pub on: Option<AtMost<RetryReason, 16>>,
    /// Which methods are repeated for them.
    pub methods: Option<Repeat>,
    /// The pause before the second retry.
    pub backoff: Option<Span>,
    /// The longest pause.
    pub backoff_max: Option<Span>,
}

impl RetryPatch {
    /// `base` with what is set here.
    #[must_use]
    pub fn over(&self, base: Retry) -> Retry {
        let Self { attempts, on, methods, backoff, backoff_max } = self;
        let attempts = attempts.map(|attempts| u8::try_from(attempts.get()).unwrap_or(u8::MAX));
        Retry {
            retries_max: attempts.unwrap_or(base.retries_max),
            on: on.as_ref().map_or(base.on, |reasons| retry_on(reasons)),
            methods: methods.unwrap_or(base.methods),
            backoff: backoff.map_or(base.backoff, Span::get),
            backoff_max: backoff_max.map_or(base.backoff_max, Span::get),
        }
    }
}

fn retry_on(reasons: &[RetryReason]) -> RetryOn {
    let mut on = RetryOn::default();
    for reason in reasons {
        match reason {
            RetryReason::Reset => on.reset = true,
            RetryReason::Timeout => on.timeout = true,
            RetryReason::Status(status) => on.statuses.push(*status),
        }
    }
    on
}

/// Why a try is repeated: `reset`, `timeout`, or a status from 400 to 599.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RetryReason {
    /// The connection was reset or closed before the answer began.
    Reset,
    /// The answer did not begin in time.
    Timeout,
    /// The answer has this status.
    Status(u16),
}

impl fmt::Display for RetryReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset => f.write_str("reset"),
            Self::Timeout => f.write_str("timeout"),
            Self::Status(status) => write!(f, "{status}"),
        }
    }
}

impl FromStr for RetryReason {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let form = "reset, timeout, or a status from \"400\" to \"599\"";
        match text {
            "reset" => Ok(Self::Reset),
            "timeout" => Ok(Self::Timeout),
            other => match other.parse() {
                Ok(status @ 400..=599) => Ok(Self::Status(status)),
                Ok(_) | Err(_) => Err(NameError::Form { text: text.into(), form }),
            },
        }
    }
}

serde_as_text! { RetryReason }
