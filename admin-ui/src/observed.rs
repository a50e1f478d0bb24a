//! What a replica says of what it observes.

use std::net::SocketAddr;

use serde::Serialize;

/// What a replica knows of one Endpoint at this moment.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct EndpointHealth {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share of new requests among all; 0 gets none.
    pub weight: u16,
    /// What it says when it is asked: `unknown`, `well` or `unwell`.
    pub health: &'static str,
    /// What was wrong with its last answer to a question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Box<str>>,
    /// Whether it is out of rotation because of how it answered requests.
    pub ejected: bool,
    /// Requests in flight to it.
    pub requests: u32,
}
