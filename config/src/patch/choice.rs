//! `backends`, `canary`, `balance` and `affinity`: who gets a request.

use serde::Deserialize;

use super::reference::{BackendKind, BackendRef, ObjectName};
use super::scalar::{Percent, Span};
use crate::backend::balance::{Balance, CookieName, HashKey};
use crate::bounded::{Between, TextAtMost};
use crate::matching::FieldName;

/// One Backend of a Route.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BackendPatch {
    /// `Service` unless it says `Upstream`.
    #[serde(default)]
    pub kind: BackendKind,
    /// Its name.
    pub name: ObjectName,
    /// The port of a Service.
    pub port: Option<Between<1, 65_535>>,
    /// Its share among all; absent: as the Rule says, 1 for a Backend that it does not name.
    pub weight: Option<Between<0, 1_000_000>>,
    /// Whether it gets no requests.
    pub disabled: Option<bool>,
    /// Whether it is removed again from what lower layers have put in.
    #[serde(rename = "$remove")]
    pub remove: Option<bool>,
}

impl BackendPatch {
    /// The Backend.
    #[must_use]
    pub fn reference(&self) -> BackendRef {
        BackendRef { kind: self.kind, name: self.name.clone(), port: self.port }
    }
}

/// A Backend that gets some of the requests.
///
/// A request that fits `header` or `cookie` goes there always; of the others as many as `weight` says.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// Who gets them; needed.
    pub backend: Option<BackendRef>,
    /// Its share of what fits neither header nor cookie.
    pub weight: Option<Percent>,
    /// A header with a value.
    pub header: Option<HeaderSign>,
    /// A cookie with a value.
    pub cookie: Option<CookieSign>,
}

/// A header by which a request is told.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HeaderSign {
    /// Its name.
    pub name: FieldName,
    /// Its value.
    pub value: TextAtMost<256>,
}

/// A cookie by which a request is told.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CookieSign {
    /// Its name.
    pub name: CookieName,
    /// Its value.
    pub value: TextAtMost<256>,
}

/// How an Endpoint is chosen; see [`Balance`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BalancePatch {
    /// The algorithm.
    pub policy: Option<BalancePolicy>,
    /// What `hash` looks at: `client-address`, `path`, `header:NAME` or `cookie:NAME`.
    pub hash_on: Option<HashOn>,
}

/// The algorithms.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum BalancePolicy {
    /// One after the other.
    RoundRobin,
    /// Of two, the one with fewer requests.
    LeastRequests,
    /// Of two, the one that is expected to answer sooner.
    PeakEwma,
    /// The same for the same key.
    Hash,
}

impl BalancePatch {
    /// The algorithm in the place of `base`; `None` where `hash` lacks its key.
    #[must_use]
    pub fn on(&self, base: &Balance) -> Option<Balance> {
        match (self.policy, &self.hash_on) {
            (None, None) => Some(base.clone()),
            (Some(BalancePolicy::RoundRobin), _) => Some(Balance::RoundRobin),
            (Some(BalancePolicy::LeastRequests), _) => Some(Balance::LeastRequests),
            (Some(BalancePolicy::PeakEwma), _) => Some(Balance::PeakEwma),
            (Some(BalancePolicy::Hash) | None, Some(key)) => {
                Some(Balance::ConsistentHash(key.0.clone()))
            }
            (Some(BalancePolicy::Hash), None) => None,
        }
    }
}

/// What of a request decides about its Endpoint.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct HashOn(pub HashKey);

impl TryFrom<String> for HashOn {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is none of client-address, path, header:NAME, cookie:NAME");
        let key = match text.split_once(':') {
            None if text == "client-address" => HashKey::ClientAddress,
            None if text == "path" => HashKey::Path,
            Some(("header", name)) => HashKey::Header(name.parse().map_err(|_| wrong())?),
            Some(("cookie", name)) => HashKey::Cookie(name.parse().map_err(|_| wrong())?),
            None | Some(_) => return Err(wrong()),
        };
        Ok(Self(key))
    }
}

/// Keeps clients at their Endpoint by a cookie.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AffinityPatch {
    /// The name of the cookie; needed.
    pub cookie: Option<CookieName>,
    /// How long browsers keep it; absent: for their session.
    pub max_age: Option<Span>,
}
