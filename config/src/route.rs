//! Routes: what the Rules of Objects became.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::filter::Filter;
use crate::matching::{HostMatch, Match};
use crate::name::{BackendId, ListenerId, PolicyId, RouteId};
use crate::problem::Code;

/// What one Rule became. It points up: to its Listeners, its Policy, its Object.
///
/// Which Object it comes from is in its [`RouteId`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Route {
    /// What decides between Routes that ask the same of a request.
    pub rank: Rank,
    /// Where it is served: Listeners, and the hosts there.
    pub attached: Vec<Attachment>,
    /// The ways in which a request can fit; at least one.
    pub matches: Vec<Match>,
    /// What edits or answers the request, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// How it is forwarded.
    pub policy: PolicyId,
    /// What is done in the end.
    pub action: Action,
}

/// What [`precedence`] looks at.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rank {
    /// When the Object was created, in seconds since 1970; 0 if it does not say.
    pub created: i64,
    /// The number of the Rule within its Object, from 0.
    pub rule: u32,
}

/// Which of two Routes that ask the same of a request is tried first: the smaller one.
///
/// The older Object comes first; of Objects of one age the smaller key; within
/// an Object the Rule that is written first. The key of the Rule makes the
/// order total.
#[must_use]
pub fn precedence(a: (&RouteId, &Route), b: (&RouteId, &Route)) -> Ordering {
    let ((id, route), (other_id, other)) = (a, b);
    let (rank, other_rank) = (route.rank, other.rank);
    (rank.created, &id.object, rank.rule, &id.rule).cmp(&(
        other_rank.created,
        &other_id.object,
        other_rank.rule,
        &other_id.rule,
    ))
}

/// Where a Route is served.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Attachment {
    /// The Listener.
    pub listener: ListenerId,
    /// The hosts; at least one.
    pub hosts: Vec<HostMatch>,
}

/// What is done with a request in the end.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// It goes to one of these, by weight.
    Forward(Vec<Target>),
    /// A Filter answers; what comes here all the same gets 500.
    Answer,
    /// It is refused in its place, so that no wider Route catches it.
    Refuse {
        /// The status of the answer.
        status: Refusal,
        /// The Problem behind it.
        because: Code,
    },
}

/// One of the Backends of a Route.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Target {
    /// The Backend.
    pub to: TargetAction,
    /// Its share among all; 0 gets none.
    pub weight: u32,
}

/// Where the share of a Target goes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TargetAction {
    /// To this Backend.
    Backend(BackendId),
    /// Nowhere: the reference cannot be honoured, so its share is refused.
    Refuse {
        /// The status of the answer.
        status: Refusal,
        /// The Problem behind it.
        because: Code,
    },
}

/// The status with which a Route is refused.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(into = "u16", try_from = "u16")]
pub enum Refusal {
    /// 403: what was asked of the client was not given, and cannot be on this connection.
    Forbidden,
    /// 500: the configuration cannot be honoured.
    InternalServerError,
    /// 503: where a standard says so, as for a Service that does not exist behind an Ingress.
    ServiceUnavailable,
}

impl From<Refusal> for u16 {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Forbidden => 403,
            Refusal::InternalServerError => 500,
            Refusal::ServiceUnavailable => 503,
        }
    }
}

impl TryFrom<u16> for Refusal {
    type Error = String;

    fn try_from(status: u16) -> Result<Self, String> {
        match status {
            403 => Ok(Self::Forbidden),
            500 => Ok(Self::InternalServerError),
            503 => Ok(Self::ServiceUnavailable),
            _ => Err(format!("{status} is none of 403, 500 and 503")),
        }
    }
}
