//! What Backends are told of clients behind a proxy that is trusted: both families say the same.

use kubeng_config::backend::BackendProtocol;
use kubeng_proxy::ProxySettings;

use crate::support::*;

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
