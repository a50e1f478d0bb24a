//! What a replica is asked about what it serves, and what it says of its Endpoints.

use std::net::SocketAddr;
use std::time::SystemTime;

use serde::Serialize;

/// Which recent requests are wanted: all that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct RecordQuery {
    /// Not over before this moment.
    pub since: Option<SystemTime>,
    /// Begun at this moment or before it.
    pub until: Option<SystemTime>,
    /// The host in lower case, without port.
    pub host: Option<String>,
    /// The status, or its class.
    pub status: Option<StatusQuery>,
    /// The tenant: the namespace of the Route's Object.
    pub namespace: Option<String>,
    /// The Route, as its id is written.
    pub route: Option<String>,
    /// The most records to give, the newest first.
    pub limit: usize,
}

/// Which statuses are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StatusQuery {
    /// Exactly this one: `404`.
    Code(u16),
    /// The hundred that begins with this digit: `5xx`.
    Class(u8),
    /// None, because the client was gone before an answer: `none`.
    Unanswered,
}

/// Which keys of requests are wanted: all that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct KeyQuery {
    /// The host in lower case, without port.
    pub host: Option<String>,
    /// The Listener.
    pub listener: Option<String>,
    /// The most keys to give, the most frequent first.
    pub limit: usize,
}

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
