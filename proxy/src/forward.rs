//! Tells the Backend about the client; [`tries`] decides where to and how often.

mod said;
pub(crate) mod tries;
pub(crate) mod wish;

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use kubeng_config::backend::BackendProtocol;
use kubeng_config::request::Scheme;

use self::said::{Client, Said};
use crate::listener::facts::ConnFacts;
use crate::request::Fields;
use crate::tls::client::CLAIMS;

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
/// What came in is removed, unless a trusted proxy said it: then it is extended, and both families
/// come to say the same.
pub(crate) fn forwarding_headers(
    facts: &ConnFacts,
    host: Option<&HeaderValue>,
    to: &mut impl Fields,
) {
    let trusted = facts.trusted_proxies.as_deref();
    remove_claims(to, trusted.is_some());
    to.remove(&PROXY);
    if let Some(client) = facts.tls.as_ref().and_then(|tls| tls.client.as_ref()) {
        client.tell(to);
    }
    let proto = HeaderValue::from_static(facts.scheme().name());
    if let Some(trusted) = trusted {
        return extend_claims(facts, trusted, host, proto, to);
    }
    let client = &facts.client_text;
    to.set(&X_REAL_IP, client.clone());
    to.set(&X_FORWARDED_FOR, client.clone());
    to.set(&header::FORWARDED, forwarded_element(facts, host, Some(&proto)));
    to.set(&X_FORWARDED_PROTO, proto);
    to.set(&X_FORWARDED_PORT, facts.port_text.clone());
    match host {
        Some(host) => to.set(&X_FORWARDED_HOST, host.clone()),
        None => to.remove(&X_FORWARDED_HOST),
    }
}

/// The same behind a trusted proxy.
fn extend_claims(
    facts: &ConnFacts,
    trusted: &[IpNet],
    host: Option<&HeaderValue>,
    proto: HeaderValue,
    to: &mut impl Fields,
) {
    let said = Said::read(to.fields(), trusted);
    let real = match said.client(trusted) {
        Client::Is(address) => HeaderValue::from_str(&address.to_string()).ok(),
        Client::OnlyProxies | Client::Unknown => None,
    };
    to.set(&X_REAL_IP, real.unwrap_or_else(|| facts.client_text.clone()));
    if said.is_by_forwarded
        && let Some(nodes) = said.nodes_text()
    {
        to.set(&X_FORWARDED_FOR, nodes);
    }
    extend(to, &X_FORWARDED_FOR, facts.client_text.clone());
    if !said.is_in_forwarded {
        match said.forwarded(trusted) {
            Some(elements) => to.set(&header::FORWARDED, elements),
            None => to.remove(&header::FORWARDED),
        }
    }
    let (told_host, told_proto) = said.untold(host, &proto);
    let element = forwarded_element(facts, told_host, told_proto);
    extend(to, &header::FORWARDED, element);
    to.set(&X_FORWARDED_PROTO, said.proto.unwrap_or(proto));
    if !to.fields().contains_key(&X_FORWARDED_PORT) {
        to.set(&X_FORWARDED_PORT, facts.port_text.clone());
    }
    if let Some(host) = said.host.as_ref().or(host) {
        to.set(&X_FORWARDED_HOST, host.clone());
    }
}

/// The nearest client that is none of our proxies, as trusted ones say it in `X-Forwarded-For`, or
/// in `Forwarded` where that is all. None when there are only ours, or what stands there is no address.
fn real_client_of(fields: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    match said::client_of(fields, trusted) {
        Client::Is(address) => Some(address),
        Client::OnlyProxies | Client::Unknown => None,
    }
}

/// The client itself, also behind trusted proxies. None when such a proxy says what is no address.
///
/// A proxy that speaks of nobody, or only of other proxies of ours, is the client.
pub(crate) fn client_address(facts: &ConnFacts, fields: &HeaderMap) -> Option<IpAddr> {
    let Some(trusted) = facts.trusted_proxies.as_deref() else { return Some(facts.client.ip()) };
    match said::client_of(fields, trusted) {
        Client::Is(address) => Some(address),
        Client::OnlyProxies => Some(facts.client.ip()),
        Client::Unknown => None,
    }
}

/// How the client itself asks, also behind a trusted proxy that has ended its TLS, or spoken TLS for it.
/// What anybody else says of that counts for nothing.
pub(crate) fn scheme(facts: &ConnFacts, fields: &HeaderMap) -> Scheme {
    let said = facts.trusted_proxies.as_deref();
    let said = said.and_then(|trusted| said::scheme_of(fields, trusted));
    said.unwrap_or_else(|| facts.scheme())
}

/// The port that the client itself asked, where a trusted proxy tells; None where it tells none, or
/// where nobody may tell.
pub(crate) fn told_port(facts: &ConnFacts, fields: &HeaderMap) -> Option<u16> {
    facts.trusted_proxies.as_ref()?;
    fields.get(X_FORWARDED_PORT)?.to_str().ok()?.parse().ok().filter(|port| *port != 0)
}

/// Whether a field concerns one connection only (RFC 9110 section 7.6.1), or what is asked of proxies.
pub(crate) fn is_of_connection(name: &HeaderName) -> bool {
    OF_CONNECTION.contains(name)
}

/// Sets a field, or appends to what is there.
fn extend(to: &mut impl Fields, name: &HeaderName, value: HeaderValue) {
    let mut joined = Vec::new();
    for part in to.fields().get_all(name) {
        joined.extend_from_slice(part.as_bytes());
        joined.extend_from_slice(b", ");
    }
    if joined.is_empty() {
        return to.set(name, value);
    }
    joined.extend_from_slice(value.as_bytes());
    // Both halves were header values, so the whole is one.
    to.set(name, HeaderValue::from_bytes(&joined).unwrap_or(value));
}

/// One element of `Forwarded` (RFC 7239).
fn forwarded_element(
    facts: &ConnFacts,
    host: Option<&HeaderValue>,
    proto: Option<&HeaderValue>,
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
    if let Some(proto) = proto {
        element.extend_from_slice(b";proto=");
        element.extend_from_slice(proto.as_bytes());
    }
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
            return read.starts_with(X_FORWARDED)
                || read.starts_with(CLAIMS)
                || read == X_REAL_IP.as_str();
        }
        // Whoever said it: a handshake here is all that counts.
        if text.starts_with(CLAIMS) {
            return true;
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
pub(crate) const OF_CONNECTION: [HeaderName; 11] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];
const PROXY: HeaderName = HeaderName::from_static("proxy");

#[cfg(test)]
mod tests;
