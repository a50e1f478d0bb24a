//! What a Part may ask for, by itself and beside others.

use std::collections::BTreeSet;

use super::{Snapshot, SnapshotError};
use crate::delta::PartKey;
use crate::listener::Protocol;
use crate::matching::{HostMatch, Match, PathMatch};
use crate::name::{BackendId, ListenerId};
use crate::route::{Action, Route, TargetAction};

impl Snapshot {
    /// Checks that Listeners can share their sockets, and that nothing which only requests can
    /// honour is asked of connections that are passed on.
    pub(super) fn check_fit(&self, touched: &BTreeSet<PartKey>) -> Result<(), SnapshotError> {
        let mut are_all_routes_doubtful = false;
        for key in touched {
            let why = match key {
                PartKey::Listener(id) => {
                    are_all_routes_doubtful |= self.passes_on(id).is_some();
                    self.listener_misfit(id)
                }
                PartKey::ServerName(id) => self.server_names.get(id).and_then(|part| {
                    let listener = self.listeners.get(&id.listener)?.value();
                    match listener.protocol {
                        Protocol::Https => part.value().fault(&id.host),
                        Protocol::Http | Protocol::Tcp | Protocol::TlsPassthrough => {
                            Some("its listener presents no certificates")
                        }
                    }
                }),
                PartKey::Backend(id) => {
                    are_all_routes_doubtful |= self.speaks_tls(id);
                    None
                }
                PartKey::Route(id) => {
                    self.routes.get(id).and_then(|part| self.misfit(part.value()))
                }
                PartKey::Policy(_) | PartKey::Certificate(_) => None,
            };
            fail(key, why)?;
        }
        let are_any_passed_on =
            || self.listeners.iter().any(|(id, _)| self.passes_on(id).is_some());
        if are_all_routes_doubtful && are_any_passed_on() {
            for (id, part) in self.routes.iter() {
                if let why @ Some(_) = self.misfit(part.value()) {
                    fail(&PartKey::Route(id.clone()), why)?;
                }
            }
        }
        Ok(())
    }

    fn listener_misfit(&self, id: &ListenerId) -> Option<&'static str> {
        let listener = self.listeners.get(id)?.value();
        let are_names_lost = || {
            listener.protocol != Protocol::Https
                && self.server_names.iter().any(|(name, _)| name.listener == *id)
        };
        let is_disturbed = || {
            self.listeners.iter().any(|(_, other)| {
                other.value().address == listener.address && !listener.fits_beside(other.value())
            })
        };
        if let Some(why) = listener.fault() {
            Some(why)
        } else if are_names_lost() {
            Some("it has server names, and presents no certificates")
        } else if is_disturbed() {
            Some("another listener of its socket speaks otherwise, or has other limits")
        } else {
            None
        }
    }

    /// What a Listener speaks whose connections are passed on as they are.
    fn passes_on(&self, id: &ListenerId) -> Option<Protocol> {
        let protocol = self.listeners.get(id)?.value().protocol;
        (!protocol.reads_requests()).then_some(protocol)
    }

    fn speaks_tls(&self, id: &BackendId) -> bool {
        self.backends.get(id).is_some_and(|part| part.value().tls.is_some())
    }

    /// Why `route` cannot be served on the Listeners that it names.
    fn misfit(&self, route: &Route) -> Option<&'static str> {
        let mut passed_on = route
            .attached
            .iter()
            .filter_map(|at| self.passes_on(&at.listener).map(|protocol| (protocol, &at.hosts)))
            .peekable();
        passed_on.peek()?;
        let is_any = |hosts: &[HostMatch]| hosts.iter().all(|host| *host == HostMatch::Any);
        let mut is_tcp = false;
        let mut are_hosts_lost = false;
        for (protocol, hosts) in passed_on {
            is_tcp |= protocol == Protocol::Tcp;
            are_hosts_lost |= protocol == Protocol::Tcp && !is_any(hosts);
        }
        if are_hosts_lost {
            Some("plain TCP tells no host, so the route must be for *")
        } else if !route.filters.is_empty() {
            Some("a filter needs requests, and its listener passes connections on")
        } else if !route.matches.iter().all(asks_nothing) {
            Some("a match needs requests, and its listener passes connections on")
        } else {
            match &route.action {
                Action::Answer => Some("only a filter can answer, and none can run there"),
                Action::Refuse { .. } => None,
                Action::Forward(targets) => {
                    let mut backends = targets.iter().filter_map(|target| match &target.to {
                        TargetAction::Backend(id) => Some(id),
                        TargetAction::Refuse { .. } => None,
                    });
                    let wants_tls = is_tcp && backends.any(|id| self.speaks_tls(id));
                    wants_tls
                        .then_some("its backend wants TLS, and bytes are passed on as they are")
                }
            }
        }
    }
}

fn fail(key: &PartKey, why: Option<&'static str>) -> Result<(), SnapshotError> {
    match why {
        Some(why) => Err(SnapshotError::Misfit { part: key.clone(), why }),
        None => Ok(()),
    }
}

/// Whether every connection fits.
fn asks_nothing(wanted: &Match) -> bool {
    let Match { path, method, headers, query, cookies } = wanted;
    let any_path = match path {
        PathMatch::Otherwise => true,
        PathMatch::Exact(_) | PathMatch::Prefix(_) | PathMatch::Regex(_) => false,
    };
    any_path && method.is_none() && headers.is_empty() && query.is_empty() && cookies.is_empty()
}

#[cfg(test)]
mod tests;
