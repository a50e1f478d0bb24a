//! Ingress v1: the conformance scenarios, and what users of several Ingresses expect.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Method, Request};
use kubeng_harness::backend::Backend;
use kubeng_harness::client::Client;
use kubeng_harness::process::Kubeng;

use crate::support::{get, ingress, launch, secret, serve, serve_with, service};

/// Asks, and says which backend answered, or else the status.
async fn who(kubeng: &Kubeng, host: &str, path: &str) -> String {
    let answer = get(kubeng, host, path).await;
    answer.backend().map_or_else(|| answer.status.as_u16().to_string(), Into::into)
}

#[track_caller]
fn same(found: &[(String, String)], expected: &[(&str, &str)]) {
    let found: Vec<(&str, &str)> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(found, expected);
}

/// Asks for each URL, and compares who answered.
async fn check(kubeng: &Kubeng, expected: &[(&str, &str)]) {
    let mut found = Vec::new();
    for (url, _) in expected {
        let (host, path) = url.split_at(url.find('/').unwrap());
        found.push(((*url).to_owned(), who(kubeng, host, path).await));
    }
    same(&found, expected);
}

async fn backends(names: &[&str]) -> Vec<Backend> {
    let mut all = Vec::new();
    for name in names {
        all.push(Backend::start(name).await.unwrap());
    }
    all
}

fn services(backends: &[Backend]) -> String {
    backends.iter().map(|backend| service(&backend.name, &[backend])).collect()
}

#[tokio::test]
async fn an_ingress_without_rules_takes_everything() {
    let backends = backends(&["rest"]).await;
    let ingress = "apiVersion: networking.k8s.io/v1\nkind: Ingress\n\
        metadata: {name: rest, namespace: shop}\nspec:\n  ingressClassName: kubeng\n  \
        defaultBackend: {service: {name: rest, port: {name: http}}}\n---\n";
    let text = services(&backends) + ingress;
    let (kubeng, _folder) = serve(&[("a.yaml", text)]).await;
    let cases = [
        (Method::GET, "/"),
        (Method::GET, "/sub/path"),
        (Method::POST, "/"),
        (Method::PUT, "/x"),
        (Method::DELETE, "/x"),
        (Method::PATCH, "/x"),
    ];
    for (method, path) in cases {
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header("host", "any.example.com")
            .body(Bytes::new())
            .unwrap();
        let answer = Client::plain(kubeng.http).send(request).await.unwrap();
        assert_eq!(answer.backend(), Some("rest"), "{method} {path}");
        for name in ["content-length", "date", "server"] {
            assert!(answer.headers.contains_key(name), "{method} {path} has no {name}");
        }
    }
    assert_eq!(get(&kubeng, "127.0.0.1", "/").await.backend(), Some("rest"), "an address, too");
}

#[tokio::test]
async fn hosts_are_exact_or_one_label_below() {
    let backends = backends(&["exact", "wild", "any"]).await;
    let text = services(&backends)
        + &ingress("exact", "foo.com", &[("/", "Prefix", "exact")])
        + &ingress("wild", "*.foo.com", &[("/", "Prefix", "wild")])
        + &ingress("named", "bar.foo.com", &[("/only", "Prefix", "exact")])
        + &ingress("any", "", &[("/", "Prefix", "any")]);
    let (kubeng, _folder) = serve(&[("a.yaml", text)]).await;
    check(
        &kubeng,
        &[
            ("foo.com/", "exact"),
            ("FOO.com/", "exact"),
            ("foo.com:8080/", "exact"),
            ("foo.com./", "exact"),
            ("baz.foo.com/", "wild"),
            ("a.baz.foo.com/", "any"),
            ("other.com/", "any"),
            ("bar.foo.com/only", "exact"),
            // A host that is named never falls through to a wider one.
            ("bar.foo.com/", "404"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_certificate_is_chosen_by_server_name() {
    let backends = backends(&["web"]).await;
    let with_tls = |name: &str, host: &str| {
        ingress(name, host, &[("/", "Prefix", "web")]).replace(
            "  rules:",
            &format!("  tls:\n  - {{hosts: [\"{host}\"], secretName: {name}}}\n  rules:"),
        )
    };
    let text = services(&backends)
        + &with_tls("one", "one.example.com")
        + &with_tls("two", "two.example.com")
        + &with_tls("wild", "*.wild.example.com")
        + &secret("one", "one.example.com")
        + &secret("two", "two.example.com")
        + &secret("wild", "*.wild.example.com");
    let (kubeng, _folder) = serve(&[("a.yaml", text)]).await;
    for (name, covered) in [
        ("one.example.com", Some("one.example.com")),
        ("two.example.com", Some("two.example.com")),
        ("a.wild.example.com", Some("*.wild.example.com")),
        ("none.example.com", None),
    ] {
        let mut client = Client::tls(kubeng.https, name).unwrap();
        let status = client.get(name, "/").await.unwrap().status;
        let certificate = client.certificate().unwrap();
        let text = String::from_utf8_lossy(certificate);
        match covered {
            Some(covered) => {
                assert!(text.contains(covered), "{name} gets the certificate of {covered}");
                assert_eq!(status, 200);
            }
            None => {
                assert!(!text.contains("example.com"), "{name} gets the default certificate");
                assert_eq!(status, 404);
            }
        }
    }
    let plain = get(&kubeng, "one.example.com", "/").await;
    assert_eq!(plain.status, 200, "plain HTTP is not redirected by default");
}

#[tokio::test]
async fn paths_go_by_type_and_element() {
    let backends = backends(&["root", "exact", "prefix", "longer", "slash", "case"]).await;
    let text = services(&backends)
        + &ingress(
            "paths",
            "paths.example.com",
            &[
                ("/foo", "Exact", "exact"),
                ("/aaa", "Prefix", "prefix"),
                ("/aaa/bbb/", "Prefix", "longer"),
                ("/trail/", "Exact", "slash"),
                ("/Case", "Prefix", "case"),
                ("/both", "Prefix", "prefix"),
                ("/both", "Exact", "exact"),
            ],
        )
        + &ingress("root", "root.example.com", &[("/", "Prefix", "root")])
        + &ingress("own", "own.example.com", &[("/own", "ImplementationSpecific", "prefix")]);
    let (kubeng, _folder) = serve(&[("a.yaml", text)]).await;
    check(
        &kubeng,
        &[
            ("paths.example.com/foo", "exact"),
            ("paths.example.com/foo/", "404"),
            ("paths.example.com/FOO", "404"),
            ("paths.example.com/foo/bar", "404"),
            ("paths.example.com/aaa", "prefix"),
            ("paths.example.com/aaa/", "prefix"),
            ("paths.example.com/aaa/ccc", "prefix"),
            ("paths.example.com/aaaccc", "404"),
            ("paths.example.com/AAA", "404"),
            ("paths.example.com/aaa/bbb", "longer"),
            ("paths.example.com/aaa/bbb/ccc", "longer"),
            ("paths.example.com/aaa/bbbccc", "prefix"),
            ("paths.example.com/trail", "404"),
            ("paths.example.com/trail/", "slash"),
            ("paths.example.com/case", "404"),
            ("paths.example.com/Case/x", "case"),
            ("paths.example.com/both", "exact"),
            ("paths.example.com/both/x", "prefix"),
            ("paths.example.com/x/../aaa", "prefix"),
            ("paths.example.com/%61aa", "prefix"),
            ("root.example.com/", "root"),
            ("root.example.com/any/thing", "root"),
            ("own.example.com/own/x", "prefix"),
            ("own.example.com/owner", "404"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_class_that_is_not_ours_is_not_served() {
    let backends = backends(&["web"]).await;
    let of_class = |name: &str, class: &str| {
        ingress(name, &format!("{name}.example.com"), &[("/", "Prefix", "web")])
            .replace("ingressClassName: kubeng", class)
    };
    let text = services(&backends)
        + &of_class("ours", "ingressClassName: fast")
        + &of_class("plain", "ingressClassName: kubeng")
        + &of_class("foreign", "ingressClassName: nginx")
        + &of_class("unknown", "ingressClassName: missing")
        + &of_class("without", "tls: []")
        + "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: fast}\n\
           spec: {controller: kubeng.io/ingress-controller}\n---\n\
           apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: nginx}\n\
           spec: {controller: k8s.io/ingress-nginx}\n";
    let expected = |without| {
        [
            ("ours.example.com/", "web"),
            ("plain.example.com/", "web"),
            ("foreign.example.com/", "404"),
            ("unknown.example.com/", "404"),
            ("without.example.com/", without),
        ]
    };
    let (kubeng, _folder) = serve(&[("a.yaml", text.clone())]).await;
    check(&kubeng, &expected("404")).await;
    let (kubeng, _folder) =
        serve_with(|| launch().arg("--without-class"), &[("a.yaml", text)]).await;
    check(&kubeng, &expected("web")).await;
}

#[tokio::test]
async fn a_hundred_requests_reach_all_of_ten_endpoints() {
    let names: Vec<String> = (1..=10).map(|number| format!("pod-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let group = Backend::start_group(&names).await.unwrap();
    let group: Vec<&Backend> = group.iter().collect();
    let text =
        service("web", &group) + &ingress("web", "lb.example.com", &[("/", "Prefix", "web")]);
    let (kubeng, _folder) = serve(&[("a.yaml", text)]).await;
    let mut reached = BTreeSet::new();
    for number in 0..100 {
        let answer = if number % 2 == 0 {
            get(&kubeng, "lb.example.com", "/").await
        } else {
            let mut client = Client::plain(kubeng.http);
            client.get("lb.example.com", "/").await.unwrap();
            client.get("lb.example.com", "/").await.unwrap()
        };
        assert_eq!(answer.status, 200);
        reached.insert(answer.backend().unwrap().to_owned());
    }
    assert_eq!(reached.len(), 10, "{reached:?}");
}

#[tokio::test]
async fn what_cannot_be_honoured_is_refused_in_its_place() {
    let backends = backends(&["web"]).await;
    let text = services(&backends)
        + &ingress(
            "web",
            "shop.example.com",
            &[("/", "Prefix", "web"), ("/missing", "Prefix", "nobody")],
        )
        + &ingress("port", "port.example.com", &[("/", "Prefix", "web")])
            .replace("number: 80", "number: 81")
        + &ingress("kind", "kind.example.com", &[("/", "Prefix", "web")]).replace(
            "{service: {name: web, port: {number: 80}}}",
            "{resource: {apiGroup: storage.example.com, kind: Bucket, name: files}}",
        )
        + &service("empty", &[])
        + &ingress("empty", "empty.example.com", &[("/", "Prefix", "empty")]);
    let (kubeng, _folder) = serve(&[("a.yaml", text)]).await;
    check(
        &kubeng,
        &[
            ("shop.example.com/", "web"),
            ("shop.example.com/missing/x", "503"),
            ("port.example.com/", "503"),
            ("kind.example.com/", "503"),
            ("empty.example.com/", "503"),
        ],
    )
    .await;
    let problems = kubeng.admin("/api/v1/problems").await.unwrap();
    let text = String::from_utf8(problems.body.to_vec()).unwrap();
    for word in ["KNG-1101", "KNG-1105", "KNG-1106", "nobody", "a.yaml", "Bucket"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
}

#[tokio::test]
async fn several_ingresses_of_one_host_are_merged_and_the_oldest_wins() {
    let backends = backends(&["old", "new", "more", "rest"]).await;
    let created = |text: String, year: u32| {
        text.replace(
            "namespace: shop}",
            &format!("namespace: shop, creationTimestamp: \"{year}-01-01T00:00:00Z\"}}"),
        )
    };
    let rest = "  defaultBackend: {service: {name: rest, port: {number: 80}}}\n  rules:";
    let text = services(&backends)
        + &created(ingress("a-new", "one.example.com", &[("/", "Prefix", "new")]), 2025)
        + &created(ingress("b-old", "one.example.com", &[("/", "Prefix", "old")]), 2024)
        + &created(ingress("c-more", "one.example.com", &[("/more", "Prefix", "more")]), 2026)
        + &ingress("rest", "rest.example.com", &[("/known", "Prefix", "more")])
            .replace("  rules:", rest);
    let (kubeng, _folder) = serve(&[("a.yaml", text)]).await;
    check(
        &kubeng,
        &[
            ("one.example.com/", "old"),
            ("one.example.com/more", "more"),
            ("rest.example.com/known", "more"),
            ("rest.example.com/other", "rest"),
        ],
    )
    .await;
    let problems = kubeng.admin("/api/v1/problems").await.unwrap();
    let text = String::from_utf8(problems.body.to_vec()).unwrap();
    assert!(text.contains("KNG-1201") && text.contains("Ingress/shop/a-new"), "{text}");
}

#[tokio::test]
async fn an_upstream_is_reached_through_an_ingress() {
    let backends = backends(&["billing"]).await;
    let port = backends[0].address.port();
    let text = format!(
        "apiVersion: kubeng.io/v1alpha1\nkind: Upstream\n\
         metadata: {{name: billing, namespace: shop}}\n\
         spec:\n  protocol: http\n  endpoints:\n  - {{address: 127.0.0.1, port: {port}}}\n---\n"
    ) + &ingress("billing", "billing.example.com", &[("/", "Prefix", "x")]).replace(
        "{service: {name: x, port: {number: 80}}}",
        "{resource: {apiGroup: kubeng.io, kind: Upstream, name: billing}}",
    );
    let (kubeng, _folder) = serve(&[("a.yaml", text)]).await;
    check(&kubeng, &[("billing.example.com/", "billing")]).await;
}
