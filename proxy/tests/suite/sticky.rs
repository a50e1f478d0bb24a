//! Clients that are kept at their Endpoints: by a cookie of ours, or by what they say.

use std::net::SocketAddr;

use kubeng_config::backend::Backend;
use kubeng_config::backend::balance::{Affinity, Balance, HashKey, Sticky};
use kubeng_proxy::ProxySettings;

use crate::support::*;

fn sticky(backend: &mut Backend) {
    let sticky = Sticky { cookie: "route".parse().unwrap(), max_age_seconds: None };
    let affinity = Affinity { sticky: Some(sticky), ..Affinity::default() };
    backend.affinity = Some(Box::new(affinity));
}

async fn get_with(to: SocketAddr, field: &str) -> Answer {
    let text = format!("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{field}\r\n\r\n");
    Answer::read(&talk(to, text.as_bytes()).await)
}

fn set_cookie(answer: &Answer) -> Option<String> {
    let line = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: "))?;
    Some(line.to_owned())
}

async fn three() -> [SocketAddr; 3] {
    [serve_text("one").await, serve_text("two").await, serve_text("three").await]
}

#[tokio::test]
async fn a_cookie_keeps_a_client_at_its_endpoint_until_that_is_gone() {
    let endpoints = three().await;
    let mut replica = Replica::start();
    replica.serve_with(&endpoints, sticky, |_| {});
    let first = get_with(replica.http, "X: y").await;
    let cookie = set_cookie(&first).unwrap();
    assert!(cookie.ends_with("; path=/; httponly; samesite=lax"), "{cookie}");
    assert!(!cookie.contains("127") && !cookie.contains("secure"), "{cookie}");
    let (pair, _) = cookie.split_once(';').unwrap();
    let field = format!("Cookie: other=1; {pair}");
    for _ in 0..6 {
        let answer = get_with(replica.http, &field).await;
        assert_eq!((answer.body.as_str(), set_cookie(&answer)), (first.body.as_str(), None));
    }
    // Its Endpoint goes: the client gets another one, and its cookie.
    let texts = ["one", "two", "three"];
    let left = endpoints.iter().zip(texts).filter(|(_, text)| *text != first.body);
    replica.set_endpoints(&left.map(|(address, _)| *address).collect::<Vec<_>>());
    let second = get_with(replica.http, &field).await;
    assert_ne!(second.body, first.body);
    let next = set_cookie(&second).unwrap();
    assert_ne!(next, cookie);
    let (pair, _) = next.split_once(';').unwrap();
    for _ in 0..4 {
        let answer = get_with(replica.http, &format!("Cookie: {pair}")).await;
        assert_eq!(answer.body, second.body);
    }
    // One that nobody gave is as none.
    let forged = get_with(replica.http, &format!("Cookie: route={}", "0".repeat(32))).await;
    assert!(set_cookie(&forged).is_some(), "{forged:?}");
}

#[tokio::test]
async fn replicas_with_one_key_read_each_others_cookies_and_others_do_not() {
    let endpoints = three().await;
    let start = |key: Option<&[u8]>| {
        let sticky_key = key.map(<[u8]>::to_vec);
        let mut replica = Replica::with(ProxySettings { sticky_key, ..settings() });
        replica.serve_with(&endpoints, sticky, |_| {});
        replica
    };
    let [one, two, alone] = [start(Some(b"shared")), start(Some(b"shared")), start(None)];
    for _ in 0..3 {
        let first = get_with(one.http, "X: y").await;
        let cookie = set_cookie(&first).unwrap();
        let field = format!("Cookie: {}", cookie.split_once(';').unwrap().0);
        let answer = get_with(two.http, &field).await;
        assert_eq!((answer.body, set_cookie(&answer_of(&two, &field).await)), (first.body, None));
        assert!(set_cookie(&get_with(alone.http, &field).await).is_some());
    }
}

async fn answer_of(replica: &Replica, field: &str) -> Answer {
    get_with(replica.http, field).await
}

#[tokio::test]
async fn the_same_key_leads_to_the_same_endpoint_on_every_replica() {
    let endpoints = three().await;
    let start = |key: HashKey| {
        let mut replica = Replica::start();
        let balance = Balance::ConsistentHash(key);
        replica.serve_with(&endpoints, |backend| backend.balance = balance, |_| {});
        replica
    };
    let by_header = || HashKey::Header("x-user".parse().unwrap());
    let (one, two) = (start(by_header()), start(by_header()));
    let mut seen = std::collections::BTreeSet::new();
    for user in 0..24 {
        let field = format!("X-User: {user}");
        let answer = get_with(one.http, &field).await.body;
        assert_eq!(answer, get_with(two.http, &field).await.body);
        seen.insert(answer);
    }
    assert_eq!(seen.len(), 3, "users are spread over all");
    let by_cookie = start(HashKey::Cookie("user".parse().unwrap()));
    let first = get_with(by_cookie.http, "Cookie: user=7").await.body;
    assert_eq!(first, get_with(by_cookie.http, "Cookie: a=b; user=7").await.body);
    for key in [HashKey::ClientAddress, HashKey::Path] {
        let replica = start(key);
        let first = get_with(replica.http, "X: y").await.body;
        for _ in 0..4 {
            assert_eq!(get_with(replica.http, "X: y").await.body, first);
        }
    }
}
