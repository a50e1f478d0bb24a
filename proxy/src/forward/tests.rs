use http::HeaderMap;
use kubeng_config::address::AddressRule;
use kubeng_config::backend::balance::Balance;
use kubeng_config::backend::{Backend, EndpointSource};
use kubeng_config::endpoint::{Endpoint, EndpointSet};

use super::*;
use crate::backend::BackendState;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(*name, value.parse().unwrap());
    }
    map
}

#[track_caller]
fn check(facts: &ConnFacts, before: &[(&'static str, &str)], after: &[(&'static str, &str)]) {
    let mut map = headers(before);
    let host = map.get("host").cloned();
    forwarding_headers(facts, host.as_ref(), &mut map);
    assert_eq!(map, headers(after));
}

#[test]
fn what_a_stranger_says_about_itself_is_overwritten() {
    check(
        &ConnFacts::for_tests(8080),
        &[
            ("host", "a:8080"),
            ("x-forwarded-for", "10.9.9.9"),
            ("x-forwarded-for", "10.8.8.8"),
            ("x_forwarded_for", "10.9.9.9"),
            ("x_real_ip", "10.9.9.9"),
            ("forwarded", "for=10.9.9.9"),
            ("x-real-ip", "10.9.9.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-prefix", "/evil"),
            ("x-forwarded_user", "root"),
            ("proxy", "http://evil"),
            ("x_other", "stays"),
        ],
        &[
            ("host", "a:8080"),
            ("x-forwarded-for", "192.0.2.7"),
            ("forwarded", "for=192.0.2.7;host=\"a:8080\";proto=http"),
            ("x-real-ip", "192.0.2.7"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "a:8080"),
            ("x-forwarded-port", "8080"),
            ("x_other", "stays"),
        ],
    );
}

fn trusted() -> ConnFacts {
    let nets = ["192.0.2.0/24".parse().unwrap()];
    ConnFacts { trusted_proxies: Some(nets.into()), ..ConnFacts::for_tests(80) }
}

#[test]
fn the_real_client_is_the_nearest_that_is_no_proxy_of_ours() {
    let check = |lines: &[&str], expected: &str| {
        let mut map = HeaderMap::new();
        for line in lines {
            map.append(X_FORWARDED_FOR, line.parse().unwrap());
        }
        map.insert(X_REAL_IP, HeaderValue::from_static("10.9.9.9"));
        forwarding_headers(&trusted(), None, &mut map);
        assert_eq!(map[X_REAL_IP], expected, "{lines:?}");
    };
    check(&[], "192.0.2.7");
    check(&["10.9.9.9, 10.0.0.1,192.0.2.8"], "10.0.0.1");
    check(&["10.9.9.9", "10.0.0.1:4711", "192.0.2.8"], "10.0.0.1");
    check(&["192.0.2.9"], "192.0.2.7");
    check(&["10.0.0.1, unknown"], "192.0.2.7");
    check(&["::ffff:192.0.2.9, [2001:db8::1]:80"], "2001:db8::1");
}

#[test]
fn a_request_without_a_host_claims_none() {
    let check = |facts: &ConnFacts, expected: Option<&str>| {
        let mut map = headers(&[("x-forwarded-host", "evil")]);
        forwarding_headers(facts, None, &mut map);
        let host = map.get(X_FORWARDED_HOST).map(|host| host.to_str().unwrap());
        assert_eq!(host, expected);
    };
    check(&ConnFacts::for_tests(80), None);
    check(&trusted(), Some("evil"));
}

#[test]
fn want_on_this_side_ejects_nobody() {
    let mut ctx = context(&[1, 2]);
    let first = next_port(&mut ctx).unwrap();
    assert_eq!(failed(&mut ctx, Failure::Local, Duration::ZERO), Next::Retry);
    assert_ne!(next_port(&mut ctx).unwrap(), first, "another is tried");
    assert_eq!(failed(&mut ctx, Failure::Local, Duration::ZERO), Next::Retry);
    assert_eq!(next_port(&mut ctx), Err(503));
    ctx.tries.failed.clear();
    let ports = [next_port(&mut ctx).unwrap(), next_port(&mut ctx).unwrap()];
    assert_ne!(ports[0], ports[1], "both are in rotation");
}

#[test]
fn what_a_trusted_proxy_says_is_extended() {
    check(
        &trusted(),
        &[
            ("host", "a"),
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("x-real-ip", "10.9.9.9"),
            ("x-forwarded-proto", "https"),
        ],
        &[
            ("host", "a"),
            ("x-forwarded-for", "10.0.0.1, 192.0.2.7"),
            ("forwarded", "for=10.0.0.1, for=192.0.2.7;host=\"a\";proto=http"),
            ("x-real-ip", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a"),
            ("x-forwarded-port", "80"),
        ],
    );
}

#[test]
fn ipv6_addresses_are_quoted_where_they_must_be() {
    let facts = ConnFacts {
        client: "[2001:db8::1]:5".parse().unwrap(),
        client_text: HeaderValue::from_static("2001:db8::1"),
        ..ConnFacts::for_tests(80)
    };
    let element = forwarded_element(&facts, None, &HeaderValue::from_static("http"));
    assert_eq!(element, "for=\"[2001:db8::1]\";proto=http");
}

fn context(ports: &[u16]) -> RequestContext {
    let state = BackendState::default();
    let endpoints = ports.iter().map(|&port| Endpoint::new(([127, 0, 0, 1], port).into()));
    state.store(&Arc::new(EndpointSet::new(endpoints.collect())));
    let spec = Backend {
        protocol: BackendProtocol::Http1,
        tls: None,
        balance: Balance::RoundRobin,
        endpoints: EndpointSource::Discovered,
        addresses: AddressRule::Operator,
    };
    RequestContext {
        started: Some((Instant::now(), std::time::SystemTime::now())),
        policy: Some(Arc::default()),
        backend: Some(Arc::new(CompiledBackend {
            id: "Service/test/web:80".parse().unwrap(),
            spec: Arc::new(spec),
            connection_key: 0,
            state: Arc::new(state),
            traffic: Arc::default(),
        })),
        ..RequestContext::default()
    }
}

fn next_port(ctx: &mut RequestContext) -> Result<u16, u16> {
    choose(ctx, Instant::now(), Duration::ZERO)
        .map(|to| to.address.port())
        .map_err(|status| status.as_u16())
}

#[test]
fn tries_end_with_the_policy_or_with_the_endpoints() {
    let mut ctx = context(&[1, 2, 3, 4, 5]);
    let mut ports = Vec::new();
    for _ in 0..3 {
        ports.push(next_port(&mut ctx).unwrap());
        let next = failed(&mut ctx, Failure::Connect, Duration::ZERO);
        assert_eq!(next == Next::Retry, ports.len() < 3, "two retries by default");
    }
    ports.dedup();
    assert_eq!(ports.len(), 3, "each on another endpoint");

    let mut ctx = context(&[1]);
    assert_eq!(next_port(&mut ctx), Ok(1));
    assert_eq!(failed(&mut ctx, Failure::ConnectTimeout, Duration::ZERO), Next::Retry);
    assert_eq!(next_port(&mut ctx), Err(504));
    assert_eq!(next_port(&mut context(&[])), Err(503));
}

#[test]
fn a_stale_connection_is_tried_again_on_the_same_endpoint_and_a_seen_request_is_not() {
    let mut ctx = context(&[1]);
    assert_eq!(next_port(&mut ctx), Ok(1));
    assert_eq!(failed(&mut ctx, Failure::Stale, Duration::ZERO), Next::Retry);
    assert_eq!(next_port(&mut ctx), Ok(1));
    assert_eq!(failed(&mut ctx, Failure::Other, Duration::ZERO), Next::GiveUp);
}

#[test]
fn the_time_of_the_whole_request_bounds_every_try() {
    let mut ctx = context(&[1]);
    let mut policy = Policy::default();
    policy.timeouts.request = Some(Duration::from_secs(3));
    ctx.policy = Some(Arc::new(policy));
    let (started, _) = ctx.started.unwrap();
    let to = choose(&mut ctx, started + Duration::from_secs(1), Duration::ZERO).unwrap();
    assert_eq!((to.connect, to.read), (Duration::from_secs(2), Duration::from_secs(2)));
    let late = choose(&mut ctx, started + Duration::from_secs(3), Duration::ZERO);
    assert_eq!(late.unwrap_err(), StatusCode::GATEWAY_TIMEOUT);
}
