//! Chooses the Endpoint, sets time limits, decides on retries, tells the Backend about the client.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use ipnet::IpNet;
use kubeng_config::backend::BackendProtocol;
use kubeng_config::policy::Policy;
use kubeng_config::policy::timeouts::Timeouts;

use crate::backend::CompiledBackend;
use crate::listener::connection::ConnFacts;
use crate::request::{Fields, RequestContext, Tries};

/// Where one try goes, and how long its steps may take.
#[derive(Debug)]
pub(crate) struct Try {
    pub(crate) address: SocketAddr,
    pub(crate) backend: Arc<CompiledBackend>,
    /// Equal only for tries that may share a connection.
    pub(crate) connection_key: u64,
    pub(crate) connect: Duration,
    pub(crate) read: Duration,
    pub(crate) write: Duration,
}

/// What became of a try.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    /// No connection could be opened: the Endpoint has not seen the request.
    Connect,
    /// No connection could be opened in time.
    ConnectTimeout,
    /// A pooled connection had gone away before it answered, and the request can be sent again.
    Stale,
    /// No connection could be opened for want of something on this side: descriptors, ports, memory.
    Local,
    /// The Endpoint may have seen the request.
    Other,
}

/// How a request goes on after a failed try.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// With another try.
    Retry,
    /// With an answer of ours.
    GiveUp,
}

/// Chooses the Endpoint of the next try.
///
/// # Errors
/// The status of the answer when nothing is left to try, or no time.
pub(crate) fn choose(
    ctx: &mut RequestContext,
    now: Instant,
    since_start: Duration,
) -> Result<Try, StatusCode> {
    let (Some(backend), Some(policy)) = (&ctx.backend, &ctx.policy) else {
        return Err(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let Policy { timeouts, retry: _ } = &**policy;
    let Timeouts { connect, read, write, tunnel, request } = timeouts;
    let elapsed = ctx.started.map_or(Duration::ZERO, |(started, _)| now - started);
    let left = request.map_or(Duration::MAX, |limit| limit.saturating_sub(elapsed));
    if left.is_zero() {
        return Err(StatusCode::GATEWAY_TIMEOUT);
    }
    let Tries { count, current, failed, last_status } = &mut ctx.tries;
    // The one before is over, so it is not counted as load.
    *current = None;
    let in_flight = backend
        .state
        .choose(backend.spec.balance, failed, since_start)
        .ok_or_else(|| last_status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE))?;
    *count = count.saturating_add(1);
    let member = &in_flight.0;
    let chosen = Try {
        address: member.address,
        backend: backend.clone(),
        connection_key: backend.connection_key ^ member.generation.wrapping_mul(GENERATION_SPREAD),
        connect: left.min(*connect),
        // A tunnel may be silent for as long as the Policy says.
        read: if ctx.is_upgrade { *tunnel } else { left.min(*read) },
        write: left.min(*write),
    };
    *current = Some(in_flight);
    Ok(chosen)
}

/// Notes that the current try failed, and decides how the request goes on.
pub(crate) fn failed(ctx: &mut RequestContext, failure: Failure, since_start: Duration) -> Next {
    let retries_max = ctx.policy.as_ref().map_or(0, |policy| policy.retry.retries_max);
    let tries = &mut ctx.tries;
    let status = match failure {
        Failure::Connect | Failure::Stale | Failure::Other => StatusCode::BAD_GATEWAY,
        Failure::ConnectTimeout => StatusCode::GATEWAY_TIMEOUT,
        Failure::Local => StatusCode::SERVICE_UNAVAILABLE,
    };
    tries.last_status = Some(status);
    match failure {
        Failure::Connect | Failure::ConnectTimeout => {
            if let Some(current) = &tries.current {
                current.0.failed(since_start);
                tries.failed.push(current.0.address);
            }
        }
        // The Endpoint is not to blame, but another may be reached from a port that is free.
        Failure::Local => {
            tries.failed.extend(tries.current.as_ref().map(|current| current.0.address));
        }
        // The Endpoint is not to blame: it may close a connection that idles.
        Failure::Stale => {}
        Failure::Other => return Next::GiveUp,
    }
    if tries.count <= retries_max { Next::Retry } else { Next::GiveUp }
}

/// Notes that the Endpoint of the current try answers.
pub(crate) fn answered(ctx: &RequestContext) {
    if let Some(current) = &ctx.tries.current {
        current.0.answered();
    }
}

/// Whether a request may be sent again when nothing was answered (RFC 9110 section 9.2.2).
pub(crate) fn is_repeatable(method: &Method) -> bool {
    method.is_idempotent()
}

/// Whether the protocol of a Backend is HTTP/2.
pub(crate) fn is_http2(protocol: BackendProtocol) -> bool {
    match protocol {
        BackendProtocol::Http1 => false,
        BackendProtocol::Http2 | BackendProtocol::Grpc => true,
    }
}

/// Whether `client` is one of the trusted proxies.
pub(crate) fn is_trusted(client: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&client))
}

/// Says who the client is, and what it asked for: `host` is the authority as it was written.
///
/// What came in is removed, unless a trusted proxy said it: then it is extended.
pub(crate) fn forwarding_headers(
    facts: &ConnFacts,
    host: Option<&HeaderValue>,
    to: &mut impl Fields,
) {
    let trusted = facts.trusted_proxies.as_deref();
    let is_trusted = trusted.is_some();
    remove_claims(to, is_trusted);
    to.remove(&PROXY);
    let proto = HeaderValue::from_static(if facts.tls.is_some() { "https" } else { "http" });
    let client = &facts.client_text;
    let element = forwarded_element(facts, host, &proto);
    let real = trusted.and_then(|trusted| real_client(to.fields(), trusted));
    to.set(&X_REAL_IP, real.unwrap_or_else(|| client.clone()));
    extend(to, &X_FORWARDED_FOR, client.clone(), is_trusted);
    extend(to, &header::FORWARDED, element, is_trusted);
    keep_or_set(to, &X_FORWARDED_PROTO, proto, is_trusted);
    keep_or_set(to, &X_FORWARDED_PORT, facts.port_text.clone(), is_trusted);
    match host {
        Some(host) => keep_or_set(to, &X_FORWARDED_HOST, host.clone(), is_trusted),
        None if is_trusted => {}
        None => to.remove(&X_FORWARDED_HOST),
    }
}

/// The nearest client that is none of our proxies: the rightmost such address in
/// `X-Forwarded-For`. None when all are, or when what stands there is no address.
fn real_client(fields: &HeaderMap, trusted: &[IpNet]) -> Option<HeaderValue> {
    for line in fields.get_all(X_FORWARDED_FOR).iter().rev() {
        for element in line.to_str().ok()?.rsplit(',') {
            let text = element.trim_ascii();
            // Some proxies write the port as well.
            let address = text.parse().or_else(|_| text.parse().map(|to: SocketAddr| to.ip()));
            let address = address.ok()?.to_canonical();
            if !is_trusted(address, trusted) {
                return HeaderValue::from_str(&address.to_string()).ok();
            }
        }
    }
    None
}

/// Sets a field, or appends to what a trusted proxy said.
fn extend(to: &mut impl Fields, name: &HeaderName, value: HeaderValue, is_trusted: bool) {
    let before = to.fields().get_all(name);
    let mut joined = Vec::new();
    if is_trusted {
        for part in before {
            joined.extend_from_slice(part.as_bytes());
            joined.extend_from_slice(b", ");
        }
    }
    if joined.is_empty() {
        return to.set(name, value);
    }
    joined.extend_from_slice(value.as_bytes());
    // Both halves were header values, so the whole is one.
    to.set(name, HeaderValue::from_bytes(&joined).unwrap_or(value));
}

fn keep_or_set(to: &mut impl Fields, name: &HeaderName, value: HeaderValue, is_trusted: bool) {
    if !is_trusted || !to.fields().contains_key(name) {
        to.set(name, value);
    }
}

/// One element of `Forwarded` (RFC 7239).
fn forwarded_element(
    facts: &ConnFacts,
    host: Option<&HeaderValue>,
    proto: &HeaderValue,
) -> HeaderValue {
    let mut element = Vec::with_capacity(96);
    element.extend_from_slice(b"for=");
    let is_ipv6 = facts.client.is_ipv6();
    element.extend_from_slice(if is_ipv6 { b"\"[" } else { b"" });
    element.extend_from_slice(facts.client_text.as_bytes());
    element.extend_from_slice(if is_ipv6 { b"]\"" } else { b"" });
    if let Some(host) = host {
        // The host was parsed, so it holds no quote.
        element.extend_from_slice(b";host=\"");
        element.extend_from_slice(host.as_bytes());
        element.extend_from_slice(b"\"");
    }
    element.extend_from_slice(b";proto=");
    element.extend_from_slice(proto.as_bytes());
    // Without a copy; all parts were header values.
    HeaderValue::from_maybe_shared(Bytes::from(element))
        .unwrap_or_else(|_| facts.client_text.clone())
}

/// Removes what a stranger says about itself, and fields of anybody that a Backend might read as
/// ours because it takes `_` or `.` for `-`. Those that are set anyway stay until then.
fn remove_claims(to: &mut impl Fields, is_trusted: bool) {
    let is_claim = |name: &&HeaderName| {
        let text = name.as_str();
        if !text.starts_with('x') {
            return false;
        }
        if text.contains(['_', '.']) {
            let read = text.replace(['_', '.'], "-");
            return read.starts_with(X_FORWARDED) || read == X_REAL_IP.as_str();
        }
        !is_trusted && text.starts_with(X_FORWARDED) && !ALWAYS_SET.contains(*name)
    };
    let claims: Vec<HeaderName> = to.fields().keys().filter(is_claim).cloned().collect();
    for claim in &claims {
        to.remove(claim);
    }
}

const X_FORWARDED: &str = "x-forwarded-";
/// What replaces every claim of a stranger, whatever it was.
const ALWAYS_SET: [HeaderName; 4] =
    [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, X_FORWARDED_PORT];
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const PROXY: HeaderName = HeaderName::from_static("proxy");
/// An odd number, so that every generation gives another key.
const GENERATION_SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests;
