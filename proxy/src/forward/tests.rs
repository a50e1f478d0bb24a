use http::HeaderMap;

use super::*;

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
            ("forwarded", "for=10.0.0.1;proto=https, for=192.0.2.7;host=\"a\""),
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
    let element = forwarded_element(&facts, None, Some(&HeaderValue::from_static("http")));
    assert_eq!(element, "for=\"[2001:db8::1]\";proto=http");
}
