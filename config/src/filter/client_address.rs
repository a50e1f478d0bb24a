//! Letting clients in by their address.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::bounded::AtMost;

/// Which clients are let in; all others get 403.
///
/// The address is that of the client itself, also behind trusted proxies. One
/// that cannot be told is let in by nobody.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientAddress {
    /// Who is let in; empty stands for all. At most 1,000.
    #[serde(default)]
    pub allow: AtMost<IpNet, NETS_MAX>,
    /// Who is not, also where `allow` names them. At most 1,000.
    #[serde(default)]
    pub deny: AtMost<IpNet, NETS_MAX>,
}

/// Networks in one list.
pub const NETS_MAX: usize = 1000;
