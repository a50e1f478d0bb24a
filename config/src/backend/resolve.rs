//! How the names of Endpoints are resolved.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::milliseconds;

/// How each replica resolves the names among the Endpoints of a Backend.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Resolve {
    /// From one question to the next. A name that several Backends have is asked as often as the
    /// most impatient of them wants.
    #[serde(rename = "everyMs", with = "milliseconds")]
    pub every: Duration,
    /// Which of its addresses are used.
    #[serde(default, skip_serializing_if = "Family::is_any")]
    pub family: Family,
    /// What becomes of its last addresses when it cannot be resolved any more.
    #[serde(default, skip_serializing_if = "OnFailure::is_keep")]
    pub on_failure: OnFailure,
}

impl Default for Resolve {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(30),
            family: Family::default(),
            on_failure: OnFailure::default(),
        }
    }
}

/// Which addresses of a name are used.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Family {
    /// All of them.
    #[default]
    Any,
    /// Those of IPv4.
    Ipv4,
    /// Those of IPv6.
    Ipv6,
}

impl Family {
    /// Whether `address` is one that is used.
    #[must_use]
    pub fn accepts(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Ipv4 => address.is_ipv4(),
            Self::Ipv6 => address.is_ipv6(),
        }
    }

    fn is_any(&self) -> bool {
        *self == Self::Any
    }
}

/// What becomes of the last addresses of a name that cannot be resolved any more.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum OnFailure {
    /// They go on being used.
    #[default]
    Keep,
    /// They are used no more.
    Drop,
}

impl OnFailure {
    fn is_keep(&self) -> bool {
        *self == Self::Keep
    }
}
