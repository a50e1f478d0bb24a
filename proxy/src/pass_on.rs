//! Where a connection goes that is passed on as it is, as plain functions.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use http::{HeaderMap, Method};
use kubeng_config::listener::Protocol;
use kubeng_config::request::RequestHead;

use crate::listener::turned_away::TurnedAway;
use crate::pipeline::{self, Begin};
use crate::request::RequestContext;
use crate::table::Table;

/// Finds the Backend of a connection for `server_name`; plain TCP has none.
///
/// # Errors
/// Why it is closed instead.
pub(crate) fn begin(
    table: &Table,
    socket: SocketAddr,
    server_name: Option<&str>,
    now: (Instant, SystemTime),
) -> Result<RequestContext, TurnedAway> {
    let listener = table.listener(socket, server_name).ok_or(TurnedAway::Route)?;
    match listener.protocol {
        Protocol::Tcp | Protocol::TlsPassthrough => {}
        // It has changed since the connection was taken.
        Protocol::Http | Protocol::Https => return Err(TurnedAway::Route),
    }
    // Its Routes ask for nothing, so any request finds the one of its host.
    let any = RequestHead {
        method: &Method::GET,
        host: server_name,
        path: "/",
        query: None,
        headers: &HeaderMap::new(),
    };
    let found = table.routes.find(&listener.id, &any).ok_or(TurnedAway::Route)?;
    let route = found.value.clone();
    let mut ctx = RequestContext { started: Some(now), ..RequestContext::default() };
    match pipeline::target_of(table, &route, &mut ctx) {
        Begin::Forward => {}
        Begin::Reply(_) | Begin::Refuse(_) | Begin::Ask(..) => return Err(TurnedAway::Refused),
    }
    let wants_tls = ctx.backend.as_ref().is_some_and(|backend| backend.spec.tls.is_some());
    // A Snapshot has no such Route; sending what should be encrypted in clear must not hang on that.
    if wants_tls && listener.protocol == Protocol::Tcp {
        return Err(TurnedAway::Refused);
    }
    ctx.route = Some(route);
    Ok(ctx)
}
