//! Reading text in the manner of nginx, for people who think in it.
//!
//! It is for reading only: nginx cannot run it, and nothing ever reads it back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::backend::{Backend, EndpointSource, WrittenEndpoint};
use crate::certificate::ClientCertificateMode;
use crate::endpoint::{Endpoint, EndpointSet, EndpointState};
use crate::filter::Filter;
use crate::filter::headers::HeaderEdits;
use crate::filter::redirect::SentOn;
use crate::filter::rewrite::PathRewrite;
use crate::listener::{Listener, Protocol};
use crate::matching::{HostMatch, Match, PathMatch};
use crate::name::{BackendId, ListenerId, RouteId};
use crate::provenance::Provenance;
use crate::request::Scheme;
use crate::route::{Action, Route, TargetAction, precedence};
use crate::snapshot::Snapshot;

/// Writes `snapshot` as reading text; `provenance_of` says where a Route's Object was read, `endpoints_of`
/// what is known of the Endpoints of a Backend that discovers its own.
#[must_use]
pub fn to_text(
    snapshot: &Snapshot,
    provenance_of: &dyn Fn(&RouteId) -> Option<Provenance>,
    endpoints_of: &dyn Fn(&BackendId) -> Option<Arc<EndpointSet>>,
) -> String {
    let mut out =
        format!("# Reading text of snapshot {}; nginx cannot run it.\n", snapshot.digest().short());
    for (id, part) in snapshot.backends().sorted() {
        upstream(&mut out, id, part.value(), endpoints_of);
    }
    for (id, part) in snapshot.listeners().sorted() {
        for (host, locations) in by_host(snapshot, id) {
            server(&mut out, snapshot, (id, part.value()), &host, &locations, provenance_of);
        }
    }
    out
}

/// What a `location` shows: the Route, and the Match that it stands for.
type Location<'a> = (&'a RouteId, &'a Route, &'a Match);

/// Hosts in order of their text, each with its Matches, best first.
fn by_host<'a>(
    snapshot: &'a Snapshot,
    listener: &ListenerId,
) -> BTreeMap<HostMatch, Vec<Location<'a>>> {
    let mut hosts: BTreeMap<HostMatch, Vec<Location<'_>>> = BTreeMap::new();
    for (id, part) in snapshot.routes().sorted() {
        let route: &Route = part.value();
        for attachment in route.attached.iter().filter(|at| at.listener == *listener) {
            for host in &attachment.hosts {
                let locations = hosts.entry(host.clone()).or_default();
                locations.extend(route.matches.iter().map(|wanted| (id, route, wanted)));
            }
        }
    }
    for locations in hosts.values_mut() {
        locations.sort_by(|(id, route, wanted), (other_id, other_route, other)| {
            let best = |wanted: &Match| (wanted.path.specificity(), wanted.demands());
            best(other)
                .cmp(&best(wanted))
                .then_with(|| precedence((id, route), (other_id, other_route)))
        });
    }
    hosts
}

fn upstream(
    out: &mut String,
    id: &BackendId,
    backend: &Backend,
    endpoints_of: &dyn Fn(&BackendId) -> Option<Arc<EndpointSet>>,
) {
    let _ = writeln!(out, "\nupstream \"{id}\" {{");
    let _ = writeln!(out, "    # {:?}, {:?}", backend.protocol, backend.balance);
    match &backend.endpoints {
        EndpointSource::Discovered => match endpoints_of(id) {
            None => out.push_str("    # endpoints are discovered\n"),
            Some(set) if set.as_slice().is_empty() => {
                out.push_str("    # endpoints are discovered: there is none\n");
            }
            Some(set) => set.as_slice().iter().for_each(|endpoint| {
                let Endpoint { address, weight, zone: _, state, priority } = endpoint;
                member(out, &address.to_string(), (*state, *weight, *priority));
            }),
        },
        EndpointSource::Written(endpoints) => {
            for endpoint in endpoints {
                let WrittenEndpoint { address, port, weight, zone: _, state, priority } = endpoint;
                member(out, &format!("{address}:{port}"), (*state, *weight, *priority));
            }
        }
    }
    out.push_str("}\n");
}

/// One server of an `upstream`.
fn member(out: &mut String, address: &str, (state, weight, priority): (EndpointState, u16, u8)) {
    let share = match (state, weight) {
        (EndpointState::Active, 0) => "down".to_owned(),
        (EndpointState::Active, weight) => format!("weight={weight}"),
        (EndpointState::Draining, _) => "drain".to_owned(),
    };
    let backup = match priority {
        0 => ";".to_owned(),
        priority => format!(" backup; # priority {priority}"),
    };
    let _ = writeln!(out, "    server {address} {share}{backup}");
}

fn server(
    out: &mut String,
    snapshot: &Snapshot,
    (id, listener): (&ListenerId, &Listener),
    host: &HostMatch,
    locations: &[Location<'_>],
    provenance_of: &dyn Fn(&RouteId) -> Option<Provenance>,
) {
    let (tls, note) = match listener.protocol {
        Protocol::Http => ("", ""),
        Protocol::Https => (" ssl", ""),
        Protocol::Tcp => ("", " # of a stream block"),
        Protocol::TlsPassthrough => ("", " # of a stream block with ssl_preread on"),
    };
    let name = match host {
        HostMatch::Any => "_".to_owned(),
        HostMatch::Exact(_) | HostMatch::OneLabelBelow(_) | HostMatch::AnyLabelsBelow(_) => {
            host.to_string()
        }
    };
    let _ = writeln!(out, "\nserver {{ # listener {id}");
    let _ = writeln!(out, "    listen {}{tls};{note}", listener.address);
    let _ = writeln!(out, "    server_name {name};");
    let key = crate::certificate::ServerNameId { listener: id.clone(), host: host.clone() };
    if let Some(part) = snapshot.server_names().get(&key) {
        let _ = writeln!(out, "    ssl_certificate \"{}\";", part.value().certificate);
    }
    let named = snapshot.server_names().get(&key).map(|part| part.value());
    let asked = named.and_then(|named| named.client_certificates.as_ref());
    if let Some(asked) = asked.or(listener.client_certificates.as_ref()) {
        let word = match asked.mode {
            ClientCertificateMode::Require => "on",
            ClientCertificateMode::Request => "optional",
        };
        let count = asked.roots.len();
        let _ = writeln!(out, "    ssl_verify_client {word}; # of {count} authorities");
    }
    for location in locations {
        self::location(out, location, provenance_of);
    }
    out.push_str("}\n");
}

fn location(
    out: &mut String,
    (id, route, wanted): &Location<'_>,
    provenance_of: &dyn Fn(&RouteId) -> Option<Provenance>,
) {
    let from = provenance_of(id).map_or_else(String::new, |from| format!(" from {from}"));
    let path = match &wanted.path {
        PathMatch::Exact(_) | PathMatch::Prefix(_) | PathMatch::Regex(_) => wanted.path.to_string(),
        PathMatch::Otherwise => "/".to_owned(),
    };
    let _ = writeln!(out, "    # {id}{from}");
    let _ = writeln!(out, "    location {path} {{");
    if let Some(method) = &wanted.method {
        let _ = writeln!(out, "        # only method {method}");
    }
    for header in &wanted.headers {
        let _ = writeln!(out, "        # only with header {} {}", header.name, header.value);
    }
    for cookie in &wanted.cookies {
        let _ = writeln!(out, "        # only with cookie {} {}", cookie.name, cookie.value);
    }
    for query in &wanted.query {
        let _ = writeln!(out, "        # only with query {} {}", query.name, query.value);
    }
    for filter in &route.filters {
        self::filter(out, filter);
    }
    action(out, &route.action);
    out.push_str("    }\n");
}

fn filter(out: &mut String, filter: &Filter) {
    match filter {
        Filter::RequestHeaders(edits) => header_lines(out, "proxy_set_header", edits),
        Filter::ResponseHeaders(edits) => header_lines(out, "add_header", edits),
        Filter::Redirect(redirect) => {
            let status = u16::from(redirect.status);
            let _ = match (redirect.sent_on, redirect.scheme) {
                (SentOn::OtherScheme, Some(Scheme::Https)) => {
                    writeln!(out, "        if ($scheme = http) {{ return {status}; }} # redirect")
                }
                (SentOn::OtherScheme, Some(Scheme::Http)) => {
                    writeln!(out, "        if ($scheme = https) {{ return {status}; }} # redirect")
                }
                (SentOn::OtherScheme, None) => Ok(()),
                (SentOn::Everybody, _) => writeln!(out, "        return {status}; # redirect"),
            };
        }
        Filter::Rewrite(rewrite) => {
            if let Some(host) = &rewrite.host {
                let _ = writeln!(out, "        proxy_set_header Host {host};");
            }
            match &rewrite.path {
                Some(PathRewrite::Full(path)) => {
                    let _ = writeln!(out, "        rewrite ^ {path} break;");
                }
                Some(PathRewrite::Prefix(prefix)) => {
                    let _ = writeln!(out, "        rewrite ^prefix(.*) {prefix}$1 break;");
                }
                Some(PathRewrite::Regex(rewrite)) => {
                    let (pattern, to) = (rewrite.pattern(), rewrite.substitution());
                    let _ = writeln!(out, "        rewrite ^{pattern}$ {to} break;");
                }
                None => {}
            }
        }
        Filter::Cors(_)
        | Filter::ClientAddress(_)
        | Filter::RateLimit(_)
        | Filter::ConcurrencyLimit(_)
        | Filter::BasicAuth(_)
        | Filter::Jwt(_)
        | Filter::ExternalAuth(_)
        | Filter::BodyLimit(_)
        | Filter::Buffering(_)
        | Filter::RequestId(_)
        | Filter::Mirror(_)
        | Filter::Compression(_)
        | Filter::ErrorPages(_)
        | Filter::Maintenance(_) => super::nginx_filters::filter(out, filter),
    }
}

fn header_lines(out: &mut String, directive: &str, edits: &HeaderEdits) {
    for name in &edits.remove {
        let _ = writeln!(out, "        {directive} {name} \"\";");
    }
    for field in edits.set.iter().chain(&edits.add) {
        let _ = writeln!(out, "        {directive} {} \"{}\";", field.name, field.value);
    }
}

fn action(out: &mut String, action: &Action) {
    match action {
        Action::Answer => {}
        Action::Refuse { status, because } => {
            let _ = writeln!(out, "        return {}; # refused: {because}", u16::from(*status));
        }
        Action::Forward(targets) => {
            for target in targets {
                let weight = target.weight;
                match &target.to {
                    TargetAction::Backend(id) => {
                        let _ = writeln!(out, "        proxy_pass \"{id}\"; # weight {weight}");
                    }
                    TargetAction::Refuse { status, because } => {
                        let status = u16::from(*status);
                        let _ = writeln!(
                            out,
                            "        return {status}; # weight {weight}, refused: {because}"
                        );
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::AddressRule;
    use crate::backend::BackendProtocol;

    #[test]
    fn an_upstream_lists_the_servers_that_are_known() {
        let id: BackendId = "Service/shop/web:80".parse().unwrap();
        let backend = Backend {
            protocol: BackendProtocol::Http1,
            tls: None,
            balance: Default::default(),
            affinity: None,
            resilience: None,
            endpoints: EndpointSource::Discovered,
            resolve: None,
            addresses: AddressRule::Tenant,
            proxy_protocol: None,
        };
        let text = |known: Option<Vec<Endpoint>>| {
            let mut out = String::new();
            let set = known.map(|endpoints| Arc::new(EndpointSet::new(endpoints)));
            upstream(&mut out, &id, &backend, &|_| set.clone());
            out
        };
        assert!(text(None).contains("    # endpoints are discovered\n"));
        assert!(text(Some(Vec::new())).contains("there is none\n"));
        let at = |address: &str| Endpoint::new(address.parse().unwrap());
        let found = text(Some(vec![
            Endpoint { weight: 5, ..at("10.0.0.1:80") },
            Endpoint { weight: 0, ..at("10.0.0.2:80") },
            Endpoint { state: EndpointState::Draining, ..at("10.0.0.3:80") },
            Endpoint { priority: 2, ..at("[2001:db8::1]:80") },
        ]));
        for line in [
            "    server 10.0.0.1:80 weight=5;\n",
            "    server 10.0.0.2:80 down;\n",
            "    server 10.0.0.3:80 drain;\n",
            "    server [2001:db8::1]:80 weight=1 backup; # priority 2\n",
        ] {
            assert!(found.contains(line), "{line:?} is not in {found}");
        }
    }
}
