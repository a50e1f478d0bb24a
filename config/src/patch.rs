//! Patches: a part of a Route, as people write it. All members are optional.
//!
//! A Patch is kept as a document, because what it takes back (`null`) counts too, and is merged by
//! [`merge`](crate::merge). These are the types that a document must have, before and after.

pub mod access;
pub mod answer;
pub mod auth;
pub mod body;
pub mod choice;
pub mod forwarding;
pub mod headers;
pub mod limits;
pub mod member;
pub mod reference;
pub mod scalar;
pub mod url;

use serde::Deserialize;

use crate::bounded::AtMost;
use access::Access;
use answer::{CorsPatch, ErrorPagePatch, MaintenancePatch, RequestIdPatch};
use auth::Auth;
use body::{BufferingPatch, CompressionPatch, MirrorPatch};
use choice::{AffinityPatch, BackendPatch, BalancePatch, Canary};
use forwarding::{RetryPatch, TimeoutsPatch};
use headers::Headers;
use limits::Limits;
use url::{RedirectPatch, RewritePatch};

/// A part of a Route.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Patch {
    /// How long things may take.
    pub timeouts: Option<TimeoutsPatch>,
    /// What is tried again.
    pub retry: Option<RetryPatch>,
    /// How large, how many, how often.
    pub limits: Option<Limits>,
    /// Who is let in by address.
    pub access: Option<Access>,
    /// Who is let in by a login.
    pub auth: Option<Auth>,
    /// Edits of headers.
    pub headers: Option<Headers>,
    /// What the Backend sees instead.
    pub rewrite: Option<RewritePatch>,
    /// Where clients are sent instead.
    pub redirect: Option<RedirectPatch>,
    /// What pages of other origins may do.
    pub cors: Option<CorsPatch>,
    /// Keeps clients at their Endpoint.
    pub affinity: Option<AffinityPatch>,
    /// How an Endpoint is chosen.
    pub balance: Option<BalancePatch>,
    /// Shares of Backends.
    pub backends: Option<AtMost<BackendPatch, 64>>,
    /// A Backend that gets some of the requests.
    pub canary: Option<Canary>,
    /// Bodies in memory.
    pub buffering: Option<BufferingPatch>,
    /// A Backend that gets copies.
    pub mirror: Option<MirrorPatch>,
    /// Smaller answers.
    pub compression: Option<CompressionPatch>,
    /// Pages in the place of errors.
    pub error_pages: Option<AtMost<ErrorPagePatch, 32>>,
    /// An id for each request.
    pub request_id: Option<RequestIdPatch>,
    /// An answer to everybody.
    pub maintenance: Option<MaintenancePatch>,
}

#[cfg(test)]
mod tests;
