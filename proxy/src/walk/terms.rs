//! Listeners and Server names, from the sockets and what TLS says under each name.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::ControlFlow;

use kubeng_config::certificate::{ServerName, ServerNameId};
use kubeng_config::delta::AnyPart;
use kubeng_config::listener::{Listener, ListenerTls, ProxyProtocol, TlsVersion};
use kubeng_config::matching::HostMatch;
use kubeng_config::name::Hostname;
use kubeng_config::part::Part;

use super::Take;
use crate::table::{CompiledListener, CompiledSocket, NamedTls, ServerNames, Table};

pub(super) fn listeners(table: &Table, take: Take<'_>) -> ControlFlow<()> {
    for (address, socket) in table.sockets.iter() {
        for compiled in &socket.listeners {
            let listener = listener(table, *address, socket, compiled);
            take(AnyPart::Listener(compiled.id.clone(), Part::new(listener)))?;
        }
    }
    ControlFlow::Continue(())
}

fn listener(
    table: &Table,
    address: SocketAddr,
    socket: &CompiledSocket,
    compiled: &CompiledListener,
) -> Listener {
    let known = table.snapshot.listeners().get(&compiled.id).map(|part| part.value());
    let CompiledListener { id: _, protocol, host, default_certificate, tls, metrics: _ } = compiled;
    let known_tls = known.and_then(|known| known.tls.clone());
    let (tls, client_certificates) = match tls {
        Some(spoken) => {
            let asked = spoken.policy().map(|policy| policy.asked.clone());
            let is_as_written = spoken.is_as(known_tls.as_ref());
            (if is_as_written { known_tls } else { Some(other_than(known_tls)) }, asked)
        }
        // Nothing of it is spoken here.
        None => (known_tls, known.and_then(|known| known.client_certificates.clone())),
    };
    Listener {
        address,
        protocol: *protocol,
        host: host.clone(),
        default_certificate: default_certificate.clone(),
        proxy_protocol: socket
            .proxy_from
            .as_ref()
            .map(|from| ProxyProtocol { from: from.to_vec() }),
        connections_max: socket.connections_max.map(|max| u32::try_from(max).unwrap_or(u32::MAX)),
        tls,
        client_certificates,
    }
}

/// What is spoken is known by its digest only: it is enough that it is not what was written.
fn other_than(written: Option<ListenerTls>) -> ListenerTls {
    let mut other = written.unwrap_or_default();
    other.version_min = match other.version_min {
        TlsVersion::V1_2 => TlsVersion::V1_3,
        TlsVersion::V1_3 => TlsVersion::V1_2,
    };
    other
}

pub(super) fn server_names(table: &Table, take: Take<'_>) -> ControlFlow<()> {
    let mut known = BTreeSet::new();
    for (id, part) in table.snapshot.server_names().iter() {
        let found = table.server_names.get(&id.listener).map(|names| find(names, &id.host));
        let named = match found.flatten() {
            Some(named) => written(named),
            // What is for every name is said by the Listener.
            None if id.host == HostMatch::Any => ServerName::clone(part.value()),
            None => continue,
        };
        known.insert(id.clone());
        take(AnyPart::ServerName(id.clone(), Part::new(named)))?;
    }
    for (listener, names) in &table.server_names {
        let exact = names.exact.iter().map(|found| (HostMatch::Exact as fn(_) -> _, found));
        let below = names.one_label_below.iter();
        let below = below.map(|found| (HostMatch::OneLabelBelow as fn(_) -> _, found));
        for (form, (name, named)) in exact.chain(below) {
            let Ok(name) = name.parse::<Hostname>() else { continue };
            let id = ServerNameId { listener: listener.clone(), host: form(name.clone()) };
            let deep = HostMatch::AnyLabelsBelow(name);
            let deep = ServerNameId { listener: listener.clone(), host: deep };
            let is_deep = !matches!(id.host, HostMatch::Exact(_)) && known.contains(&deep);
            if !known.contains(&id) && !is_deep {
                take(AnyPart::ServerName(id, Part::new(written(named))))?;
            }
        }
    }
    ControlFlow::Continue(())
}

fn find<'a>(names: &'a ServerNames, host: &HostMatch) -> Option<&'a NamedTls> {
    match host {
        HostMatch::Exact(name) => names.exact.get(name.as_str()),
        HostMatch::OneLabelBelow(name) | HostMatch::AnyLabelsBelow(name) => {
            names.one_label_below.get(name.as_str())
        }
        HostMatch::Any => None,
    }
}

fn written(named: &NamedTls) -> ServerName {
    let NamedTls { certificate, policy } = named;
    let client_certificates = policy.as_ref().map(|policy| policy.asked.clone());
    ServerName { certificate: certificate.clone(), client_certificates }
}
