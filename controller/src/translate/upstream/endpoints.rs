//! The endpoints of an Upstream, and how their names are resolved.

use std::net::IpAddr;
use std::sync::Arc;

use kubeng_config::backend::resolve::{Family, OnFailure, Resolve};
use kubeng_config::backend::{HostOrIp, WrittenEndpoint};
use kubeng_config::endpoint::EndpointState;
use kubeng_config::problem::{ADDRESS_FORBIDDEN, BAD_VALUE, Problem};

use super::fields::{HOUR, SECOND, bad, duration};
use crate::kind::upstream::care::UpstreamResolve;
use crate::kind::upstream::{Upstream, UpstreamEndpoint};
use crate::object::Object;
use crate::settings::TranslateSettings;
use crate::translate::backend::forbids;
use crate::translate::refusal::Refused;

/// The endpoints that can be used, in order, each address and port once.
pub(super) fn of(
    settings: &TranslateSettings,
    object: &Object,
    upstream: &Upstream,
    problems: &mut Vec<Problem>,
) -> Vec<WrittenEndpoint> {
    let count = upstream.endpoints.len();
    if count > ENDPOINTS_MAX {
        let message = format!("{count} endpoints are more than {ENDPOINTS_MAX}; none is used");
        let remedy = "spread them over several Upstreams";
        bad(object, "/spec/endpoints", message, remedy, problems);
        return Vec::new();
    }
    let mut usable: Vec<WrittenEndpoint> = Vec::new();
    for (at, written) in upstream.endpoints.iter().enumerate() {
        let place = format!("/spec/endpoints/{at}");
        match endpoint(settings, object, written) {
            Ok(None) => {}
            Ok(Some(mut endpoint)) => {
                let is_known = usable.iter().any(|other| {
                    (&other.address, other.port) == (&endpoint.address, endpoint.port)
                });
                if is_known {
                    let message =
                        format!("{}:{} stands there twice", endpoint.address, endpoint.port);
                    bad(object, &place, message, "remove one of the two", problems);
                } else {
                    endpoint.zone = zone(object, &place, written.zone.as_deref(), problems);
                    usable.push(endpoint);
                }
            }
            Err((field, refused)) => {
                problems.push(refused.problem(object, format!("{place}/{field}")));
            }
        }
    }
    usable.sort();
    usable
}

/// How their names are resolved; all of it only tunes.
pub(super) fn resolve(
    object: &Object,
    written: Option<&UpstreamResolve>,
    problems: &mut Vec<Problem>,
) -> Option<Resolve> {
    let UpstreamResolve { every, family, on_failure } = written?;
    let default = Resolve::default();
    let field = "/spec/resolve/every";
    let every = duration(object, field, every.as_deref(), SECOND..=HOUR, problems);
    let mut unknown = |name: &str, written: &str, used: &str, known: &str| {
        let message = format!("{name} {written:?} is unknown; {used} is used");
        let remedy = format!("write {known}");
        bad(object, &format!("/spec/resolve/{name}"), message, &remedy, problems);
    };
    let family = match family.as_deref() {
        None | Some("any") => Family::Any,
        Some("ipv4") => Family::Ipv4,
        Some("ipv6") => Family::Ipv6,
        Some(other) => {
            unknown("family", other, "any", "any, ipv4 or ipv6");
            Family::default()
        }
    };
    let on_failure = match on_failure.as_deref() {
        None | Some("keep") => OnFailure::Keep,
        Some("drop") => OnFailure::Drop,
        Some(other) => {
            unknown("onFailure", other, "keep", "keep or drop");
            OnFailure::default()
        }
    };
    let resolve = Resolve { every: every.unwrap_or(default.every), family, on_failure };
    (resolve != default).then_some(resolve)
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
    if let HostOrIp::Ip(address) = &address
        && let Some(canonical) = another_spelling(&written.address, *address)
    {
        let message = format!("{:?} is not the canonical form of the address", written.address);
        let refused = Refused::new(BAD_VALUE, message, format!("write {canonical}"));
        return Err(("address", refused));
    }
    if let Some(why) = forbids(settings, object.author, &address, written.port) {
        let message = format!("{address} is {why}");
        let remedy = "name an address of the service itself";
        return Err(("address", Refused::new(ADDRESS_FORBIDDEN, message, remedy)));
    }
    if written.port == 0 {
        let refused = Refused::new(BAD_VALUE, "port 0 is none".to_owned(), "write 1 to 65535");
        return Err(("port", refused));
    }
    let state = match written.state.as_str() {
        "active" => EndpointState::Active,
        "drain" => EndpointState::Draining,
        "disabled" => return Ok(None),
        other => {
            let message = format!("state {other:?} is unknown; the endpoint is left out");
            let refused = Refused::new(BAD_VALUE, message, "write active, drain or disabled");
            return Err(("state", refused));
        }
    };
    let (weight, priority) = (written.weight, written.priority);
    Ok(Some(WrittenEndpoint { address, port: written.port, weight, zone: None, state, priority }))
}

/// The canonical form of an address that is written otherwise (RFC 5952), or inside another one.
fn another_spelling(written: &str, address: IpAddr) -> Option<String> {
    let meant = match address {
        IpAddr::V6(outer) => outer.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    let canonical = meant.to_string();
    (canonical != written).then_some(canonical)
}

fn zone(
    object: &Object,
    place: &str,
    written: Option<&str>,
    problems: &mut Vec<Problem>,
) -> Option<Arc<str>> {
    let written = written?;
    if written.is_empty() || written.len() > ZONE_BYTES_MAX {
        let message = "the name of the zone is empty or too long; the endpoint is in no zone";
        let remedy = format!("write 1 to {ZONE_BYTES_MAX} characters");
        bad(object, &format!("{place}/zone"), message.to_owned(), &remedy, problems);
        return None;
    }
    Some(written.into())
}

const ENDPOINTS_MAX: usize = 256;
const ZONE_BYTES_MAX: usize = 63;
