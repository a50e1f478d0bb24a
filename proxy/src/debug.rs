//! Who may see how a request was served, and what is shown.
//!
//! Off unless the operator says who may. The headers that ask never reach a Backend, whoever sent
//! them and whether or not this is on: a replica behind us may trust us.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use subtle::ConstantTimeEq as _;

use crate::forward::is_trusted;
use crate::listener::facts::ConnFacts;
use crate::request::{Fields, RequestContext};

/// Who may ask for debug headers. Where both are given both are needed.
#[derive(Clone)]
pub struct DebugAccess {
    secret: Option<Box<[u8]>>,
    from: Vec<IpNet>,
}

/// Why nobody could be authorised like this.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DebugAccessError {
    /// It is easily guessed, and asking costs nothing.
    #[error("the secret has less than {SECRET_BYTES_MIN} characters")]
    ShortSecret,
    /// Neither a secret nor a network.
    #[error("neither a secret nor a network is given, so everybody would be authorised")]
    Everybody,
}

impl DebugAccess {
    /// Authorises who knows `secret` and comes from one of the networks `from`; what is not given is
    /// not asked for.
    ///
    /// # Errors
    /// When that would be everybody, or the secret is too short.
    pub fn new(secret: Option<&str>, from: Vec<IpNet>) -> Result<Self, DebugAccessError> {
        if secret.is_none() && from.is_empty() {
            return Err(DebugAccessError::Everybody);
        }
        if secret.is_some_and(|secret| secret.len() < SECRET_BYTES_MIN) {
            return Err(DebugAccessError::ShortSecret);
        }
        Ok(Self { secret: secret.map(|secret| secret.as_bytes().into()), from })
    }

    /// Whether the sender of these headers asks, and may.
    pub(crate) fn allows(&self, headers: &HeaderMap, facts: &ConnFacts) -> bool {
        headers.get(&X_KUBENG_DEBUG).is_some_and(|value| value == "1")
            && (self.from.is_empty() || self.is_from(facts))
            && self.secret.as_ref().is_none_or(|secret| knows(headers, secret))
    }

    fn is_from(&self, facts: &ConnFacts) -> bool {
        // Behind a proxy in front of us anybody may stand.
        let client: IpAddr = facts.client.ip();
        facts.trusted_proxies.is_none() && is_trusted(client, &self.from)
    }
}

impl std::fmt::Debug for DebugAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { secret, from } = self;
        f.debug_struct("DebugAccess")
            .field("secret", &secret.is_some())
            .field("from", from)
            .finish()
    }
}

fn knows(headers: &HeaderMap, secret: &[u8]) -> bool {
    let mut given = headers.get_all(&X_KUBENG_DEBUG_SECRET).iter();
    match (given.next(), given.next()) {
        (Some(given), None) => given.as_bytes().ct_eq(secret).into(),
        (_, Some(_)) | (None, None) => false,
    }
}

/// Takes out what asks for debug headers.
pub(crate) fn strip(to: &mut impl Fields) {
    for name in [&X_KUBENG_DEBUG, &X_KUBENG_DEBUG_SECRET] {
        if to.fields().contains_key(name) {
            to.remove(name);
        }
    }
}

/// Shows how the request was served, `elapsed` after it came.
pub(crate) fn show(ctx: &RequestContext, elapsed: Duration, to: &mut impl Fields) {
    let mut timing = String::with_capacity(64);
    let mut entry = |name: &str, duration: Option<Duration>| {
        if let Some(duration) = duration {
            let comma = if timing.is_empty() { "" } else { ", " };
            // Writing to a text cannot fail. Milliseconds, as Server Timing has it.
            let _ = write!(timing, "{comma}{name};dur={:.3}", duration.as_secs_f64() * 1e3);
        }
    };
    entry("connect", ctx.seen.connect);
    entry("backend", ctx.seen.try_first_byte);
    entry("total", Some(elapsed));
    // Beside what the Backend says of itself.
    put(to, &SERVER_TIMING, Some(timing), Fields::add);
    let route = ctx.route.as_ref().map(|route| route.usage.id.to_string());
    put(to, &X_KUBENG_ROUTE, route, Fields::set);
    let backend = ctx.backend.as_ref().map(|backend| backend.id.to_string());
    put(to, &X_KUBENG_BACKEND, backend, Fields::set);
    let endpoint = ctx.tries.current.as_ref().map(|current| current.0.address.to_string());
    put(to, &X_KUBENG_ENDPOINT, endpoint, Fields::set);
}

fn put<F: Fields>(
    to: &mut F,
    name: &HeaderName,
    text: Option<String>,
    how: impl FnOnce(&mut F, &HeaderName, HeaderValue),
) {
    // The id of a Route may hold characters that no header may.
    let Some(text) = text else { return };
    let visible: String = text.chars().flat_map(shown).collect();
    if let Ok(value) = HeaderValue::try_from(visible) {
        how(to, name, value);
    }
}

/// ASCII as it is, everything else percent-encoded.
fn shown(character: char) -> Vec<char> {
    if matches!(character, ' '..='~') {
        return vec![character];
    }
    let mut bytes = [0; 4];
    let bytes = character.encode_utf8(&mut bytes).bytes();
    bytes.flat_map(|byte| format!("%{byte:02X}").chars().collect::<Vec<_>>()).collect()
}

const SECRET_BYTES_MIN: usize = 16;
const X_KUBENG_DEBUG: HeaderName = HeaderName::from_static("x-kubeng-debug");
const X_KUBENG_DEBUG_SECRET: HeaderName = HeaderName::from_static("x-kubeng-debug-secret");
const X_KUBENG_ROUTE: HeaderName = HeaderName::from_static("x-kubeng-route");
const X_KUBENG_BACKEND: HeaderName = HeaderName::from_static("x-kubeng-backend");
const X_KUBENG_ENDPOINT: HeaderName = HeaderName::from_static("x-kubeng-endpoint");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "correct-horse-battery";

    #[track_caller]
    fn check(
        access: &DebugAccess,
        pairs: &[(HeaderName, &str)],
        facts: &ConnFacts,
        expected: bool,
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value.parse().unwrap());
        }
        assert_eq!(access.allows(&headers, facts), expected, "{headers:?}");
    }

    #[test]
    fn only_those_who_may_see_anything() {
        let facts = ConnFacts::for_tests(80);
        let asks = || (X_KUBENG_DEBUG, "1");
        let knows = || (X_KUBENG_DEBUG_SECRET, SECRET);
        let by_secret = DebugAccess::new(Some(SECRET), vec![]).unwrap();
        check(&by_secret, &[asks(), knows()], &facts, true);
        check(&by_secret, &[asks()], &facts, false);
        check(&by_secret, &[knows()], &facts, false);
        check(&by_secret, &[(X_KUBENG_DEBUG, "true"), knows()], &facts, false);
        check(&by_secret, &[asks(), (X_KUBENG_DEBUG_SECRET, "guess")], &facts, false);
        check(&by_secret, &[asks(), (X_KUBENG_DEBUG_SECRET, "guess"), knows()], &facts, false);
        let near = "192.0.2.0/24".parse().unwrap();
        let by_network = DebugAccess::new(None, vec![near]).unwrap();
        check(&by_network, &[asks()], &facts, true);
        let far = DebugAccess::new(Some(SECRET), vec!["10.0.0.0/8".parse().unwrap()]).unwrap();
        check(&far, &[asks(), knows()], &facts, false);
        let mut behind = ConnFacts::for_tests(80);
        behind.trusted_proxies = Some(vec![near].into());
        check(&by_network, &[asks()], &behind, false);
        check(&by_secret, &[asks(), knows()], &behind, true);
    }

    #[test]
    fn everybody_is_never_authorised() {
        let error = DebugAccess::new(None, vec![]).unwrap_err();
        assert_eq!(error, DebugAccessError::Everybody);
        let error = DebugAccess::new(Some("short"), vec![]).unwrap_err();
        assert_eq!(error, DebugAccessError::ShortSecret);
        let shown = format!("{:?}", DebugAccess::new(Some(SECRET), vec![]).unwrap());
        assert!(!shown.contains(SECRET), "{shown}");
    }
}
