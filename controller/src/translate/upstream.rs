//! Upstreams: services outside containers.

use std::sync::Arc;

use kubeng_config::backend::balance::Balance;
use kubeng_config::backend::tls::{BackendTls, Roots};
use kubeng_config::backend::{Backend, BackendProtocol, EndpointSource, HostOrIp, WrittenEndpoint};
use kubeng_config::name::{BackendId, Hostname};
use kubeng_config::problem::{
    ADDRESS_FORBIDDEN, BAD_VALUE, NO_ENDPOINTS, Problem, TLS_NAME_MISSING,
};

use super::backend::{Target, address_rule, forbids};
use super::refusal::Refused;
use crate::kind::upstream::{Upstream, UpstreamEndpoint};
use crate::object::Object;

/// What an Upstream became.
///
/// An endpoint that cannot be used is left out; without any, and without a
/// protocol or TLS name that can be honoured, nothing is sent anywhere.
pub(crate) fn target(object: &Object, upstream: &Upstream, id: &BackendId) -> Target {
    let mut problems = Vec::new();
    let endpoints = endpoints(object, upstream, &mut problems);
    let balance = balance(object, upstream, &mut problems);
    let spoken = protocol(object, upstream, &mut problems);
    let tls = match &spoken {
        Some(Spoken { tls: Tls::Wanted, .. }) => {
            tls(object, upstream, &endpoints, &mut problems).map(Some)
        }
        Some(Spoken { tls: Tls::Plain, .. }) => Some(None),
        None => None,
    };
    if endpoints.is_empty() {
        let message = "no endpoint is left that could be used".to_owned();
        let refused = Refused::new(NO_ENDPOINTS, message, "name at least one address and port");
        problems.push(refused.problem(object, "/spec/endpoints".to_owned()));
        return refused_with(object, problems, NO_ENDPOINTS);
    }
    let (Some(spoken), Some(tls)) = (spoken, tls) else {
        let code = problems.last().map_or(BAD_VALUE, |problem| problem.code);
        return refused_with(object, problems, code);
    };
    let backend = Backend {
        protocol: spoken.protocol,
        tls,
        balance,
        affinity: None,
        resilience: None,
        endpoints: EndpointSource::Written(endpoints),
        addresses: address_rule(object.author),
        proxy_protocol: None,
    };
    Target::usable(id, backend, problems)
}

/// Refused for the last of `problems`, which those who lead there are told in short.
fn refused_with(
    object: &Object,
    problems: Vec<Problem>,
    code: kubeng_config::problem::Code,
) -> Target {
    let why = problems.last().map_or("", |problem| &problem.message);
    let message = format!("Upstream {:?} cannot be used: {why}", object.key.name);
    let because = Arc::new(Refused::new(code, message, "mend the Upstream"));
    Target::Refused { because, problems }
}

struct Spoken {
    protocol: BackendProtocol,
    tls: Tls,
}

enum Tls {
    Plain,
    Wanted,
}

fn protocol(object: &Object, upstream: &Upstream, problems: &mut Vec<Problem>) -> Option<Spoken> {
    let (protocol, tls) = match upstream.protocol.as_str() {
        "http" => (BackendProtocol::Http1, Tls::Plain),
        "https" => (BackendProtocol::Http1, Tls::Wanted),
        "h2c" => (BackendProtocol::Http2, Tls::Plain),
        "grpc" => (BackendProtocol::Grpc, Tls::Plain),
        "grpcs" => (BackendProtocol::Grpc, Tls::Wanted),
        other => {
            let message = format!("protocol {other:?} is unknown");
            let remedy = "write http, https, h2c, grpc or grpcs";
            let refused = Refused::new(BAD_VALUE, message, remedy);
            problems.push(refused.problem(object, "/spec/protocol".to_owned()));
            return None;
        }
    };
    Some(Spoken { protocol, tls })
}

/// A policy that is unknown only tunes, so it keeps the default.
fn balance(object: &Object, upstream: &Upstream, problems: &mut Vec<Problem>) -> Balance {
    match upstream.balance.as_str() {
        "round-robin" => Balance::RoundRobin,
        "least-requests" => Balance::LeastRequests,
        other => {
            let message = format!("balance policy {other:?} is unknown; round-robin is used");
            let refused = Refused::new(BAD_VALUE, message, "write round-robin or least-requests");
            problems.push(refused.problem(object, "/spec/balance/policy".to_owned()));
            Balance::default()
        }
    }
}

/// The name that the certificate must cover: the one that is written, else the
/// one DNS name that all endpoints have.
fn tls(
    object: &Object,
    upstream: &Upstream,
    endpoints: &[WrittenEndpoint],
    problems: &mut Vec<Problem>,
) -> Option<BackendTls> {
    let field = "/spec/tls/serverName".to_owned();
    let server_name = match &upstream.tls_server_name {
        Some(written) => match Hostname::parse(written) {
            Ok(name) => Some(name),
            Err(error) => {
                let message = format!("serverName cannot be used: {error}");
                let refused = Refused::new(BAD_VALUE, message, "write a DNS name");
                problems.push(refused.problem(object, field));
                return None;
            }
        },
        None => single_name(endpoints),
    };
    if let Some(server_name) = server_name {
        return Some(BackendTls { server_name, roots: Roots::System });
    }
    if !endpoints.is_empty() {
        let message = "TLS is wanted, but no name is known that the certificate must cover";
        let refused = Refused::new(TLS_NAME_MISSING, message.to_owned(), "set tls.serverName");
        problems.push(refused.problem(object, field));
    }
    None
}

fn single_name(endpoints: &[WrittenEndpoint]) -> Option<Hostname> {
    let (first, rest) = endpoints.split_first()?;
    match &first.address {
        HostOrIp::Name(name) if rest.iter().all(|other| other.address == first.address) => {
            Some(name.clone())
        }
        HostOrIp::Name(_) | HostOrIp::Ip(_) => None,
    }
}

/// The endpoints that can be used, in order, each address and port once.
fn endpoints(
    object: &Object,
    upstream: &Upstream,
    problems: &mut Vec<Problem>,
) -> Vec<WrittenEndpoint> {
    let mut usable: Vec<WrittenEndpoint> = Vec::new();
    for (at, written) in upstream.endpoints.iter().enumerate() {
        match endpoint(object, written) {
            Ok(None) => {}
            Ok(Some(endpoint)) => {
                let is_known = usable.iter().any(|other| {
                    (&other.address, other.port) == (&endpoint.address, endpoint.port)
                });
                if is_known {
                    let message =
                        format!("{}:{} stands there twice", endpoint.address, endpoint.port);
                    let refused = Refused::new(BAD_VALUE, message, "remove one of the two");
                    problems.push(refused.problem(object, format!("/spec/endpoints/{at}")));
                } else {
                    usable.push(endpoint);
                }
            }
            Err((field, refused)) => {
                problems.push(refused.problem(object, format!("/spec/endpoints/{at}/{field}")));
            }
        }
    }
    usable.sort();
    usable
}

/// One endpoint; none if it is disabled.
fn endpoint(
    object: &Object,
    written: &UpstreamEndpoint,
) -> Result<Option<WrittenEndpoint>, (&'static str, Refused)> {
    let address: HostOrIp = written.address.parse().map_err(|error| {
        let message = format!("the address cannot be used: {error}");
        ("address", Refused::new(BAD_VALUE, message, "write a DNS name or an IP address"))
    })?;
    if let Some(why) = forbids(object.author, &address) {
        let message = format!("{address} is {why}");
        let remedy = "name an address of the service itself";
        return Err(("address", Refused::new(ADDRESS_FORBIDDEN, message, remedy)));
    }
    if written.port == 0 {
        let refused = Refused::new(BAD_VALUE, "port 0 is none".to_owned(), "write 1 to 65535");
        return Err(("port", refused));
    }
    let weight = match written.state.as_str() {
        "active" => written.weight,
        "drain" => 0,
        "disabled" => return Ok(None),
        other => {
            let message = format!("state {other:?} is unknown; the endpoint is left out");
            let refused = Refused::new(BAD_VALUE, message, "write active, drain or disabled");
            return Err(("state", refused));
        }
    };
    Ok(Some(WrittenEndpoint { address, port: written.port, weight }))
}
