//! Answering with another address.

use std::fmt::Write as _;

use http::{HeaderValue, StatusCode};
use kubeng_config::authority::Host;
use kubeng_config::filter::redirect::Redirect;
use kubeng_config::filter::rewrite::RewriteError;

use super::{Step, Target};
use crate::forward;
use crate::reply::Reply;

/// Sends a client on, if it is one of those who are.
pub(crate) fn on_request(redirect: &Redirect, target: &Target<'_>) -> Step {
    if redirect.is_for(target.scheme) { Step::Reply(reply(redirect, target)) } else { Step::Pass }
}

fn reply(redirect: &Redirect, target: &Target<'_>) -> Reply {
    let status = StatusCode::from_u16(redirect.status.into()).unwrap_or(StatusCode::FOUND);
    let Ok(location) = location(redirect, target) else {
        return Reply::of(StatusCode::BAD_REQUEST);
    };
    match HeaderValue::from_str(&location) {
        Ok(location) => Reply { location: Some(location), ..Reply::of(status) },
        // Paths and queries that were let in are visible ASCII, so this is not reached.
        Err(_) => Reply::of(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn location(redirect: &Redirect, target: &Target<'_>) -> Result<String, RewriteError> {
    let Redirect { scheme, host, port, path, status: _, sent_on: _ } = redirect;
    let to_scheme = scheme.unwrap_or(target.scheme);
    let port = match (port, scheme) {
        (Some(port), _) => Some(*port),
        (None, Some(_)) => None,
        (None, None) => own_port(target),
    };
    let (name, default_port) = (to_scheme.name(), to_scheme.port());
    let host = match (host, target.authority.map(|authority| &authority.host)) {
        (Some(host), _) | (None, Some(Host::Name(host))) => Some(host.to_string()),
        (None, Some(Host::V4(address))) => Some(address.to_string()),
        (None, Some(Host::V6(address))) => Some(format!("[{address}]")),
        (None, None) => None,
    };
    let mut location = String::new();
    if let Some(host) = host {
        location = format!("{name}://{host}");
        if let Some(port) = port.filter(|&port| port != default_port) {
            // Writing to a text cannot fail.
            let _ = write!(location, ":{port}");
        }
    }
    match path {
        Some(path) => location.push_str(&path.apply(target.path, target.matched)?),
        None => location.push_str(target.path),
    }
    if let Some(query) = target.query {
        location.push('?');
        location.push_str(query);
    }
    Ok(location)
}

/// The port that the client asked; None for that of its scheme.
fn own_port(target: &Target<'_>) -> Option<u16> {
    let facts = target.facts;
    // Behind a proxy that ends TLS, or begins it, the port here is none that a client could ask.
    let is_its_own = target.scheme == facts.scheme();
    let told = forward::told_port(facts, target.headers);
    told.or_else(|| is_its_own.then_some(facts.local_port))
}

#[cfg(test)]
mod tests {
    use kubeng_config::authority::Authority;
    use kubeng_config::filter::redirect::{RedirectStatus, SentOn};
    use kubeng_config::filter::rewrite::PathRewrite;
    use kubeng_config::request::Scheme;

    use super::*;
    use crate::listener::facts::ConnFacts;

    #[track_caller]
    fn check(redirect: Redirect, facts: &ConnFacts, expected: &str) {
        let authority = Authority::parse("Shop.Example:8080").unwrap();
        let matched = "/a".parse().unwrap();
        let target = Target {
            authority: Some(&authority),
            host: None,
            method: &http::Method::GET,
            path: "/a/b",
            query: Some("q=1"),
            headers: &http::HeaderMap::new(),
            matched: Some(&matched),
            is_upgrade: false,
            scheme: facts.scheme(),
            facts,
            now: std::time::Instant::now(),
            at: std::time::SystemTime::now(),
        };
        assert_eq!(location(&redirect, &target).as_deref(), Ok(expected));
    }

    #[test]
    fn what_is_absent_stays() {
        let none = Redirect {
            scheme: None,
            host: None,
            port: None,
            path: None,
            status: RedirectStatus::Found,
            sent_on: SentOn::Everybody,
        };
        let plain = ConnFacts::for_tests(80);
        let other_port = ConnFacts::for_tests(8080);
        check(none.clone(), &plain, "http://shop.example/a/b?q=1");
        check(none.clone(), &other_port, "http://shop.example:8080/a/b?q=1");
        let https = Redirect { scheme: Some(Scheme::Https), ..none.clone() };
        check(https.clone(), &other_port, "https://shop.example/a/b?q=1");
        check(Redirect { port: Some(8443), ..https }, &plain, "https://shop.example:8443/a/b?q=1");
        let host = Redirect { host: Some("x.example".parse().unwrap()), ..none.clone() };
        check(host, &plain, "http://x.example/a/b?q=1");
        let prefix = PathRewrite::Prefix("/c".parse().unwrap());
        check(Redirect { path: Some(prefix), ..none }, &plain, "http://shop.example/c/b?q=1");
    }
}
