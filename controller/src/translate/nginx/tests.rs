use kubeng_config::problem::Code;
use serde_json::{Value, json};

use super::known::KNOWN;
use super::*;
use crate::decode::{Decoded, decode};
use crate::events::notes_of;
use crate::kind::Body;
use crate::kind::ingress::IngressRule;
use crate::object::Author;
use kubeng_config::provenance::Provenance;

fn ingress(annotations: &[(&str, &str)], path: &str) -> Ingress {
    let annotations: serde_json::Map<String, Value> =
        annotations.iter().map(|(name, value)| (whole(name), json!(value))).collect();
    let value = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"namespace": "shop", "name": "web", "annotations": annotations},
        "spec": {"ingressClassName": "kubeng", "rules": [{"host": "a.example", "http": {"paths": [{
            "path": path, "pathType": "ImplementationSpecific",
            "backend": {"service": {"name": "web", "port": {"number": 80}}},
        }]}}]},
    });
    let decoded = decode(value, Provenance::Product, Author::Tenant);
    let Decoded::Object(object) = decoded else { panic!("{decoded:?}") };
    let Body::Ingress(ingress) = object.body else { panic!("{object:?}") };
    ingress
}

/// The name with its prefix; those of our own have one.
fn whole(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("{FAMILY}{name}") }
}

fn codes(review: &Review) -> Vec<Code> {
    review.told.iter().map(|(_, refused)| refused.code).collect()
}

/// What becomes of an Ingress with one annotation.
#[track_caller]
fn check(name: &str, value: &str, expected: Asks) {
    let review = review(&ingress(&[(name, value)], "/"));
    let (closes, told): (bool, &[Code]) = match expected {
        Asks::Nothing => (false, &[]),
        Asks::Tunes => (false, &[NGINX_IGNORED]),
        Asks::Closes => (true, &[NGINX_CLOSED]),
    };
    assert_eq!(review.closed.is_some(), closes, "{name}: {value}");
    assert_eq!(codes(&review), told, "{name}: {value}");
    for (field, refused) in &review.told {
        let name = name.replace('/', "~1");
        assert_eq!(*field, format!("/metadata/annotations/nginx.ingress.kubernetes.io~1{name}"));
        assert!(refused.message.contains(&name), "{}", refused.message);
    }
}

#[test]
fn what_protects_or_sends_requests_elsewhere_closes() {
    for (name, value) in [
        ("auth-type", "basic"),
        ("auth-type", ""),
        ("auth-secret", "users"),
        ("auth-secret-type", "auth-map"),
        ("auth-url", "https://login.example/check"),
        ("auth-snippet", "deny all;"),
        ("auth-tls-secret", "shop/ca"),
        ("auth-tls-verify-client", "on"),
        ("auth-tls-match-cn", "CN=shop"),
        ("whitelist-source-range", "10.0.0.0/8"),
        ("allowlist-source-range", ""),
        ("allowlist-source-range", "0.0.0.0/0"),
        ("denylist-source-range", "192.0.2.0/24"),
        ("satisfy", "any"),
        ("limit-rps", "5"),
        ("limit-rpm", "five"),
        ("limit-connections", "1"),
        ("limit-whitelist", "10.0.0.0/8"),
        ("limit-allowlist", "10.0.0.0/8"),
        ("global-rate-limit", "100"),
        ("global-rate-limit-window", "1m"),
        ("enable-modsecurity", "true"),
        ("enable-owasp-core-rules", "yes"),
        ("modsecurity-snippet", "SecRuleEngine On"),
        ("lua-resty-waf", "active"),
        ("configuration-snippet", "deny all;"),
        ("server-snippet", ""),
        ("stream-snippet", "x"),
        ("some-later-snippet", "x"),
        ("permanent-redirect", "https://b.example"),
        ("temporal-redirect", "https://b.example"),
        ("ssl-passthrough", "true"),
        ("backend-protocol", "HTTPS"),
        ("backend-protocol", "grpcs"),
        ("backend-protocol", "FCGI"),
        ("backend-protocol", "HTTP2S"),
        ("canary", "true"),
        ("canary", "T"),
    ] {
        check(name, value, Asks::Closes);
    }
}

#[test]
fn what_tunes_is_told_and_what_asks_for_nothing_is_passed_over() {
    for (name, value) in [
        ("auth-realm", "Shop"),
        ("auth-response-headers", "x-user"),
        ("auth-signin", "https://login.example"),
        ("backend-protocol", "GRPC"),
        ("canary-weight", "5"),
        ("use-regex", "true"),
        ("rewrite-target", "/"),
        ("ssl-redirect", "true"),
        ("force-ssl-redirect", "true"),
        ("proxy-read-timeout", "60"),
        ("proxy-body-size", "8m"),
        ("affinity", "cookie"),
        ("enable-cors", "true"),
        ("permanent-redirect-code", "308"),
        ("limit-rate", "10"),
        ("nobody-knows-this", "x"),
    ] {
        check(name, value, Asks::Tunes);
    }
    for (name, value) in [
        ("limit-rps", "0"),
        ("enable-modsecurity", "false"),
        ("backend-protocol", "HTTP"),
        ("canary", "false"),
        ("ssl-redirect", "False"),
        ("use-regex", "0"),
        ("permanent-redirect", " "),
        // As cert-manager writes it for its challenges.
        ("whitelist-source-range", "0.0.0.0/0,::/0"),
    ] {
        check(name, value, Asks::Nothing);
    }
}

#[test]
fn all_annotations_of_one_effect_are_one_problem_that_names_them_and_what_to_write() {
    let written = [
        ("auth-url", "https://login.example"),
        ("whitelist-source-range", "10.0.0.0/8"),
        ("rewrite-target", "/"),
        ("proxy-body-size", "8m"),
        ("canary", "false"),
    ];
    let review = review(&ingress(&written, "/"));
    assert_eq!(codes(&review), [NGINX_CLOSED, NGINX_IGNORED]);
    let [(place, closed), (_, ignored)] = &review.told[..] else { panic!("{review:?}") };
    assert_eq!(place, "/metadata/annotations");
    for word in ["auth-url, whitelist-source-range", "closed"] {
        assert!(closed.message.contains(word), "{}", closed.message);
    }
    for word in [
        "auth.external for auth-url",
        "access.allow for whitelist-source-range",
        "kubeng.io/ignore-nginx-annotations: \"true\"",
        "docs/from-ingress-nginx.md",
    ] {
        assert!(closed.remedy.contains(word), "{}", closed.remedy);
    }
    assert!(ignored.message.contains("proxy-body-size, rewrite-target"), "{}", ignored.message);
    assert!(ignored.remedy.contains("rewrite.path for rewrite-target"), "{}", ignored.remedy);
    // However many there are and however long their names, the text is bounded.
    let many: Vec<String> =
        (0..100).map(|at| format!("zz{at}-{}-snippet", "x".repeat(200))).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "x")).collect();
    let (_, refused) = &super::review(&ingress(&many, "/")).told[0];
    assert!(refused.message.contains("and 94 more"), "{}", refused.message);
    assert!(refused.message.len() + refused.remedy.len() < 2_000, "{refused:?}");
}

#[test]
fn the_waiver_serves_it_and_leaves_a_note() {
    let protecting = ("auth-url", "https://login.example");
    let all = [protecting, ("rewrite-target", "/"), (WAIVER, "true")];
    let waived = review(&ingress(&all, "/x(.*)"));
    assert_eq!((waived.closed.clone(), waived.regex.clone()), (None, None));
    assert_eq!(codes(&waived), [NGINX_WAIVED]);
    assert!(waived.told[0].1.message.contains("auth-url, rewrite-target"), "{waived:?}");
    assert!(!is_canary(&ingress(&[("canary", "true"), (WAIVER, "true")], "/")));
    assert!(!asks_clients(&ingress(&[("auth-tls-secret", "a/b"), (WAIVER, "true")], "/")));
    assert_eq!(review(&ingress(&[(WAIVER, "true")], "/")), Review::default());
    assert_eq!(codes(&review(&ingress(&[protecting, (WAIVER, "false")], "/"))), [NGINX_CLOSED]);
    let mistaken = review(&ingress(&[protecting, (WAIVER, "yes")], "/"));
    assert_eq!(codes(&mistaken), [BAD_VALUE, NGINX_CLOSED]);
    assert!(mistaken.closed.is_some());
}

/// The paths that are refused for one of an Ingress with `annotation`; none: it keeps its place.
#[track_caller]
fn aside(annotation: (&str, &str), path: &str, expected: &[&str]) {
    let ingress = ingress(&[annotation], path);
    let IngressRule { paths, .. } = &ingress.rules[0];
    let aside = review(&ingress).set_aside(&paths[0]);
    let got: Vec<String> = aside.iter().flat_map(|(_, all)| all).map(ToString::to_string).collect();
    assert_eq!(got, expected, "{annotation:?} {path}");
    assert!(aside.iter().all(|(refused, _)| refused.code == NGINX_CLOSED));
}

#[test]
fn regular_expressions_are_refused_as_far_as_they_are_plain_and_canaries_as_they_are() {
    let regex = ("use-regex", "true");
    aside(regex, "/api", &[]);
    aside(regex, "/.well-known/x.json", &[]);
    aside(("use-regex", "false"), "/api(.*)", &[]);
    aside(("proxy-body-size", "1m"), "/api(.*)", &[]);
    aside(regex, "/api(/|$)(.*)", &["/", "/api"]);
    aside(regex, "/api/v[12]/x", &["/api", "/api/v"]);
    aside(regex, "/api/.*", &["/api"]);
    aside(regex, "/apis?/x", &["/", "/api"]);
    aside(regex, "^/shop/(.*)$", &["/shop"]);
    aside(regex, "(.*)", &["/"]);
    aside(regex, "/a{2}", &["/"]);
    aside(("rewrite-target", "/$2"), "/api(/|$)(.*)", &["/", "/api"]);
    aside(("canary", "true"), "/api", &["/api"]);
    aside(("canary", "true"), "", &["/"]);
}

#[test]
fn events_say_what_is_closed_why_and_what_to_do() {
    let told = |annotations: &[(&str, &str)]| {
        let review = review(&ingress(annotations, "/"));
        let key = "Ingress/shop/web".parse().unwrap();
        let problems: Vec<_> = review
            .told
            .iter()
            .map(|(field, refused)| kubeng_config::problem::Problem {
                subject: kubeng_config::problem::Subject::Object(Clone::clone(&key)),
                field: field.clone(),
                code: refused.code,
                message: refused.message.clone(),
                remedy: refused.remedy.clone(),
                provenance: None,
            })
            .collect();
        notes_of(&problems)
    };
    let closed = told(&[("whitelist-source-range", "10.0.0.0/8")]);
    let [(severity, reason, text)] = &closed[..] else { panic!("{closed:?}") };
    assert_eq!((*severity, *reason), ("Warning", "Rejected"));
    for word in [
        "nginx.ingress.kubernetes.io~1whitelist-source-range",
        "access.allow",
        "KNG-1006",
        "503",
        WAIVER,
    ] {
        assert!(text.contains(word), "{text}");
    }
    let reasons = |annotations| -> Vec<(&str, &str, String)> { told(annotations) };
    let ignored = reasons(&[("proxy-body-size", "8m")]);
    assert_eq!((ignored[0].1, ignored[0].2.as_str()), ("Accepted", "served, with a problem"));
    assert_eq!((ignored[1].0, ignored[1].1), ("Warning", "Degraded"));
    let waived = reasons(&[("auth-url", "x"), (WAIVER, "true")]);
    assert_eq!((waived[0].1, waived[0].2.as_str()), ("Accepted", "served, with a note"));
    assert_eq!((waived[1].0, waived[1].1), ("Normal", "Noted"));
}

#[test]
fn the_page_names_every_annotation_and_what_does_it() {
    let page =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/from-ingress-nginx.md");
    let page = std::fs::read_to_string(page).unwrap();
    let missing: Vec<&str> = KNOWN
        .iter()
        .filter(|known| {
            let mut lines = page.lines().filter(|line| line.starts_with('|'));
            let name = format!("`{}`", known.name);
            !lines.any(|line| line.contains(&name) && line.contains(known.instead))
        })
        .map(|known| known.name)
        .collect();
    assert!(missing.is_empty(), "docs/from-ingress-nginx.md lacks {missing:?}");
    assert!(page.contains(WAIVER));
}
