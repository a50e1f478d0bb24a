//! Filters: what may edit or answer a request, in the order in which they are listed.

pub mod basic_auth;
pub mod body_limit;
pub mod buffering;
pub mod client_address;
pub mod compression;
pub mod concurrency_limit;
pub mod cors;
pub mod error_pages;
pub mod external_auth;
pub mod headers;
pub mod jwt;
pub mod maintenance;
pub mod mirror;
pub mod rate_limit;
pub mod redirect;
pub mod request_id;
pub mod rewrite;

use serde::{Deserialize, Serialize};

use crate::name::{BackendId, SecretId};
use basic_auth::BasicAuth;
use body_limit::BodyLimit;
use buffering::Buffering;
use client_address::ClientAddress;
use compression::Compression;
use concurrency_limit::ConcurrencyLimit;
use cors::Cors;
use error_pages::{ErrorPages, PageSource};
use external_auth::ExternalAuth;
use headers::HeaderEdits;
use jwt::{Jwt, JwtKeys};
use maintenance::Maintenance;
use mirror::Mirror;
use rate_limit::RateLimit;
use redirect::{Redirect, SentOn};
use request_id::RequestIds;
use rewrite::Rewrite;

/// One step of the way through a Route.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Filter {
    /// Edits the headers of the request.
    RequestHeaders(HeaderEdits),
    /// Edits the headers of the answer.
    ResponseHeaders(HeaderEdits),
    /// Answers with another address; nothing behind it runs.
    Redirect(Redirect),
    /// Changes host or path of what is forwarded.
    Rewrite(Rewrite),
    /// Answers browsers that ask for another origin.
    Cors(Cors),
    /// Lets clients in by their address.
    ClientAddress(ClientAddress),
    /// Limits how many requests come in a time.
    RateLimit(RateLimit),
    /// Limits how many requests are in progress.
    ConcurrencyLimit(ConcurrencyLimit),
    /// Asks for name and password.
    BasicAuth(BasicAuth),
    /// Asks for a signed token.
    Jwt(Box<Jwt>),
    /// Asks somebody else.
    ExternalAuth(Box<ExternalAuth>),
    /// Limits the size of bodies.
    BodyLimit(BodyLimit),
    /// Holds bodies in memory between a client and a Backend.
    Buffering(Buffering),
    /// Gives the request an id.
    RequestId(RequestIds),
    /// Sends a copy to another Backend.
    Mirror(Mirror),
    /// Compresses the answer.
    Compression(Compression),
    /// Answers errors with own pages.
    ErrorPages(ErrorPages),
    /// Answers everybody; nothing behind it runs.
    Maintenance(Maintenance),
}

impl Filter {
    /// Whether no request gets past it.
    #[must_use]
    pub fn answers_everybody(&self) -> bool {
        match self {
            Self::Redirect(redirect) => match redirect.sent_on {
                SentOn::Everybody => true,
                SentOn::OtherScheme => false,
            },
            Self::Maintenance(_) => true,
            Self::RequestHeaders(_)
            | Self::ResponseHeaders(_)
            | Self::Rewrite(_)
            | Self::Cors(_)
            | Self::ClientAddress(_)
            | Self::RateLimit(_)
            | Self::ConcurrencyLimit(_)
            | Self::BasicAuth(_)
            | Self::Jwt(_)
            | Self::ExternalAuth(_)
            | Self::BodyLimit(_)
            | Self::Buffering(_)
            | Self::RequestId(_)
            | Self::Mirror(_)
            | Self::Compression(_)
            | Self::ErrorPages(_) => false,
        }
    }

    /// The Secret without which it cannot be carried out.
    #[must_use]
    pub fn secret(&self) -> Option<&SecretId> {
        match self {
            Self::BasicAuth(auth) => Some(&auth.users),
            Self::Jwt(jwt) => match &jwt.keys {
                JwtKeys::Secret(id) => Some(id),
                JwtKeys::Inline(_) | JwtKeys::Remote(_) => None,
            },
            Self::RequestHeaders(_)
            | Self::ResponseHeaders(_)
            | Self::Redirect(_)
            | Self::Rewrite(_)
            | Self::Cors(_)
            | Self::ClientAddress(_)
            | Self::RateLimit(_)
            | Self::ConcurrencyLimit(_)
            | Self::ExternalAuth(_)
            | Self::BodyLimit(_)
            | Self::Buffering(_)
            | Self::RequestId(_)
            | Self::Mirror(_)
            | Self::Compression(_)
            | Self::ErrorPages(_)
            | Self::Maintenance(_) => None,
        }
    }

    /// The Backends that it speaks to itself.
    #[must_use]
    pub fn backends(&self) -> Vec<&BackendId> {
        match self {
            Self::ExternalAuth(auth) => vec![&auth.backend],
            Self::Mirror(mirror) => vec![&mirror.backend],
            Self::Jwt(jwt) => match &jwt.keys {
                JwtKeys::Remote(keys) => vec![&keys.backend],
                JwtKeys::Inline(_) | JwtKeys::Secret(_) => Vec::new(),
            },
            Self::ErrorPages(errors) => errors
                .pages
                .iter()
                .filter_map(|page| match &page.from {
                    PageSource::Backend(id) => Some(id),
                    PageSource::Inline { .. } => None,
                })
                .collect(),
            Self::RequestHeaders(_)
            | Self::ResponseHeaders(_)
            | Self::Redirect(_)
            | Self::Rewrite(_)
            | Self::Cors(_)
            | Self::ClientAddress(_)
            | Self::RateLimit(_)
            | Self::ConcurrencyLimit(_)
            | Self::BasicAuth(_)
            | Self::BodyLimit(_)
            | Self::Buffering(_)
            | Self::RequestId(_)
            | Self::Compression(_)
            | Self::Maintenance(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
