//! Upstreams: services outside containers.

mod balance;
mod care;
mod endpoints;
mod fields;
mod health;
mod roots;
pub(crate) mod routes;
pub(crate) mod tls;

use std::sync::Arc;

use kubeng_config::backend::resilience::Resilience;
use kubeng_config::backend::{Backend, BackendProtocol, EndpointSource, ProxyVersion};
use kubeng_config::name::BackendId;
use kubeng_config::problem::{BAD_VALUE, NO_ENDPOINTS, Problem};

use super::backend::{Target, address_rule};
use super::refusal::Refused;
use crate::kind::upstream::{Standing, Upstream};
use crate::object::Object;
use crate::world::view::View;
use fields::bad;

/// What an Upstream became.
///
/// An endpoint that cannot be used is left out; without any, and without a
/// protocol, limits or TLS that can be honoured, nothing is sent anywhere.
pub(crate) fn target(
    view: &mut View<'_>,
    object: &Object,
    upstream: &Upstream,
    id: &BackendId,
) -> Target {
    if upstream.standing == Standing::Closed {
        let message = format!("Upstream {:?} cannot be read", object.key.name);
        let because = Arc::new(Refused::new(BAD_VALUE, message, "mend the Upstream"));
        return Target::Refused { because, problems: Vec::new() };
    }
    let mut problems = Vec::new();
    check_display_name(object, upstream, &mut problems);
    let endpoints = endpoints::of(view.settings(), object, upstream, &mut problems);
    let resolve = endpoints::resolve(object, upstream.resolve.as_deref(), &mut problems);
    let slow_start = upstream.care.slow_start.as_deref();
    let (balance, affinity) = balance::of(object, &upstream.balance, slow_start, &mut problems);
    let health = upstream
        .health
        .as_ref()
        .and_then(|health| health::of(object, health, routes::first_host(upstream), &mut problems));
    let care = care::of(object, &upstream.care, health, &mut problems);
    let spoken = protocol(object, upstream, &mut problems);
    let tls = match &spoken {
        Some(Spoken { tls: Tls::Wanted, .. }) => {
            tls::of(view, object, &upstream.tls, &endpoints, &mut problems).map(Some)
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
    let (Some(spoken), Some(tls), Some(proxy_protocol), Some(resilience)) =
        (spoken, tls, told, care)
    else {
        let code = problems.last().map_or(BAD_VALUE, |problem| problem.code);
        return refused_with(object, problems, code);
    };
    let backend = Backend {
        protocol: spoken.protocol,
        tls,
        balance,
        affinity: affinity.map(Box::new),
        resilience: (resilience != Resilience::default()).then(|| Box::new(resilience)),
        endpoints: EndpointSource::Written(endpoints),
        resolve: resolve.map(Box::new),
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

/// It is for people, so what cannot be shown only is told.
fn check_display_name(object: &Object, upstream: &Upstream, problems: &mut Vec<Problem>) {
    let Some(name) = upstream.display_name.as_deref() else { return };
    let count = name.chars().count();
    if count == 0 || count > DISPLAY_NAME_MAX || name.chars().any(char::is_control) {
        let message = format!("{name:.80?} cannot be shown; the name of the object is");
        let remedy = "write 1 to 80 characters, none of which controls";
        bad(object, "/spec/displayName", message, remedy, problems);
    }
}

const DISPLAY_NAME_MAX: usize = 80;
