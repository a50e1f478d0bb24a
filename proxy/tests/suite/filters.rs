//! Filters that guard and limit, and what `Connection` may not do.

use std::time::Duration;

use http_body_util::Full;
use hyper::Response;
use kubeng_config::backend::BackendProtocol;
use kubeng_config::filter::Filter;
use kubeng_proxy::ProxySettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

/// Filters as they are exported.
pub(crate) fn filters(texts: &[&str]) -> Vec<Filter> {
    texts
        .iter()
        .map(|text| serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}")))
        .collect()
}

/// A replica that serves everything from a Backend that tells what it got.
pub(crate) async fn echo(texts: &[&str]) -> Replica {
    let mut replica = Replica::start();
    replica.serve_as(&[serve_echo().await], BackendProtocol::Http1, filters(texts));
    replica
}

/// One request with these header lines on a connection of its own.
pub(crate) async fn ask(replica: &Replica, line: &str, headers: &[&str]) -> Answer {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let text = format!("{line} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{lines}\r\n");
    Answer::read(&talk(replica.http, text.as_bytes()).await)
}

#[tokio::test]
async fn a_preflight_request_is_answered_and_never_forwarded() {
    let cors = r#"{"cors":{"allowOrigins":["https://*.example"],"allowMethods":{"these":["PUT"]},
        "allowCredentials":true}}"#;
    let mut replica = Replica::start();
    let back = serve(|_| {
        let answer = Response::builder().header("access-control-allow-origin", "*");
        answer.body(Full::from("backend")).unwrap()
    });
    replica.serve_as(&[back.await], BackendProtocol::Http1, filters(&[cors]));
    let origin = "Origin: https://a.example";
    let asked = "Access-Control-Request-Method: PUT";
    let preflight = ask(&replica, "OPTIONS /x", &[origin, asked]).await;
    assert_eq!((preflight.status, preflight.body.as_str()), (204, ""));
    for line in [
        "access-control-allow-origin: https://a.example",
        "access-control-allow-methods: put",
        "access-control-allow-credentials: true",
        "access-control-max-age: 5",
        "vary: origin",
    ] {
        assert!(preflight.head.contains(line), "{line} in {preflight:?}");
    }
    let answer = ask(&replica, "GET /x", &[origin]).await;
    assert_eq!(answer.body, "backend");
    assert_eq!(answer.head.matches("access-control-allow-origin").count(), 1, "{answer:?}");
    assert!(answer.head.contains("access-control-allow-origin: https://a.example"), "{answer:?}");
    let stranger = ask(&replica, "GET /x", &["Origin: https://evil.test"]).await;
    assert_eq!(stranger.status, 200);
    assert!(!stranger.head.contains("access-control-allow-origin"), "{stranger:?}");
}

#[tokio::test]
async fn a_refusal_behind_cors_can_be_read_by_the_page() {
    let cors = r#"{"cors":{"allowOrigins":["https://a.example"]}}"#;
    let replica = echo(&[cors, r#"{"clientAddress":{"deny":["127.0.0.0/8"]}}"#]).await;
    let answer = ask(&replica, "GET /", &["Origin: https://a.example"]).await;
    assert_eq!(answer.status, 403);
    assert!(answer.head.contains("access-control-allow-origin: https://a.example"), "{answer:?}");
}

#[tokio::test]
async fn the_address_of_the_client_itself_decides() {
    let rule = r#"{"clientAddress":{"allow":["192.0.2.0/24"]}}"#;
    let replica = echo(&[rule]).await;
    assert_eq!(ask(&replica, "GET /", &[]).await.status, 403);
    // A stranger's word counts for nothing.
    assert_eq!(ask(&replica, "GET /", &["X-Forwarded-For: 192.0.2.1"]).await.status, 403);
    let trusting =
        ProxySettings { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..settings() };
    let mut replica = Replica::with(trusting);
    replica.serve_as(&[serve_echo().await], BackendProtocol::Http1, filters(&[rule]));
    for (forwarded, status) in [
        ("192.0.2.1", 200),
        ("198.51.100.1", 403),
        ("192.0.2.1, 198.51.100.1", 403),
        ("198.51.100.1, 192.0.2.1", 200),
        ("192.0.2.1, 127.0.0.1", 200),
        ("nonsense", 403),
        ("nonsense, 127.0.0.9", 403),
    ] {
        let line = format!("X-Forwarded-For: {forwarded}");
        assert_eq!(ask(&replica, "GET /", &[&line]).await.status, status, "{forwarded}");
    }
}

#[tokio::test]
async fn who_sends_too_much_is_told_when_to_come_again() {
    let limit = r#"{"rateLimit":{"key":{"header":"x-tenant"},"requests":1,"perSeconds":3600,
        "burst":2}}"#;
    let mut replica = echo(&[limit]).await;
    for status in [200, 200, 429, 429] {
        assert_eq!(ask(&replica, "GET /", &["X-Tenant: a"]).await.status, status);
    }
    assert_eq!(ask(&replica, "GET /", &["X-Tenant: b"]).await.status, 200);
    assert_eq!(ask(&replica, "GET /", &[]).await.status, 200);
    let refused = ask(&replica, "GET /", &["X-Tenant: a"]).await;
    let after = refused.head.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap();
    assert!((3500..=3600).contains(&after.parse::<u32>().unwrap()), "{after}");
    // A change of the Route forgets nothing, as long as the limit stays what it is.
    let more = r#"{"requestHeaders":{"add":[{"name":"x-new","value":"1"}]}}"#;
    replica.serve_as(&[serve_echo().await], BackendProtocol::Http1, filters(&[more, limit]));
    assert_eq!(ask(&replica, "GET /", &["X-Tenant: a"]).await.status, 429);
    let other = limit.replace("3600", "3601");
    replica.serve_as(&[serve_echo().await], BackendProtocol::Http1, filters(&[&other]));
    assert_eq!(ask(&replica, "GET /", &["X-Tenant: a"]).await.status, 200);
}

#[tokio::test]
async fn some_clients_are_exempt_and_the_status_can_be_that_of_nginx() {
    let limit = r#"{"rateLimit":{"key":"clientAddress","requests":1,"perSeconds":3600,"burst":1,
        "exempt":["127.0.0.0/8"]}}"#;
    let replica = echo(&[limit]).await;
    for _ in 0..3 {
        assert_eq!(ask(&replica, "GET /", &[]).await.status, 200);
    }
    let limit = r#"{"rateLimit":{"key":"route","requests":1,"perSeconds":3600,"burst":1,
        "status":503}}"#;
    let replica = echo(&[limit]).await;
    assert_eq!(ask(&replica, "GET /", &[]).await.status, 200);
    assert_eq!(ask(&replica, "GET /", &[]).await.status, 503);
}

#[tokio::test]
async fn a_request_in_progress_takes_a_place_until_it_ends() {
    let limit = r#"{"concurrencyLimit":{"key":"clientAddress","requests":1}}"#;
    let replica = echo(&[limit]).await;
    let mut first = TcpStream::connect(replica.http).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n";
    first.write_all(head).await.unwrap();
    // The interim answer says that it has been let in.
    let mut space = [0; 64];
    let count = first.read(&mut space).await.unwrap();
    assert!(space[..count].starts_with(b"HTTP/1.1 100"), "{:?}", &space[..count]);
    assert_eq!(ask(&replica, "GET /", &[]).await.status, 429);
    first.write_all(b"x").await.unwrap();
    let count = first.read(&mut [0; 4096]).await.unwrap();
    assert!(count > 0);
    for _ in 0..100 {
        // The place is free a moment after the last byte of the answer.
        if ask(&replica, "GET /", &[]).await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the place is never free again");
}

#[tokio::test]
async fn a_request_gets_an_id_that_backend_and_client_see() {
    let replica = echo(&[r#"{"requestId":{}}"#]).await;
    let answer = ask(&replica, "GET /", &["X-Request-Id: forged"]).await;
    let id = answer.head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
    assert_eq!((id.len(), id.as_bytes()[14]), (36, b'7'), "{id}");
    assert!(answer.body.contains(&format!("x-request-id: {id}\n")), "{}", answer.body);
    let other = ask(&replica, "GET /", &[]).await;
    assert!(!other.head.contains(id));
    let trusting =
        ProxySettings { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..settings() };
    let mut replica = Replica::with(trusting);
    let ids = filters(&[r#"{"requestId":{}}"#]);
    replica.serve_as(&[serve_echo().await], BackendProtocol::Http1, ids);
    let answer = ask(&replica, "GET /", &["X-Request-Id: from-our-proxy"]).await;
    assert!(answer.head.contains("x-request-id: from-our-proxy"), "{answer:?}");
    assert!(answer.body.contains("x-request-id: from-our-proxy\n"), "{}", answer.body);
    let odd = ask(&replica, "GET /", &["X-Request-Id: a\"b"]).await;
    assert!(!odd.head.contains("a\"b"), "{odd:?}");
}

#[tokio::test]
async fn groups_of_a_path_are_put_together_anew() {
    let rewrite = r#"{"rewrite":{"path":{"regex":{"pattern":"/api(/|$)(.*)","substitution":"/$2"}},
        "host":"inner.example"}}"#;
    let replica = echo(&[rewrite]).await;
    let answer = ask(&replica, "GET /api/v1/x?q=1", &[]).await;
    assert!(answer.body.starts_with("GET /v1/x?q=1\n"), "{}", answer.body);
    assert!(answer.body.contains("host: inner.example\n"), "{}", answer.body);
    let bad = r#"{"rewrite":{"path":{"regex":{"pattern":"/(.*)","substitution":"/../$1"}}}}"#;
    let replica = echo(&[bad]).await;
    assert_eq!(ask(&replica, "GET /x", &[]).await.status, 400);
}

#[tokio::test]
async fn what_connection_nominates_goes_no_further_unless_it_matters() {
    let replica = echo(&[]).await;
    let talk_with = async |connection: &str| {
        let text = format!(
            "GET / HTTP/1.1\r\nHost: a.example\r\nX-A: 1\r\nX-B: 2\r\nAuthorization: me\r\n\
             X-Forwarded-For: 10.9.9.9\r\nConnection: close\r\nConnection: {connection}\r\n\r\n"
        );
        Answer::read(&talk(replica.http, text.as_bytes()).await)
    };
    for connection in [
        "host",
        "Host, close",
        "x-forwarded-for, X-Forwarded-Proto, X-Forwarded-Host",
        "authorization, cookie, content-length, transfer-encoding, forwarded",
    ] {
        let answer = talk_with(connection).await;
        assert_eq!(answer.status, 200, "{connection}: {answer:?}");
        for line in ["host: a.example", "x-a: 1", "x-b: 2", "authorization: me"] {
            assert!(answer.body.contains(&format!("{line}\n")), "{connection}: {}", answer.body);
        }
        assert!(answer.body.contains("x-forwarded-for: 127.0.0.1\n"), "{}", answer.body);
        assert!(!answer.body.contains("\nconnection:"), "{}", answer.body);
    }
    let answer = talk_with("X-A").await;
    assert!(!answer.body.contains("x-a:"), "{}", answer.body);
    assert!(answer.body.contains("x-b: 2\n"), "{}", answer.body);
}

#[tokio::test]
async fn no_answer_names_the_engine() {
    let replica = echo(&[]).await;
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/3.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \u{7f}\r\n\r\n",
    ] {
        let text = talk(replica.http, request.as_bytes()).await;
        assert!(
            text.starts_with("HTTP/1.1 4") || text.starts_with("HTTP/1.1 5"),
            "{request}{text}"
        );
        assert!(text.contains("Server: kubeng\r\n"), "{request}{text}");
        assert!(!text.to_ascii_lowercase().contains("pingora"), "{request}{text}");
    }
}

#[tokio::test]
async fn methods_that_the_gate_refuses_are_refused_on_http2_too() {
    let replica = echo(&[]).await;
    let tcp = TcpStream::connect(replica.http).await.unwrap();
    let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
    spawn(async move { drop(connection.await) });
    for (method, uri) in [("TRACE", "http://a/"), ("TRACK", "http://a/"), ("CONNECT", "a:80")] {
        let request = hyper::Request::builder().method(method).uri(uri).body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 405, "{method}");
        assert_eq!(response.headers()["server"], "kubeng", "{method}");
    }
}

#[tokio::test]
async fn a_canary_is_chosen_by_header_or_by_cookie() {
    use kubeng_config::delta::AnyPart;
    use kubeng_config::matching::{CookieMatch, HeaderMatch, HostMatch, TextMatch};
    use kubeng_config::part::Part;
    use kubeng_config::route::Action;

    let mut replica = Replica::start();
    let plain = |name: &str, to_name: &str| {
        route(name, HostMatch::Any, "/", vec![], Action::Forward(vec![to(to_name)]))
    };
    let canary = |name: &str, change: &dyn Fn(&mut kubeng_config::matching::Match)| {
        let AnyPart::Route(id, part) = plain(name, "canary") else { panic!("a route") };
        let mut value = (**part.value()).clone();
        value.matches.iter_mut().for_each(change);
        AnyPart::Route(id, Part::new(value))
    };
    let exact = |text: &str| TextMatch::Exact(text.into());
    let by_header = HeaderMatch { name: "x-canary".parse().unwrap(), value: exact("always") };
    let by_cookie = CookieMatch { name: "canary".into(), value: exact("always") };
    let parts = [
        backend("web", BackendProtocol::Http1),
        backend("canary", BackendProtocol::Http1),
        plain("stable", "web"),
        canary("header", &|wanted| wanted.headers.push(by_header.clone())),
        canary("cookie", &|wanted| wanted.cookies.push(by_cookie.clone())),
    ];
    let endpoints = [
        (backend_id("web"), endpoint_set(&[serve_text("stable").await])),
        (backend_id("canary"), endpoint_set(&[serve_text("canary").await])),
    ];
    replica.change_with(parts, [], endpoints, []);
    for (line, expected) in [
        ("X: y", "stable"),
        ("X-Canary: always", "canary"),
        ("X-Canary: never", "stable"),
        ("Cookie: a=b; canary=always", "canary"),
        ("Cookie: canary=never; canary=always", "stable"),
        ("Cookie: xcanary=always", "stable"),
    ] {
        assert_eq!(ask(&replica, "GET /", &[line]).await.body, expected, "{line}");
    }
}
