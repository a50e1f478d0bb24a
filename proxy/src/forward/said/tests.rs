use super::super::forwarding_headers;
use super::*;
use crate::listener::facts::ConnFacts;

/// What a Backend is told for what the proxy 192.0.2.7 said: `Forwarded`, for, proto, host, real.
#[track_caller]
fn check(said: &[(&'static str, &str)], expected: [&str; 5]) {
    let nets = ["192.0.2.0/24".parse().unwrap()];
    let facts = ConnFacts { trusted_proxies: Some(nets.into()), ..ConnFacts::for_tests(80) };
    let mut fields = HeaderMap::new();
    for (name, value) in said {
        fields.append(*name, value.parse().unwrap());
    }
    let host = HeaderValue::from_static("one.test");
    forwarding_headers(&facts, Some(&host), &mut fields);
    let names =
        ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip"];
    let told = names.map(|name| {
        assert_eq!(fields.get_all(name).iter().count(), 1, "{name}");
        fields[name].to_str().unwrap()
    });
    assert_eq!(told, expected, "{said:?}");
}

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
const HOST: &str = "x-forwarded-host";

#[test]
fn what_one_family_says_is_said_in_the_other() {
    check(
        &[(FOR, "1.1.1.1"), (PROTO, "https")],
        [
            "for=1.1.1.1;proto=https, for=192.0.2.7;host=\"one.test\"",
            "1.1.1.1, 192.0.2.7",
            "https",
            "one.test",
            "1.1.1.1",
        ],
    );
    check(
        &[("forwarded", "for=1.1.1.1;proto=https")],
        [
            "for=1.1.1.1;proto=https, for=192.0.2.7;host=\"one.test\"",
            "1.1.1.1, 192.0.2.7",
            "https",
            "one.test",
            "1.1.1.1",
        ],
    );
    check(
        &[(
            "forwarded",
            "For=\"[2001:db8::1]:4711\";Proto=https;host=\"shop.test\", for=192.0.2.9;by=_x",
        )],
        [
            "For=\"[2001:db8::1]:4711\";Proto=https;host=\"shop.test\", for=192.0.2.9;by=_x, for=192.0.2.7",
            "2001:db8::1, 192.0.2.9, 192.0.2.7",
            "https",
            "shop.test",
            "2001:db8::1",
        ],
    );
    check(
        &[(FOR, "2001:db8::1"), (FOR, "192.0.2.9:80"), (PROTO, "https"), (HOST, "shop.test")],
        [
            "for=\"[2001:db8::1]\";host=\"shop.test\";proto=https, for=192.0.2.9, for=192.0.2.7",
            "2001:db8::1, 192.0.2.9:80, 192.0.2.7",
            "https",
            "shop.test",
            "2001:db8::1",
        ],
    );
}

#[test]
fn a_proxy_that_names_nobody_still_tells_the_scheme() {
    for said in [(PROTO, "https"), ("forwarded", "proto=https")] {
        let forwarded = match said.0 {
            PROTO => "for=192.0.2.7;host=\"one.test\";proto=https",
            _ => "proto=https, for=192.0.2.7;host=\"one.test\"",
        };
        let nodes = if said.0 == PROTO { "192.0.2.7" } else { "unknown, 192.0.2.7" };
        check(&[said], [forwarded, nodes, "https", "one.test", "192.0.2.7"]);
    }
    let plain = "for=192.0.2.7;host=\"one.test\";proto=http";
    check(&[], [plain, "192.0.2.7", "http", "one.test", "192.0.2.7"]);
}

#[test]
fn where_both_contradict_each_other_the_family_of_x_counts() {
    let expected = [
        "for=1.1.1.1;proto=https, for=192.0.2.7;host=\"one.test\"",
        "1.1.1.1, 192.0.2.7",
        "https",
        "one.test",
        "1.1.1.1",
    ];
    for forwarded in
        ["for=6.6.6.6", "for=1.1.1.1;proto=http", "for=1.1.1.1, for=6.6.6.6", "for=\"1.1.1.1"]
    {
        check(&[(FOR, "1.1.1.1"), (PROTO, "https"), ("forwarded", forwarded)], expected);
    }
    // What one of them leaves out the other may tell.
    check(&[(FOR, "1.1.1.1"), ("forwarded", "for=1.1.1.1;proto=https")], expected);
}

#[test]
fn what_is_no_address_is_nobody() {
    for (malformed, kept) in [
        ("for=\"1.1.1.1", "for=unknown"),
        ("for=1.1.1.1 for=2.2.2.2", "for=unknown"),
        ("1.1.1.1", "for=unknown"),
        ("for=_hidden", "for=_hidden"),
        ("for=unknown;,", "for=unknown;,"),
    ] {
        let forwarded = format!("{kept}, for=192.0.2.7;host=\"one.test\";proto=http");
        let nodes = "unknown, 192.0.2.7";
        check(&[("forwarded", malformed)], [&forwarded, nodes, "http", "one.test", "192.0.2.7"]);
    }
    // A host or scheme that would end the quotes is left out of `Forwarded`.
    check(
        &[(FOR, "1.1.1.1"), (PROTO, "https;for=6.6.6.6"), (HOST, "a\";for=6.6.6.6")],
        [
            "for=1.1.1.1, for=192.0.2.7",
            "1.1.1.1, 192.0.2.7",
            "https;for=6.6.6.6",
            "a\";for=6.6.6.6",
            "1.1.1.1",
        ],
    );
}

#[test]
fn the_client_is_found_in_forwarded_where_that_is_all() {
    let check = |said: &[(&'static str, &str)], expected: Client| {
        let trusted = ["192.0.2.0/24".parse().unwrap()];
        let mut fields = HeaderMap::new();
        for (name, value) in said {
            fields.append(*name, value.parse().unwrap());
        }
        assert_eq!(client_of(&fields, &trusted), expected, "{said:?}");
        assert_eq!(Said::read(&fields, &trusted).client(&trusted), expected, "{said:?}");
    };
    let is = |text: &str| Client::Is(text.parse().unwrap());
    check(&[("forwarded", "for=1.1.1.1, for=2.2.2.2, for=192.0.2.4")], is("2.2.2.2"));
    check(&[("forwarded", "for=1.1.1.1"), ("forwarded", "for=2.2.2.2")], is("2.2.2.2"));
    check(&[("forwarded", "for=1.1.1.1, for=unknown")], Client::Unknown);
    check(&[("forwarded", "for=192.0.2.4")], Client::OnlyProxies);
    check(&[("forwarded", "for=1.1.1.1"), (FOR, "3.3.3.3")], is("3.3.3.3"));
    check(&[("forwarded", "for=1.1.1.1"), (PROTO, "https")], Client::OnlyProxies);
}

#[test]
fn the_scheme_of_the_client_is_what_a_proxy_said_and_not_what_the_client_said_of_itself() {
    let check = |said: &[(&'static str, &str)], expected: Option<Scheme>| {
        let trusted = ["192.0.2.0/24".parse().unwrap()];
        let mut fields = HeaderMap::new();
        for (name, value) in said {
            fields.append(*name, value.parse().unwrap());
        }
        assert_eq!(scheme_of(&fields, &trusted), expected, "{said:?}");
    };
    let (http, https) = (Some(Scheme::Http), Some(Scheme::Https));
    check(&[], None);
    check(&[(FOR, "1.1.1.1")], None);
    for (word, expected) in
        [("https", https), ("HTTPS", https), ("wss", https), ("http", http), ("ws", http)]
    {
        check(&[(PROTO, word)], expected);
        check(&[(FOR, "1.1.1.1"), (PROTO, word)], expected);
        check(&[("forwarded", &format!("for=1.1.1.1;proto={word}"))], expected);
    }
    for odd in ["gopher", "", "on", "https http"] {
        check(&[(PROTO, odd)], None);
    }
    // In `Forwarded` it stands in the element of the client, whatever it wrote in front of that.
    check(&[("forwarded", "for=6.6.6.6;proto=https, for=1.1.1.1;proto=http")], http);
    check(&[("forwarded", "for=1.1.1.1;proto=https, for=192.0.2.4;proto=http")], https);
    // Proxies that append say one word for each node.
    check(&[(FOR, "6.6.6.6, 1.1.1.1"), (PROTO, "https, http")], http);
    check(&[(FOR, "1.1.1.1, 192.0.2.4"), (PROTO, "https, http")], https);
    check(&[(FOR, "1.1.1.1, 192.0.2.4"), (PROTO, "https"), (PROTO, "http")], https);
    // Else only the last one is for certain not that of the client.
    check(&[(FOR, "1.1.1.1"), (PROTO, "https,http")], http);
    check(&[(PROTO, "http, https")], https);
}

#[test]
fn of_a_list_of_schemes_backends_are_told_the_one_that_counts() {
    check(
        &[(FOR, "1.1.1.1"), (PROTO, "https, http")],
        [
            "for=1.1.1.1;proto=http, for=192.0.2.7;host=\"one.test\"",
            "1.1.1.1, 192.0.2.7",
            "http",
            "one.test",
            "1.1.1.1",
        ],
    );
}
