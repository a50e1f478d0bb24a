//! Asking Endpoints whether they are well.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::milliseconds;
use crate::name::Hostname;
use crate::path::CanonicalPath;

/// How the Endpoints of a Backend are asked whether they are well. Each replica asks once for a
/// Backend, whatever the number of its Routes.
///
/// Until it was found unwell an Endpoint counts as well: one that was just written is used at once.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// From one question to the next; up to a tenth is added at random.
    #[serde(rename = "intervalMs", with = "milliseconds")]
    pub interval: Duration,
    /// How long an answer may take, the connect included.
    #[serde(rename = "timeoutMs", with = "milliseconds")]
    pub timeout: Duration,
    /// Bad answers in a row until it is unwell; at least 1.
    pub unhealthy_after: u8,
    /// Good answers in a row until it is well again; at least 1.
    pub healthy_after: u8,
}

impl HealthCheck {
    /// A check with the defaults: every 10 s, within 2 s, out after 3, back after 2.
    #[must_use]
    pub fn new(probe: Probe) -> Self {
        Self {
            probe,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            unhealthy_after: 3,
            healthy_after: 2,
        }
    }
}

/// What an Endpoint is asked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// Whether it takes a connection, with its handshake where the Backend is reached over TLS.
    Tcp,
    /// A `GET` over the protocol and the TLS of the Backend.
    Http(HttpProbe),
    /// `grpc.health.v1.Health/Check`; well is `SERVING`.
    Grpc {
        /// The service that is asked about; empty: the server as a whole.
        service: Box<str>,
    },
}

/// A `GET` and what is expected of its answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpProbe {
    /// The path.
    pub path: CanonicalPath,
    /// The host that is asked for; absent: the TLS name, else the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Hostname>,
    /// The statuses of an Endpoint that is well, from and to, both included.
    pub statuses: Vec<(u16, u16)>,
}

impl HttpProbe {
    /// Whether an Endpoint that answers with `status` is well.
    #[must_use]
    pub fn is_good(&self, status: u16) -> bool {
        self.statuses.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }
}
