//! `access`: who is let in by address.

use ipnet::IpNet;
use serde::Deserialize;

use crate::bounded::AtMost;
use crate::filter::client_address::NETS_MAX;

/// Networks of clients; see [`ClientAddress`](crate::filter::client_address::ClientAddress).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// Who is let in; absent or empty: all.
    pub allow: Option<AtMost<IpNet, NETS_MAX>>,
    /// Who is not, also where `allow` names them.
    pub deny: Option<AtMost<IpNet, NETS_MAX>>,
}
