//! Answering with another address (Gateway API `HTTPRequestRedirectFilter`).

use serde::{Deserialize, Serialize};

use super::rewrite::PathRewrite;
use crate::name::Hostname;
use crate::request::Scheme;

/// The address to go to; what is absent stays as in the request.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Redirect {
    /// The scheme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// The host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Hostname>,
    /// The port. Absent: none if the scheme is given, else that of the Listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The path; the query stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
    /// The status of the answer.
    pub status: RedirectStatus,
    /// Who is sent on.
    #[serde(default, skip_serializing_if = "SentOn::is_everybody")]
    pub sent_on: SentOn,
}

/// Whom a [`Redirect`] sends on.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SentOn {
    /// Everybody.
    #[default]
    Everybody,
    /// Those who did not come by its scheme, seen from the client: all others would be sent in a
    /// circle, so they pass.
    OtherScheme,
}

impl SentOn {
    fn is_everybody(&self) -> bool {
        *self == Self::Everybody
    }
}

impl Redirect {
    /// The same, where it names nothing but a scheme, for those only who came by the other one.
    #[must_use]
    pub fn without_circle(self) -> Self {
        let Self { scheme, host, port, path, status: _, sent_on: _ } = &self;
        if scheme.is_some() && host.is_none() && port.is_none() && path.is_none() {
            Self { sent_on: SentOn::OtherScheme, ..self }
        } else {
            self
        }
    }

    /// Whether it sends those on who came by `scheme`.
    #[must_use]
    pub fn is_for(&self, scheme: Scheme) -> bool {
        match self.sent_on {
            SentOn::Everybody => true,
            SentOn::OtherScheme => self.scheme.is_some_and(|to| to != scheme),
        }
    }
}

/// The statuses that a redirect may have.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(into = "u16", try_from = "u16")]
pub enum RedirectStatus {
    /// 301
    MovedPermanently,
    /// 302
    Found,
    /// 303
    SeeOther,
    /// 307
    TemporaryRedirect,
    /// 308
    PermanentRedirect,
}

impl From<RedirectStatus> for u16 {
    fn from(status: RedirectStatus) -> Self {
        match status {
            RedirectStatus::MovedPermanently => 301,
            RedirectStatus::Found => 302,
            RedirectStatus::SeeOther => 303,
            RedirectStatus::TemporaryRedirect => 307,
            RedirectStatus::PermanentRedirect => 308,
        }
    }
}

impl TryFrom<u16> for RedirectStatus {
    type Error = String;

    fn try_from(code: u16) -> Result<Self, String> {
        match code {
            301 => Ok(Self::MovedPermanently),
            302 => Ok(Self::Found),
            303 => Ok(Self::SeeOther),
            307 => Ok(Self::TemporaryRedirect),
            308 => Ok(Self::PermanentRedirect),
            _ => Err(format!("{code} is none of 301, 302, 303, 307, 308")),
        }
    }
}
