//! How an Endpoint is chosen among those of a Backend.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::matching::FieldName;
use crate::milliseconds;
use crate::name::{NameError, serde_as_text};

/// How an Endpoint is chosen among those of a Backend.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Balance {
    /// One after the other, by weight.
    #[default]
    RoundRobin,
    /// Of two taken at random by weight, the one with fewer requests in flight.
    LeastRequests,
    /// Of two taken at random by weight, the one that is expected to answer sooner: the moving
    /// average of its latency, which follows a peak at once, times its requests in flight.
    PeakEwma,
    /// The same Endpoint for the same key, as long as it is there. When one comes or goes, only
    /// about its share of the keys moves. A request without the key is balanced round robin.
    ConsistentHash(HashKey),
}

/// What of a request decides about its Endpoint.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HashKey {
    /// The first value of this header field.
    Header(FieldName),
    /// The value of this cookie.
    Cookie(CookieName),
    /// The address of the client: behind trusted proxies the one that they name.
    ClientAddress,
    /// The path that is forwarded, without the query.
    Path,
}

/// What changes the choice of the algorithm.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Affinity {
    /// Keeps a client at its Endpoint by a cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// How long an Endpoint that joined others takes to reach its full share. Absent: it has it at once.
    #[serde(
        rename = "slowStartMs",
        default,
        with = "milliseconds::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub slow_start: Option<Duration>,
    /// Whether Endpoints in the zone of the replica come first.
    #[serde(default, skip_serializing_if = "Zones::is_any")]
    pub zones: Zones,
}

/// Keeps a client at its Endpoint by a cookie of ours.
///
/// Its value is a keyed hash, so it tells nothing about the Endpoint and cannot be made by others. It
/// names no Endpoint that is gone or takes nothing new: then the client gets another one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Sticky {
    /// The name of the cookie.
    pub cookie: CookieName,
    /// How long the browser keeps it, in seconds; absent: for its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u32>,
}

/// Whether Endpoints in the zone of the replica come first.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Zones {
    /// All zones alike.
    #[default]
    Any,
    /// Those of the replica's own zone take all requests while at least this part of them, in
    /// percent, can take any. A replica that knows no zone of its own takes all alike.
    PreferOwn(u8),
}

impl Zones {
    fn is_any(&self) -> bool {
        *self == Self::Any
    }
}

/// The name of a cookie: a token (RFC 6265 section 4.1.1) of at most 128 characters.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CookieName(Box<str>);

impl CookieName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CookieName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CookieName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > COOKIE_NAME_MAX {
            let text = text.to_owned();
            return Err(NameError::TooLong { text, characters_max: COOKIE_NAME_MAX });
        }
        let is_token = |character: &char| {
            character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(*character)
        };
        match text.chars().find(|character| !is_token(character)) {
            Some(character) => Err(NameError::Character { text: text.to_owned(), character }),
            None => Ok(Self(text.into())),
        }
    }
}

serde_as_text! { CookieName }

const COOKIE_NAME_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_has_a_name_that_is_a_token() {
        for good in ["a", "__Host-route", "KUBENG.1"] {
            assert_eq!(good.parse::<CookieName>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a=b", "a;b", "ä", "a\r\nb", &"a".repeat(129)] {
            assert!(bad.parse::<CookieName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_not_written_takes_no_space_in_a_part() {
        let text = |balance: &Balance| serde_json::to_string(balance).unwrap();
        assert_eq!(text(&Balance::RoundRobin), "\"roundRobin\"");
        let by_header = Balance::ConsistentHash(HashKey::Header("x-user".parse().unwrap()));
        assert_eq!(text(&by_header), "{\"consistentHash\":{\"header\":\"x-user\"}}");
        assert_eq!(serde_json::to_string(&Affinity::default()).unwrap(), "{}");
    }
}
