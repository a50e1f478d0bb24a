//! Asks the running Table which Route would serve a request, as the pipeline does.

use http::{HeaderMap, Method, Uri};
use kubeng_config::authority::Authority;
use kubeng_config::name::{ListenerId, RouteId};
use kubeng_config::path::{PathRules, canonical};
use kubeng_config::request::RequestHead;

use crate::proxy::ProxyFacts;
use crate::table::Table;

/// A request that somebody asks about.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The Listener that it comes to. Others that share its socket take part, as in traffic.
    pub listener: ListenerId,
    /// The method.
    pub method: Method,
    /// The host, as a client would write it; none for a request without one.
    pub host: Option<String>,
    /// The path with the query.
    pub target: String,
    /// The header fields.
    pub headers: HeaderMap,
}

impl ProxyFacts {
    /// The Route that would serve the request; none where none would.
    #[must_use]
    pub fn route_of(&self, asked: &Lookup) -> Option<RouteId> {
        route_of(&self.0.table.load(), asked)
    }
}

fn route_of(table: &Table, asked: &Lookup) -> Option<RouteId> {
    let is_its = |id: &ListenerId| *id == asked.listener;
    let mut sockets = table.sockets.iter();
    let (socket, _) = sockets.find(|(_, socket)| socket.listeners.iter().any(|l| is_its(&l.id)))?;
    let uri: Uri = asked.target.parse().ok()?;
    let authority = asked.host.as_deref().map(Authority::parse).transpose().ok()?;
    let path = canonical(uri.path(), PathRules::INGRESS).ok()?;
    let host = authority.as_ref().and_then(|authority| authority.host.name());
    let host = host.map(|host| host.as_str());
    let listener = table.listener(*socket, host)?;
    if !listener.protocol.reads_requests() {
        return None;
    }
    let head = RequestHead {
        method: &asked.method,
        host,
        path: &path,
        query: uri.query(),
        headers: &asked.headers,
    };
    Some(table.routes.find(&listener.id, &head)?.value.usage.id.clone())
}
