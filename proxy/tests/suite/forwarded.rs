//! Clients behind a proxy that is trusted: what Backends are told of them, and what their scheme does.

use std::net::SocketAddr;

use http_body_util::Full;
use hyper::Response;
use kubeng_config::backend::BackendProtocol;
use kubeng_proxy::ProxySettings;

use crate::support::*;
use crate::tls_client::{self, Client};

#[tokio::test]
async fn both_families_say_the_same_behind_a_trusted_balancer() {
    let trusting =
        ProxySettings { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..settings() };
    let mut replica = Replica::with(trusting);
    replica.serve_as(&[serve_echo().await], BackendProtocol::Http1, vec![]);
    let x: &[&str] = &["X-Forwarded-For: 1.1.1.1", "X-Forwarded-Proto: https"];
    let forwarded: &[&str] = &["Forwarded: for=1.1.1.1;proto=https"];
    let both: &[&str] = &[x[0], x[1], forwarded[0]];
    let forged: &[&str] = &[x[0], x[1], "Forwarded: for=6.6.6.6;proto=http"];
    for said in [x, forwarded, both, forged] {
        let lines = said.join("\r\n");
        let request =
            format!("GET / HTTP/1.1\r\nHost: one.test\r\n{lines}\r\nConnection: close\r\n\r\n");
        let answer = Answer::read(&talk(replica.http, request.as_bytes()).await);
        assert_eq!(answer.status, 200, "{answer:?}");
        for expected in [
            "x-forwarded-for: 1.1.1.1, 127.0.0.1\n",
            "x-forwarded-proto: https\n",
            "x-forwarded-host: one.test\n",
            "x-real-ip: 1.1.1.1\n",
            "forwarded: for=1.1.1.1;proto=https, for=127.0.0.1;host=\"one.test\"\n",
        ] {
            assert!(answer.body.contains(expected), "{said:?}: {expected:?} in {answer:?}");
        }
    }
}

/// Sends `GET /x?y=z` for `one.test` with these lines.
async fn ask(to: SocketAddr, lines: &[&str]) -> Answer {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let request =
        format!("GET /x?y=z HTTP/1.1\r\nHost: one.test\r\n{lines}Connection: close\r\n\r\n");
    Answer::read(&talk(to, request.as_bytes()).await)
}

/// The same for `/` over TLS.
async fn ask_tls(to: SocketAddr, line: &str) -> Answer {
    let line = format!("{line}\r\n");
    tls_client::get(&Client::default(), to, "one.test", "one.test", &line).await.unwrap()
}

/// A replica that believes these networks, with a redirect to TLS for those who came without.
async fn redirecting(trusted: &[&str]) -> Replica {
    let trusted_proxies = trusted.iter().map(|net| net.parse().unwrap()).collect();
    let mut replica = Replica::with(ProxySettings { trusted_proxies, ..settings() });
    let redirect = r#"{"redirect":{"scheme":"https","status":308,"sentOn":"otherScheme"}}"#;
    let filters = crate::filters::filters(&[redirect]);
    replica.serve_as(&[serve_echo().await], BackendProtocol::Http1, filters);
    let (parts, key) = certificate("one.test");
    replica.change_with(parts, [], [], [key]);
    replica
}

#[tokio::test]
async fn tls_that_a_trusted_proxy_has_ended_is_not_asked_for_again() {
    let replica = redirecting(&["127.0.0.0/8"]).await;
    for said in ["X-Forwarded-Proto: https", "Forwarded: for=1.1.1.1;proto=https"] {
        let served = ask(replica.http, &[said]).await;
        assert_eq!(served.status, 200, "{said}: {served:?}");
        assert!(served.body.contains("x-forwarded-proto: https\n"), "{said}: {served:?}");
    }
    for said in ["X-Forwarded-Proto: http", "Forwarded: for=1.1.1.1;proto=http", "X-Other: https"] {
        let sent_on = ask(replica.http, &[said]).await;
        assert_eq!(sent_on.status, 308, "{said}: {sent_on:?}");
        assert!(sent_on.head.contains("\r\nlocation: https://one.test/x?y=z\r\n"), "{sent_on:?}");
    }
    // One that speaks TLS to us for a client that did not.
    let sent_on = ask_tls(replica.https, "X-Forwarded-Proto: http").await;
    assert_eq!(sent_on.status, 308, "{sent_on:?}");
    for said in ["X-Forwarded-Proto: https", "X-Other: http"] {
        assert_eq!(ask_tls(replica.https, said).await.status, 200, "{said}");
    }
}

#[tokio::test]
async fn what_a_stranger_says_of_its_scheme_counts_for_nothing() {
    for trusted in [&[][..], &["192.0.2.0/24"]] {
        let replica = redirecting(trusted).await;
        for said in ["X-Forwarded-Proto: https", "Forwarded: for=127.0.0.1;proto=https"] {
            assert_eq!(ask(replica.http, &[said]).await.status, 308, "{said}");
        }
        let served = ask_tls(replica.https, "X-Forwarded-Proto: http").await;
        assert_eq!(served.status, 200, "{served:?}");
        assert!(served.body.contains("x-forwarded-proto: https\n"), "{served:?}");
    }
}

#[tokio::test]
async fn whoever_is_asked_about_a_request_hears_the_scheme_of_the_client() {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let mut replica = Replica::with(ProxySettings { trusted_proxies, ..settings() });
    let auth = r#"{"externalAuth":{"backend":"Service/test/login:80","path":"/ask","copyHeaders":["x-heard"]}}"#;
    let login = serve(|request| {
        let heard = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
        let heard = format!("{} {}", heard("x-forwarded-proto"), heard("x-original-url"));
        Response::builder().header("x-heard", heard).body(Full::default()).unwrap()
    })
    .await;
    replica.change_with(
        [backend("login", BackendProtocol::Http1)],
        [],
        [(backend_id("login"), endpoint_set(&[login]))],
        [],
    );
    let filters = crate::filters::filters(&[auth]);
    replica.serve_as(&[serve_echo().await], BackendProtocol::Http1, filters);
    for (said, expected) in [
        ("X-Forwarded-Proto: https", "x-heard: https https://one.test/x?y=z\n"),
        ("X-Other: https", "x-heard: http http://one.test/x?y=z\n"),
    ] {
        let answer = ask(replica.http, &[said]).await;
        assert!(answer.body.contains(expected), "{said}: {answer:?}");
    }
}
