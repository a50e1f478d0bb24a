//! What a request says about the Endpoint that it wants, and the cookie that it gets for it.

use std::net::IpAddr;

use http::HeaderMap;
use http::header;
use kubeng_config::backend::Backend;
use kubeng_config::backend::balance::{Balance, HashKey, Sticky};
use kubeng_config::request::{Scheme, cookie_bytes};

use super::real_client_of;
use crate::backend::balance::consistent_hash::hash_of;
use crate::backend::choice::Wish;
use crate::backend::sticky::{self, StickyKey, Token};
use crate::listener::facts::ConnFacts;
use crate::request::{Fields, RequestContext};

/// Reads what `backend` balances by; nothing where it does not ask.
pub(crate) fn of(backend: &Backend, headers: &HeaderMap, path: &str, facts: &ConnFacts) -> Wish {
    let key = match &backend.balance {
        Balance::RoundRobin | Balance::LeastRequests | Balance::PeakEwma => None,
        Balance::ConsistentHash(key) => match key {
            HashKey::Header(name) => headers.get(&name.0).map(|value| hash_of(value.as_bytes())),
            HashKey::Cookie(name) => cookie_bytes(headers, name.as_str()).map(hash_of),
            HashKey::ClientAddress => Some(hash_of(&octets(client(headers, facts)))),
            HashKey::Path => Some(hash_of(path.as_bytes())),
        },
    };
    let token = sticky_of(backend)
        .and_then(|sticky| cookie_bytes(headers, sticky.cookie.as_str()).and_then(Token::read));
    Wish { key, token }
}

/// Gives the client the cookie of the Endpoint that answers, unless it has it already.
pub(crate) fn set_cookie(ctx: &RequestContext, key: &StickyKey, to: &mut impl Fields) {
    let (Some(backend), Some(current)) = (&ctx.backend, &ctx.tries.current) else { return };
    let Some(sticky) = sticky_of(&backend.spec) else { return };
    let address = current.0.address;
    if ctx.wish.token.is_some_and(|token| key.is_token_of(token, &backend.id, address)) {
        return;
    }
    let is_tls = ctx.scheme == Some(Scheme::Https);
    if let Some(cookie) = sticky::set_cookie(key, &backend.id, address, sticky, is_tls) {
        to.add(&header::SET_COOKIE, cookie);
    }
}

fn sticky_of(backend: &Backend) -> Option<&Sticky> {
    backend.affinity.as_ref()?.sticky.as_ref()
}

/// The client behind proxies that are trusted.
fn client(headers: &HeaderMap, facts: &ConnFacts) -> IpAddr {
    let trusted = facts.trusted_proxies.as_deref();
    let named = trusted.and_then(|trusted| real_client_of(headers, trusted));
    named.unwrap_or_else(|| facts.client.ip().to_canonical())
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
