//! Upstreams: services outside containers.

mod balance;
mod health;
mod tls;

use std::sync::Arc;

use kubeng_config::backend::resilience::Resilience;
use kubeng_config::backend::{
    Backend, BackendProtocol, EndpointSource, HostOrIp, ProxyVersion, WrittenEndpoint,
};
use kubeng_config::name::BackendId;
use kubeng_config::problem::{ADDRESS_FORBIDDEN, BAD_VALUE, NO_ENDPOINTS, Problem};

use super::backend::{Target, address_rule, forbids};
use super::refusal::Refused;
use crate::kind::upstream::{Upstream, UpstreamEndpoint};
use crate::object::Object;
use crate::settings::TranslateSettings;
use crate::world::view::View;

/// What an Upstream became.
///
/// An endpoint that cannot be used is left out; without any, and without a
/// protocol or TLS name that can be honoured, nothing is sent anywhere.
pub(crate) fn target(
    view: &mut View<'_>,
    object: &Object,
    upstream: &Upstream,
    id: &BackendId,
) -> Target {
    let mut problems = Vec::new();
    let settings = view.settings();
    let endpoints = endpoints(settings, object, upstream, &mut problems);
    let (balance, affinity) = balance::of(object, &upstream.balance, &mut problems);
    let health = upstream.health.as_ref();
    let health = health.and_then(|health| health::of(object, health, &mut problems));
    let spoken = protocol(object, upstream, &mut problems);
    let tls = match &spoken {
        Some(spoken @ Spoken { tls: Tls::Wanted, .. }) => {
            let asked = (&upstream.tls, spoken.protocol);
            tls::of(view, object, asked, &endpoints, &mut problems).map(Some)
        }
        Some(Spoken { tls: Tls::Plain, .. }) => Some(None),
        None => None,
    };
    let told = proxy_protocol(object, upstream, &mut problems);
    if endpoints.is_empty() {
        let message = "no endpoint is left that could be used".to_owned();
        let refused = Refused::new(NO_ENDPOINTS, message, "name at least one address and port");
        problems.push(refused.problem(object, "/spec/endpoints".to_owned()));
        return refused_with(object, problems, NO_ENDPOINTS);
    }
    let (Some(spoken), Some(tls), Some(proxy_protocol)) = (spoken, tls, told) else {
        let code = problems.last().map_or(BAD_VALUE, |problem| problem.code);
        return refused_with(object, problems, code);
    };
    let backend = Backend {
        protocol: spoken.protocol,
        tls,
        balance,
        affinity: affinity.map(Box::new),
        resilience: health
            .map(|health| Box::new(Resilience { health: Some(health), ..Resilience::default() })),
        endpoints: EndpointSource::Written(endpoints),
        addresses: address_rule(object.author),
        proxy_protocol,
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

/// Notes that the value of `field` cannot be used.
fn bad(object: &Object, field: &str, message: String, remedy: &str, problems: &mut Vec<Problem>) {
    let refused = Refused::new(BAD_VALUE, message, remedy);
    problems.push(refused.problem(object, field.to_owned()));
}

/// How its endpoints are told who the client is; they may decide by it whom they let in.
fn proxy_protocol(
    object: &Object,
    upstream: &Upstream,
    problems: &mut Vec<Problem>,
) -> Option<Option<ProxyVersion>> {
    match upstream.proxy_protocol.as_deref() {
        None => Some(None),
        Some("v1") => Some(Some(ProxyVersion::V1)),
        Some("v2") => Some(Some(ProxyVersion::V2)),
        Some(other) => {
            let message = format!("proxyProtocol {other:?} is unknown");
            let refused = Refused::new(BAD_VALUE, message, "write v1 or v2, or leave it out");
            problems.push(refused.problem(object, "/spec/proxyProtocol".to_owned()));
            None
        }
    }
}

/// A whole number of `range`; what is not keeps its default, for it only tunes.
fn number<T: TryFrom<i64> + PartialOrd + std::fmt::Display>(
    object: &Object,
    field: &str,
    written: Option<i64>,
    range: std::ops::RangeInclusive<T>,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let written = written?;
    let usable = T::try_from(written).ok().filter(|number| range.contains(number));
    if usable.is_none() {
        let message = format!("{written} is out of range; the default is used");
        let remedy = format!("write {} to {}", range.start(), range.end());
        bad(object, field, message, &remedy, problems);
    }
    usable
}

/// The endpoints that can be used, in order, each address and port once.
fn endpoints(
    settings: &TranslateSettings,
    object: &Object,
    upstream: &Upstream,
    problems: &mut Vec<Problem>,
) -> Vec<WrittenEndpoint> {
    let mut usable: Vec<WrittenEndpoint> = Vec::new();
    for (at, written) in upstream.endpoints.iter().enumerate() {
        match endpoint(settings, object, written) {
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
    settings: &TranslateSettings,
    object: &Object,
    written: &UpstreamEndpoint,
) -> Result<Option<WrittenEndpoint>, (&'static str, Refused)> {
    let address: HostOrIp = written.address.parse().map_err(|error| {
        let message = format!("the address cannot be used: {error}");
        ("address", Refused::new(BAD_VALUE, message, "write a DNS name or an IP address"))
    })?;
    if let Some(why) = forbids(settings, object.author, &address, written.port) {
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
